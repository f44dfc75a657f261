"""The command line: ``geneig-adjoint run`` and ``geneig-adjoint check``."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from geneig_adjoint._version import __version__
from geneig_adjoint.errors import (
    ConstrainedRowError,
    ConvergenceError,
    DefectiveEigenvalueError,
    DegenerateEigenvalueError,
    GaugeError,
    GeneigError,
    InputError,
    MissingPackageError,
    StudyError,
)

if TYPE_CHECKING:
    from mpi4py import MPI

EXIT_OK = 0
EXIT_STUDY = 2
EXIT_INPUT = 3
EXIT_CONVERGENCE = 4
EXIT_VERIFICATION = 5
EXIT_MISSING_GRADIENT = 6
EXIT_INTERNAL = 70

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (StudyError, EXIT_STUDY),
    (MissingPackageError, EXIT_STUDY),
    (ConstrainedRowError, EXIT_MISSING_GRADIENT),
    (InputError, EXIT_INPUT),
    (ConvergenceError, EXIT_CONVERGENCE),
    (DegenerateEigenvalueError, EXIT_MISSING_GRADIENT),
    (DefectiveEigenvalueError, EXIT_MISSING_GRADIENT),
    (GaugeError, EXIT_MISSING_GRADIENT),
)

EPILOG = """\
Run it on several ranks with mpirun -n 4 geneig-adjoint run study.toml. PETSc and SLEPc
options follow after --, for example: -- -ga_eps_monitor -log_view

exit codes: 0 ok, 2 usage or study, 3 bad input file, 4 not converged, 5 verification failed,
6 some gradient does not exist (the others are written), 70 internal error
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, the same on every rank.

    Collective. An error that only some ranks see ends the whole job within seconds.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, petsc_options = _split(given)
    chosen: Any = None
    usage: StudyError | None = None
    try:
        chosen = _parser().parse_args(own)
    except StudyError as error:
        usage = error
    try:
        comm = _initialised(petsc_options)
    except ImportError as error:
        sys.stderr.write(f"geneig-adjoint: {usage or _petsc_remedy(error)}\n")
        return EXIT_STUDY
    from geneig_adjoint.collective import end_together, guarded

    with guarded(comm, described) as private:
        try:
            if usage is not None:
                raise usage
            return _run(chosen, comm)
        except BaseException as error:  # SystemExit too: user code may call sys.exit on one rank
            code, text = described(error)
            end_together(private, code, text)
            return code


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


class _Parser(argparse.ArgumentParser):
    """A parser that leaves it to `main` to say what is wrong, once for all ranks."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting."""
        raise StudyError(f"{message}\n{self.format_usage().rstrip()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="geneig-adjoint",
        description="Derivatives of eigenvalues and eigenvectors of A(p) x = lam B(p) x.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "run": "solve a study, differentiate its objectives and write the results",
        "check": "test the inputs and the gradient of a study (Taylor, differences, dot product)",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("study", help="study file (TOML)")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="TABLE.KEY=VALUE",
            help="replace an entry of the study, e.g. solver.count=20 (repeatable)",
        )
        command.add_argument("--debug", action="store_true", help="print tracebacks of all errors")
    commands.choices["run"].add_argument(
        "--overwrite", action="store_true", help="replace results that exist already"
    )
    return parser


def _initialised(petsc_options: list[str]) -> MPI.Comm:
    """Initialise PETSc with the options after -- and return the world."""
    import slepc4py

    slepc4py.init(["geneig-adjoint", *petsc_options])
    from mpi4py import MPI

    return MPI.COMM_WORLD


def _petsc_remedy(error: ImportError) -> str:
    return (
        f"petsc4py, slepc4py and mpi4py are needed, got: {error}; install python3-petsc4py, "
        "python3-slepc4py and python3-mpi4py and select a build with PETSC_DIR and SLEPC_DIR "
        "(in this repository: . docker/env.sh real)"
    )


def _run(chosen: Any, comm: MPI.Comm) -> int:
    from geneig_adjoint.study.run import check_study, run_study
    from geneig_adjoint.study.settings import read_study

    changes = list(chosen.set)
    if chosen.command == "run" and chosen.overwrite:
        changes.append("output.overwrite=true")
    try:
        study = read_study(chosen.study, changes)
        if chosen.command == "check":
            reports = check_study(study, comm)
            passed = all(report.passed for report in reports.values())
            return EXIT_OK if passed else EXIT_VERIFICATION
        outcome = run_study(study, comm)
        return EXIT_MISSING_GRADIENT if outcome.failures else EXIT_OK
    except GeneigError:
        if chosen.debug and comm.rank == 0:
            traceback.print_exc()
        raise


def described(error: BaseException) -> tuple[int, str]:
    """Return exit code and message of an exception; a traceback for unexpected ones."""
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            return code, f"geneig-adjoint: {error}\n"
    text = "".join(traceback.format_exception(error))
    return EXIT_INTERNAL, f"geneig-adjoint: internal error\n{text}"


if __name__ == "__main__":
    sys.exit(main())

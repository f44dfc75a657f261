"""The command line: which commands there are, and how each ends."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NoReturn, cast

from geneig_adjoint import exit_codes
from geneig_adjoint._version import __version__
from geneig_adjoint.errors import (
    GeneigError,
    IllConditionedWarning,
    StudyError,
    TruncationWarning,
    UnreadOptionWarning,
)
from geneig_adjoint.launches import alone_by_mistake
from geneig_adjoint.study.early_signals import EarlySignals
from geneig_adjoint.study.progress import close_stdout, tell

if TYPE_CHECKING:
    from mpi4py import MPI

COMMANDS = {
    "run": "solve a study, differentiate its objectives and write the results",
    "check": "test the inputs and the gradient of a study (Taylor, differences, dot product)",
    "sweep": "run the samples of a study ([sweep]) one after the other, or one of them",
    "collect": "make one table of the results of samples or runs",
    "optimize": "search the parameters that make an objective best ([optimize])",
    "plot": "draw spectrum, modes, sensitivities, convergence and sweeps of a folder of results",
    "doctor": "say what this machine has, with a remedy for what it lacks",
}
"""Each is a module of `commands` with `add_arguments(parser)` and `execute(chosen, comm)`; one
that sets ALONE works without MPI and PETSc and has `execute(chosen)`; one that sets STOPS ends
on a signal where it can go on later."""


def _epilog() -> str:
    meanings = ", ".join(f"{code} {text}" for code, text in exit_codes.MEANINGS.items())
    return (
        "Run it on several ranks with mpirun -n 4 geneig-adjoint run study.toml. PETSc and SLEPc\n"
        "options follow after --, for example: -- -ga_eps_monitor -log_view\n\n"
        + textwrap.fill(f"exit codes: {meanings}", 90)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, the same on every rank.

    Collective. An error that only some ranks see ends the whole job within seconds. Output that
    nobody reads any more (a closed pipe) ends nothing.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files, in any locale
    return _flushed(_ended(given))


def _open_streams() -> None:
    """Open what a daemon has closed, or files of results get its numbers and what is printed."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(spare, True)
    os.close(spare)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115


def _flushed(code: int) -> int:
    """Return the exit code after all that was printed has left."""
    try:
        sys.stdout.flush()
    except OSError as error:
        close_stdout(error)
        return code if isinstance(error, BrokenPipeError) else code or exit_codes.STUDY
    except ValueError:  # code of the user has closed it
        return code
    return code


def _ended(given: list[str]) -> int:
    """Do what the words of the command line say and return the exit code.  (Collective.)"""
    own, petsc_options = _split(given)
    chosen: Any = None
    usage: StudyError | None = None
    try:
        chosen = _parser().parse_args(own)
    except StudyError as error:
        usage = error
    command = None if usage else _command(chosen.command)
    if getattr(command, "ALONE", False):
        return _alone(chosen)
    with EarlySignals() if getattr(command, "STOPS", False) else nullcontext() as early:
        return _with_petsc(chosen, usage, petsc_options, early)


def _with_petsc(
    chosen: Any, usage: StudyError | None, petsc_options: list[str], early: EarlySignals | None
) -> int:
    """Load PETSc, do what was chosen, or say how the command line is wrong.  (Collective.)"""
    try:
        comm = _initialised(petsc_options)
    except (ImportError, StudyError) as error:
        remedy = str(error) if isinstance(error, StudyError) else _petsc_remedy(error)
        sys.stderr.write(f"geneig-adjoint: {usage or remedy}\n")
        return exit_codes.STUDY
    if early is not None:
        early.listen()  # PETSc takes SIGTERM for itself
    from geneig_adjoint.endings import end_together, guarded, is_alone

    with guarded(comm, described) as private:
        try:
            if usage is not None:
                raise usage
            return _together(chosen, comm)
        except BaseException as error:  # SystemExit too: user code may call sys.exit on one rank
            code, text = described(error)
            end_together(private, code, text, waited=is_alone(error))
            return code


def _command(name: str) -> Any:
    return importlib.import_module(f"geneig_adjoint.commands.{name}")


def _alone(chosen: Any) -> int:
    """Execute a command that needs neither MPI nor PETSc."""
    try:
        code: int = _command(chosen.command).execute(chosen)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:  # of standard output
            close_stdout(error)
            return exit_codes.OK if isinstance(error, BrokenPipeError) else exit_codes.STUDY
        code, text = described(error)
        sys.stderr.write(_traceback(chosen, error) + text)
    return code


def _together(chosen: Any, comm: MPI.Comm) -> int:
    """Execute a command on all ranks.  (Collective.)"""
    try:
        with _own_warnings_once(comm):
            code: int = _command(chosen.command).execute(chosen, comm)
    except GeneigError as error:
        if comm.rank == 0:
            sys.stderr.write(_traceback(chosen, error))
        raise
    return code


OWN_WARNINGS = (IllConditionedWarning, TruncationWarning, UnreadOptionWarning)
"""All ranks have them alike."""


@contextmanager
def _own_warnings_once(comm: MPI.Comm) -> Iterator[None]:
    """Show warnings that all ranks have as notes of one of them.  (Not collective.)"""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def shown(
            message: Warning | str, category: type[Warning], *place: Any, **more: Any
        ) -> None:
            if issubclass(category, OWN_WARNINGS):
                tell(comm, f"note: {message}")
            else:
                others(message, category, *place, **more)

        warnings.showwarning = cast("Any", shown)
        yield


def _traceback(chosen: Any, error: Exception) -> str:
    """Return the traceback of an error of the user, who usually wants the message only."""
    wanted = chosen.debug and isinstance(error, GeneigError)
    return "".join(traceback.format_exception(error)) if wanted else ""


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


class _Parser(argparse.ArgumentParser):
    """A parser that leaves it to `main` to say what is wrong, once for all ranks."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and exiting."""
        if "unrecognized" in message:
            message += "; options of PETSc and SLEPc come last, after --"
        raise StudyError(f"{message}\n{self.format_usage().rstrip()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="geneig-adjoint",
        description="Derivatives of eigenvalues and eigenvectors of A(p) x = lam B(p) x.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        _command(name).add_arguments(command)
        command.add_argument("--debug", action="store_true", help="print tracebacks of all errors")
    return parser


def _initialised(petsc_options: list[str]) -> MPI.Comm:
    """Initialise PETSc with the options after -- and return the world."""
    try:
        os.getcwd()
    except OSError as error:  # PETSc would end the process
        raise StudyError(
            f"the current folder must exist, got {error.strerror}: it was removed after this shell "
            "had entered it; cd to another one"
        ) from error
    import slepc4py

    slepc4py.init(["geneig-adjoint", *petsc_options])
    with suppress(ValueError):  # another thread than the main one
        # PETSc would end the job when nobody reads what is printed.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    from mpi4py import MPI

    wrong = alone_by_mistake(os.environ, MPI.COMM_WORLD.size)
    if wrong is not None:  # each process would do everything, and write the same files
        raise StudyError(wrong)
    return MPI.COMM_WORLD


def _petsc_remedy(error: ImportError) -> str:
    return (
        f"petsc4py, slepc4py and mpi4py are needed, got: {error}; install python3-petsc4py, "
        "python3-slepc4py and python3-mpi4py and select a build with PETSC_DIR and SLEPC_DIR "
        "(in this repository: . docker/env.sh real); `geneig-adjoint doctor` says what is wrong"
    )


def described(error: BaseException) -> tuple[int, str]:
    """Return exit code and message of an exception; a traceback for unexpected ones."""
    code = exit_codes.of_error(error)
    if code != exit_codes.INTERNAL:
        notes = "".join(f"note: {note}\n" for note in getattr(error, "__notes__", ()))
        return code, f"geneig-adjoint: {str(error) or exit_codes.MEANINGS[code]}\n{notes}"
    text = "".join(traceback.format_exception(error))
    return code, f"geneig-adjoint: internal error\n{text}"

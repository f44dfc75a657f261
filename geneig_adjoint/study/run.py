"""`geneig-adjoint run` and `check`: solve, differentiate, write."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._version import __version__
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.collective import raise_together
from geneig_adjoint.eigenpairs import Eigenpairs, linear_pairs
from geneig_adjoint.errors import (
    ConstrainedRowError,
    DefectiveEigenvalueError,
    DegenerateEigenvalueError,
    GaugeError,
    InputError,
    StudyError,
)
from geneig_adjoint.evaluation import Objective, evaluate
from geneig_adjoint.io import Mesh, atomic_path, gathered, write_json, write_vtu
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.quadratic_pairs import QuadraticPairs
from geneig_adjoint.quadratic_pencil import QuadraticPencil
from geneig_adjoint.quadratic_solve import solve_quadratic
from geneig_adjoint.sensitivity import adjoint_settings, values_and_gradients
from geneig_adjoint.solve import solve_eigenproblem
from geneig_adjoint.study.build import Problem, build_objectives, build_problem
from geneig_adjoint.study.progress import Progress
from geneig_adjoint.study.settings import Study
from geneig_adjoint.verification import GradientReport, verify_gradient

if TYPE_CHECKING:
    from mpi4py import MPI

Pairs: TypeAlias = Eigenpairs | QuadraticPairs

INLINE_ENTRIES = 1000
MISSING = (
    ConstrainedRowError,
    DegenerateEigenvalueError,
    DefectiveEigenvalueError,
    GaugeError,
)
"""Errors that mean: this derivative does not exist; the others are still worth having."""


@dataclass
class Outcome:
    """Results of a run, whole on rank 0.

    Attributes
    ----------
    values : dict
        Objective -> value.
    gradients : dict
        Objective -> parameter -> array.
    gradient_errors : dict
        Objective -> estimated relative error of its gradient.
    failures : dict
        Objective -> why it has no gradient.

    """

    values: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, dict[str, Any]] = field(default_factory=dict)
    gradient_errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def run_study(study: Study, comm: MPI.Comm) -> Outcome:
    """Solve a study, differentiate its objectives and write the results.

    Collective. Objectives whose gradient does not exist are listed under ``failures``
    and the others are written.

    Raises
    ------
    StudyError
        Results that exist already, things a study cannot do.
    InputError, ConvergenceError
        As in `solve_eigenproblem` and `gradient`.

    """
    progress = Progress(comm)
    with _about_the_study():
        settings = adjoint_settings(**study.adjoint_arguments())
    raise_together(comm, _prepared_directory(study) if comm.rank == 0 else None)
    with ExitStack() as opened:
        with progress.step("build model"):
            problem = opened.enter_context(build_problem(study, comm))
        with progress.step("assemble"):
            pencil = opened.enter_context(problem.model.assemble(problem.p))
        # Before the long part: a typing error should not cost a solve.
        rows = pencil.view.rows(pencil)
        objectives = build_objectives(study, problem, rows, comm)
        n = comm.allreduce(rows[1] - rows[0])
        raise_together(comm, _mesh_error(problem.mesh, n))
        with progress.step("solve eigenproblem"), _about_the_study():
            pairs = _solved(pencil, study.solver_arguments())
            opened.enter_context(pairs)
        with progress.step(f"differentiate {len(objectives)} objectives"), _about_the_study():
            outcome = _differentiated(problem, pairs, objectives, settings)
        with progress.step("write results"):
            notes = _write(study, problem, pairs, outcome=outcome, timings=progress.timings)
        if comm.rank == 0:
            print(summary(pairs, outcome, notes, directory=study.directory))
    return outcome


def _solved(pencil: Pencil, arguments: Mapping[str, Any]) -> Pairs:
    if isinstance(pencil, QuadraticPencil):
        return solve_quadratic(pencil, **arguments)
    return solve_eigenproblem(pencil, **arguments)


@contextmanager
def _about_the_study() -> Iterator[None]:
    """Mark wrong arguments as what they are here: something the study says."""
    try:
        yield
    except StudyError:
        raise
    except InputError as error:
        raise StudyError(*error.args) from error


def _mesh_error(mesh: Mesh | None, n: int) -> InputError | None:
    return None if mesh is None else mesh.error(n)


def check_study(study: Study, comm: MPI.Comm) -> dict[str, GradientReport]:
    """Test the gradient of every objective of a study; see `verify_gradient`.

    Collective. Prints one table per objective on rank 0.
    """
    progress = Progress(comm)
    reports = {}
    with ExitStack() as opened:
        with progress.step("build model"):
            problem = opened.enter_context(build_problem(study, comm))
        with problem.model.assemble(problem.p) as pencil:
            rows = pencil.view.rows(pencil)
        for name, objective in build_objectives(study, problem, rows, comm).items():
            with progress.step(f"check {name}"), _about_the_study():
                reports[name] = verify_gradient(
                    problem.model,
                    problem.p,
                    objective,
                    adjoint=study.adjoint_arguments(),
                    **study.solver_arguments(),
                )
            params.release(reports[name].gradient)
            if comm.rank == 0:
                print(f"\n{name}\n{'-' * len(name)}\n{reports[name]}")
    return reports


def _prepared_directory(study: Study) -> StudyError | None:
    """Make the output folder, or say why results cannot be written there."""
    directory = study.directory
    if (directory / "result.json").exists() and not study.output.get("overwrite", False):
        return StudyError(
            f"results must not be overwritten by accident, got {directory} with a result.json; "
            "give --overwrite, or another output.directory"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return StudyError(
            f"the output folder must be writable, got {error.strerror} for {directory}; "
            "choose another output.directory"
        )
    return None


def _differentiated(
    problem: Problem,
    pairs: Pairs,
    objectives: dict[str, Objective],
    settings: AdjointSettings,
) -> Outcome:
    linear = linear_pairs(pairs)
    try:
        groups = [list(objectives)]
        results = [
            values_and_gradients(
                problem.model, problem.p, linear, list(objectives.values()), settings
            )
        ]
        failures: dict[str, str] = {}
    except MISSING:
        groups, results, failures = _one_by_one(problem, linear, objectives, settings)
    outcome = Outcome(failures=failures)
    for names, found in zip(groups, results, strict=True):
        for name, (value, gradient) in zip(names, found, strict=True):
            outcome.values[name] = value
            outcome.gradients[name] = {key: whole(part) for key, part in gradient.items()}
            outcome.gradient_errors[name] = gradient.relative_error
            params.release(gradient)
    for name in failures:
        outcome.values[name] = evaluate(objectives[name], linear, problem.p)[0]
    return outcome


def _one_by_one(
    problem: Problem, pairs: Eigenpairs, objectives: dict[str, Objective], settings: AdjointSettings
) -> tuple[list[list[str]], list[Any], dict[str, str]]:
    groups, results, failures = [], [], {}
    for name, objective in objectives.items():
        try:
            found = values_and_gradients(problem.model, problem.p, pairs, [objective], settings)
        except MISSING as error:
            failures[name] = f"{type(error).__name__}: {error}"
        else:
            groups.append([name])
            results.append(found)
    return groups, results, failures


def whole(value: Any) -> Any:
    """Return a gradient entry as one array on rank 0 (None elsewhere if distributed)."""
    if params.is_distributed(value):
        return gathered(value.comm.tompi4py(), params.local_values(value))
    return value


def _write(
    study: Study,
    problem: Problem,
    pairs: Pairs,
    *,
    outcome: Outcome,
    timings: dict[str, float],
) -> tuple[str, ...]:
    """Write all files and return what there is to note."""
    vectors = {"right": gathered(pairs.comm, pairs.right)}
    if pairs.left is not None:
        vectors["left"] = gathered(pairs.comm, pairs.left)
    notes = pairs.info.notes
    if problem.mesh is not None and find_spec("meshio") is None:
        notes += ("modes.vtu needs meshio: pip install 'geneig-adjoint[mesh]'",)
    error: Exception | None = None
    if pairs.comm.rank == 0:
        content = _json_content(pairs, outcome, timings, notes)
        try:
            _write_files(study, problem, vectors, outcome=outcome, content=content)
        except OSError as caught:
            error = StudyError(
                f"results must be writable, got {caught.strerror or caught} in {study.directory}; "
                "make room, or choose another output.directory"
            )
        except Exception as caught:
            error = caught
    raise_together(pairs.comm, error)
    return notes


def _write_files(
    study: Study,
    problem: Problem,
    vectors: Mapping[str, Any],
    *,
    outcome: Outcome,
    content: Mapping[str, Any],
) -> None:
    """Write all files, then move them into place together, result.json last."""
    with ExitStack() as files:

        def place(name: str) -> Path:
            return files.enter_context(atomic_path(study.directory / name))

        summary_path = place("result.json")
        with h5py.File(place("result.h5"), "w") as file:
            file["values"] = content["values"]
            for side, block in vectors.items() if study.output.get("vectors", True) else ():
                file[side] = block
            for name, gradient in outcome.gradients.items():
                for parameter, entries in gradient.items():
                    file[f"gradients/{name}/{parameter}"] = entries
            for parameter, entries in problem.p.items():
                if not params.is_distributed(entries):
                    file[f"parameters/{parameter}"] = entries
        if problem.mesh is not None and find_spec("meshio") is not None:
            points, cells = _mesh_fields(problem.mesh, vectors["right"], outcome)
            write_vtu(place("modes.vtu"), problem.mesh, point_data=points, cell_data=cells)
        write_json(summary_path, content)


def _mesh_fields(mesh: Mesh, right: Any, outcome: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the modes as point data and gradients by cell as cell data."""
    points = {}
    if mesh.dofs.shape[1] > 0:
        points = {f"mode_{j}": mesh.point_field(mode) for j, mode in enumerate(right.T)}
    cells = {
        f"{name}_{parameter}": entries
        for name, gradient in outcome.gradients.items()
        for parameter, entries in gradient.items()
        if len(entries) == mesh.cell_count
    }
    return points, cells


def _json_content(
    pairs: Pairs, outcome: Outcome, timings: dict[str, float], notes: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "values": pairs.values,
        "residuals": pairs.residuals,
        "left_residuals": pairs.info.left_residuals,
        "condition": pairs.condition,
        "clusters": pairs.clusters,
        "normalization": str(pairs.normalization),
        "completeness": asdict(pairs.info.completeness),
        "notes": notes,
        "objectives": outcome.values,
        "gradients": {
            name: {
                parameter: _reference(name, parameter, entries)
                for parameter, entries in gradient.items()
            }
            for name, gradient in outcome.gradients.items()
        },
        "gradient_errors": outcome.gradient_errors,
        "failures": outcome.failures,
        "timings": timings,
        "versions": versions(),
        "ranks": pairs.comm.size,
    }


def _reference(name: str, parameter: str, entries: Any) -> dict[str, Any]:
    reference = {"path": f"gradients/{name}/{parameter}", "size": len(entries)}
    if len(entries) <= INLINE_ENTRIES:
        reference["entries"] = entries
    return reference


def versions() -> dict[str, str]:
    """Return the versions a result depends on.  (Not collective.)"""
    found = {"geneig_adjoint": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "petsc4py", "slepc4py", "mpi4py", "h5py"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return {**found, "scalars": _petsc.SCALAR_NAME}


def summary(pairs: Pairs, outcome: Outcome, notes: Sequence[str], *, directory: Path) -> str:
    """Return the closing table of a run.  (Not collective.)"""
    lines = ["", "pair  eigenvalue                        residual  condition  cluster"]
    cluster = {j: index for index, group in enumerate(pairs.clusters) for j in group}
    for j, value in enumerate(pairs.values):
        text = f"{value.real:.10g}" + (f" {value.imag:+.10g}i" if value.imag else "")
        lines.append(
            f"{j:>4}  {text:<32}  {pairs.residuals[j]:<8.1e}  {pairs.condition[j]:<9.3g}  "
            f"{cluster[j]}"
        )
    lines += ["", "objective             value               error    gradient norm, by parameter"]
    for name, value in outcome.values.items():
        norms, error = "does not exist, see below", ""
        if name not in outcome.failures:
            gradient, error = outcome.gradients[name], f"{outcome.gradient_errors[name]:.1e}"
            norms = ", ".join(
                f"{key} {float(np.linalg.norm(part)):.4g}" for key, part in gradient.items()
            )
        lines.append(f"{name:<20}  {value:<18.12g}  {error:<7}  {norms or 'no parameters'}")
    lines += [f"{name}: {reason}" for name, reason in outcome.failures.items()]
    lines += [f"note: {note}" for note in notes]
    return "\n".join([*lines, "", f"results in {directory}"])

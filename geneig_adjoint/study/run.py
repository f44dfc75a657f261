"""`geneig-adjoint run`: solve, differentiate, write."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from geneig_adjoint import parameters as params
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.collective import from_first_rank, guard, raise_together, users_code
from geneig_adjoint.eigenpairs import Eigenpairs, linear_pairs
from geneig_adjoint.errors import (
    ConstrainedRowError,
    DefectiveEigenvalueError,
    DegenerateEigenvalueError,
    GaugeError,
    InputError,
)
from geneig_adjoint.evaluation import Objective, evaluate
from geneig_adjoint.io import Mesh, gathered
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.quadratic_pencil import QuadraticPencil
from geneig_adjoint.quadratic_solve import solve_quadratic
from geneig_adjoint.sensitivity import adjoint_settings, values_and_gradients
from geneig_adjoint.solve import solve_eigenproblem
from geneig_adjoint.study.build import Problem, build_objectives, build_problem
from geneig_adjoint.study.progress import Progress
from geneig_adjoint.study.results import Outcome, Pairs, prepared_directory, write_results
from geneig_adjoint.study.settings import Study, about_the_study
from geneig_adjoint.study.summary import summary

if TYPE_CHECKING:
    from mpi4py import MPI

MISSING = (
    ConstrainedRowError,
    DegenerateEigenvalueError,
    DefectiveEigenvalueError,
    GaugeError,
)
"""Errors that mean: this derivative does not exist; the others are still worth having."""


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
    with about_the_study():
        settings = adjoint_settings(**study.adjoint_arguments())
    raise_together(comm, from_first_rank(comm, lambda: prepared_directory(study)))
    with ExitStack() as opened:
        with progress.step("build model"):
            problem = opened.enter_context(build_problem(study, comm))
        with progress.step("assemble"):
            with users_code(comm):
                pencil = problem.model.assemble(problem.p)
            opened.enter_context(pencil)
        # Before the long part: a typing error should not cost a solve.
        rows = pencil.view.rows(pencil)
        objectives = build_objectives(study, problem, rows, comm)
        n = comm.allreduce(rows[1] - rows[0])
        raise_together(comm, _mesh_error(problem.mesh, n))
        with progress.step("solve eigenproblem"), about_the_study():
            pairs = _solved(pencil, study.solver_arguments())
            opened.enter_context(pairs)
        with progress.step(f"differentiate {len(objectives)} objectives"), about_the_study():
            outcome = _differentiated(problem, pairs, objectives, settings)
        with progress.step("write results"):
            notes = write_results(study, problem, pairs, outcome=outcome, timings=progress.timings)
        with guard(comm):
            if comm.rank == 0:
                print(summary(pairs, outcome, notes, directory=study.directory))
    return outcome


def _solved(pencil: Pencil, arguments: Mapping[str, Any]) -> Pairs:
    if isinstance(pencil, QuadraticPencil):
        return solve_quadratic(pencil, **arguments)
    return solve_eigenproblem(pencil, **arguments)


def _mesh_error(mesh: Mesh | None, n: int) -> InputError | None:
    return None if mesh is None else mesh.error(n)


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
            outcome.gradients[name] = {key: _whole(part) for key, part in gradient.items()}
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


def _whole(value: Any) -> Any:
    """Return a gradient entry as one array on rank 0 (None elsewhere if distributed)."""
    if params.is_distributed(value):
        return gathered(value.comm.tompi4py(), params.local_values(value))
    return value

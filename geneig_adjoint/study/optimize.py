"""`geneig-adjoint optimize`: search the parameters that make an objective best."""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from geneig_adjoint import exit_codes
from geneig_adjoint.chain import value_and_gradient
from geneig_adjoint.collective import from_first_rank, users_code
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io.results import write_json
from geneig_adjoint.study.build import build_objectives, build_problem
from geneig_adjoint.study.design import Design, Goal, goal_of
from geneig_adjoint.study.earlier_runs import resumable
from geneig_adjoint.study.evaluations import FEASIBLE, Evaluator
from geneig_adjoint.study.fingerprint import Fingerprints
from geneig_adjoint.study.optimize_state import (
    STOPPED,
    SUMMARY,
    Checkpoint,
    earlier_search,
    fingerprint_of,
)
from geneig_adjoint.study.optimizers import Task, check_method, minimize
from geneig_adjoint.study.progress import tell
from geneig_adjoint.study.results import Outcome
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.search import Search
from geneig_adjoint.study.set_aside import drop_set_aside
from geneig_adjoint.study.settings import Study, about_the_study, study_of
from geneig_adjoint.study.steps import Steps

if TYPE_CHECKING:
    from mpi4py import MPI

CHANGED = 1e-6
"""Relative difference of an objective that rounding does not explain."""


def optimize_study(study: Study, comm: MPI.Comm, *, resume: bool = False) -> int:
    """Search a better design, write it with its history and return the exit code.

    Collective. The method runs on rank 0, all ranks evaluate together: no difference between
    them can lead the ranks apart.

    Parameters
    ----------
    study
        A study with a table [optimize].
    comm
        All ranks.
    resume
        Go on from the checkpoint of an earlier search, if there is one.

    Raises
    ------
    StudyError, InputError
        What the study says cannot be done.
    ConvergenceError, ModeTrackingError, DegenerateEigenvalueError, ...
        As in `value_and_gradient`; the best design so far is kept.

    """
    goal = goal_of(study)
    start = from_first_rank(comm, lambda: _start(study, goal, resume))
    with Steps(comm, study.directory) as steps:
        search, steps.code = _found(study, goal, steps, comm, start)
    code = steps.code
    if code == exit_codes.STOPPED:
        return code
    final = _final_run(_with_design(study, search.named_best()), comm)
    best = search.best_row["objective"]
    found = final.values.get(goal.objective, best)
    if abs(found - best) > CHANGED * abs(found):
        tell(
            comm,
            "note: modes have changed places in the search, which has followed them; in "
            f"result.json pairs are in the order of the eigenvalues, {goal.objective} is "
            f"{found:.8g} there",
        )
    return code or exit_codes.worst(final.codes.values())


def _final_run(study: Study, comm: MPI.Comm) -> Outcome:
    """Write the results at the best design, which replace all earlier ones.  (Collective.)"""

    def begun() -> bool:
        return resumable(study, Fingerprints().of_parts(study))

    outcome = run_study(study, comm, resume=from_first_rank(comm, begun))
    from_first_rank(comm, lambda: drop_set_aside(study.directory))
    return outcome


def _start(study: Study, goal: Goal, resume: bool) -> tuple[str, Checkpoint | None]:
    """Return fingerprint and earlier search, before any work.  (Not collective.)"""
    check_method(goal.method)
    fingerprint = fingerprint_of(study)
    return fingerprint, earlier_search(study, fingerprint, resume=resume)


def _found(
    study: Study, goal: Goal, steps: Steps, comm: MPI.Comm, start: tuple[str, Checkpoint | None]
) -> tuple[Search, int]:
    """Search, and return what was found with the exit code.  (Collective.)"""
    begin = time.perf_counter()
    fingerprint, earlier = start
    with ExitStack() as opened:
        with steps.part("build model"):
            problem = opened.enter_context(build_problem(study, comm))
        design = Design(study, problem.p)
        with steps.part("assemble"):
            with users_code(comm):
                pencil = problem.model.assemble(problem.p)
            with pencil:
                rows = pencil.view.rows(pencil)
        named = build_objectives(study, problem, rows, comm)
        with about_the_study():
            function = opened.enter_context(
                value_and_gradient(
                    problem.model,
                    [named[name] for name in goal.objectives],
                    adjoint=study.adjoint_arguments(),
                    track=goal.track,
                    **study.solver_arguments(),
                )
            )
        evaluator = Evaluator(goal, design, function)
        search = Search(study.directory, fingerprint, evaluator, comm, steps)
        z = search.begin(earlier)
        reason = _searched(search, goal, design, z)
    return search, _finish(study, comm, search, reason, time.perf_counter() - begin)


def _searched(search: Search, goal: Goal, design: Design, z: Any) -> str:
    """Run the method on rank 0 and return why it ended, on every rank.  (Collective.)"""
    task = Task(
        function=search.objective,
        constraints=search.constraints,
        count=search.evaluator.nonlinear_count,
        standing=search.standing,
        linear=search.evaluator.linear_constraints(),
        bounds=design.bounds,
        tolerance=goal.tolerance,
        max_iterations=goal.max_iterations,
        options=goal.options,
    )
    return search.led(lambda: minimize(goal.method, task, z), goal.max_iterations)


def _finish(study: Study, comm: MPI.Comm, search: Search, reason: str, seconds: float) -> int:
    """Write the summary, say how it ended and return the exit code.  (Collective.)"""
    best = search.best_row
    code = exit_codes.OK if best["violation"] <= FEASIBLE else exit_codes.CONVERGENCE
    if reason == STOPPED:
        code = exit_codes.STOPPED
    summary = {
        "reason": reason,
        "iterations": len(search.history),
        "best": best,
        "first": search.history[0],
        "feasible": best["violation"] <= FEASIBLE,
        "seconds": seconds,
    }

    def written() -> None:
        try:
            write_json(study.directory / SUMMARY, summary)
        except OSError as error:
            raise StudyError(
                f"results must be writable, got {error.strerror or error} in {study.directory}; "
                "make room, then go on with --resume"
            ) from error

    from_first_rank(comm, written)
    tell(comm, _closing(summary, code))
    return code


def _closing(summary: dict[str, Any], code: int) -> str:
    best, first = summary["best"], summary["first"]
    change = f"objective {first['objective']:.8g} -> {best['objective']:.8g}"
    lines = [
        f"ended after {summary['iterations']} iterations: {summary['reason']}",
        f"{change} (iteration {best['iteration']}), violation {best['violation']:.1e}",
    ]
    if code == exit_codes.CONVERGENCE:
        lines.append(
            "no design satisfied all constraints: start from another one, or relax "
            + ", ".join(best["constraints"])
        )
    if code == exit_codes.STOPPED:
        lines.append("stopped on request; --resume goes on from the best design")
    return "\n".join(lines)


def _with_design(study: Study, parameters: dict[str, Any]) -> Study:
    """Return the study at a design: what was searched is set, no longer scaled."""
    tables = copy.deepcopy(study.tables)
    kept = {
        name: {
            key: value
            for key, value in getattr(study, name).items()
            if key.partition("[")[0] not in parameters
        }
        for name in ("parameters", "scale")
    }
    lists = {name: entries.tolist() for name, entries in parameters.items()}
    tables["parameters"], tables["scale"] = {**kept["parameters"], **lists}, kept["scale"]
    tables["output"] = {**tables.get("output", {}), "overwrite": True}
    return study_of(study.path, tables)

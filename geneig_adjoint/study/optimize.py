"""`geneig-adjoint optimize`: search the parameters that make an objective best."""

from __future__ import annotations

import copy
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from geneig_adjoint import exit_codes
from geneig_adjoint.chain import value_and_gradient
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import GeneigError, StudyError
from geneig_adjoint.io.results import write_json
from geneig_adjoint.study.build import build_objectives, build_problem
from geneig_adjoint.study.design import Design, Goal, goal_of
from geneig_adjoint.study.evaluations import FEASIBLE, Evaluator
from geneig_adjoint.study.optimize_state import (
    SUMMARY,
    Checkpoint,
    earlier_search,
    fingerprint_of,
)
from geneig_adjoint.study.optimizers import Task, minimize
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.search import Search
from geneig_adjoint.study.settings import Study, about_the_study, study_of
from geneig_adjoint.study.signals import StopRequest

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
    fingerprint, earlier = _agreed_start(study, comm, resume)
    begin = time.perf_counter()
    with ExitStack() as opened:
        problem = opened.enter_context(build_problem(study, comm))
        design = Design(study, problem.p)
        with problem.model.assemble(problem.p) as pencil:
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
        stop = opened.enter_context(StopRequest(comm))
        evaluator = Evaluator(goal, design, function)
        search = Search(study.directory, fingerprint, evaluator, comm, stop)
        z = search.begin(earlier)
        reason = _searched(search, goal, design, z)
    code = _finish(study, comm, search, reason, time.perf_counter() - begin)
    if code == exit_codes.STOPPED:
        return code
    final = run_study(_with_design(study, search.named_best()), comm)
    best = search.best_row["objective"]
    found = final.values.get(goal.objective, best)
    if comm.rank == 0 and abs(found - best) > CHANGED * abs(found):
        sys.stderr.write(
            "note: modes have changed places in the search, which has followed them; in "
            f"result.json pairs are in the order of the eigenvalues, {goal.objective} is "
            f"{found:.8g} there\n"
        )
    return code or exit_codes.worst(final.codes.values())


def _agreed_start(study: Study, comm: MPI.Comm, resume: bool) -> tuple[str, Checkpoint | None]:
    """Return fingerprint and earlier search as rank 0 finds them.  (Collective.)"""
    error: Exception | None = None
    found: tuple[str, Checkpoint | None] = "", None
    if comm.rank == 0:
        try:
            fingerprint = fingerprint_of(study)
            found = fingerprint, earlier_search(study, fingerprint, resume=resume)
        except GeneigError as caught:
            error = caught
    raise_together(comm, error)
    agreed: tuple[str, Checkpoint | None] = comm.bcast(found, root=0)
    return agreed


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
    if reason == "stopped":
        code = exit_codes.STOPPED
    summary = {
        "reason": reason,
        "iterations": len(search.history),
        "best": best,
        "first": search.history[0],
        "feasible": best["violation"] <= FEASIBLE,
        "seconds": seconds,
    }
    error: Exception | None = None
    try:
        if comm.rank == 0:
            write_json(study.directory / SUMMARY, summary)
    except OSError as caught:
        error = StudyError(
            f"results must be writable, got {caught.strerror or caught} in {study.directory}; "
            "make room, or choose another output.directory"
        )
    raise_together(comm, error)
    if comm.rank == 0:
        sys.stderr.write(_closing(summary, code))
        sys.stderr.flush()
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
    return "\n".join(lines) + "\n"


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

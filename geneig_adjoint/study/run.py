"""`geneig-adjoint run`: solve, differentiate, write; stopped and resumed between steps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geneig_adjoint import exit_codes
from geneig_adjoint.collective import from_first_rank, guard, raise_together, users_code
from geneig_adjoint.conditioning import residual_limit
from geneig_adjoint.eigenpairs import Eigenpairs, linear_pairs
from geneig_adjoint.errors import ConvergenceError, InputError
from geneig_adjoint.evaluation import Objective
from geneig_adjoint.io import Mesh
from geneig_adjoint.io.temporary_files import remove_leftovers
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.quadratic_pencil import QuadraticPencil
from geneig_adjoint.quadratic_solve import solve_quadratic
from geneig_adjoint.refactored import refactored
from geneig_adjoint.sensitivity import adjoint_settings
from geneig_adjoint.solve import solve_eigenproblem
from geneig_adjoint.study.build import Problem, build_objectives, build_problem
from geneig_adjoint.study.checkpoint import Checkpoint, Work
from geneig_adjoint.study.differentiate import Differentiation
from geneig_adjoint.study.earlier_runs import Found, found_checkpoint
from geneig_adjoint.study.fingerprint import Fingerprints
from geneig_adjoint.study.kept_pairs import again, with_notes
from geneig_adjoint.study.options import unread_options, watched_options
from geneig_adjoint.study.progress import show
from geneig_adjoint.study.results import Outcome, Pairs, prepare_directory, write_results
from geneig_adjoint.study.settings import Study, about_the_study
from geneig_adjoint.study.steps import Steps
from geneig_adjoint.study.summary import frequencies, summary
from geneig_adjoint.user_options import unread_text

if TYPE_CHECKING:
    from mpi4py import MPI

SOLVE = "solve eigenproblem"


def run_study(study: Study, comm: MPI.Comm, *, resume: bool = False) -> Outcome:
    """Solve a study, differentiate its objectives and write the results.

    Collective. Objectives whose gradient does not exist, or whose pairs were not found, are
    listed under ``failures`` and the others are written. What is done is kept in
    ``checkpoint.h5`` until the results are in place.

    Parameters
    ----------
    study
        What to do.
    comm
        Communicator.
    resume
        Go on from the checkpoint of an unfinished run, if there is one.

    Raises
    ------
    StudyError
        Results or an unfinished run that exist already, things a study cannot do.
    StoppedError
        When SIGUSR1 or SIGTERM asked for it; the run can be resumed.
    InputError, ConvergenceError
        As in `solve_eigenproblem` and `gradient`.

    """
    with about_the_study():
        settings = adjoint_settings(**study.adjoint_arguments())
    digests = from_first_rank(comm, lambda: Fingerprints().of_parts(study))
    found = found_checkpoint(study, comm, digests, resume=resume)
    from_first_rank(comm, lambda: _prepare_directory(study, found))
    with Steps(comm, study.directory) as steps, ExitStack() as opened:
        if found is not None:
            opened.callback(found.close)
        run = _Run(study, comm, steps, opened, found)
        problem, pencil, objectives = run.built()
        checkpoint = Checkpoint(study, problem, pencil, digests)
        task = Differentiation(problem, objectives, settings, steps, checkpoint)
        run.stop_if_asked()
        work = run.solved(task, pencil)
        many = "objective" if len(objectives) == 1 else "objectives"
        with steps.step(f"differentiate {len(objectives)} {many}"), about_the_study():
            run.differentiate(task, work)
        steps.code = exit_codes.worst(work.outcome.codes.values())
        _write(run, problem, work)
        checkpoint.remove()
    return work.outcome


def _prepare_directory(study: Study, found: Found | None) -> None:
    """Prepare the output folder, or raise what is wrong with it.  (Not collective.)"""
    if found is not None:  # it was allowed to write here when it began
        study = replace(study, output={**study.output, "overwrite": True})
    prepare_directory(study)
    remove_leftovers(study.directory)


@dataclass(frozen=True)
class _Run:
    """A run before its derivatives.  (Collective.)"""

    study: Study
    comm: MPI.Comm
    steps: Steps
    opened: ExitStack
    found: Found | None

    def built(self) -> tuple[Problem, Pencil, dict[str, Objective]]:
        """Return the model, its matrices and the objectives."""
        study, comm, steps = self.study, self.comm, self.steps
        with steps.step("build model"):
            problem = self.opened.enter_context(build_problem(study, comm))
        self.stop_if_asked()
        with steps.step("assemble"):
            with users_code(comm):
                pencil = problem.model.assemble(problem.p)
            self.opened.enter_context(pencil)
        # Before the long part: a typing error should not cost a solve.
        rows = pencil.view.rows(pencil)
        objectives = build_objectives(study, problem, rows, comm)
        n = comm.allreduce(rows[1] - rows[0])
        raise_together(comm, _mesh_error(problem.mesh, n))
        return problem, pencil, objectives

    def stop_if_asked(self) -> None:
        """Stop before anything is worth keeping, if that was asked for."""
        signal = self.steps.requested()
        if signal is not None:
            text = "there is nothing new to keep: give the same command again"
            self.steps.stop(signal, text)

    def solved(self, task: Differentiation, pencil: Pencil) -> Work:
        """Return the eigenpairs, from the checkpoint or from a solve, with what else is done."""
        work = None if self.found is None else task.checkpoint.restored(self.found)
        if work is None:
            work = self._newly_solved(pencil)
            self.opened.enter_context(work.pairs)
            if self.found is not None:
                task.checkpoint.check_values(self.found, work.pairs)
            task.checkpoint_or_stop(work, always=True)
            return work
        assert self.found is not None
        self.steps.note(f"resumed what {self.found.text} had kept")
        work.pairs = with_notes(work.pairs, f"resumed from {self.found.text}")
        needed = [
            name
            for name in task.objectives
            if not work.finished(name) and name not in work.adjoints
        ]
        if needed:
            with self.steps.part("factor"):
                work.pairs = _with_factor(work.pairs, self.study)
        self.opened.enter_context(work.pairs)
        return work

    def _newly_solved(self, pencil: Pencil) -> Work:
        if self.found is not None:
            self.steps.note(
                f"the eigenproblem is solved again: {self.found.text} numbered the rows or the "
                "parameters of the model in another way, so that only eigenvalues can be compared"
            )
        arguments = self.study.solver_arguments()
        with self.steps.step(SOLVE), about_the_study():
            try:
                return Work(_solved(pencil, arguments))
            except ConvergenceError as error:
                work = _partial_work(pencil, error, self.comm)
                if work is None:
                    raise
        self.steps.note(work.outcome.failures[SOLVE])
        return work

    def differentiate(self, task: Differentiation, work: Work) -> None:
        """Find the derivatives of pairs whose numbers are known, note options nobody has read."""
        with watched_options(self.study, "adjoint") as watch:
            self._differentiate(task, work)
        unread = watch.unread(self.comm)
        if unread:
            work.pairs = with_notes(work.pairs, unread_text(unread))

    def _differentiate(self, task: Differentiation, work: Work) -> None:
        failures = work.outcome.failures
        if SOLVE not in failures:
            task.run(work)
            return
        if failures[SOLVE].startswith(UNNUMBERED):
            names = [name for name in task.objectives if not work.finished(name)]
            for name in names:
                failures[name] = "the numbers of the pairs are not known: some are missing"
            return
        replace(task, partial=True).run(work)


UNNUMBERED = "pairs are missing: "
"""What begins the reason of a failed solve that leaves open which pair is which."""


def _partial_work(pencil: Pencil, error: ConvergenceError, comm: MPI.Comm) -> Work | None:
    """Return what an eigensolve has found that failed, None: nothing.

    Collective. Where good pairs are only too few, they are the first ones; where some were
    refused or are known to be missing, nobody knows which is which.
    """
    pairs: Eigenpairs | None = error.pairs
    if comm.allreduce(int(pairs is None)) or pairs is None:
        return None
    # Not a number where pairs are known to be missing.
    good = error.residual_norm <= residual_limit(pairs.info.tolerance)
    work = Work(pencil.view.pairs(pairs))
    work.outcome.failures[SOLVE] = f"{'' if good else UNNUMBERED}{error}"
    work.outcome.codes[SOLVE] = exit_codes.CONVERGENCE
    return work


def _with_factor(shown: Pairs, study: Study) -> Pairs:
    pairs: Eigenpairs = linear_pairs(shown)
    factor = refactored(pairs, solver_parameters=study.solver.get("options"))
    return again(shown, replace(pairs, factor=factor))


def _solved(pencil: Pencil, arguments: Mapping[str, Any]) -> Pairs:
    if isinstance(pencil, QuadraticPencil):
        return solve_quadratic(pencil, **arguments)
    return solve_eigenproblem(pencil, **arguments)


def _mesh_error(mesh: Mesh | None, n: int) -> InputError | None:
    return None if mesh is None else mesh.error(n)


def _write(run: _Run, problem: Problem, work: Work) -> None:
    """Write the results and print the table.  (Collective.)"""
    unread = run.comm.bcast(unread_options(), root=0)
    if unread:
        work.pairs = with_notes(work.pairs, unread_text(unread))
    with run.steps.step("write results"):
        timings = {**work.timings, **run.steps.progress.timings}
        notes = write_results(run.study, problem, work.pairs, outcome=work.outcome, timings=timings)
    frequency = frequencies(work.pairs)
    with guard(run.comm):
        if run.comm.rank == 0:
            folder = run.study.directory
            text = summary(work.pairs, work.outcome, notes, frequency=frequency, directory=folder)
            show(run.comm, text)

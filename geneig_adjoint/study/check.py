"""`geneig-adjoint check`: are the inputs right, does the gradient of a study hold?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from geneig_adjoint import parameters as params
from geneig_adjoint.collective import users_code
from geneig_adjoint.evaluation import Objective
from geneig_adjoint.gradient_reports import GradientReport
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.sensitivity import adjoint_settings
from geneig_adjoint.study.build import Problem, build_objectives, build_problem
from geneig_adjoint.study.locate import located
from geneig_adjoint.study.options import PREFIXES, watched_options
from geneig_adjoint.study.progress import Progress, show
from geneig_adjoint.study.settings import Study, about_the_study
from geneig_adjoint.study.survey import survey
from geneig_adjoint.user_options import unread_text
from geneig_adjoint.verification import verify_gradient

if TYPE_CHECKING:
    from mpi4py import MPI


def check_inputs(study: Study, comm: MPI.Comm) -> str:
    """Read and build everything a study names, without solving; return what there is.

    Collective. Prints it on rank 0. Writes nothing.

    Raises
    ------
    StudyError, InputError
        As a run would.

    """
    progress = Progress(comm)
    with about_the_study():
        adjoint_settings(**study.adjoint_arguments())
    with _built(study, comm, progress) as (problem, pencil, objectives):
        text = survey(study, problem, pencil, objectives)
    show(comm, text)
    return text


def check_study(study: Study, comm: MPI.Comm) -> dict[str, GradientReport]:
    """Test the gradient of every objective of a study; see `verify_gradient`.

    Collective. Prints one table per objective on rank 0 and, where a derivative is wrong, which
    element or entry is.
    """
    progress = Progress(comm)
    reports = {}
    with _built(study, comm, progress) as (problem, pencil, objectives):
        pencil.close()  # room for those of the test
        with _unread_shown(study, comm):
            for name, objective in objectives.items():
                with progress.step(f"check {name}"), about_the_study():
                    reports[name] = verify_gradient(
                        problem.model,
                        problem.p,
                        objective,
                        adjoint=study.adjoint_arguments(),
                        **study.solver_arguments(),
                    )
                params.release(reports[name].gradient)
                show(comm, f"\n{name}\n{'-' * len(name)}\n{reports[name]}")
        wrong = {
            item.parameter: None
            for report in reports.values()
            for item in report.comparisons
            if not item.agrees
        }
        if wrong:
            with progress.step("look for what is wrong"):
                found = located(problem.model, problem.p, list(wrong), comm)
            lines = ["\nwhere derivatives are wrong", *(f"  {line}" for line in found)]
            show(comm, "\n".join(lines))
    return reports


@contextmanager
def _unread_shown(study: Study, comm: MPI.Comm) -> Iterator[None]:
    """Say at the end of a block which options of the study nothing has read.  (Collective.)"""
    with ExitStack() as opened:
        watches = [opened.enter_context(watched_options(study, table)) for table in PREFIXES]
        yield
    unread = [name for watch in watches for name in watch.unread(comm)]
    if unread:
        show(comm, f"note: {unread_text(unread)}")


@contextmanager
def _built(
    study: Study, comm: MPI.Comm, progress: Progress
) -> Iterator[tuple[Problem, Pencil, dict[str, Objective]]]:
    with progress.step("build model"):
        opened = build_problem(study, comm)
    with opened as problem:
        with progress.step("assemble"), users_code(comm):
            pencil = problem.model.assemble(problem.p)
        with pencil:
            rows = pencil.view.rows(pencil)
            objectives = build_objectives(study, problem, rows, comm)
            yield problem, pencil, objectives

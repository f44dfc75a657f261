"""`geneig-adjoint check`: does the gradient of a study hold?"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from geneig_adjoint import parameters as params
from geneig_adjoint.study.build import build_objectives, build_problem
from geneig_adjoint.study.progress import Progress
from geneig_adjoint.study.settings import Study, about_the_study
from geneig_adjoint.verification import GradientReport, verify_gradient

if TYPE_CHECKING:
    from mpi4py import MPI


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
            with progress.step(f"check {name}"), about_the_study():
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

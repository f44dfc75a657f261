"""``geneig-adjoint run``: solve, differentiate, write."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geneig_adjoint.commands._studies import add_study_arguments, shared_study
from geneig_adjoint.exit_codes import worst

if TYPE_CHECKING:
    from mpi4py import MPI

STOPS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_study_arguments(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results that exist already, also an unfinished run of another study",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where the same study was stopped or killed; start if there is nothing to go on",
    )


def execute(chosen: Any, comm: MPI.Comm) -> int:
    """Run a study and return the exit code.  (Collective.)"""
    from geneig_adjoint.collective import from_first_rank
    from geneig_adjoint.study.optimize_state import refuse_folder_of_a_search
    from geneig_adjoint.study.run import run_study

    study = shared_study(chosen, comm, ["output.overwrite=true"] if chosen.overwrite else [])
    from_first_rank(comm, lambda: refuse_folder_of_a_search(study))
    return worst(run_study(study, comm, resume=chosen.resume).codes.values())

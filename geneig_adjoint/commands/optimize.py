"""``geneig-adjoint optimize``: search the parameters that make an objective best."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geneig_adjoint.commands._studies import add_study_arguments, shared_study

if TYPE_CHECKING:
    from mpi4py import MPI

STOPS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_study_arguments(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results that exist already, also an unfinished search of another study",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where an earlier job stopped, if there is one"
    )


def execute(chosen: Any, comm: MPI.Comm) -> int:
    """Run the search and return the exit code.  (Collective.)"""
    from geneig_adjoint.study.optimize import optimize_study

    study = shared_study(chosen, comm, ["output.overwrite=true"] if chosen.overwrite else [])
    return optimize_study(study, comm, resume=chosen.resume)

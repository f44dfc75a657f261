"""``geneig-adjoint check``: test the inputs and the gradient of a study."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geneig_adjoint.commands._studies import add_study_arguments, shared_study
from geneig_adjoint.exit_codes import OK, VERIFICATION

if TYPE_CHECKING:
    from mpi4py import MPI


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_study_arguments(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read, build and assemble only: say what would be solved",
    )


def execute(chosen: Any, comm: MPI.Comm) -> int:
    """Check a study and return the exit code.  (Collective.)"""
    from geneig_adjoint.study.check import check_inputs, check_study

    study = shared_study(chosen, comm)
    if chosen.dry_run:
        check_inputs(study, comm)
        return OK
    reports = check_study(study, comm)
    return OK if all(report.passed for report in reports.values()) else VERIFICATION

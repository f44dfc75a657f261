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


def execute(chosen: Any, comm: MPI.Comm) -> int:
    """Check a study and return the exit code.  (Collective.)"""
    from geneig_adjoint.study.check import check_study

    reports = check_study(shared_study(chosen, comm), comm)
    return OK if all(report.passed for report in reports.values()) else VERIFICATION

"""What commands that work on a study file have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from geneig_adjoint.study.settings import Study, read_study

if TYPE_CHECKING:
    from mpi4py import MPI


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the study file and what may be changed in it."""
    parser.add_argument("study", help="study file (TOML)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="replace an entry of the study, e.g. solver.count=20 (repeatable)",
    )


def shared_study(chosen: Any, comm: MPI.Comm, changes: Sequence[str] = ()) -> Study:
    """Return the study that the command line names, or raise on all ranks.

    Collective: a file may be missing on one machine of several. See `chosen_study`.
    """
    from geneig_adjoint.collective import check_equal_input, guard

    with guard(comm):
        study = chosen_study(chosen, changes)
    check_equal_input(comm, "the study", study)
    return study


def chosen_study(chosen: Any, changes: Sequence[str] = ()) -> Study:
    """Return the study that the command line names.  (Not collective.)

    Parameters
    ----------
    chosen
        Arguments of the command line.
    changes
        Entries that options other than ``--set`` replace.

    Raises
    ------
    StudyError
        See `read_study`.

    """
    return read_study(chosen.study, [*chosen.set, *changes])

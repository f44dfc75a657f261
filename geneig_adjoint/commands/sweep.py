"""``geneig-adjoint sweep``: run the samples of a study."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from geneig_adjoint.commands._studies import add_study_arguments, shared_study
from geneig_adjoint.errors import StudyError
from geneig_adjoint.exit_codes import OK

if TYPE_CHECKING:
    from mpi4py import MPI

STOPS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_study_arguments(parser)
    parser.add_argument(
        "--only",
        "--sample",
        metavar="K",
        help='only these samples, counted from 0: "7" or "0-3,9" (array jobs: one each)',
    )
    parser.add_argument("--list", action="store_true", help="print the samples and run none")
    parser.add_argument("--retry", action="store_true", help="run failed samples again")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace results of another sweep or other files"
    )


def execute(chosen: Any, comm: MPI.Comm) -> int:
    """Run a sweep and return the exit code.  (Collective.)"""
    from geneig_adjoint.collective import from_first_rank
    from geneig_adjoint.study.progress import show
    from geneig_adjoint.study.sweep import Wishes, listing, run_sweep

    study = shared_study(chosen, comm)
    if chosen.list:
        show(comm, from_first_rank(comm, lambda: listing(study)))
        return OK
    wishes = Wishes(numbers_of(chosen.only), retry=chosen.retry, overwrite=chosen.overwrite)
    return run_sweep(study, comm, wishes)


def numbers_of(text: str | None) -> list[int] | None:
    """Return the numbers that "0-3,9" means; None for None.  (Not collective.)

    Raises
    ------
    StudyError
        A text of another form.

    """
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        range_of = first.isdecimal() and (last.isdecimal() if dash else True)
        if not range_of or int(last or first) < int(first):
            raise StudyError(
                f'--only must be numbers of samples such as "7" or "0-3,9", got {text!r}; '
                "--list shows them"
            )
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers

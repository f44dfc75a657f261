"""``geneig-adjoint plot``: pictures of what a run or a sweep has written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geneig_adjoint.errors import StudyError
from geneig_adjoint.exit_codes import OK

ALONE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("results", type=Path, help="output folder of a run or sweep, or a table")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="default: pictures in the output folder"
    )
    parser.add_argument(
        "--format", choices=("png", "pdf", "svg"), default="png", help="default: png"
    )
    parser.add_argument(
        "--modes", type=int, default=18, metavar="N", help="draw at most N modes (default: 18)"
    )


def execute(chosen: Any) -> int:
    """Draw, name the files and what was left out; return the exit code."""
    from geneig_adjoint.pictures.draw import draw

    if chosen.modes < 0:
        raise StudyError(f"--modes must be 0 or more, got {chosen.modes}; say how many to draw")
    drawn = draw(chosen.results, chosen.output, kind=chosen.format, limit=chosen.modes)
    for path in drawn.files:
        print(path)
    for note in drawn.notes:
        print(f"note: {note}")
    return OK

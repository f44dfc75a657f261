"""``geneig-adjoint collect``: one table of the results of many runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from geneig_adjoint.exit_codes import OK

ALONE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("folders", nargs="+", help="folders of runs (out/*/), or of a sweep (out)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="table.csv, .json, or .h5 with all gradients"
    )
    parser.add_argument("--gradients", action="store_true", help="add the norms of all gradients")
    parser.add_argument("--overwrite", action="store_true", help="replace the table")


def execute(chosen: Any) -> int:
    """Write the table, or print it as CSV; return the exit code.  (Not collective.)"""
    from geneig_adjoint.study.collect import collected, csv_text, write_table

    rows = collected(chosen.folders, norms=chosen.gradients)
    if chosen.output is None:
        sys.stdout.write(csv_text(rows))
        return OK
    write_table(Path(chosen.output), rows, overwrite=chosen.overwrite)
    done = sum(row["status"] == "done" for row in rows)
    print(f"{chosen.output}: {len(rows)} rows, {done} done")
    return OK

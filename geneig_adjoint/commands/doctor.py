"""``geneig-adjoint doctor``: what this machine has, and a remedy for what it lacks."""

from __future__ import annotations

import argparse
import os
from typing import Any

from geneig_adjoint.exit_codes import OK, STUDY

ALONE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")


def execute(chosen: Any) -> int:
    """Examine the machine, print what was found, return the exit code."""
    from geneig_adjoint.launches import launched_rank
    from geneig_adjoint.machine.doctor import examine
    from geneig_adjoint.machine.findings import as_json, table

    findings = examine()
    if launched_rank(os.environ) == 0:  # all processes of a job find the same
        text = as_json(findings) if chosen.json else table(findings)
        # A terminal that cannot show a letter is one of the things this is for.
        print(text.encode("ascii", "backslashreplace").decode("ascii"))
    return STUDY if any(finding.fatal for finding in findings) else OK

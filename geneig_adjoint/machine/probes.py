"""Imports and commands in processes of their own: what crashes or hangs there is seen here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from geneig_adjoint.machine.findings import one_line

SECONDS = 60.0
MARK = "geneig-adjoint probe: "
# A process that finds these would take itself for a rank of the job that doctor runs in.
LAUNCHED = (
    *("OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_FIRST", "OMPI_APP_CTX", "OMPI_NUM_APP"),
    *("OMPI_ARGV", "OMPI_COMMAND", "OMPI_FILE", "OMPI_MCA_orte", "OMPI_MCA_ess", "OMPI_MCA_pmix"),
    *("OMPI_MCA_plm", "OMPI_MCA_initial", "OMPI_MCA_shmem", "PMIX_", "ORTE_", "PRTE_"),
    *("PMI_", "HYDRA_", "MV2_COMM_", "MPI_LOCAL"),
)


@dataclass(frozen=True)
class Probe:
    """How a process ended.

    Attributes
    ----------
    data : dict
        What it found, empty after a failure.
    failure : str
        Why it failed, in one line; empty if it did not.
    text : str
        All that it said on stderr.

    """

    data: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    text: str = ""


def probe(code: str, *, in_the_job: bool = False, seconds: float | None = None) -> Probe:
    """Run Python code that puts what it finds into ``found``, in a process of its own.

    Parameters
    ----------
    code
        Statements; ``found`` is a dictionary that must go through JSON.
    in_the_job
        Keep the variables by which a launcher's processes find each other.
    seconds
        Time it has; None: `SECONDS`.

    """
    text = f"found = {{}}\n{code}\nimport json\nprint({MARK!r} + json.dumps(found), flush=True)\n"
    # -P: a folder "petsc4py" where doctor is started is not the package.
    finished = run([sys.executable, "-P", "-c", text], in_the_job=in_the_job, seconds=seconds)
    if isinstance(finished, str):
        return Probe(failure=finished)
    lines = [line for line in finished.stdout.splitlines() if line.startswith(MARK)]
    if lines:  # what fails after it, fails while the process ends
        return Probe(json.loads(lines[-1].removeprefix(MARK)), text=finished.stderr)
    return Probe(failure=_reason(finished), text=finished.stderr)


def run(
    command: Sequence[str], *, in_the_job: bool = False, seconds: float | None = None
) -> subprocess.CompletedProcess[str] | str:
    """Run a command; return how it ended, or why it could not be run."""
    limit = SECONDS if seconds is None else seconds
    environment = {
        name: value
        for name, value in os.environ.items()
        if in_the_job or not name.startswith(LAUNCHED)
    }
    try:
        return subprocess.run(
            list(command), env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", errors="replace", timeout=limit, check=False, cwd=_folder(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end after {limit:.0f} s"
    except OSError as error:
        return f"cannot be started: {error.strerror or error}"


def _folder() -> str | None:
    """Return where to run: here, unless the folder was removed, which stops MPI and PETSc."""
    try:
        os.getcwd()
    except OSError:
        return os.sep
    return None


def _reason(finished: subprocess.CompletedProcess[str]) -> str:
    if finished.returncode < 0:
        try:
            name = signal.Signals(-finished.returncode).name
        except ValueError:
            name = f"signal {-finished.returncode}"
        return f"crashed ({name})"
    said = [line for line in finished.stderr.splitlines() if line.strip()]
    errors = [line for line in said if line[:1].isalpha() and "Error" in line.partition(":")[0]]
    last = (errors or said or [f"exit code {finished.returncode}"])[-1]
    return one_line(last)

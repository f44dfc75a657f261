"""Memory of this process, and what it can still get."""

from __future__ import annotations

import math
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from geneig_adjoint.machine import control_groups

MEMINFO, STATM = Path("/proc/meminfo"), Path("/proc/self/statm")
NAMES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Of files with limit and use, and of the part of the use that is but cache, in both versions of
control groups."""


def resident() -> float:
    """Return the memory of this process in bytes; the most it has had where only that is known."""
    if STATM.is_file():
        return float(STATM.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def free_memory() -> float | None:
    """Return the bytes that processes of this job can still get here, None where nobody tells.

    What the machine has, and what limits of control groups (jobs, containers) leave of it.
    """
    if not MEMINFO.is_file():
        return None
    found = re.search(r"^MemAvailable: +(\d+) kB$", MEMINFO.read_text(), flags=re.MULTILINE)
    if found is None:
        return None
    return max(0.0, min([int(found[1]) * 1024.0, *_left_in_groups()]))


def left_for_process() -> float:
    """Return the bytes that `ulimit -v` leaves to this process, inf without a limit."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft == resource.RLIM_INFINITY or not STATM.is_file():
        return math.inf
    return max(0.0, soft - float(STATM.read_text().split()[0]) * resource.getpagesize())


def limits_of_groups() -> list[float]:
    """Return the bytes that each control group around this process may have."""
    return [limit for limit, _ in _groups()]


def _left_in_groups() -> list[float]:
    return [limit - used for limit, used in _groups()]


def _groups() -> Iterator[tuple[float, float]]:
    """Give limit and use of each control group around this process that has a limit."""
    for kind, names in NAMES.items():
        for folder in control_groups.folders(kind):
            yield from _limit_and_use(folder, *names)


def _limit_and_use(
    folder: Path, limit: str, used: str, cached: str
) -> Iterator[tuple[float, float]]:
    try:
        most, now = (int((folder / name).read_text()) for name in (limit, used))
        lines = (folder / "memory.stat").read_text()
    except (OSError, ValueError):  # no such group, or "max"
        return
    cache = re.search(rf"^{cached} (\d+)$", lines, flags=re.MULTILINE)
    yield float(most), float(now - (int(cache[1]) if cache else 0))

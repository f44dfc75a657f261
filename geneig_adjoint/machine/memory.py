"""Memory of this process, and what it can still get."""

from __future__ import annotations

import math
import re
import resource
from collections.abc import Iterator
from pathlib import Path

MEMINFO, STATM = Path("/proc/meminfo"), Path("/proc/self/statm")
GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
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


def _left_in_groups() -> Iterator[float]:
    """Give what each of the control groups around this process has left."""
    lines = GROUPS.read_text().splitlines() if GROUPS.is_file() else []
    for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        for kind in NAMES.keys() & set(kinds.split(",")):
            own = MOUNT / kind / path.lstrip("/")
            folders = [own, *own.parents]
            for folder in folders[: folders.index(MOUNT / kind) + 1]:
                yield from _left_in(folder, *NAMES[kind])


def _left_in(folder: Path, limit: str, used: str, cached: str) -> Iterator[float]:
    try:
        most, now = (int((folder / name).read_text()) for name in (limit, used))
        lines = (folder / "memory.stat").read_text()
    except (OSError, ValueError):  # no such group, or "max"
        return
    cache = re.search(rf"^{cached} (\d+)$", lines, flags=re.MULTILINE)
    yield float(most - now + (int(cache[1]) if cache else 0))

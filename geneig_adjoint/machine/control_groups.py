"""Control groups around this process, in which jobs and containers have their limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def folders(kind: str = "") -> Iterator[Path]:
    """Give the folders of the groups around this process, the innermost first.

    ``kind``: a controller of version 1 ("memory"), empty for the groups of version 2. Inside a
    container the outer ones may not be there.
    """
    lines = GROUPS.read_text().splitlines() if GROUPS.is_file() else []
    for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if kind in kinds.split(","):
            outermost = MOUNT / kind
            own = outermost / path.lstrip("/")
            around = [own, *own.parents]
            yield from around[: around.index(outermost) + 1]

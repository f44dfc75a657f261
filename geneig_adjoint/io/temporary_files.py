"""Temporary files: named after the process that writes them, removed when it is no more."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

LEFTOVER = re.compile(r"\.(?P<stem>[^.]+)\.((?P<host>.+)\.)?(?P<process>\d+)(?P<suffix>\.\w+)")
OURS = {".json", ".jsonl", ".h5", ".vtu"}
UNTOUCHED = 600.0
"""Seconds after which nobody on another machine is writing a file any more."""


def temporary_path(path: Path) -> Path:
    """Return the name under which this process writes a file before it is in place."""
    return path.with_name(f".{path.stem}.{os.uname().nodename}.{os.getpid()}{path.suffix}")


def remove_leftovers(folder: Path, path: Path | None = None) -> None:
    """Remove temporary files of processes that are no more.  (Not collective: one rank.)

    Parameters
    ----------
    folder
        Where to look.
    path
        Those of this file, of this machine; None: of all files that results consist of. These
        folders belong to one run at a time: what another machine has left there goes, too, if it
        has not been touched for a while.

    """
    for name in _listed(folder):
        found = LEFTOVER.fullmatch(name)
        if found is None:
            continue
        here = found["host"] in {None, os.uname().nodename}
        if path is None:
            chosen = found["suffix"] in OURS and (here or _untouched(folder / name))
        else:
            chosen = here and (found["stem"], found["suffix"]) == (path.stem, path.suffix)
        if chosen and not (here and _lives(int(found["process"]))):
            with suppress(OSError):
                (folder / name).unlink()


def _listed(folder: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _untouched(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > UNTOUCHED
    return False


def _lives(process: int) -> bool:
    if process == os.getpid():
        return False  # it writes nothing now
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    try:  # killed processes can be signalled until somebody has asked for their exit code
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except OSError:
        return True
    return state.split()[0] not in {"Z", "X"}

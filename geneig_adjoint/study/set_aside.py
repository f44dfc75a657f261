"""Results that are kept until what replaces them is complete.

They are moved into a folder `.earlier` beside the new ones, which takes no room, and are removed
when these are complete. Whoever did not mean to replace them moves them back.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

EARLIER = ".earlier"
PART = ".earlier.part"
"""The folder before all files are in it."""


def set_aside(directory: Path, names: Sequence[str]) -> bool:
    """Move earlier results aside, and tell whether there were any to move.

    Not collective: call it on one rank. What was set aside before stays, unless there are newer
    complete results.

    Parameters
    ----------
    directory
        Folder of the results.
    names
        Files to move where they exist; the first is one that only complete results have.

    """
    kept, part = directory / EARLIER, directory / PART
    present = [name for name in names if (directory / name).exists()]
    if not part.exists():  # else a job was killed while it moved them
        if not present or (kept.exists() and names[0] not in present):
            return False
        shutil.rmtree(kept, ignore_errors=True)
        part.mkdir()
    # The first one first: nobody may take it for one of the new results.
    for name in present:
        (directory / name).replace(part / name)
    part.replace(kept)
    return True


def set_folder_aside(directory: Path, name: str, *, complete: bool) -> None:
    """Move a whole folder of results aside.

    Not collective: call it on one rank. Of incomplete results, only if nothing is there yet.
    """
    folder, kept = directory / name, directory / EARLIER / name
    if kept.exists():
        shutil.rmtree(kept if complete else folder, ignore_errors=True)
    if folder.exists():
        kept.parent.mkdir(exist_ok=True)
        folder.replace(kept)


def drop_set_aside(directory: Path, name: str = "") -> None:
    """Remove what was set aside, or one folder of it: it is replaced.  (Not collective.)"""
    shutil.rmtree(directory / EARLIER / name, ignore_errors=True)

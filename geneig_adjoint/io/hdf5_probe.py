"""HDF5 files without checksums: looked through by another process first.

In a damaged one HDF5 may crash, or run in circles for ever (it does so in the heap of texts of
any length), and takes the process along.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from geneig_adjoint.errors import InputError
from geneig_adjoint.io.own_hdf5 import h5py

SECONDS = 60.0
"""How long the other process may take; it reads no data, and starts in a fraction of a second."""
SIGNATURE = b"\x89HDF\r\n\x1a\n"
LOOK = """
import sys
import h5py

def look(name, item):
    for key in item.attrs:
        item.attrs[key]
    if isinstance(item, h5py.Dataset):
        item.id.get_storage_size()
        if item.chunks:
            item.id.get_num_chunks()

with h5py.File(sys.argv[1], "r") as file:
    look("/", file)
    file.visititems(look)
"""


def probe_error(path: str | Path) -> InputError | None:
    """Return an error for a file in which HDF5 crashes or never ends.

    Not collective: for one rank, before any opens the file. Files whose structures have
    checksums are not looked through. What HDF5 refuses is left to whoever opens the file.
    """
    if not sys.executable or not _is_unprotected(Path(path)):
        return None
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(path)],
            env=environment,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return _error(path, f"no end after {SECONDS:g} s")
    except OSError:  # no processes here
        return None
    if done.returncode < 0:
        return _error(path, f"a crash of HDF5 ({signal.Signals(-done.returncode).name})")
    return None


def _error(path: str | Path, what: str) -> InputError:
    return InputError(
        f"{path} must be an element table, got {what} when it was opened: the file is damaged; "
        "copy or write it again, with checksums (geneig_adjoint.io.write_elements has them)"
    )


def _is_unprotected(path: Path) -> bool:
    """Tell whether HDF5 would believe what it reads.  (Not collective.)"""
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
        if not h5py.is_hdf5(path):
            return False
        if start[:8] != SIGNATURE or start[8] < 2:
            return True  # formats before 1.10, and files with something in front
        with h5py.File(path, "r") as file:
            return _has_long_texts(file)
    except Exception:  # whoever opens the file meets it, too
        return False


def _has_long_texts(file: h5py.File) -> bool:
    """Tell whether there are attributes of any length, which have no checksums."""
    found = []

    def look(_: str, item: h5py.Group | h5py.Dataset) -> None:
        kinds = [item.attrs.get_id(name).dtype for name in item.attrs]
        found.append(any(kind.kind == "O" for kind in kinds))

    look("/", file)
    file.visititems(look)
    return any(found)

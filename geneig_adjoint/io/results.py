"""Files that are whole or not there; JSON; vectors of all ranks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.io.temporary_files import remove_leftovers, temporary_path

if TYPE_CHECKING:
    from mpi4py import MPI


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` and move it there when the block succeeds.

    Not collective: call it on one rank. A reader sees the old file or the new one,
    never half of it, also after a power cut; a failure leaves no file behind, and what
    a killed process of this machine has left is removed.
    """
    temporary = temporary_path(path)
    remove_leftovers(path.parent, path)
    try:
        yield temporary
        _synchronise(temporary)
        temporary.replace(path)
        _synchronise(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _synchronise(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinities become null.  (Not collective.)"""
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        # Names of files that are no text: \\udcff is how JSON writes half of a letter.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def as_json(content: Any) -> str:
    """Return content as one line of JSON, as `write_json` writes it.  (Not collective.)"""
    return json.dumps(_plain(content), ensure_ascii=False, allow_nan=False)


def _plain(item: Any) -> Any:
    """Return the item with NumPy types replaced; complex numbers become [re, im]."""
    if isinstance(item, dict):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, np.ndarray | list | tuple):
        return [_plain(value) for value in item]
    if isinstance(item, complex | np.complexfloating):
        return [_plain(item.real), _plain(item.imag)]
    if isinstance(item, np.integer | np.bool_):
        return item.item()
    if isinstance(item, float | np.floating):
        return float(item) if np.isfinite(item) else None
    return item


def gathered(comm: MPI.Comm, block: Block) -> Block | None:
    """Return the whole of a row block on rank 0, None elsewhere.  (Collective.)"""
    parts = comm.gather(np.ascontiguousarray(block), root=0)
    return None if parts is None else np.concatenate(parts)

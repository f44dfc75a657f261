"""Results on disk: whole files or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block

if TYPE_CHECKING:
    from mpi4py import MPI


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` and move it there when the block succeeds.

    Not collective: call it on one rank. A reader sees the old file or the new one,
    never half of it; a failure leaves no file behind.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinities become null.  (Not collective.)"""
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


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

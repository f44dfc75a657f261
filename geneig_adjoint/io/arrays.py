"""Vectors in NumPy files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import guard
from geneig_adjoint.errors import InputError

if TYPE_CHECKING:
    from mpi4py import MPI


def read_vector(path: str | Path, rows: tuple[int, int], n: int, comm: MPI.Comm) -> Block:
    """Return this rank's rows of a global vector that numpy.save has written.

    Collective. Every rank reads its rows only, and must see the file.

    Parameters
    ----------
    path
        The file.
    rows
        First row of this rank, and the first of the next one.
    n
        Length of the vector.
    comm
        Ranks that own rows.

    Raises
    ------
    InputError
        Files that are missing, no NumPy arrays of numbers, longer or shorter than their header
        says, of another shape, or with NaN or Inf (with the row).

    """
    path = Path(path)
    with guard(comm):
        whole = _mapped(path)
        if whole.shape != (n,) or whole.dtype.kind not in "fiuc":
            raise InputError(
                f"{path} must hold one vector of {n} rows, got shape {whole.shape} of "
                f"{whole.dtype}; save it with numpy.save"
            )
        local = np.array(whole[rows[0] : rows[1]])
        bad = np.flatnonzero(~np.isfinite(local))
        if bad.size:
            raise InputError(
                f"{path} must hold finite numbers, got {local[bad[0]]} in row "
                f"{rows[0] + bad[0]}; correct it"
            )
        return local.astype(local.dtype.newbyteorder("="))


def _mapped(path: Path) -> Block:
    try:
        with path.open("rb") as stream:
            start = stream.read(6)
        if start != b"\x93NUMPY":
            raise InputError(
                f"{path} must be a NumPy file, got {start!r}; write it with numpy.save"
            )
        whole = np.load(path, mmap_mode="r", allow_pickle=False)
        if whole.offset + whole.nbytes != path.stat().st_size:
            raise InputError(
                f"{path} must be a NumPy file, got {path.stat().st_size} bytes for shape "
                f"{whole.shape} of {whole.dtype}; write it with numpy.save"
            )
    except InputError:
        raise
    except Exception as caught:  # a damaged header fails in any way
        raise InputError(
            f"{path} must be a NumPy file, got {caught}; write it with numpy.save"
        ) from caught
    return np.asarray(whole)

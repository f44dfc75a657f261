"""The assembled bordered matrix, for factorisations and assembled preconditioners.

Rows are packed rank by rank: this rank's rows, then, on the last rank, the border. A
complex matrix in a real-scalar build becomes the real matrix of twice the size

    [ Re M  -Im M ]
    [ Im M   Re M ],

each rank holding the real parts of its rows first and then their imaginary parts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.csr_matrices import matrix_of
from geneig_adjoint.pencil import Pencil


def bordered_matrix(
    pencil: Pencil, lam: complex, column: Block, row: Block, *, halves: int
) -> PETSc.Mat:
    """Return the matrix [[A - lam B, column], [row^H, 0]]; the caller destroys it.

    Collective.

    Parameters
    ----------
    pencil
        Assembled A and B.
    lam
        Shift.
    column, row
        This rank's rows of the border, (n_local, g).
    halves
        2 for the real form of a complex matrix, else 1.

    """
    last = pencil.comm.rank == pencil.comm.size - 1
    width = column.shape[1]
    whole_row = _gathered_on_last(pencil, row.conj())
    upper = _local_csr(pencil, lam if halves == 1 and not _petsc.REAL_SCALARS else lam.real)
    if halves == 1:
        return _distributed(pencil, _bordered(upper, column, whole_row), (halves, width), last)
    corner = scipy.sparse.csr_matrix((width, width))
    imaginary = -lam.imag * _local_csr_of_b(pencil)  # Im(A - lam B)
    b = column
    blocks: list[list[Any]]
    blocks = [[upper, -imaginary, b.real, -b.imag], [imaginary, upper, b.imag, b.real]]
    if last:
        c = whole_row
        blocks.append([c.real, -c.imag, corner, corner])
        blocks.append([c.imag, c.real, corner, corner])
    local = scipy.sparse.bmat(blocks, format="csr")
    return _distributed(pencil, local, (halves, width), last)


def _bordered(upper: Any, column: Block, row: Block | None) -> Any:
    """Return sparse rows with dense columns behind them, and dense rows below (None: none)."""
    # Of matrices that are all of this kind SciPy joins the rows as they are.
    local = scipy.sparse.hstack([upper, scipy.sparse.csr_matrix(column)], format="csr")
    if row is None:
        return local
    below = scipy.sparse.csr_matrix(row)
    below.resize(column.shape[1], local.shape[1])
    return scipy.sparse.vstack([local, below], format="csr")


def _local_csr(pencil: Pencil, lam: complex) -> Any:
    shifted = pencil.shifted(lam)
    offsets, columns, values = shifted.getValuesCSR()
    shifted.destroy()
    return scipy.sparse.csr_matrix((values, columns, offsets), shape=(pencil.n_local, pencil.n))


def _local_csr_of_b(pencil: Pencil) -> Any:
    shape = (pencil.n_local, pencil.n)
    if pencil.B is None:
        own = np.arange(shape[0])
        return scipy.sparse.csr_matrix((np.ones(own.size), (own, own + pencil.rows[0])), shape)
    offsets, columns, values = pencil.B.getValuesCSR()
    return scipy.sparse.csr_matrix((values, columns, offsets), shape=shape)


def _gathered_on_last(pencil: Pencil, local: Block) -> Any:
    """Return the whole transposed block, (g, n), on the last rank, None elsewhere."""
    parts = pencil.comm.gather(local, root=pencil.comm.size - 1)
    return None if parts is None else np.concatenate(parts).T


def _distributed(pencil: Pencil, local: Any, shape: tuple[int, int], last: bool) -> PETSc.Mat:
    halves, width = shape
    columns = local.indices
    if halves == 2:
        columns = _packed_numbers(pencil, width)[columns]
    sizes = (halves * (pencil.n_local + width * last), halves * (pencil.n + width))
    return matrix_of((local.indptr, columns, local.data), (sizes, sizes), pencil.A.comm)


def _packed_numbers(pencil: Pencil, width: int) -> Block:
    """Return the packed place of all real parts, all imaginary parts, and the border's."""
    n = pencil.n
    places = np.zeros((2, n), dtype=np.int64)
    for first, end in pencil.comm.allgather(pencil.rows):
        own = np.arange(end - first)
        places[0, first:end] = 2 * first + own
        places[1, first:end] = first + end + own
    return np.concatenate([places.ravel(), 2 * n + np.arange(2 * width)])

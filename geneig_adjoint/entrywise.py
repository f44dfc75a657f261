"""What rounding of the entries of A and B, and errors of vectors, can do.

||A|| takes the largest entry for all of them. Matrices that are graded, triangular or not far from
it have eigenvalues of huge condition numbers that no rounding of their own entries moves.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.collective import CollectiveContext
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms


class AbsolutePencil(CollectiveContext):
    """The matrices |A| and |B|, entry by entry.

    Collective. A context manager; `close` frees them.

    Parameters
    ----------
    pencil
        Of assembled matrices.

    """

    def __init__(self, pencil: Pencil) -> None:
        self.comm = pencil.comm
        self._A = _absolute(pencil.A)
        self._B = None if pencil.B is None else _absolute(pencil.B)

    def forms(self, values: Block, left: Block, right: Block) -> Block:
        """Return |y_j|^T (|A| + |lam_j| |B|) |x_j|, (k,).

        Collective. values: eigenvalues, (k,); left, right: this rank's rows, (n_local, k).
        """
        x, y = np.abs(right), np.abs(left)
        Bx = x if self._B is None else _petsc.multiply(self._B, x).real
        product = _petsc.multiply(self._A, x).real + np.abs(values) * Bx
        return np.asarray(column_dots(self.comm, y, product).real)

    def close(self) -> None:
        """Free the matrices.  (Collective.)"""
        _petsc.destroy(*(mat for mat in (self._A, self._B) if mat is not None))
        self._A = self._B = None


def _absolute(mat: PETSc.Mat) -> PETSc.Mat:
    offsets, columns, values = mat.getValuesCSR()
    result = PETSc.Mat().createAIJ(
        mat.getSizes(), csr=(offsets, columns, np.abs(values)), comm=mat.comm
    )
    result.assemble()
    return result


def moved_by_rounding(pencil: Pencil, values: Block, right: Block, left: Block) -> Block:
    """Return how far eigenvalues move when each entry of A and B is rounded, (k,).

    Collective. EPS |y|^T (|A| + |lam| |B|) |x| / |y^H B x|; nan for matrices without entries.

    Parameters
    ----------
    pencil
        A and B.
    values
        Eigenvalues, (k,).
    right, left
        This rank's rows of the vectors, of any length, (n_local, k).

    """
    if pencil.matrix_free:
        return np.full(len(values), np.nan)
    product = np.abs(column_dots(pencil.comm, left, pencil.multiply_b(right)))
    with AbsolutePencil(pencil) as absolute:
        forms = absolute.forms(values, left, right)
    return np.asarray(EPS * forms / np.maximum(product, TINY))


def moved_by_diagonals(pencil: Pencil, values: Block, right: Block, left: Block) -> Block:
    """Return how far eigenvalues move as a rule when the diagonals of A and B are rounded, (k,).

    Collective. EPS || (|a| + |lam| |b|) y x || / |y^H B x| with a, b the diagonals: roundings do
    not know of each other, so that their squares add up. No error of a value is smaller but by
    luck. 0 for matrices without entries.
    Arguments are those of `moved_by_rounding`.
    """
    if pencil.matrix_free:
        return np.zeros(len(values))
    a = np.abs(_petsc.diagonal(pencil.A))[:, None]
    b = 1.0 if pencil.B is None else np.abs(_petsc.diagonal(pencil.B))[:, None]
    product = np.abs(column_dots(pencil.comm, left, pencil.multiply_b(right)))
    moved = column_norms(pencil.comm, (a + np.abs(values) * b) * left * right)
    return np.asarray(EPS * moved / np.maximum(product, TINY))

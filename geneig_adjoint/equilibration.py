"""Rows and columns of a pencil scaled to comparable size: equations and unknowns in mixed units.

Krylov methods converge in the Euclidean length of vectors, which means nothing where pressures
in Pa stand beside velocities in m/s: the velocities of a converged vector may be noise, and its
residual, measured against the largest rows, fine. A' = R A C and B' = R B C have the same
eigenvalues, right vectors C^-1 x and left vectors R^-1 y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.csr_matrices import matrix_of
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import largest_over_ranks

SPREAD = 2.0**10
"""Ratio of factors from which scaling is worth two copies of the matrices."""
ROUNDS = 8
"""Of the iteration, which converges linearly and need not converge far."""
SETTLED = 1.1
"""Ratio of changes in a round below which further ones do not matter for powers of two."""


@dataclass(frozen=True)
class Equilibration:
    """Powers of two, this rank's part (n_local,) each.

    Attributes
    ----------
    rows, columns : ndarray
        R and C.
    spread : float
        Largest ratio of two factors.

    """

    rows: Block
    columns: Block
    spread: float

    def applied(self, pencil: Pencil) -> Pencil:
        """Return the scaled pencil, which owns its matrices.  (Collective.)"""
        mats = [_scaled(mat, self.rows, self.columns) for mat in (pencil.A, pencil.B)]
        return Pencil(*mats, problem_type=pencil.declared, owned=True)

    def right(self, block: Block) -> Block:
        """Return right vectors of the original pencil, (n_local, k).  (Not collective.)"""
        return np.asfortranarray(self.columns[:, None] * block)

    def left(self, block: Block) -> Block:
        """Return left vectors of the original pencil, (n_local, k).  (Not collective.)"""
        return np.asfortranarray(self.rows[:, None] * block)

    def undone(
        self, pencil: Pencil, transformation: SpectralTransformation | None
    ) -> SpectralTransformation | None:
        """Return the factor of the scaled pencil as one of the original.  (Collective.)"""
        if transformation is None:
            return None
        transformation.forget()  # those of the scaled pencil
        scaling = (self.rows, self.columns)
        return replace(transformation, pencil=pencil, scaling=scaling)


def equilibration(pencil: Pencil) -> Equilibration | None:
    """Return factors that make all rows and columns comparable, None where nothing is gained.

    Collective. Not for definite pencils, whose solver works in the inner product of B, nor for
    standard problems, whose identity would be lost. Rows and columns get the same factors where
    a symmetry is to be kept.

    References
    ----------
    .. [1] D. Ruiz, "A scaling algorithm to equilibrate both rows and columns norms in matrices",
       RAL-TR-2001-034, 2001.

    """
    if pencil.B is None or not pencil.factorable or pencil.definite:
        return None
    squares = _squares(pencil)
    rows, columns = np.ones(pencil.n_local), np.ones(pencil.n_local)
    try:
        for _ in range(ROUNDS):
            # Roots of the lengths: both sides share the work.
            row_sums = rows**2 * _sums(squares, columns**2)
            column_sums = columns**2 * _sums(squares, rows**2, transposed=True)
            # A row without entries stays as it is: the factor will tell.
            changes = [np.where(sums > 0, sums, 1.0) ** 0.25 for sums in (row_sums, column_sums)]
            rows, columns = rows / changes[0], columns / changes[1]
            if max(_spread(pencil, change) for change in changes) <= SETTLED:
                break
    finally:
        _petsc.destroy(*squares)
    if pencil.hermitian or pencil.symmetric:
        rows = columns = np.sqrt(rows * columns)
    rows, columns = (2.0 ** np.round(np.log2(factors)) for factors in (rows, columns))
    spread = max(_spread(pencil, factors) for factors in (rows, columns))
    return Equilibration(rows, columns, spread) if spread >= SPREAD else None


def _squares(pencil: Pencil) -> list[PETSc.Mat]:
    """Return |a_ij|^2 / ||A||^2 and |b_ij|^2 / ||B||^2."""
    parts = []
    for mat, norm in zip((pencil.A, pencil.B), pencil.norms, strict=True):
        assert mat is not None
        offsets, numbers, values = mat.getValuesCSR()
        entries = (np.abs(values) / max(norm, TINY)) ** 2
        parts.append(matrix_of((offsets, numbers, entries), mat.getSizes(), pencil.A.comm))
    return parts


def _sums(parts: list[PETSc.Mat], values: Block, *, transposed: bool = False) -> Block:
    """Return the sum of products with all parts, or with their transposes.  (Collective.)"""
    source = _petsc.vec_from(parts[0], values)
    target = source.duplicate()
    total = np.zeros(len(values))
    try:
        for mat in parts:
            (mat.multTranspose if transposed else mat.mult)(source, target)
            total += target.array_r.real
        return total
    finally:
        _petsc.destroy(source, target)


def _spread(pencil: Pencil, factors: Block) -> float:
    ends = np.array([factors.max(initial=0.0), -factors.min(initial=np.inf)])
    largest, smallest = largest_over_ranks(pencil.comm, ends)
    return float(largest / -smallest)


def _scaled(mat: PETSc.Mat, rows: Block, columns: Block) -> PETSc.Mat:
    result = mat.copy()
    left, right = _petsc.vec_from(mat, rows), _petsc.vec_from(mat, columns)
    result.diagonalScale(left, right)
    _petsc.destroy(left, right)
    return result

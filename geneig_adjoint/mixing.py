r"""How far computed pairs are mixed with each other: measured, not bounded by their errors.

With y_i^H B x_i = 1, the first-order components of pair i in the vectors of pair j are

    x_j:  y_i^H (A - lam_j B) x_j / (lam_j - lam_i),
    y_j:  conj( y_j^H (A - lam_i B) x_i / (lam_i - lam_j) + y_j^H B x_i ).

The error of an eigenvalue divided by the gap is a bound on them that takes all of its rounding
for mixing. Rounding of a stiff matrix moves near eigenvalues visibly, but mostly alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.reductions import inner, norms_of_columns

LAST_BITS = 4 * EPS
"""Relative error of an eigenvalue and of a mixing that no measurement excludes."""


@dataclass(frozen=True)
class Mixing:
    """Measured defects of some pairs.

    Attributes
    ----------
    vectors : ndarray
        Larger component of pair i in the vectors of j or of j in those of i, relative to their
        lengths, (m, m); nan without left vectors.
    gaps : ndarray
        Relative error of the gap by |y_j^H (A - lam_j B) x_j|, the distance of a value from its
        Rayleigh quotient, (m, m); nan without left vectors.

    """

    vectors: Block
    gaps: Block


def measured_mixing(pairs: Eigenpairs, chosen: tuple[int, ...]) -> Mixing:
    """Return how far the chosen pairs are mixed with each other.  (Collective.)"""
    columns, m = list(chosen), len(chosen)
    X, lam = pairs.right[:, columns], pairs.values[columns]
    if pairs.left is None and not pairs.pencil.definite:
        return Mixing(np.full((m, m), np.nan), np.full((m, m), np.nan))
    Y = X if pairs.left is None else pairs.left[:, columns]
    shifts = lam.real if X.dtype.kind == "f" else lam
    BX = pairs.pencil.multiply_b(X)
    E = inner(pairs.comm, Y, pairs.pencil.multiply_a(X) - BX * shifts)
    F = inner(pairs.comm, Y, BX)
    scale = np.maximum(np.abs(np.diag(F)), TINY)[:, None]
    E, F = np.abs(E) / scale, np.abs(F) / scale
    right, left = norms_of_columns(pairs.comm, X, Y)
    left = left / scale[:, 0]
    gap = np.abs(lam[:, None] - lam)
    np.fill_diagonal(gap, np.inf)
    size = np.maximum(np.abs(lam)[:, None], np.abs(lam))
    gap = np.maximum(gap, EPS * np.maximum(size, np.maximum(E, E.T)) + TINY)  # then all is mixed
    x_parts = E / gap * right[:, None] / right  # [i, j]: of i in j
    y_parts = (E / gap + F).T * left[:, None] / left
    parts = np.maximum(np.maximum(x_parts, y_parts), LAST_BITS * size / gap)
    np.fill_diagonal(parts, 0.0)
    values = np.diag(E)
    return Mixing(np.maximum(parts, parts.T), (values[:, None] + values) / gap)

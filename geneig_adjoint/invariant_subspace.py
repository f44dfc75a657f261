r"""Adjoints of Hermitian pairs that lie close together: inside their span by a formula.

For pairs u_1 ... u_g of a group, B-orthonormal with q = u^H B u = +-1 and G = U^H U_bar,
the derivative of u_j splits. Outside the span a bordered system with all g vectors in its
border gives it, conditioned by the gap to the rest of the spectrum. Inside,
every i < j contributes

    q Re( c / (lam_j - lam_i) u_i^H (dA - lam_m dB) u_j - g_m u_i^H dB u_j ),

    c = conj(G_ij) - G_ji,   g_m = (conj(G_ij) + G_ji) / 2,   lam_m = (lam_i + lam_j) / 2.

Functions of the whole span have c = 0: nothing is divided by a vanishing gap.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import scipy.linalg

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.clusters import (
    ADMISSIBLE_ERROR,
    NEAR,
    check_differentiable,
    degenerate_error,
    group_values,
)
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms, inner

NOISE = 1e-13
"""Parts of u_i^H u_bar_j below this, relative to the lengths, are rounding."""

Columns = tuple[Block, Block, Block]


class Group:
    """The vectors of a group of Hermitian pairs, B-orthonormal.  (Collective.)

    Attributes
    ----------
    members : tuple of int
    lengths : ndarray
        sqrt(|x^H B x|), (g,): x = length u.
    sign : float
        Of x^H B x, alike in a group.
    vectors, duals : ndarray
        U and q B U, (n_local, g).

    """

    def __init__(self, pairs: Eigenpairs, members: tuple[int, ...]) -> None:
        self.pairs, self.members = pairs, members
        X = pairs.right[:, list(members)]
        BX = pairs.pencil.multiply_b(X)
        squares = column_dots(pairs.comm, X, BX).real
        self.sign = float(np.sign(squares[0]))
        self.lengths = np.sqrt(np.maximum(np.abs(squares), TINY))
        self.vectors = X / self.lengths
        self.duals = self.sign * BX / self.lengths

    def outside(self, block: Block) -> Block:
        """Return the part of cotangents that meets only what is B-orthogonal to the span."""
        return np.asarray(block - self.duals @ inner(self.pairs.comm, self.vectors, block))

    def inside(self, x_eff: Block, x_bar: Block, explicit: float) -> Columns:
        """Return the columns (left_a, left_b, right) of all pairs of members, (n_local, g) each.

        Collective. What all u_i, i < j, do with u_j is one column.

        Parameters
        ----------
        x_eff
            Projected cotangents of the members, (n_local, g).
        x_bar
            The same before they were projected, which tells what is rounding, (n_local, g).
        explicit
            `explicit_size` of the cotangent, which tells so too.

        Raises
        ------
        DegenerateEigenvalueError
            When the objective tells members apart that are too close for it.

        """
        U_bar = x_eff * self.lengths
        G = inner(self.pairs.comm, self.vectors, U_bar)
        sizes = column_norms(self.pairs.comm, self.vectors)[:, None]
        given = column_norms(self.pairs.comm, x_bar * self.lengths)
        sizes = sizes * np.where(given > 0, np.maximum(given, explicit), 0.0)[None, :]
        shares_a, shares_b = np.zeros_like(G), np.zeros_like(G)
        for i, j in combinations(range(len(self.members)), 2):
            size = float(max(sizes[i, j], sizes[j, i]))
            if size > 0:
                shares_a[i, j], shares_b[i, j] = self._pair(i, j, G, size)
        used = (shares_a != 0).any(axis=0) | (shares_b != 0).any(axis=0)
        left = self.sign * self.vectors
        return left @ shares_a[:, used], left @ shares_b[:, used], self.vectors[:, used]

    def _pair(self, i: int, j: int, G: Block, size: float) -> tuple[complex, complex]:
        """Return the factors of q u_i in left_a and left_b."""
        first, second = self.members[i], self.members[j]
        lam_i, lam_j = self.pairs.values[[first, second]].real
        mean, middle = (G[i, j].conj() + G[j, i]) / 2, (lam_i + lam_j) / 2
        c = G[i, j].conj() - G[j, i]
        quotient = 0.0 * c
        if abs(c) > NOISE * size:
            self._check_gap(first, second, abs(c), size)
            quotient = c / (lam_j - lam_i)
        return np.conj(quotient), -np.conj(middle * quotient + mean)

    def _check_gap(self, first: int, second: int, c: float, size: float) -> None:
        pairs = self.pairs
        scale = float(np.abs(pairs.values[[first, second]]).max())
        gap = float(abs(pairs.values[first] - pairs.values[second]))
        error = max(float(pairs.errors[first] + pairs.errors[second]), EPS * scale)
        for j in (first, second):
            check_differentiable(pairs, j)
        # The quotient c / gap: wrong by the relative error of the gap, and by rounding of c.
        wrong = c * error + EPS * size * gap
        if not wrong * scale <= ADMISSIBLE_ERROR * gap * (size * gap + c * scale):
            raise degenerate_error(pairs, self.members_near(first), defect=c / size)

    def members_near(self, pair: int) -> tuple[int, ...]:
        """Return the cluster of a member, or the whole group if it is alone there."""
        cluster = next(group for group in self.pairs.clusters if pair in group)
        return cluster if len(cluster) > 1 else self.members


def explicit_size(pairs: Eigenpairs, cotangent: EigenCotangent) -> float:
    """Return how large cotangents of vectors are that may cancel with what is said about A and B.

    Collective. Of a Rayleigh quotient, A x - lam B x is left: rounding of both products.
    """
    if cotangent.matrices is None:
        return 0.0
    sizes = [column_norms(pairs.comm, left).max(initial=0.0) for left in cotangent.matrices[:2]]
    return float(np.dot(pairs.pencil.norms, sizes))


def near_groups(pairs: Eigenpairs) -> tuple[tuple[int, ...], ...]:
    """Return the pairs grouped by eigenvalues closer than a relative 1e-2.  (Not collective.)"""
    return group_values(pairs.values, pairs.errors, relative=NEAR)


def rayleigh_ritz(
    pencil: Pencil, values: Block, right: Block, *, rounding: float = 0.0
) -> tuple[Block, Block]:
    """Return pairs of a Hermitian pencil, diagonalised again inside groups of near values.

    Collective. Krylov-Schur leaves vectors of nearly equal values B-orthogonal only to its
    tolerance divided by their gap; their span is exact to the tolerance. Values closer
    than ``rounding``, such as zeros, are nearly equal too.
    """
    values, right = values.copy(), right.copy(order="F")
    # Two errors, ten times each, make the distance.
    for group in group_values(values, np.full(len(values), rounding / 20), relative=NEAR):
        members = list(group)
        if len(members) == 1:
            continue
        X = right[:, members]
        a = inner(pencil.comm, X, pencil.multiply_a(X))
        b = inner(pencil.comm, X, pencil.multiply_b(X))
        small = None
        if pencil.comm.rank == 0:
            try:
                sign = np.sign(np.trace(b).real)  # B may be negative on them if A is definite
                small = scipy.linalg.eigh(sign * _hermitian(a), sign * _hermitian(b))
            except np.linalg.LinAlgError:  # dependent vectors: the residuals will tell
                small = None
        small = pencil.comm.bcast(small, root=0)
        if small is not None:
            values[members], right[:, members] = small[0], X @ small[1]
    return values, right


def _hermitian(small: Block) -> Block:
    return np.asarray((small + small.conj().T) / 2)

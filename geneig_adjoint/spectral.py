"""Functions of a whole invariant subspace, exact where eigenvalues meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from geneig_adjoint._types import EPS, Block
from geneig_adjoint.clusters import unresolved_error
from geneig_adjoint.differentiation import complex_step
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.indices import index_error
from geneig_adjoint.reductions import inner
from geneig_adjoint.weights import check_weight, weighted

ROUNDING = 30 * EPS
"""Relative error that a value of f may have."""
EXACT = 1e-13
"""Relative rounding below which a difference quotient is left as it is."""
NODES = 16
"""Of the quadrature over a gap."""


@dataclass(frozen=True)
class SpectralFunction:
    """tr(D X f(Lam) X^H) = sum_j f(lam_j) x_j^H D x_j for B-orthonormal vectors.

    Differentiable also where the values of a cluster meet: the derivative inside the
    span takes divided differences of f. Where the quotient loses digits, the mean of the
    slope over the gap takes its place: f needs no slope other than at the values and between
    near ones.

    Parameters
    ----------
    weight
        D, Hermitian: a PETSc.Mat in the layout of A, or this rank's part of a real
        diagonal, (n_local,).
    function
        f: NumPy function of an array of real eigenvalues; None: 1 (a projector).
    slope
        f'; None: by a complex step, for which f must be analytic.
    pairs
        Indices of the pairs, whole clusters; None: all.

    References
    ----------
    .. [1] N. J. Higham, "Functions of Matrices", SIAM, 2008, Theorem 3.11 (divided
       differences).

    """

    weight: Any
    function: Callable[[Block], Block] | None = None
    slope: Callable[[Block], Block] | None = None
    pairs: Sequence[int] | None = None

    @property
    def symmetric(self) -> bool:
        """Whether the objective is of all pairs alike: their places do not matter."""
        return self.pairs is None

    def __call__(self, pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        """Return the value, x_bar = 2 f D x and the derivative inside the span."""
        _check_pairs(pairs)
        check_weight(self.weight, pairs)
        chosen = self._chosen(pairs)
        lam, X = pairs.values.real, pairs.right
        DX = 0.5 * (weighted(self.weight, X) + weighted(self.weight, X, hermitian=True))
        D = inner(pairs.comm, X, DX)
        f = np.where(chosen, self._values(lam), 0.0)
        unresolved = _unresolved(pairs)
        first = _differences(lam, f, chosen, self._slopes, unresolved)
        # (lam f)[i,j] = (lam_i + lam_j) / 2 f[i,j] + (f_i + f_j) / 2
        second = 0.5 * ((lam[:, None] + lam) * first + f[:, None] + f)
        P, Q = D * first, -D * second
        value = float(np.sum(f * np.diag(D).real))
        x_bar = 2 * DX * _alike(f, unresolved)
        return value, EigenCotangent(right=x_bar, span=(P, Q))

    def separately(self) -> Callable[[Eigenpairs], tuple[float, EigenCotangent]]:
        """Return the same function as a sum over simple pairs, for second derivatives."""

        def separate_sum(pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
            value, cotangent = self(pairs)
            chosen, lam, X = self._chosen(pairs), pairs.values.real, pairs.right
            energies = inner(pairs.comm, X, weighted(self.weight, X)).diagonal().real
            slopes = np.zeros(pairs.count)
            slopes[chosen] = self._slopes(lam[chosen])
            return value, EigenCotangent(values=slopes * energies, right=cotangent.right)

        return separate_sum

    def _values(self, lam: Block) -> Block:
        result = np.ones(lam.shape) if self.function is None else np.asarray(self.function(lam))
        if result.shape != lam.shape or not np.isfinite(result).all():
            raise InputError(
                f"the function of the eigenvalues must return {lam.size} finite numbers, got "
                f"{result}; it gets and returns arrays"
            )
        return result

    def _slopes(self, lam: Block) -> Block:
        if self.slope is not None:
            return np.asarray(self.slope(lam))
        if self.function is None:
            return np.zeros(lam.shape)
        return complex_step(self.function, lam, np.ones(lam.shape))

    def _chosen(self, pairs: Eigenpairs) -> Block:
        indices = range(pairs.count) if self.pairs is None else self.pairs
        wrong = index_error(pairs.count, indices)
        if wrong is None and not list(indices):
            wrong = InputError(
                "a spectral function needs at least one pair, got none; leave pairs= out"
            )
        if wrong is not None:
            raise wrong
        chosen = np.zeros(pairs.count, dtype=bool)
        chosen[list(indices)] = True
        for members in pairs.clusters:
            inside = chosen[list(members)]
            if inside.any() and not inside.all():
                raise unresolved_error(
                    pairs,
                    members,
                    "a spectral function needs whole clusters, got a part of",
                    "add the other members to pairs=",
                )
        return chosen


def _check_pairs(pairs: Eigenpairs) -> None:
    able = pairs.pencil.definite and pairs.pencil.B_positive
    if not able or pairs.normalization.kind != "B":
        raise InputError(
            "a spectral function needs a Hermitian pencil with definite B and normalization "
            f'"B", got type {pairs.pencil.problem_type} with "{pairs.normalization}"; use '
            "QuadraticForm for other pairs"
        )


def _unresolved(pairs: Eigenpairs) -> Block:
    """Return which values of a cluster are as near as their errors, (k, k)."""
    lam, errors = pairs.values.real, np.nan_to_num(pairs.errors)
    near = np.abs(lam[:, None] - lam) <= 10 * (errors[:, None] + errors)
    cluster = np.zeros(pairs.count, dtype=int)
    for number, members in enumerate(pairs.clusters):
        cluster[list(members)] = number
    return np.asarray(near & (cluster[:, None] == cluster))


def _alike(f: Block, unresolved: Block) -> Block:
    """Return f with its mean over values that are one: f of zeros may be all rounding."""
    return np.asarray(unresolved @ f / unresolved.sum(axis=1))


def _differences(
    lam: Block,
    f: Block,
    chosen: Block,
    slopes: Callable[[Block], Block],
    unresolved: Block,
) -> Block:
    """Return the divided differences of f, (k, k).

    The quotient is right to its rounding, whatever f is. The mean of the slope over the gap is
    exact where f is smooth on the scale of the gap, and is known to be so where it agrees
    with the quotient to that rounding; between values that are one, it is what is meant.

    Parameters
    ----------
    lam, f
        The values, and f of them with zero for those not chosen, (k,).
    chosen
        (k,), bool.
    slopes, unresolved
        f', and which values only differ by their errors, (k, k), bool.

    """
    gap = lam[:, None] - lam
    first = (f[:, None] - f) / np.where(gap == 0, 1.0, gap)
    slope = np.zeros(len(lam))
    slope[chosen] = slopes(lam[chosen])
    both = chosen[:, None] & chosen
    size = np.abs(f) + np.abs(lam * slope)
    with np.errstate(divide="ignore", invalid="ignore"):  # equal values: rounding is all
        rounding = ROUNDING * np.maximum(size[:, None], size) / np.abs(gap)
    rounding = np.where(unresolved | np.isnan(rounding), np.inf, rounding)
    steep = np.maximum(np.abs(slope)[:, None], np.abs(slope))
    good = rounding <= EXACT * np.maximum(steep, np.abs(first))  # never with a slope of nan
    i, j = np.nonzero(both & ~good)
    nodes, weights = _legendre()
    at = 0.5 * ((lam[i] + lam[j])[:, None] + (lam[j] - lam[i])[:, None] * nodes)
    mean = 0.5 * np.broadcast_to(slopes(at.ravel()), at.size).reshape(at.shape) @ weights
    first[i, j] = np.where(np.abs(mean - first[i, j]) > rounding[i, j], first[i, j], mean)
    return np.asarray(first)


@cache
def _legendre() -> tuple[Block, Block]:
    """Return nodes in (-1, 1) and weights of the quadrature."""
    import scipy.special  # here: few programs need it

    nodes, weights = scipy.special.roots_legendre(NODES)
    return nodes, weights

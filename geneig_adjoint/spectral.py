"""Functions of a whole invariant subspace, exact where eigenvalues meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.clusters import degenerate_error
from geneig_adjoint.collective import inner
from geneig_adjoint.differentiation import complex_step
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.weights import weighted

CONFLUENT = 1e-5
"""Below this relative gap the slope at the middle is better than the quotient."""


@dataclass(frozen=True)
class SpectralFunction:
    """tr(D X f(Lam) X^H) = sum_j f(lam_j) x_j^H D x_j for B-orthonormal vectors.

    Differentiable also where the values of a cluster meet: the derivative inside the
    span takes divided differences of f, with the slope as their limit.

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
        chosen = self._chosen(pairs)
        lam, X = pairs.values.real, pairs.right
        DX = 0.5 * (weighted(self.weight, X) + weighted(self.weight, X, hermitian=True))
        D = inner(pairs.comm, X, DX)
        f, slope = self._values(lam), self._slopes
        P = D * _differences(lam, np.where(chosen, f, 0.0), chosen, slope)
        product = np.where(chosen, lam * f, 0.0)
        Q = -D * _differences(
            lam, product, chosen, lambda at: self._values(at) + at * self._slopes(at)
        )
        value = float(np.sum(np.where(chosen, f, 0.0) * np.diag(D).real))
        x_bar = 2 * DX * np.where(chosen, f, 0.0)
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
        indices = list(range(pairs.count)) if self.pairs is None else list(self.pairs)
        chosen = np.zeros(pairs.count, dtype=bool)
        if not indices or min(indices) < 0 or max(indices) >= pairs.count:
            raise InputError(
                f"pairs must be indices in 0 ... {pairs.count - 1}, got {indices}; raise count in "
                "the solve"
            )
        chosen[indices] = True
        for members in pairs.clusters:
            inside = chosen[list(members)]
            if inside.any() and not inside.all():
                raise degenerate_error(pairs, members, defect=1.0)
        return chosen


def _check_pairs(pairs: Eigenpairs) -> None:
    able = pairs.pencil.definite and pairs.pencil.B_positive
    if not able or pairs.normalization.kind != "B":
        raise InputError(
            "a spectral function needs a Hermitian pencil with definite B and normalization "
            f'"B", got type {pairs.pencil.problem_type} with "{pairs.normalization}"; use '
            "QuadraticForm for other pairs"
        )


def _differences(
    lam: Block, values: Block, chosen: Block, slope: Callable[[Block], Block]
) -> Block:
    """Return the divided differences of f, zero between two values that are not chosen."""
    gap = lam[:, None] - lam[None, :]
    size = np.maximum(np.abs(lam)[:, None], np.abs(lam)[None, :])
    both = chosen[:, None] & chosen[None, :]
    confluent = both & (np.abs(gap) <= CONFLUENT * size)
    middle = 0.5 * (lam[:, None] + lam[None, :])
    slopes = np.zeros(gap.shape)
    slopes[confluent] = slope(middle[confluent])
    neither = ~(chosen[:, None] | chosen[None, :])
    quotients = (values[:, None] - values[None, :]) / np.where(gap == 0, 1.0, gap)
    return np.where(confluent, slopes, np.where(neither, 0.0, quotients))

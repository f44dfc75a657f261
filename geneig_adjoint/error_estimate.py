"""How wrong a gradient may be: what the errors of the pairs and of the solves do to it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.clusters import NEAR, cluster_of, group_values
from geneig_adjoint.conditioning import ILL_CONDITION
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.improved_pairs import ROUNDING
from geneig_adjoint.mixing import measured_mixing

LARGE_CONDITION, NONNORMAL = 100.0, 2.0
"""Of a value, and by how much more its error then turns the vectors than its gap says."""
SHOWN = 10.0
"""What errors of vectors do to terms of a gradient, over the root of the condition: as measured."""
AMPLIFICATION, OF_LEFT = 10, 100
"""Of the order of the condition of a bordered matrix, and where a left vector hangs on it."""


class ErrorEstimate:
    """Errors of eigenpairs as they act on gradients.

    Collective to make. An eigenvector is off by the error of its value over the distance to
    the others, which acts on both sides of a contraction. Of near pairs the mixing is
    measured: the error of stiff matrices moves near values far more than it mixes them.

    Parameters
    ----------
    pairs
        The pairs.
    errors
        Of their values, (k,); nan where nobody needs them.
    touched
        Pairs that gradients depend on, the same on every rank.

    """

    def __init__(self, pairs: Eigenpairs, errors: Block, touched: Iterable[int]) -> None:
        self.pairs = pairs
        used, k = sorted(set(touched)), pairs.count
        self.errors = _trusted(pairs, errors)
        self.near = np.eye(k, dtype=bool)
        for members in group_values(pairs.values, pairs.errors, relative=NEAR):
            self.near[np.ix_(members, members)] = True
        self.mixing = self.moved = np.zeros((k, k))
        size = np.maximum(np.abs(pairs.values)[:, None], np.abs(pairs.values))
        self.distance = np.abs(pairs.values[:, None] - pairs.values) / np.maximum(size, TINY)
        if used:
            found = measured_mixing(pairs, tuple(range(k)))
            known = np.nan_to_num(self.errors)
            distance = np.abs(pairs.values[:, None] - pairs.values)
            np.fill_diagonal(distance, np.inf)
            errors = known[:, None] + known
            bound = errors / np.maximum(distance, EPS * errors + TINY)  # if nothing can be measured
            self.mixing = np.where(np.isnan(found.vectors), bound, found.vectors)
            self.moved = np.where(np.isnan(found.gaps), bound, found.gaps)

    def of(
        self, lam_bar: Block, vectors: Iterable[int], touched: Iterable[int], accuracy: float
    ) -> float:
        """Return how wrong a gradient may be, relative to its terms.

        Not collective.

        Parameters
        ----------
        lam_bar
            Cotangents of the eigenvalues, (k,).
        vectors, touched
            Pairs with a cotangent of a vector, and with any.
        accuracy
            Relative residual of the worst adjoint solve.

        """
        shaped = np.zeros(self.pairs.count, dtype=bool)
        shaped[list(vectors)] = True
        largest = max(float(np.abs(lam_bar).max(initial=0.0)), TINY)
        parts = [0.0]
        for j in touched:
            # Where members of a cluster, or plain values, are treated alike, only lam differs.
            others = np.ones(self.pairs.count, dtype=bool)
            others[list(cluster_of(self.pairs, j))] = False
            weight = np.abs(lam_bar - lam_bar[j]) / largest + others * self.distance[j]
            apart = others & (shaped | shaped[j])
            weight[apart] = 1.0
            mixed = self.mixing[j] + np.where(apart & self.near[j], self.moved[j], 0.0)
            rest = self._known(j)
            parts.append(2 * (rest + float(np.sum(weight * mixed))))
        solved_left = self.pairs.left is None and not self.pairs.pencil.definite
        return float(np.max(parts) + (OF_LEFT if solved_left else AMPLIFICATION) * accuracy)

    def _known(self, j: int) -> float:
        """Return the relative error of the vectors of a pair, as measured or by its value's."""
        turns = self.pairs.turns
        if turns is not None and np.isfinite(turns[j]):
            return max(float(turns[j]), ROUNDING)
        condition, offsets = float(self.pairs.condition[j]), self.pairs.offsets
        share = NONNORMAL if condition > LARGE_CONDITION else 1.0
        known = share * float(self.errors[j]) * self._sharpness(j)
        if offsets is not None and np.isfinite(offsets[j]):
            known = max(known, SHOWN * float(offsets[j]) * np.sqrt(condition))
        return known

    def _sharpness(self, j: int) -> float:
        """Return what the error of value j is multiplied by to become that of the vector."""
        values, sigma = self.pairs.values, self.pairs.info.sigma
        shift = 0.0 if sigma is None else abs(values[j] - sigma)
        distances = np.abs(values[~self.near[j]] - values[j])
        gap = distances.min(initial=max(abs(values[j]), shift, TINY))
        if self.near[j].sum() == 1:  # the nearest one may have converged and not been kept
            gap = min(gap, max(float(self.pairs.gaps[j]), TINY))
        # Through the factor, far pairs are seen at the distance of the shift.
        return float(1 / gap + (1 / shift if shift > 0 else 0.0))


def _median(values: Block) -> float:
    """Return what `np.median` does of a few numbers, sooner."""
    ordered, middle = np.sort(values), len(values) // 2
    return float((ordered[middle] + ordered[-1 - middle]) / 2)


def _trusted(pairs: Eigenpairs, errors: Block) -> Block:
    """Return errors of the values with those of left vectors, none better than rounding."""
    worst = pairs.residuals
    if pairs.info.left_residuals is not None:
        worst = np.maximum(worst, pairs.info.left_residuals)
    unit = np.maximum(pairs.residuals, EPS**2)
    by_entries = errors * np.minimum(np.maximum(worst, ROUNDING) / unit, 1 / EPS)
    by_entries = np.maximum(by_entries, EPS * np.abs(pairs.values))  # a residual of exactly 0
    if pairs.info.sigma is None:
        return np.asarray(by_entries)
    # Errors seen through the factor know nothing of ||A||: their rounding is of lam - sigma,
    # and alike for pairs of one factor; a much smaller one is luck.
    shift = np.abs(pairs.values - pairs.info.sigma)
    relative = np.nan_to_num(errors) / np.maximum(shift, TINY)
    floor = np.maximum(ROUNDING * pairs.condition, _median(relative)) * shift
    through = np.maximum(errors * np.minimum(np.maximum(worst / unit, 1), 1 / EPS), floor)
    return np.where(pairs.condition <= ILL_CONDITION, np.fmin(through, by_entries), by_entries)

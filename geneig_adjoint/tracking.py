r"""Mode tracking: which pair at new parameters continues which earlier one.

The modal assurance criterion of Hermitian pencils is weighted by B (by A where that is the
definite one), |x^H B x'|^2 / (|x^H B x| |x'^H B x'|); for others with left vectors it is
biorthogonal, |y^H B x'| |y'^H B x| / (|y^H B x| |y'^H B x'|), since right vectors of one matrix
need not be orthogonal. Members of a cluster are compared with its whole span. One-to-one by
the assignment of largest sum. (The criterion: Allemang, Sound & Vibration 37(8), 2003.)

The biorthogonal criterion has no upper bound: with all pairs, y^H B x' y'^H B x over its scale
sums up to 1 in every row and column, but 2.3 and -1.3 do so, too. It is assigned as it is, and
the confidence falls where a rival has more than half of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.clusters import cluster_of
from geneig_adjoint.collective import check_equal_input
from geneig_adjoint.eigenpairs import Eigenpairs, linear_pairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.invariant_subspace import near_groups
from geneig_adjoint.matching import assigned
from geneig_adjoint.normalization import column_dots, normalized
from geneig_adjoint.reductions import column_norms, inner

MINIMUM = 0.6
"""Confidence below which a mode counts as lost."""
SAME = 1e-6
"""Relative to the largest, difference of eigenvalues solved twice at the same parameters."""
TIE = 1e-6
"""Weight of the order where confidences are equal."""


@dataclass(frozen=True)
class Tracking:
    """Which new pair continues which previous one.

    Attributes
    ----------
    order : tuple of int
        For every previous pair the index of the new pair that continues it; -1 if there
        are fewer new pairs.
    confidence : ndarray
        In [0, 1]: the modal assurance s of every previous pair with its continuation, but at
        most 1 and, for pencils that are not Hermitian and definite, s / (2 r) with r that of
        the best rival. Two equal partners have 0.5 at most.
    lost : tuple of int
        Previous pairs whose confidence is below the minimum.

    """

    order: tuple[int, ...]
    confidence: Block
    lost: tuple[int, ...]


def track_modes(previous: Eigenpairs, pairs: Eigenpairs, *, minimum: float = MINIMUM) -> Tracking:
    """Return which of the new pairs continue the previous ones.

    Collective.

    Parameters
    ----------
    previous
        Earlier pairs of the same model; their pencil may have been refilled or closed.
    pairs
        The pairs at the new parameters; their pencil must be open.
    minimum
        Confidence below which a mode counts as lost, the same on every rank.

    Returns
    -------
    Tracking
        The same on every rank.

    Raises
    ------
    InputError
        When the two do not have the same rows, or ``minimum`` is not in [0, 1]
        or differs between ranks.

    """
    previous, pairs = linear_pairs(previous), linear_pairs(pairs)
    check_equal_input(pairs.comm, "minimum", minimum)
    if not 0 <= minimum <= 1:
        raise InputError(f"minimum must lie in [0, 1], got {minimum}; 0.6 is the default")
    if pairs.comm.allreduce(int(previous.rows != pairs.rows)):
        raise InputError(
            f"modes are tracked between pairs of the same layout, got rows {previous.rows} and "
            f"{pairs.rows}; solve both with the same model on the same ranks"
        )
    score = _score(previous, pairs)
    distances = np.subtract.outer(np.arange(previous.count), np.arange(pairs.count))
    cost = TIE * np.abs(distances) / max(score.shape) - score
    rows, columns = pairs.comm.bcast(assigned(cost))
    order, confidence = np.full(previous.count, -1), np.zeros(previous.count)
    order[rows] = columns
    confidence[rows] = _confidence(score, (rows, columns), previous, pairs)
    return Tracking(
        tuple(int(j) for j in order),
        confidence,
        tuple(int(j) for j in np.flatnonzero(confidence < minimum)),
    )


def followed(
    previous: Eigenpairs, pairs: Eigenpairs, order: tuple[int, ...], notes: tuple[str, ...] = ()
) -> Eigenpairs:
    """Return new pairs in the places of the earlier ones, with their phase rows.

    Collective.

    Parameters
    ----------
    previous
        Earlier pairs.
    pairs
        New pairs.
    order
        For every place the new pair that shall stand there, each at most once; pairs that
        are left out are dropped.
    notes
        Added to those of the pairs.

    """
    found = pairs.reordered(order)
    info = replace(found.info, notes=found.info.notes + notes)
    found = replace(found, info=info)
    return with_phase_rows(found, previous.phase_rows)


def with_phase_rows(pairs: Eigenpairs, phase_rows: Block | None) -> Eigenpairs:
    """Return pairs whose phases are fixed in given rows, as far as there are some.

    Collective.
    """
    if pairs.phase_rows is None or phase_rows is None:
        return pairs
    kept = pairs.phase_rows.copy()
    shared = min(pairs.count, len(phase_rows))
    kept[:shared] = phase_rows[:shared]
    right, rows = normalized(
        pairs.pencil, pairs.normalization, pairs.right, phase="largest", rows=kept
    )
    squares = column_norms(pairs.comm, pairs.right) ** 2
    turn = column_dots(pairs.comm, pairs.right, right) / squares
    left = None if pairs.left is None else np.asfortranarray(pairs.left / turn.conj())
    return replace(pairs, right=right, left=left, phase_rows=rows)


@dataclass(frozen=True)
class Placed:
    """Which eigenvalue stood in which place: enough to find the places again at the same p.

    Attributes
    ----------
    values : ndarray
        Eigenvalues by place.
    phase_rows : ndarray or None
        Rows that fix the phases.

    """

    values: Block
    phase_rows: Block | None = None

    def order(self, pairs: Eigenpairs) -> tuple[int, ...] | None:
        """Return the pair of every place; None if one is not there.

        Not collective: eigenvalues are the same on every rank.
        """
        if pairs.count < len(self.values):
            return None
        distance = np.abs(np.subtract.outer(self.values, pairs.values))
        rows, columns = assigned(distance)
        near = distance[rows, columns] <= SAME * np.max(np.abs(self.values), initial=TINY)
        if not near.all():
            return None
        return tuple(int(j) for j in columns)


def _score(previous: Eigenpairs, pairs: Eigenpairs) -> Block:
    """Return the modulus of the criterion, (k, k'), with whole spans where there are clusters.

    Not bounded by 1 where it is biorthogonal. Single members of a cluster do not count: their
    basis is the eigensolver's.
    """
    single = _assurance(previous, pairs)
    new = np.abs(_summed(single, pairs.clusters))
    old = np.abs(_summed(single.T, previous.clusters).T)
    in_old, in_new = (
        np.array([len(cluster_of(each, j)) > 1 for j in range(each.count)])
        for each in (previous, pairs)
    )
    by_old = in_old[:, None] & (~in_new | (old > new))
    return np.minimum(np.where(by_old, old, new), 1 / EPS)  # finite


def _confidence(
    score: Block, assigned: tuple[Block, Block], previous: Eigenpairs, pairs: Eigenpairs
) -> Block:
    """Return the confidence of every assigned pair of indices, in [0, 1].

    Rivals are the other new pairs for the same previous one, and the other previous ones for
    the same new pair, except for what continues the same cluster.
    """
    rows, columns = assigned
    best = score[rows, columns]
    if pairs.pencil.definite:
        return np.asarray(np.minimum(best, 1.0))  # squares of a row sum up to 1 at most
    old, new = _labels(previous), _labels(pairs)
    came, went = np.full(pairs.count, -1), np.full(previous.count, -1)
    came[columns], went[rows] = old[rows], new[columns]  # labels of the partners
    other_new = (new[None, :] != new[columns][:, None]) & (came[None, :] != old[rows][:, None])
    other_old = (old[None, :] != old[rows][:, None]) & (went[None, :] != new[columns][:, None])
    rivals = np.hstack([score[rows] * other_new, score.T[columns] * other_old])
    ahead = best / (2 * np.maximum(rivals.max(axis=1), TINY))
    return np.asarray(np.minimum(np.minimum(best, ahead), 1.0))


def _labels(pairs: Eigenpairs) -> Block:
    """Return a number per pair that members of a cluster share."""
    return np.array([cluster_of(pairs, j)[0] for j in range(pairs.count)])


def _assurance(previous: Eigenpairs, pairs: Eigenpairs) -> Block:
    """Return the criterion of every previous pair with every new one, (k, k').

    Complex where it is biorthogonal: terms of a span may cancel, its modulus comes after the sum.
    """
    comm, pencil = pairs.comm, pairs.pencil
    old, new = previous.right, pairs.right
    if pencil.definite:
        multiply = pencil.multiply_a if pencil.definite_by_a else pencil.multiply_b
        W_new, W_old = multiply(new), multiply(old)
        sizes = column_dots(comm, old, W_old).real, column_dots(comm, new, W_new).real
        product = np.abs(inner(comm, old, W_new)) ** 2
        return np.asarray(product / np.maximum(np.abs(np.outer(*sizes)), TINY))
    if previous.left is not None and pairs.left is not None:
        B_new, B_old = pencil.multiply_b(new), pencil.multiply_b(old)
        products = inner(comm, previous.left, B_new) * inner(comm, pairs.left, B_old).T
        scale = np.outer(
            column_dots(comm, previous.left, B_old), column_dots(comm, pairs.left, B_new)
        )
        known = np.abs(scale) > TINY  # a left vector may be 0: nothing is known of such a pair
        return np.where(known, products / np.where(known, scale, 1.0), 0.0)
    sizes = column_norms(comm, old), column_norms(comm, new)
    return np.asarray(np.abs(inner(comm, old, new)) ** 2 / np.maximum(np.outer(*sizes) ** 2, TINY))


def _summed(single: Block, clusters: tuple[tuple[int, ...], ...]) -> Block:
    """Return the criterion with the whole span that each column belongs to."""
    total = single.copy()
    for members in clusters:
        columns = list(members)
        total[:, columns] = single[:, columns].sum(axis=1, keepdims=True)
    return total


def places(tracking: Tracking, pairs: Eigenpairs, used: set[int], count: int) -> tuple[int, ...]:
    """Return which new pair stands in which place.  (Not collective.)

    Parameters
    ----------
    tracking
        Of the previous pairs.
    pairs
        The new ones.
    used
        Places an objective looks at, kept whatever their confidence.
    count
        Number of places; more if a used one, or near values cut in two, need them.

    Returns
    -------
    tuple of int
        Other modes that are found again keep their places, too: an objective may look at
        them later. Those of lost ones are filled in the order of the new pairs.

    """
    kept = {
        j: new
        for j, new in enumerate(tracking.order)
        if new >= 0 and (j in used or (j < count and j not in tracking.lost))
    }
    count = min(max([count, *(j + 1 for j in kept)]), pairs.count)
    free = iter([j for j in range(pairs.count) if j not in kept.values()])
    order = [kept[place] if place in kept else next(free) for place in range(count)]
    # Half a cluster would look like simple pairs, and near values share a border.
    cut = {j for members in near_groups(pairs) if set(members) & set(order) for j in members}
    return (*order, *sorted(cut - set(order)))


def changes(tracking: Tracking, order: tuple[int, ...]) -> tuple[str, ...]:
    """Return what a careful user should know about places.  (Not collective.)"""
    kept = list(zip(order, tracking.order, strict=False))
    moved = [j for j, (here, new) in enumerate(kept) if here == new != j]
    lost = [j for j in tracking.lost if j < len(order)]
    found = []
    if moved:
        worst = tracking.confidence[moved].min()
        shown = ", ".join(str(j) for j in moved)
        found.append(f"modes {shown} changed places: confidence {worst:.2f}")
    if lost:
        shown = ", ".join(str(j) for j in lost)
        found.append(f"modes {shown} are lost: others have their places")
    return tuple(found)

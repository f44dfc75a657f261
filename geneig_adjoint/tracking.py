r"""Mode tracking: which pair at new parameters continues which earlier one.

The modal assurance criterion of Hermitian pencils is weighted by B (by A where that is the
definite one), |x^H B x'|^2 / (|x^H B x| |x'^H B x'|); for others with left vectors it is
biorthogonal, |y^H B x'| |y'^H B x| / (|y^H B x| |y'^H B x'|), since right vectors of one matrix
need not be orthogonal. Members of a cluster are compared with its whole span. One-to-one by
the assignment of largest sum. (The criterion: Allemang, Sound & Vibration 37(8), 2003.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.clusters import cluster_of
from geneig_adjoint.collective import column_norms, inner
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.invariant_subspace import near_groups
from geneig_adjoint.normalization import column_dots, normalized

MINIMUM = 0.6
"""Confidence below which a mode counts as lost."""
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
        Modal assurance of every previous pair with its continuation, in [0, 1].
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
        Confidence below which a mode counts as lost.

    Returns
    -------
    Tracking
        The same on every rank.

    Raises
    ------
    InputError
        When the two do not have the same rows, or ``minimum`` is not in [0, 1].

    """
    if not 0 <= minimum <= 1:
        raise InputError(f"minimum must lie in [0, 1], got {minimum}; 0.6 is the default")
    if pairs.comm.allreduce(int(previous.rows != pairs.rows)):
        raise InputError(
            f"modes are tracked between pairs of the same layout, got rows {previous.rows} and "
            f"{pairs.rows}; solve both with the same model on the same ranks"
        )
    score = _score(previous, pairs)
    places = np.subtract.outer(np.arange(previous.count), np.arange(pairs.count))
    cost = TIE * np.abs(places) / max(score.shape) - score
    rows, columns = pairs.comm.bcast(scipy.optimize.linear_sum_assignment(cost))
    order, confidence = np.full(previous.count, -1), np.zeros(previous.count)
    order[rows], confidence[rows] = columns, score[rows, columns]
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
    if found.phase_rows is None or previous.phase_rows is None:
        return found
    kept = found.phase_rows.copy()
    shared = min(found.count, previous.count)
    kept[:shared] = previous.phase_rows[:shared]
    right, rows = normalized(
        found.pencil, found.normalization, found.right, phase="largest", rows=kept
    )
    squares = column_norms(found.comm, found.right) ** 2
    turn = column_dots(found.comm, found.right, right) / squares
    left = None if found.left is None else np.asfortranarray(found.left / turn.conj())
    return replace(found, right=right, left=left, phase_rows=rows)


def _score(previous: Eigenpairs, pairs: Eigenpairs) -> Block:
    """Return the criterion in [0, 1], (k, k'), with whole spans where there are clusters.

    Single members of a cluster do not count: their basis is the eigensolver's.
    """
    single = _assurance(previous, pairs)
    new = np.abs(_summed(single, pairs.clusters))
    old = np.abs(_summed(single.T, previous.clusters).T)
    in_old, in_new = (
        np.array([len(cluster_of(each, j)) > 1 for j in range(each.count)])
        for each in (previous, pairs)
    )
    by_old = in_old[:, None] & (~in_new | (old > new))
    return np.clip(np.where(by_old, old, new), 0.0, 1.0)


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
        return np.asarray(products / np.where(np.abs(scale) > TINY, scale, TINY))
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

"""What belongs together: groups of near values, and one partner for each of several values."""

from __future__ import annotations

import numpy as np

from geneig_adjoint._types import Block


def linked(near: Block) -> list[list[int]]:
    """Return groups of indices, each one near another of its group, in their order.

    Not collective. near: truth values, (k, k), symmetric.
    """
    count = len(near)
    head = np.arange(count)  # the lowest known index of the group
    while True:
        lowest = np.minimum(head, np.where(near, head, count).min(axis=1, initial=count))
        if np.array_equal(lowest, head):
            break
        head = lowest[lowest]
    groups: dict[int, list[int]] = {}
    for index, first in enumerate(head.tolist()):
        groups.setdefault(first, []).append(index)
    return list(groups.values())


def assigned(cost: Block) -> tuple[Block, Block]:
    """Return rows and the columns that are theirs alone, such that the sum of costs is smallest.

    Not collective. cost: (k, k'); as many rows as there are partners for.
    """
    if 0 not in cost.shape and np.isfinite(cost).all():
        nearest = cost.argmin(axis=1)
        if np.unique(nearest).size == len(nearest):  # nothing is cheaper than what is best for all
            return np.arange(len(nearest)), nearest
    import scipy.optimize  # here: it takes a tenth of the time that a short program starts in

    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    return rows, columns

"""Products left^H K right of batches of elements, in arithmetic as real as the data are.

Vectors are (batch, nd, k) with all columns of a dof next to each other in memory: one copy
of k numbers gathers a dof, and the products of a batch stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from geneig_adjoint._types import Block

CACHED_ENTRIES = 2**16
"""Doubles of a gathered array that elements are multiplied in: 0.5 MB. A batch has three such
arrays, which should fit into the cache of a core together."""


def cached(rows: slice, entries: int) -> Iterator[slice]:
    """Cut a range of elements into such that stay in the cache.

    Not collective. ``entries``: doubles of an array per element.
    """
    step = max(1, CACHED_ENTRIES // max(entries, 1))
    for first in range(rows.start, rows.stop, step):
        yield slice(first, min(first + step, rows.stop))


def energies(base: Block, left: Block, right: Block) -> Block:
    """Return Re sum_j left_j^H K right_j for every element, (batch,).

    Not collective.

    Parameters
    ----------
    base
        K, (nd, nd) for all elements or (batch, nd, nd).
    left, right
        (batch, nd, k), real or complex.

    """
    dtype = np.result_type(left, right, float)
    left, right = (np.ascontiguousarray(side, dtype=dtype) for side in (left, right))
    if np.iscomplexobj(base) and not np.iscomplexobj(right):
        base = np.ascontiguousarray(base.real)  # the rest has no effect between real vectors
    # Re conj(a) b is the product of the pairs (Re a, Im a) and (Re b, Im b).
    return np.asarray(np.einsum("ei,ei->e", _doubles(left), _doubles(products(base, right))))


def products(base: Block, right: Block) -> Block:
    """Return K right of every element, (batch, nd, k).

    Not collective. Arguments as of `energies`; ``right`` contiguous.
    """
    if np.iscomplexobj(right) and not np.iscomplexobj(base):
        # A real K acts on real and imaginary parts alike: twice the columns, half the work.
        return products(base, right.view(float)).view(complex)
    if base.ndim == 2 and right.shape[2] == 1:  # one vector: one GEMM for all elements
        return np.asarray(right[:, :, 0] @ base.T)[:, :, None]
    return np.asarray(base @ right)


def outer_products(left: Block, right: Block, *, real: bool) -> Block:
    """Return sum_j conj(left_j) right_j^T of every element, (batch, nd, nd), or its real part.

    Not collective. Re sum_j left_j^H K right_j is the real part of the sum of its entries times
    those of K. Arguments as of `energies`.
    """
    dtype = np.result_type(left, right, float)
    left, right = (np.ascontiguousarray(side, dtype=dtype) for side in (left, right))
    if real:
        left, right = left.view(float), right.view(float)
    count, nd, width = right.shape
    found = np.empty((count, nd, nd), dtype=right.dtype)
    for rows in cached(slice(0, count), nd * max(nd, width)):
        conjugate = left[rows].conj() if np.iscomplexobj(left) else left[rows]
        np.matmul(conjugate, right[rows].transpose(0, 2, 1), out=found[rows])
    return found


def _doubles(block: Block) -> Block:
    """Return the doubles of every element, (batch, all of them)."""
    pairs = block.view(float)
    return pairs.reshape(len(pairs), math.prod(pairs.shape[1:]))

"""Sums, norms and maxima over ranks, bitwise the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block

if TYPE_CHECKING:
    from mpi4py import MPI


def allreduce_same(comm: MPI.Comm, local: Block) -> Block:
    """Return the sum of an array over the ranks, bitwise the same on every rank.

    Collective. MPI_Allreduce may add in another order on each rank; a decision
    taken from such a sum could differ between ranks, so the sum is formed once
    and broadcast.
    """
    local = np.ascontiguousarray(local)
    if comm.size == 1:
        return local.copy()
    total = np.empty_like(local)
    comm.Reduce(local, total, root=0)
    comm.Bcast(total, root=0)
    return total


def reduced(comm: MPI.Comm, parts: Sequence[Block]) -> list[Block]:
    """Return the sums of several arrays over the ranks by one reduction.  (Collective.)"""
    total = allreduce_same(comm, np.concatenate([part.ravel() for part in parts]))
    found, start = [], 0
    for part in parts:
        found.append(total[start : start + part.size].reshape(part.shape))
        start += part.size
    return found


def largest_over_ranks(comm: MPI.Comm, local: Block) -> Block:
    """Return the elementwise maximum of an array over the ranks, the same on every rank.

    Collective. Where there is a NaN, the maximum depends on the order of the ranks: it is
    formed once and broadcast, as in `allreduce_same`.
    """
    from mpi4py import MPI

    local = np.ascontiguousarray(local)
    if comm.size == 1:
        return local.copy()
    result = np.empty_like(local)
    comm.Reduce(local, result, op=MPI.MAX, root=0)
    comm.Bcast(result, root=0)
    return result


def inner(comm: MPI.Comm, u: Block, v: Block) -> Block:
    """Return u^H v of two row blocks, the same on every rank.  (Collective.)"""
    return allreduce_same(comm, np.asarray(u.conj().T @ v))


def column_norms(comm: MPI.Comm, block: Block) -> Block:
    """Return the 2-norms of the columns of a row block, the same on every rank.  (Collective.)"""
    return norms_of_columns(comm, block)[0]


def norms_of_columns(comm: MPI.Comm, *blocks: Block) -> list[Block]:
    """Return the 2-norms of the columns of several blocks, of as many, by one reduction.

    Collective.
    """
    squares = [np.einsum("ij,ij->j", block.conj(), block).real for block in blocks]
    return list(np.sqrt(allreduce_same(comm, np.stack(squares))))

"""Rows of other ranks: gather what elements need, add back what they produce."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.sparse

from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.exchange import Exchange, as_range, row_ranges

if TYPE_CHECKING:
    from mpi4py import MPI


class HasRows(Protocol):
    """Anything distributed by contiguous row ranges, such as a `Pencil` or `Eigenpairs`."""

    @property
    def comm(self) -> MPI.Comm:
        """Communicator."""
        ...

    @property
    def rows(self) -> tuple[int, int]:
        """First row of this rank and one past its last."""
        ...


class Ghosts:
    """The rows that this rank's elements touch, wherever they live.

    Collective.

    Parameters
    ----------
    layout
        A `Pencil`, `Eigenpairs`, or anything with ``comm`` and ``rows``.
    dofs
        Global row numbers, any shape; -1 stands for a constrained dof, whose value
        is zero and whose contributions are dropped.

    Raises
    ------
    InputError
        When a number is outside of -1 ... n - 1.

    """

    def __init__(self, layout: HasRows, dofs: Block) -> None:
        self.comm = layout.comm
        self.rows = layout.rows
        self.shape = dofs.shape
        ranges = row_ranges(self.comm, self.rows)
        raise_together(self.comm, dof_range_error(dofs, int(ranges[-1])))
        needed, positions = np.unique(dofs, return_inverse=True)
        self._index = positions.reshape(dofs.shape)
        if needed.size and needed[0] < 0:
            # The slot behind the last one stands for all constrained dofs.
            needed = needed[1:]
            self._index = np.where(self._index == 0, needed.size, self._index - 1)
        self._bounds = np.searchsorted(needed, ranges)
        self._size = needed.size
        requests = [
            needed[self._bounds[rank] : self._bounds[rank + 1]] for rank in range(self.comm.size)
        ]
        self._own = requests[self.comm.rank] - self.rows[0]
        self._own_rows = as_range(self._own)
        self._exchange = Exchange(self.comm, requests)
        self._collect: scipy.sparse.csr_matrix | None = None

    def table(self, block: Block) -> Block:
        """Return the needed rows and one zero row behind them, to be used with `at`.

        Collective. One message per neighbour, whatever the number of columns.
        """
        return self.tables([block])[0]

    def tables(self, blocks: Sequence[Block]) -> list[Block]:
        """Return the `table` of each of several blocks of one type.

        Collective. One message per neighbour, whatever the number of blocks.
        """
        found = [self._own_table(block) for block in blocks]
        shapes = [block.shape[1:] for block in blocks]
        widths = [math.prod(shape) for shape in shapes]
        owned = {
            rank: np.hstack([block[rows - self.rows[0]].reshape(rows.size, -1) for block in blocks])
            for rank, rows in self._exchange.answers.items()
        }
        like = np.empty((0, sum(widths)), dtype=np.result_type(*blocks))
        for rank, values in self._exchange.forward(owned, like).items():
            parts = np.split(values, np.cumsum(widths)[:-1], axis=1)
            for table, shape, part in zip(found, shapes, parts, strict=True):
                table[self._slice(rank)] = part.reshape(len(part), *shape)
        return found

    def _own_table(self, block: Block) -> Block:
        """Return a table with the rows that this rank owns; those of others are not filled."""
        result = np.empty((self._size + 1, *block.shape[1:]), dtype=block.dtype)
        result[-1] = 0
        result[self._slice(self.comm.rank)] = block[self._own_rows]
        return result

    def at(self, table: Block, rows: slice) -> Block:
        """Return the values of a `table` at ``dofs[rows]``.  (Not collective.)"""
        return np.take(table, self._index[rows], axis=0)

    def gather(self, block: Block) -> Block:
        """Return a row block's values at the dofs, (*dofs.shape, k).  (Collective.)"""
        return self.at(self.table(block), slice(None))

    def add(self, values: Block, block: Block) -> None:
        """Add values at the dofs, (*dofs.shape, k), into the owners' rows of a block.

        Collective. ``block`` (n_local, k) is changed in place.
        """
        flat = np.ascontiguousarray(values, dtype=np.result_type(values, float))
        flat = flat.reshape(self._index.size, math.prod(block.shape[1:]))
        # Sums of complex numbers are those of their parts.
        sums = (self._collector() @ flat.view(float)).view(flat.dtype)
        sums = sums.reshape(self._size, *block.shape[1:]).astype(block.dtype, copy=False)
        asked = {rank: sums[self._slice(rank)] for rank in self._exchange.asked}
        block[self._own_rows] += sums[self._slice(self.comm.rank)]
        for rank, part in self._exchange.reverse(asked, block).items():
            block[self._exchange.answers[rank] - self.rows[0]] += part

    def _slice(self, rank: int) -> slice:
        return slice(int(self._bounds[rank]), int(self._bounds[rank + 1]))

    def _collector(self) -> scipy.sparse.csr_matrix:
        """Return the 0/1 matrix that sums positions into needed rows."""
        if self._collect is None:
            flat = self._index.ravel()
            kept = np.flatnonzero(flat < self._size)
            ones = np.ones(kept.size)
            self._collect = scipy.sparse.csr_matrix(
                (ones, (flat[kept], kept)), shape=(self._size, flat.size)
            )
        return self._collect


def dof_range_error(dofs: Block, n: int) -> InputError | None:
    """Return an error that names the first dof outside of -1 ... n - 1."""
    if dofs.dtype.kind not in "iu":
        return InputError(
            f"dofs must be integers, got dtype {dofs.dtype}; convert them with astype"
        )
    bad = np.flatnonzero((dofs < -1) | (dofs >= n))
    if bad.size == 0:
        return None
    place = tuple(int(i) for i in np.unravel_index(bad[0], dofs.shape))
    return InputError(
        f"dofs must lie in -1 ... {n - 1}, got {dofs.ravel()[bad[0]]} at {place} and "
        f"{bad.size - 1} more outside; number free dofs from 0, mark constrained ones by -1"
    )

"""Sparse matrices from entries that any rank contributes: pattern once, values many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.builds import index_error
from geneig_adjoint.collective import guard, raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.exchange import Exchange, row_ranges

if TYPE_CHECKING:
    from mpi4py import MPI

NEW_NONZERO = 63
"""PETSc's code for an entry outside of a matrix's pattern."""


MOST = 0.75
"""A part of a pattern that has more of its entries is not worth a pattern of its own."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some entries of this rank's rows in a `Pattern`: their places, offsets and columns."""

    kept: Block
    csr: tuple[Block, Block]


class Pattern:
    """Nonzero pattern of a distributed matrix and where each contribution goes.

    Collective.

    Parameters
    ----------
    comm
        Communicator.
    row_ranges
        First row of every rank and, last, the number of rows.
    columns
        Local and global number of columns.
    indices
        (row, column) index arrays of this rank's contributions, one pair of equal
        shapes per group; entries with a negative index are dropped.
    with_diagonal
        Keep every diagonal entry in the pattern (square matrices): factorisations
        and shifts need it.

    Raises
    ------
    InputError
        When a rank has more entries than this build of PETSc can number.

    """

    def __init__(
        self,
        comm: MPI.Comm,
        row_ranges: Block,
        columns: tuple[int, int],
        indices: list[tuple[Block, Block]],
        *,
        with_diagonal: bool = False,
    ) -> None:
        self.comm = comm
        self.columns = columns
        self._first, self._last = (int(row_ranges[comm.rank + i]) for i in (0, 1))
        self._rows = (self._last - self._first, int(row_ranges[-1]))
        keys = [_keys(row, column, columns[1]) for row, column in indices]
        local, self._slots = _unique_slots(keys)
        self._local_size = local.size
        bounds = np.searchsorted(local, row_ranges * columns[1])
        self._parts = [slice(int(bounds[r]), int(bounds[r + 1])) for r in range(comm.size)]
        requests = [local[part] for part in self._parts]
        requests[comm.rank] = requests[comm.rank][:0]
        self._exchange = Exchange(comm, requests)
        own = [local[self._parts[comm.rank]], *self._exchange.answers.values()]
        self.touched_rows = _rows_of(own, columns[1], range(self._first, self._last))
        if with_diagonal:
            rows = np.arange(self._first, self._last, dtype=np.int64)
            own.append(rows * columns[1] + rows)
        final = _distinct(np.concatenate(own))
        self._own = np.searchsorted(final, local[self._parts[comm.rank]])
        self._received = {
            rank: np.searchsorted(final, keys) for rank, keys in self._exchange.answers.items()
        }
        self._size = final.size
        what = "nonzero entries on one rank (more ranks have fewer each)"
        raise_together(comm, index_error(final.size, what))
        row_of = final // columns[1] - self._first
        offsets = np.searchsorted(row_of, np.arange(self._rows[0] + 1))
        self._csr = (
            offsets.astype(PETSc.IntType),
            (final % columns[1]).astype(PETSc.IntType),
        )

    def sums(self, dtype: np.dtype[np.generic] | type = np.float64) -> Block:
        """Return zeros to collect contributions in with `collect`.  (Not collective.)"""
        return np.zeros(self._local_size, dtype=dtype)

    def collect(self, sums: Block, group: int, rows: slice, values: Block) -> None:
        """Add values of ``indices[group][rows]`` to this rank's sums.  (Not collective.)"""
        slots = self._slots[group][rows].ravel()
        last = int(slots.max(initial=-1))
        if last < 0:
            return  # nothing, or dropped indices (-1) only
        # Elements of a batch are mostly neighbours: only their part of the sums is touched. The
        # first bin swallows contributions of dropped indices.
        first = int(slots.view(f"u{slots.itemsize}").min())
        bins = np.subtract(slots, first - 1, dtype=np.intp)
        np.maximum(bins, 0, out=bins)
        part, flat = sums[first : last + 1], values.ravel()
        if np.iscomplexobj(sums):
            part.real += np.bincount(bins, weights=flat.real, minlength=part.size + 1)[1:]
            part.imag += np.bincount(bins, weights=flat.imag, minlength=part.size + 1)[1:]
        else:
            part += np.bincount(bins, weights=flat, minlength=part.size + 1)[1:]

    def part(self, marks: Block) -> Part | None:
        """Return the entries that have marks, and the diagonal; None if they are most of all.

        Collective.

        Parameters
        ----------
        marks
            Sums as for `matrix`, of numbers that are not negative.

        """
        offsets, columns = self._csr
        row_of = np.repeat(np.arange(self._rows[0]), np.diff(offsets))
        kept = np.flatnonzero((self._gathered(marks) > 0) | (columns == self._first + row_of))
        counts = self.comm.allreduce(np.array([kept.size, columns.size]))
        if counts[0] > MOST * counts[1]:
            return None
        starts = np.searchsorted(kept, offsets).astype(PETSc.IntType)
        return Part(kept, (starts, columns[kept]))

    def matrix(
        self, sums: Block, out: PETSc.Mat | None = None, part: Part | None = None
    ) -> PETSc.Mat:
        """Return the assembled matrix of collected sums, or fill ``out`` with it.

        Collective. The caller destroys a new matrix. part: the only entries it has.

        Raises
        ------
        InputError
            When ``out`` has another nonzero pattern: what is beside this one would stay; when
            there are entries outside of ``part``.

        """
        data = self._gathered(sums).astype(PETSc.ScalarType, copy=False)
        if part is not None:
            raise_together(self.comm, _lost_error(data, part))
        csr = (*self._csr, data) if part is None else (*part.csr, data[part.kept])
        if out is None:
            out = PETSc.Mat().createAIJ((self._rows, self.columns), csr=csr, comm=self.comm)
        else:
            with guard(self.comm):
                _refill(out, csr)
        out.assemble()
        return out

    def _gathered(self, sums: Block) -> Block:
        """Return this rank's entries of the matrix, from the sums of all.  (Collective.)"""
        data = np.zeros(self._size, dtype=sums.dtype)
        data[self._own] += sums[self._parts[self.comm.rank]]
        asked = {rank: sums[self._parts[rank]] for rank in self._exchange.asked}
        for rank, part in self._exchange.reverse(asked, data).items():
            data[self._received[rank]] += part
        return data


def _lost_error(data: Block, part: Part) -> InputError | None:
    """Return an error for entries that are not in a part of a pattern.  (Not collective.)"""
    lost = np.count_nonzero(data) - np.count_nonzero(data[part.kept])
    if not lost:
        return None
    return InputError(
        "the base of a ScaledKernel must keep its zeros once its model has assembled matrices, "
        f"got {lost} entries of B in their places; make a new model of the changed base"
    )


def _rows_of(keys: list[Block], width: int, rows: range) -> Block:
    """Return the rows, among some, that have entries."""
    touched = np.zeros(len(rows), dtype=bool)
    for part in keys:
        touched[part // width - rows.start] = True
    return np.asarray(rows.start + np.flatnonzero(touched))


def _refill(out: PETSc.Mat, csr: tuple[Block, Block, Block]) -> None:
    """Set all entries of this rank's rows, or raise if there are others.  (Not collective.)"""
    count, found = csr[2].size, int(out.getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"])
    error = InputError(
        f"out must have the nonzero pattern of the model, {count} entries in the rows of this "
        f"rank, got another one with {found}: of another model, or changed since; assemble "
        "without out"
    )
    if count != found:
        raise error
    try:
        out.setValuesCSR(*csr)
    except PETSc.Error as new:
        if new.ierr != NEW_NONZERO:
            raise
        raise error from None


def _keys(rows: Block, columns: Block, width: int) -> Block:
    keys = np.multiply(rows, width, dtype=np.int64)
    keys += columns
    keys[(rows < 0) | (columns < 0)] = -1
    return np.asarray(keys)


def _unique_slots(keys: list[Block]) -> tuple[Block, list[Block]]:
    """Return the sorted distinct keys >= 0 and, per group, the place of each key among them.

    Negative keys have the place -1.
    """
    unique = _distinct(np.concatenate([np.zeros(0, np.int64), *(part.ravel() for part in keys)]))
    unique = unique[np.searchsorted(unique, 0) :]
    slots = []
    for part in keys:
        place = np.searchsorted(unique, part)
        place = place.astype(np.int32 if unique.size < 2**31 - 1 else np.int64)
        place[part < 0] = -1
        slots.append(place)
    return unique, slots


def _distinct(keys: Block) -> Block:
    """Return the sorted distinct ones of some keys, which are sorted in place."""
    keys.sort()
    new = np.ones(keys.size, dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    return np.asarray(keys[new])


def matrix_of_columns(
    comm: MPI.Comm, rows: tuple[int, int], columns: tuple[int, int], found: list[Block]
) -> PETSc.Mat:
    """Return the sparse matrix with given columns.

    Collective.

    Parameters
    ----------
    comm
        Communicator.
    rows
        Row range of this rank.
    columns
        Local and global number of columns.
    found
        This rank's rows of all columns, (n_local,) each; zeros are dropped.

    """
    kept = [np.flatnonzero(column) for column in found]
    entries = [(part, column[part]) for column, part in zip(found, kept, strict=True)]
    return matrix_of_entries(comm, rows, columns, entries)


def matrix_of_entries(
    comm: MPI.Comm,
    rows: tuple[int, int],
    columns: tuple[int, int],
    found: Sequence[tuple[Block, Block]],
) -> PETSc.Mat:
    """Return the sparse matrix whose columns are given by their entries.

    Collective.

    Parameters
    ----------
    comm
        Communicator.
    rows
        Row range of this rank.
    columns
        Local and global number of columns.
    found
        For every column, this rank's nonzero rows (from 0) and their values.

    """
    numbers = np.repeat(np.arange(len(found)), [part.size for part, _ in found])
    none: Block = np.zeros(0, dtype=np.int64)
    row = rows[0] + np.concatenate([none, *(part for part, _ in found)])
    # An empty column of PETSc's own type keeps the type where there are no others.
    entries = np.concatenate(
        [np.zeros(0, dtype=PETSc.ScalarType), *(values for _, values in found)]
    )
    pattern = Pattern(comm, row_ranges(comm, rows), columns, [(row, numbers)])
    sums = pattern.sums(entries.dtype)
    pattern.collect(sums, 0, slice(None), entries)
    return pattern.matrix(sums)


def equal_layout(comm: MPI.Comm, size: int) -> tuple[int, int]:
    """Return (local, global) sizes of PETSc's default split.  (Not collective.)"""
    local = size // comm.size + (comm.rank < size % comm.size)
    return local, size


def own_rows(comm: MPI.Comm, n: int, n_local: int | None) -> tuple[int, int]:
    """Return this rank's row range for given or default local sizes.  (Collective.)

    Raises
    ------
    InputError
        When the sizes do not add up to n, only some ranks give one, or n is more than this
        build of PETSc can number.

    """
    given = comm.allgather(n_local)
    raise_together(comm, index_error(n, "rows"))
    counts = [equal_layout_of(n, comm.size, r) if g is None else g for r, g in enumerate(given)]
    if sum(counts) != n or len({g is None for g in given}) > 1:
        raise InputError(
            f"n_local must add up to n = {n} over the ranks (or be None on all), got {given}; "
            "pass the number of rows each rank owns"
        )
    first = sum(counts[: comm.rank])
    return first, first + counts[comm.rank]


def equal_layout_of(n: int, size: int, rank: int) -> int:
    """Return the rows PETSc's default split gives to a rank.  (Not collective.)"""
    return n // size + (rank < n % size)

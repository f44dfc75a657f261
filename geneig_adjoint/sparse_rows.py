"""Sparse linear functions of one parameter, whole on every rank or row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout_of
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.ghosts import Ghosts
from geneig_adjoint.parameters import is_distributed, length, local_values
from geneig_adjoint.reductions import allreduce_same

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass(frozen=True)
class _Layout:
    """A contiguous distribution of rows, as `Ghosts` wants it."""

    comm: MPI.Comm
    rows: tuple[int, int]


@dataclass(frozen=True)
class _Plan:
    """Rows of this rank for vectors of one layout: ``local`` acts on what ``ghosts`` gather."""

    ghosts: Ghosts
    local: scipy.sparse.csr_matrix
    ranges: Block


class SparseRows:
    """The function W value of one replicated or distributed parameter.

    Collective with a communicator. No PETSc object is held.

    Parameters
    ----------
    matrix
        W, real and sparse. Without ``comm``: all of it, the same on every rank. With
        ``comm``: this rank's rows (n_local, n), columns numbered globally.
    comm
        The ranks that share the rows.

    Raises
    ------
    InputError
        Complex or non-finite entries, or other numbers of columns on other ranks.

    """

    def __init__(self, matrix: Any, comm: MPI.Comm | None = None) -> None:
        self.comm = comm
        self._raise(_matrix_error(matrix))
        self.matrix = scipy.sparse.csr_matrix(matrix, dtype=float)
        self.matrix.sort_indices()
        self.ranges = np.array([0, self.matrix.shape[0]])
        if comm is not None:
            sizes = comm.allgather(self.matrix.shape)
            self._raise(_columns_error(sizes))
            self.ranges = np.cumsum([0, *(rows for rows, _ in sizes)])
        self.shape = (int(self.ranges[-1]), int(self.matrix.shape[1]))
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def __call__(self, value: Any) -> Any:
        """Return W value: an array, or a PETSc.Vec that belongs to the caller.  (Collective.)"""
        self._raise(self._size_error("value", value, self.shape[1]))
        if not is_distributed(value):
            part = self.matrix @ np.asarray(value, dtype=float)
            return part if self.comm is None else np.concatenate(self.comm.allgather(part))
        plan = self._plan(value)
        gathered = plan.ghosts.gather(np.asarray(local_values(value), dtype=float)[:, None])
        entries = plan.local @ gathered[:, 0]
        vec = PETSc.Vec().createMPI((entries.size, self.shape[0]), comm=value.comm)
        vec.array[:] = entries
        return vec

    def jvp(self, value: Any, dot: Any) -> Any:
        """Return W dot; see `__call__`."""
        del value
        return self(dot)

    def vjp(self, value: Any, bar: Any) -> Any:
        """Return W^T bar in the kind and layout of the value.  (Collective.)"""
        self._raise(self._size_error("value", value, self.shape[1]))
        self._raise(self._size_error("cotangent", bar, self.shape[0]))
        if not is_distributed(value):
            own = slice(0, None)
            if self.comm is not None:
                own = slice(*self.ranges[self.comm.rank : self.comm.rank + 2])
            total = self.matrix.T @ np.asarray(bar, dtype=float)[own]
            return total if self.comm is None else allreduce_same(self.comm, total)
        plan = self._plan(value)
        self._raise(self._layout_error(bar, plan.ranges), value)
        entries = np.zeros((value.getLocalSize(), 1))
        pulled = plan.local.T @ np.asarray(local_values(bar), dtype=float)
        plan.ghosts.add(pulled[:, None], entries)
        vec = value.duplicate()
        vec.array[:] = entries[:, 0]
        return vec

    def vjp_tangent(self, value: Any, dot: Any, bar: Any) -> Any:
        """Return zeros: the function is linear.  (Collective.)"""
        del dot, bar
        if not is_distributed(value):
            return np.zeros(self.shape[1])
        vec = value.duplicate()
        vec.set(0.0)
        return vec

    def _plan(self, value: PETSc.Vec) -> _Plan:
        """Return what is needed for vectors of this layout; made once.  (Collective.)"""
        columns = np.asarray(value.getOwnershipRanges())
        key = tuple(int(first) for first in columns)
        if key not in self._plans:
            comm = self.comm or value.comm.tompi4py()
            self._raise(self._ranks_error(value), value)
            ranges, local = self.ranges, self.matrix
            if self.comm is None:
                # Square: what belongs to an entry stays with it.
                ranges = columns if self.shape[0] == self.shape[1] else self._split(comm.size)
                local = local[ranges[comm.rank] : ranges[comm.rank + 1]]
            needed, positions = _distinct(local.indices)
            local = scipy.sparse.csr_matrix(
                (local.data, positions, local.indptr), shape=(local.shape[0], needed.size)
            )
            layout = _Layout(comm, value.getOwnershipRange())
            self._plans[key] = _Plan(Ghosts(layout, needed.astype(np.int64)), local, ranges)
        return self._plans[key]

    def _split(self, size: int) -> Block:
        """Return the first row of every rank in PETSc's default split."""
        counts = [equal_layout_of(self.shape[0], size, rank) for rank in range(size)]
        return np.cumsum([0, *counts])

    def _raise(self, error: InputError | None, value: PETSc.Vec | None = None) -> None:
        """Raise on all ranks that share the rows or the vector; alone where nothing is shared."""
        comm = value.comm.tompi4py() if value is not None else self.comm
        if comm is not None:
            raise_together(comm, error)
        elif error is not None:
            raise error

    def _size_error(self, what: str, value: Any, expected: int) -> InputError | None:
        got = length(value if is_distributed(value) else np.asarray(value))
        if got == expected:
            return None
        return InputError(
            f"a linear map with a matrix of shape {self.shape} needs a {what} with {expected} "
            f"entries, got {got}; with comm= the matrix is this rank's rows, without it all rows"
        )

    def _ranks_error(self, value: PETSc.Vec) -> InputError | None:
        if self.comm is None or self.comm.size == value.comm.size:
            return None
        return InputError(
            f"a PETSc.Vec must live on the ranks that share the rows of the map, got "
            f"{value.comm.size} ranks in place of {self.comm.size}; use one communicator"
        )

    def _layout_error(self, bar: Any, ranges: Block) -> InputError | None:
        if is_distributed(bar) and np.array_equal(bar.getOwnershipRanges(), ranges):
            return None
        got = bar.getOwnershipRanges() if is_distributed(bar) else type(bar).__name__
        return InputError(
            f"the cotangent must be a PETSc.Vec with the first rows {ranges} of the result, got "
            f"{got}; duplicate the result"
        )


def _distinct(columns: Block) -> tuple[Block, Block]:
    """Return np.unique(columns, return_inverse=True) without sorting.  (Not collective.)"""
    if columns.size == 0:
        return columns, columns
    first = columns.min()
    found = np.zeros(columns.max() - first + 1, dtype=bool)
    found[columns - first] = True
    places = np.cumsum(found, dtype=columns.dtype) - 1
    return first + np.flatnonzero(found), places[columns - first]


def rows_of(mat: PETSc.Mat) -> scipy.sparse.csr_matrix:
    """Return this rank's rows of a PETSc matrix, columns numbered globally.  (Not collective.)"""
    offsets, columns, values = mat.getValuesCSR()
    if np.iscomplexobj(values) and not np.any(values.imag):
        values = values.real
    shape = (offsets.size - 1, mat.getSize()[1])
    return scipy.sparse.csr_matrix((values, columns, offsets), shape=shape)


def _matrix_error(matrix: Any) -> InputError | None:
    if not scipy.sparse.issparse(matrix):
        return InputError(
            f"the matrix of a linear map must be a scipy.sparse matrix or a PETSc.Mat, got "
            f"{type(matrix).__name__}; use scipy.sparse.csr_matrix(...)"
        )
    entries = scipy.sparse.csr_matrix(matrix).data
    if np.iscomplexobj(entries):
        return InputError(
            f"the matrix of a linear map must be real, got dtype {entries.dtype}; parameters are "
            "real numbers"
        )
    bad = np.count_nonzero(~np.isfinite(entries))
    if bad:
        return InputError(
            f"the matrix of a linear map must be finite, got {bad} NaN or Inf; check where it is "
            "computed"
        )
    return None


def _columns_error(sizes: list[tuple[int, int]]) -> InputError | None:
    counts = [columns for _, columns in sizes]
    if len(set(counts)) == 1:
        return None
    return InputError(
        f"the rows of a linear map must have the same number of columns on every rank, got "
        f"{counts}; give every rank's matrix the global number of columns"
    )

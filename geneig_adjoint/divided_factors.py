"""Factors of the groups of a nonsymmetric matrix, divided over a few ranks.

Sweeps through one factor that several ranks share wait for each other at every front. In the plane
factors are small, so that each rank gathers the matrix and makes whole ones for itself: of other
groups of unknowns (`block_triangular`) than its neighbours where there are several, of the same
where there is but one. Groups are then factored at the same time, columns of a block are solved
for at the same time, in one group or one after the other, and a single vector goes from the owner
of one group to that of the next. Every solution is computed by one rank and sent to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.block_solves import solve_block
from geneig_adjoint.block_triangular import (
    GroupFactor,
    TriangularFactor,
    as_slice,
    entries_of,
    factored,
    factored_by,
    groups_of,
    is_symmetric,
    nonzeros,
    without_columns,
)
from geneig_adjoint.collective import guard
from geneig_adjoint.csr_matrices import matrix_of
from geneig_adjoint.exchange import row_ranges
from geneig_adjoint.factor_copies import gathered
from geneig_adjoint.factoring import FAILED_LIBRARY
from geneig_adjoint.sparse_lu import set_up_tried

PIECES = 4
"""Pieces into which the columns of a block are cut, where they go from group to group: the first
owner is idle while the last piece is with the others."""

Task = tuple[int, slice]
"""A group, and the columns that are to be solved for."""


@dataclass(eq=False)
class _Group:
    """Rows of a group, and on the ranks that own it its solver and what couples it to others.

    ``beside`` holds the group's rows in columns of others, and the conjugate of its columns in
    rows of others, for solves with the matrix and with its Hermitian transpose.
    """

    rows: Any
    size: int
    ksp: PETSc.KSP | None = None
    symmetric: bool = False
    beside: tuple[Any, Any] | None = None


class DividedFactor(GroupFactor):
    """Python context of a PC on several ranks, each of which has whole factors of some groups.

    All methods are collective. A failure of one rank is raised on all of them.

    Attributes
    ----------
    solved : int
        Columns this rank has solved for so far, in all groups.

    """

    def __init__(self) -> None:
        self.groups: list[_Group] = []
        self.solved = 0
        self._entries = 0.0
        self._comm: Any = None
        self._starts = np.zeros(1, dtype=np.int64)

    @property
    def number(self) -> int:
        """Number of groups."""
        return len(self.groups)

    @property
    def entries(self) -> float:
        """Numbers in one factor of every group."""
        return self._entries

    def setUp(self, pc: PETSc.PC) -> None:
        """Factor this rank's diagonal blocks of the PC's matrix."""
        self.reset()
        mat = pc.getOperators()[1]
        self._comm = mat.comm.tompi4py()
        self._starts = row_ranges(self._comm, mat.getOwnershipRange())
        whole = gathered(mat)
        entries = 0.0
        try:
            with guard(self._comm), _petsc.plain_errors():
                entries = self._factor(whole)
        except BaseException:
            self.reset()
            raise
        finally:
            whole.destroy()
        self._entries = float(self._comm.allreduce(entries))

    def apply(self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec) -> None:
        """Solve for one vector."""
        target.array[:] = self.solve(source.array_r[:, None])[:, 0]

    def solve(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return the solutions for a block, this rank's rows (n_local, k), real or complex."""
        if _petsc.REAL_SCALARS and np.iscomplexobj(block):
            halves = self.solve(np.hstack([block.real, block.imag]), hermitian=hermitian)
            re, im = np.hsplit(halves, 2)
            return np.asarray(re + 1j * im)
        if not self.groups:
            raise RuntimeError(
                "solves need the factors of all groups, got none; factor with "
                "st_pc_factor_mat_solver_type mumps"
            )
        right = self._gathered(block)
        found = np.zeros_like(right)
        for tasks in self._schedule(right.shape[1], hermitian):
            part = np.zeros(0, dtype=right.dtype)
            with guard(self._comm):
                if self._comm.rank in tasks:
                    part = self._solved(tasks[self._comm.rank], (right, found), hermitian)
            self._share(tasks, part, found)
        return np.asfortranarray(found[slice(*self._starts[self._comm.rank :][:2])])

    def reset(self, _: PETSc.PC | None = None) -> None:
        """Destroy the factors of this rank."""
        for group in self.groups:
            _petsc.destroy(group.ksp)
        self.groups = []

    def destroy(self, _: PETSc.PC | None = None) -> None:
        """Destroy the factors of this rank, with the PC."""
        self.reset()

    # -- who has which factor --

    @property
    def _teams(self) -> int:
        """Number of sets of ranks that have factors of all groups."""
        return max(1, int(self._comm.size) // self.number)

    def _owner(self, group: int, team: int) -> int:
        return (team * self.number + group) % int(self._comm.size)

    def _factor(self, whole: PETSc.Mat) -> float:
        """Make the factors of this rank; return what they add to `entries`."""
        csr = nonzeros(whole)
        found = groups_of(whole) or [np.arange(csr.shape[0])]
        self.groups = [_Group(as_slice(rows), len(rows)) for rows in found]
        counted = 0.0
        for i, group in enumerate(self.groups):
            owners = [self._owner(i, team) for team in range(self._teams)]
            if self._comm.rank not in owners:
                continue
            own = csr[group.rows]
            columns = csr[:, group.rows].conj().T.tocsr()
            group.beside = without_columns(own, found[i]), without_columns(columns, found[i])
            block = own[:, group.rows]
            group.symmetric = is_symmetric(block)
            group.ksp = _solver_of(block, group.symmetric, alone=self.number == 1)
            counted += entries_of(group.ksp) * (self._comm.rank == owners[0])
        return counted

    # -- who solves for what, and when --

    def _schedule(self, columns: int, hermitian: bool) -> Iterator[dict[int, Task]]:
        """Yield who does what in each step: the same on all ranks, which all wait for its end.

        A piece of the columns goes from group to group, and its team to the next piece meanwhile.
        """
        last = self.number - 1
        waiting = [
            (team, 0, piece)
            for team, share in enumerate(_cut(slice(0, columns), self._teams))
            for piece in _cut(share, PIECES if last else 1)
        ]
        while waiting:
            tasks: dict[int, Task] = {}
            left = []
            for team, done, piece in waiting:
                group = last - done if hermitian else done
                owner = self._owner(group, team)
                free = owner not in tasks
                if free:
                    tasks[owner] = group, piece
                if done + free <= last:
                    left.append((team, done + free, piece))
            waiting = left
            yield tasks

    def _solved(self, task: Task, given: tuple[Block, Block], hermitian: bool) -> Block:
        """Return the solutions of a task, column after column.  (Not collective.)"""
        (i, columns), (right, found) = task, given
        group = self.groups[i]
        assert group.ksp is not None
        assert group.beside is not None
        rest, beside = right[group.rows, columns], group.beside[hermitian]
        if beside.nnz:
            rest = rest - beside @ found[:, columns]
        self.solved += rest.shape[1]
        transposed = hermitian and not group.symmetric
        return np.asarray(solve_block(group.ksp, rest, hermitian=transposed)).T.ravel()

    # -- what all ranks get --

    def _gathered(self, block: Block) -> Block:
        """Return all rows of a block on every rank."""
        sent = np.ascontiguousarray(block.T, dtype=PETSc.ScalarType)
        columns = sent.shape[0]
        packed = np.empty(self._starts[-1] * columns, dtype=sent.dtype)
        counts = np.diff(self._starts) * columns
        self._comm.Allgatherv(sent, [packed, (counts, self._starts[:-1] * columns)])
        whole = np.empty((self._starts[-1], columns), dtype=sent.dtype, order="F")
        for lo, hi in zip(self._starts[:-1], self._starts[1:], strict=True):
            whole[lo:hi] = packed[lo * columns : hi * columns].reshape(columns, hi - lo).T
        return whole

    def _share(self, tasks: dict[int, Task], part: Block, found: Block) -> None:
        """Put the solutions of all tasks of a step where they belong, on every rank."""
        counts = np.zeros(self._comm.size, dtype=np.int64)
        for rank, (i, columns) in tasks.items():
            counts[rank] = self.groups[i].size * (columns.stop - columns.start)
        ends = np.cumsum(counts)
        packed = np.empty(ends[-1], dtype=found.dtype)
        self._comm.Allgatherv(part, [packed, (counts, ends - counts)])
        for rank, (i, columns) in tasks.items():
            piece = packed[ends[rank] - counts[rank] : ends[rank]]
            found[self.groups[i].rows, columns] = piece.reshape(-1, self.groups[i].size).T


def _cut(columns: slice, pieces: int) -> list[slice]:
    """Return nearly equal pieces of some columns, none of them empty."""
    number = columns.stop - columns.start
    ends = columns.start + number * np.arange(pieces + 1) // pieces
    return [slice(int(a), int(b)) for a, b in pairwise(ends) if b > a]


def _solver_of(block: Any, symmetric: bool, *, alone: bool) -> PETSc.KSP:
    """Return a solver for a group on this rank; alone: it is the whole matrix.

    Not collective. MUMPS does not factor a whole matrix once per rank: it divides the work.
    """
    if not alone:
        return factored(block, symmetric=symmetric)
    if not block.diagonal().all():
        raise PETSc.Error(FAILED_LIBRARY)
    block.sort_indices()
    mat = matrix_of((block.indptr, block.indices, block.data), block.shape, PETSc.COMM_SELF)
    try:
        return factored_by("petsc", mat)
    finally:
        mat.destroy()


def set_up_groups(eps: SLEPc.EPS) -> Callable[[], object] | None:
    """Factor group by group; return what is left to do by MUMPS if that is not accurate.

    Collective. Then the KSP is left without a factor.
    """
    pc = eps.getST().getKSP().getPC()
    pc.setType(PETSc.PC.Type.PYTHON)
    pc.setPythonContext(DividedFactor() if eps.comm.size > 1 else TriangularFactor())
    return set_up_tried(eps)


def divided_factor(ksp: PETSc.KSP) -> DividedFactor | None:
    """Return the factors that are divided over the ranks of a KSP, if it has such.

    Not collective.
    """
    pc = ksp.getPC()
    context = pc.getPythonContext() if pc.getType() == PETSc.PC.Type.PYTHON else None
    return context if isinstance(context, DividedFactor) else None

"""A whole factor on every rank, and blocks of right-hand sides divided over the ranks.

Sweeps through one factor that several ranks share hardly get faster with their number: they wait
for each other at every front. Columns of a block have nothing to do with each other. So where a
factor fits into the memory of one rank, each makes it for itself, by CHOLMOD, and solves for its
own share of the columns.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.block_solves import BlockFactor
from geneig_adjoint.collective import guard
from geneig_adjoint.exchange import row_ranges

REFUSALS = {*_petsc.SINGULAR_FACTOR, 92}
"""PETSc's codes for a factorisation that failed, and for a package it was built without."""
MOST_RANKS = 4
"""Ranks that take a copy unasked: of a block of eight columns each has two at least."""


class FactorCopies(BlockFactor):
    """Python context of a PC: the inverse of a symmetric positive definite matrix.

    All methods are collective. Solves before a factorisation, or after one that failed, raise.

    Parameters
    ----------
    prefix
        In front of the options of the package, which are read at the first factorisation.

    Attributes
    ----------
    made : bool
        Whether there is a factor: the matrix is positive definite.

    """

    def __init__(self, prefix: str) -> None:
        self.made = False
        self._prefix = prefix
        self._mat: PETSc.Mat | None = None
        self._pc: PETSc.PC | None = None
        self._comm: Any = None
        self._starts = np.zeros(1, dtype=np.int64)

    def setUp(self, pc: PETSc.PC) -> None:
        """Factor the matrix of a PC; `made` tells whether that was possible."""
        mat = pc.getOperators()[1]
        self._comm = mat.comm.tompi4py()
        self._starts = row_ranges(self._comm, mat.getOwnershipRange())
        whole = gathered(mat)
        refused = False
        with guard(self._comm):
            try:
                with _petsc.plain_errors():
                    self._factor(whole)
            except PETSc.Error as error:
                refused = int(error.ierr) in REFUSALS
                if not refused:
                    raise
        # One rank alone may have had too little memory.
        self.made = not self._comm.allreduce(int(refused))
        if not self.made:
            self._drop()

    def apply(self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec) -> None:
        """Solve for a vector."""
        target.array[:] = self.solve(source.array_r[:, None])[:, 0]

    def applyTranspose(  # noqa: N802
        self, pc: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec
    ) -> None:
        """Solve for a vector: the matrix is symmetric."""
        self.apply(pc, source, target)

    def solve(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return the solutions for a block, this rank's rows (n_local, k), real or complex.

        A single column is solved for by one rank: the others would only want the same memory.
        ``hermitian`` makes no difference: the matrix is symmetric, its scalars are real.
        """
        if np.iscomplexobj(block):
            re, im = np.hsplit(self.solve(np.hstack([block.real, block.imag])), 2)
            return np.asarray(re + 1j * im)
        if not self.made:
            raise RuntimeError(
                "solves need a factor of a positive definite matrix, got none; factor with "
                "st_pc_factor_mat_solver_type mumps"
            )
        sent = np.asfortranarray(block, dtype=PETSc.ScalarType)
        found = np.empty(sent.shape, dtype=sent.dtype, order="F")
        here, there = self._layout(sent.shape[1])
        own = there[0].sum() // self._starts[-1]
        packed = np.empty(self._starts[-1] * own, dtype=sent.dtype)
        self._comm.Alltoallv([sent.T, here], [packed, there])
        with guard(self._comm):
            if own:
                self._solve_own(packed, int(own))
        self._comm.Alltoallv([packed, there], [found.T, here])
        return found

    def destroy(self, _: PETSc.PC) -> None:
        """Destroy the factor of this rank."""
        self._drop()

    def _factor(self, whole: PETSc.Mat) -> None:
        if self._mat is not None and _same_pattern(self._mat, whole):
            # In place: ordering and symbolic factorisation stay.
            whole.copy(self._mat, PETSc.Mat.Structure.SAME_NONZERO_PATTERN)
            whole.destroy()
        else:
            self._drop()
            self._mat = whole
            self._pc = PETSc.PC().create(PETSc.COMM_SELF)
            self._pc.setOptionsPrefix(self._prefix)
            self._pc.setType(PETSc.PC.Type.CHOLESKY)
            self._pc.setFactorSolverType(PETSc.Mat.SolverType.CHOLMOD)
            self._mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
            self._pc.setOperators(self._mat)
        assert self._pc is not None
        self._pc.setUp()

    def _drop(self) -> None:
        self.made = False
        _petsc.destroy(*(item for item in (self._pc, self._mat) if item is not None))
        self._pc = self._mat = None

    def _layout(self, columns: int) -> tuple[tuple[Block, Block], tuple[Block, Block]]:
        """Return counts and places of the entries of a block: by columns here, by rows there."""
        comm, rows = self._comm, np.diff(self._starts)
        first = columns * np.arange(comm.size + 1) // comm.size
        here, own = rows[comm.rank], first[comm.rank + 1] - first[comm.rank]
        return (here * np.diff(first), here * first[:-1]), (rows * own, self._starts[:-1] * own)

    def _solve_own(self, packed: Block, own: int) -> None:
        """Overwrite right-hand sides, packed by ranks, by their solutions.  (Not collective.)"""
        assert self._pc is not None
        right = np.empty((self._starts[-1], own), dtype=packed.dtype, order="F")
        found = np.empty_like(right)
        for rows, part in self._parts(packed, own):
            right[rows] = part.T
        mats = [
            PETSc.Mat().createDense(item.shape, array=item, comm=PETSc.COMM_SELF)
            for item in (right, found)
        ]
        try:
            self._pc.getFactorMatrix().matSolve(*mats)
        finally:
            _petsc.destroy(*mats)
        for rows, part in self._parts(packed, own):
            part[:] = found[rows].T

    def _parts(self, packed: Block, own: int) -> Iterator[tuple[slice, Block]]:
        for lo, hi in zip(self._starts[:-1], self._starts[1:], strict=True):
            yield slice(lo, hi), packed[lo * own : hi * own].reshape(own, hi - lo)


def gathered(mat: PETSc.Mat) -> PETSc.Mat:
    """Return all of a matrix on each rank, to be destroyed by the caller.  (Collective.)"""
    every = PETSc.IS().createStride(mat.getSize()[0], step=1, comm=PETSc.COMM_SELF)
    try:
        (whole,) = mat.createSubMatrices(every)
    finally:
        every.destroy()
    return whole


def _same_pattern(one: PETSc.Mat, other: PETSc.Mat) -> bool:
    pairs = zip(one.getRowIJ(), other.getRowIJ(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def copies_of(ksp: PETSc.KSP) -> FactorCopies | None:
    """Return what a KSP solves with if that is a factor on every rank.  (Not collective.)"""
    pc = ksp.getPC()
    if pc.getType() != PETSc.PC.Type.PYTHON:
        return None
    context = pc.getPythonContext()
    return context if isinstance(context, FactorCopies) else None


def drop_own_factor(ksp: PETSc.KSP) -> None:
    """Destroy this package's factors of a KSP that is about to be destroyed.  (Collective.)

    Somebody may still have its PC, which would call Python when that has ended.
    """
    pc = ksp.getPC()
    if pc.getType() == PETSc.PC.Type.PYTHON and isinstance(pc.getPythonContext(), BlockFactor):
        pc.setType(PETSc.PC.Type.NONE)


_HOLDERS: list[weakref.ref[Any]] = []


def forget_at_exit(holder: SLEPc.EPS | SLEPc.ST) -> None:
    """Take the preconditioner from a solver that is still open when Python ends.

    Not collective. One that calls Python would be destroyed after Python has ended: a crash.
    """
    _HOLDERS[:] = [item for item in _HOLDERS if item() is not None]
    _HOLDERS.append(weakref.ref(holder))


@atexit.register
def _forget_preconditioners() -> None:
    for reference in _HOLDERS:
        holder = reference()
        if holder is not None and holder.handle:
            st = holder.getST() if isinstance(holder, SLEPc.EPS) else holder
            pc = st.getKSP().getPC()
            if pc.getType() == PETSc.PC.Type.PYTHON:
                pc.setType(PETSc.PC.Type.NONE)

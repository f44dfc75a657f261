"""A factor that one rank makes and solves with, for all ranks of a matrix.

Ranks that share a factor wait for each other at every front. Where fronts are small, as on meshes
of the plane, one rank by itself is as fast with the factorisation, and faster with the solves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.block_solves import BlockFactor
from geneig_adjoint.collective import guard
from geneig_adjoint.exchange import row_ranges
from geneig_adjoint.factoring import set_up_factor

HOME = 0
"""The rank that factors: PETSc's report of options that nobody has read is about this one."""


class OneRankFactor(BlockFactor):
    """Python context of a PC: a factor on one rank, made as options with a prefix say.

    All methods are collective. A failure of that rank is raised on all of them.

    Parameters
    ----------
    prefix
        In front of the options, which are read at every factorisation.

    Attributes
    ----------
    status : int
        What `set_up_factor` has returned, on all ranks.
    solves : int
        Vectors this rank has solved for.

    """

    def __init__(self, prefix: str) -> None:
        self.status = self.solves = 0
        self._prefix = prefix
        self._ksp: PETSc.KSP | None = None
        self._comm: Any = None
        self._starts = np.zeros(1, dtype=np.int64)

    def setUp(self, pc: PETSc.PC) -> None:
        """Factor the matrix of a PC."""
        self.reset()
        mat = pc.getOperators()[1]
        self._comm = mat.comm.tompi4py()
        self._starts = row_ranges(self._comm, mat.getOwnershipRange())
        whole = _gathered_at_home(mat)
        status = 0
        try:
            with guard(self._comm):
                if self._comm.rank == HOME:
                    status = self._factor(whole)
        finally:
            whole.destroy()
        self.status = int(self._comm.bcast(status, root=HOME))

    def apply(self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec) -> None:
        """Solve for a vector."""
        target.array[:] = self._solve(source.array_r, "solve")

    def applyTranspose(  # noqa: N802  (PETSc's name)
        self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec
    ) -> None:
        """Solve with the transpose for a vector."""
        target.array[:] = self._solve(source.array_r, "solveTranspose")

    def solve(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return the solutions for a block, this rank's rows (n_local, k), real or complex."""
        if _petsc.REAL_SCALARS and np.iscomplexobj(block):
            halves = (self.solve(half, hermitian=hermitian) for half in (block.real, block.imag))
            re, im = halves
            return np.asarray(re + 1j * im)
        name = "solveTranspose" if hermitian else "solve"
        given = block.conj() if hermitian else block  # K^-H b = conj(K^-T conj(b))
        found = np.empty(block.shape, dtype=PETSc.ScalarType, order="F")
        for j, column in enumerate(given.T):
            found[:, j] = self._solve(column, name)
        return found.conj() if hermitian else found

    def reset(self, _: PETSc.PC | None = None) -> None:
        """Destroy the factor."""
        _petsc.destroy(self._ksp)
        self._ksp = None

    def destroy(self, _: PETSc.PC | None = None) -> None:
        """Destroy the factor, with the PC."""
        self.reset()

    def _factor(self, whole: PETSc.Mat) -> int:
        """Factor on this rank.  (Not collective.)"""
        self._ksp = PETSc.KSP().create(PETSc.COMM_SELF)
        self._ksp.setOptionsPrefix(self._prefix)
        self._ksp.setOperators(whole)
        with _petsc.plain_errors():
            self._ksp.setFromOptions()
            return set_up_factor(self._ksp, self._prefix)

    def _solve(self, local: Block, name: str) -> Block:
        """Return this rank's part of the solution for a vector."""
        counts, home = np.diff(self._starts), self._comm.rank == HOME
        right = np.empty(self._starts[-1] * home, dtype=PETSc.ScalarType)
        sent = np.ascontiguousarray(local, dtype=PETSc.ScalarType)
        self._comm.Gatherv(sent, [right, (counts, self._starts[:-1])] if home else None, root=HOME)
        found = np.empty_like(right)
        with guard(self._comm):
            if home:
                self._solve_at_home(name, right, found)
        part = np.empty_like(sent)
        self._comm.Scatterv([found, (counts, self._starts[:-1])] if home else None, part, root=HOME)
        return part

    def _solve_at_home(self, name: str, right: Block, found: Block) -> None:
        assert self._ksp is not None
        self.solves += 1
        vecs = [PETSc.Vec().createWithArray(item, comm=PETSc.COMM_SELF) for item in (right, found)]
        try:
            getattr(self._ksp, name)(*vecs)
        finally:
            _petsc.destroy(*vecs)


def _gathered_at_home(mat: PETSc.Mat) -> PETSc.Mat:
    """Return all of a matrix on one rank, nothing of it on the others.  (Collective.)"""
    size = mat.getSize()[0] if mat.comm.rank == HOME else 0
    every = PETSc.IS().createStride(size, step=1, comm=PETSc.COMM_SELF)
    try:
        (whole,) = mat.createSubMatrices(every)
    finally:
        every.destroy()
    return whole

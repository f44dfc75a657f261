"""Solves with a KSP for many right-hand sides: in one sweep through a factor where there is one."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block

BLOCKWISE = {PETSc.Mat.SolverType.MUMPS, PETSc.Mat.SolverType.CHOLMOD}
"""Packages that solve for many right-hand sides at once."""


class BlockFactor(ABC):
    """Python context of a PC that is a factor of this package; those of users are not."""

    @abstractmethod
    def solve(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return what `solve_block` does.  (Collective.)"""


def solve_block(ksp: PETSc.KSP, block: Block, *, hermitian: bool = False) -> Block:
    """Return the KSP's solutions, or those with its Hermitian transpose.

    Collective. A factor of MUMPS or CHOLMOD is swept through once for all columns, or for those
    of each rank where every rank has one. Same layout rules as `_petsc.multiply`. The caller
    checks residuals.
    """
    mat = ksp.getOperators()[0]
    if ksp.getPC().getType() == PETSc.PC.Type.PYTHON:
        context = ksp.getPC().getPythonContext()
        if isinstance(context, BlockFactor) and ksp.getType() == PETSc.KSP.Type.PREONLY:
            return np.asarray(context.solve(block, hermitian=hermitian))
    if block.shape[1] > 1 and _is_factor(ksp):
        return _solved_block(ksp.getPC().getFactorMatrix(), block, hermitian=hermitian)
    if not hermitian:
        return _petsc.columnwise(mat, ksp.solve, block)
    # Hermitian transpose by conjugation: (K^H)^-1 b = conj(K^-T conj(b)).
    return _petsc.columnwise(mat, ksp.solveTranspose, block.conj()).conj()


def _is_factor(ksp: PETSc.KSP) -> bool:
    """Tell whether a KSP is nothing but a factor that solves blocks far faster."""
    pc = ksp.getPC()
    return (
        ksp.getType() == PETSc.KSP.Type.PREONLY
        and pc.getType() in {PETSc.PC.Type.LU, PETSc.PC.Type.CHOLESKY}
        and pc.getFactorSolverType() in BLOCKWISE
    )


def _solved_block(factor: PETSc.Mat, block: Block, *, hermitian: bool) -> Block:
    if _petsc.REAL_SCALARS and np.iscomplexobj(block):
        halves = np.hstack([block.real, block.imag])
        re, im = np.hsplit(_solved_block(factor, halves, hermitian=hermitian), 2)
        return np.asarray(re + 1j * im)
    # The Hermitian transpose by conjugation, as above.
    block = block.conj() if hermitian and np.iscomplexobj(block) else block
    right = np.asarray(block, dtype=PETSc.ScalarType, order="F")  # read only
    found = np.empty_like(right)
    (rows, _), (_, n) = factor.getLocalSize(), factor.getSize()
    mats = [
        PETSc.Mat().createDense(((rows, n), (None, right.shape[1])), array=item, comm=factor.comm)
        for item in (right, found)
    ]
    try:
        if hermitian:
            factor.setMumpsIcntl(9, 0)  # nothing to CHOLMOD, whose matrices are symmetric
        try:
            factor.matSolve(*mats)
        finally:
            factor.setMumpsIcntl(9, 1)
    finally:
        _petsc.destroy(*mats)
    return found.conj() if hermitian else found

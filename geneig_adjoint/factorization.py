"""The one factor an eigensolve leaves behind, and solves with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.block_solves import BlockFactor, solve_block
from geneig_adjoint.errors import ConvergenceError
from geneig_adjoint.factor_copies import drop_own_factor
from geneig_adjoint.inner_solver import IterativeSolver, account_of, name_of
from geneig_adjoint.pencil import Pencil

ESTIMATE = 1e-3
"""Tolerance of iterative solves that only measure how large something is."""
FAILED_SOLVE = {91}
"""PETSc's code for a KSP that did not converge inside another solver."""


def check_inner_solve(ksp: PETSc.KSP, purpose: str) -> None:
    """Raise when the last iterative solve of a KSP inside another solver failed.

    Not collective. PETSc raises error 91 by itself, but only the first time in a process:
    it then takes every later solve for a nested one, which may stop at its maximum.
    """
    account = account_of(ksp)
    if account is not None:
        failed = account.check(ksp)
        if failed is not None:
            raise inner_solve_error(ksp, purpose, failed)
        return
    iterative = ksp.getType() not in {None, PETSc.KSP.Type.PREONLY}
    if iterative and ksp.getConvergedReason() < 0:
        raise inner_solve_error(ksp, purpose)


def inner_solve_error(
    ksp: PETSc.KSP, purpose: str, failed: tuple[str, int] | None = None
) -> ConvergenceError:
    """Return the error for an iterative solve inside another one that failed.

    Not collective. failed: reason and iterations; None: those of the KSP's last solve.
    """
    if failed is None:
        reason = _petsc.reason_name(PETSc.KSP.ConvergedReason, ksp.getConvergedReason())
        failed = reason, int(ksp.getIterationNumber())
    rtol, _, _, max_it = ksp.getTolerances()
    last = "leave st_ksp_type out: the direct factor needs no iterations"
    if account_of(ksp) is not None:
        last = "give a preconditioner nearer to the operator at this target"
    return ConvergenceError(
        f"the inner solves of {purpose} must reach st_ksp_rtol {rtol:.1e}, got {failed[0]} after "
        f"{failed[1]} of {max_it} iterations ({ksp.getType()} with {name_of(ksp.getPC())}); "
        f"raise st_ksp_max_it, choose a better st_pc_type, loosen eps_tol, or {last}",
        reason=failed[0],
        iterations=failed[1],
    )


@contextmanager
def loosened(ksp: PETSc.KSP, rtol: float) -> Iterator[None]:
    """Let the iterative solves of a block go to rtol only; factors take no notice.

    Collective. A failure inside is not lost: `Account.check` finds it afterwards.
    """
    account = account_of(ksp)
    before = ksp.getTolerances()[0]
    if account is None or rtol <= before:
        yield
        return
    account.end_solve(ksp)
    ksp.setTolerances(rtol=rtol)
    try:
        yield
    finally:
        account.end_solve(ksp)
        ksp.setTolerances(rtol=before)


@dataclass(eq=False)
class SpectralTransformation:
    """The operator of an eigensolve: K^-1 M with a factor of K.

    ``sinvert``: K = A - sigma B, M = B, lam = sigma + 1 / theta.
    ``shift``: K = B, M = A, lam = theta (no factor for a standard problem).

    Attributes
    ----------
    pencil : Pencil
    eps : SLEPc.EPS
        Holds the factor; destroyed by `close` if owned.
    sigma : complex or None
        Shift of ``sinvert``; None for ``shift``.
    owned : bool
    scaling : tuple of ndarray or None
        (R, C), this rank's part (n_local,) each, when the factor is that of R K C.
    spaces : dict
        What solves with the factor have built and later ones continue (`block_krylov`).
    near : dict
        Factors of other matrices, by eigenvalue, that are freed with this one
        (`near_factors`).

    """

    pencil: Pencil
    eps: SLEPc.EPS
    sigma: complex | None
    owned: bool = True
    scaling: tuple[Block, Block] | None = None
    spaces: dict[Any, Any] = field(default_factory=dict)
    near: dict[complex, Any] = field(default_factory=dict)
    _closed: bool = False
    _iterations: IterativeSolver | None = None

    @property
    def inverts(self) -> bool:
        """Whether a factor of A - sigma B is available."""
        return self.sigma is not None and not self._closed

    @property
    def inner_rtol(self) -> float | None:
        """Tolerance of iterative solves with K; None for a direct factor."""
        ksp = self.eps.getST().getKSP()
        return None if ksp.getType() == PETSc.KSP.Type.PREONLY else float(ksp.getTolerances()[0])

    @property
    def on_single_ranks(self) -> bool:
        """Whether each of several ranks solves by whole factors of its own."""
        pc = self.eps.getST().getKSP().getPC()
        own = pc.getType() == PETSc.PC.Type.PYTHON and not self._closed
        return bool(own and self.pencil.comm.size > 1) and isinstance(
            pc.getPythonContext(), BlockFactor
        )

    def estimate(self, block: Block, *, purpose: str) -> Block:
        """Return K^-1 block, or some digits of it where that takes iterations.  (Collective.)"""
        with loosened(self.eps.getST().getKSP(), ESTIMATE):
            return self.solve(block, purpose=purpose)

    def solve(
        self, block: Block, *, hermitian: bool = False, purpose: str = "an adjoint solve"
    ) -> Block:
        """Return K^-1 block or K^-H block; without K the block itself.

        Collective.

        Raises
        ------
        ConvergenceError
            When the eigensolver's KSP fails; ``purpose`` is what the message calls the work.

        """
        if self.sigma is None and self.pencil.B is None:
            return block
        if self.iterative:
            return self._iterated(block, hermitian, purpose)
        ksp = self.eps.getST().getKSP()
        with _petsc.translated_errors(
            lambda code: inner_solve_error(ksp, purpose) if code in FAILED_SOLVE else None
        ):
            if self.scaling is None:
                solution = solve_block(ksp, block, hermitian=hermitian)
            else:  # K^-1 = C (R K C)^-1 R
                first, last = self.scaling[:: -1 if hermitian else 1]
                inner = solve_block(ksp, first[:, None] * block, hermitian=hermitian)
                solution = last[:, None] * inner
        check_inner_solve(ksp, purpose)
        return solution

    @property
    def iterative(self) -> bool:
        """Whether K is solved with by iterations because it is not to be factored."""
        return account_of(self.eps.getST().getKSP()) is not None

    def precondition(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return K^-1 block or K^-H block by the factor, or what the preconditioner has for it.

        Collective. What preconditions other systems must be a fixed linear map.
        """
        if not self.iterative:
            return self.solve(block, hermitian=hermitian)
        return self._solver().precondition(block, hermitian=hermitian)

    def _solver(self) -> IterativeSolver:
        if self._iterations is None:
            real = not np.imag(self.sigma or 0.0)
            same = self.pencil.B_hermitian if self.sigma is None else self.pencil.hermitian
            ksp = self.eps.getST().getKSP()
            self._iterations = IterativeSolver(ksp, self_adjoint=same and real)
        return self._iterations

    def _iterated(self, block: Block, hermitian: bool, purpose: str) -> Block:
        """Return K^-1 block or K^-H block by iterations.  (Collective.)"""
        solver = self._solver()
        ksp = solver.ksp_for(hermitian=hermitian)
        solution = solver.solve(block, hermitian=hermitian)
        self.pencil.raise_callback_error()  # the cause of all else
        check_inner_solve(ksp, purpose)
        return solution

    def apply_hermitian(self, block: Block) -> Block:
        """Return K^-H (M^H block): the operator whose eigenvectors are left vectors.

        Collective. K^H y theta_bar = M^H y follows from y^H A = lam y^H B.
        """
        multiply = self.pencil.multiply_a if self.sigma is None else self.pencil.multiply_b
        return self.solve(
            multiply(block, hermitian=True), hermitian=True, purpose="the left eigensolve"
        )

    def krylov_basis(self) -> Block | None:
        """Return the vectors Krylov-Schur has left, this rank's rows (n_local, m), or None.

        Not collective. All but the last span a space whose image under K^-1 M they hold.
        """
        unsolved = self.eps.getConvergedReason() == SLEPc.EPS.ConvergedReason.ITERATING
        if self.scaling is not None or unsolved:
            return None
        if self.eps.getType() != SLEPc.EPS.Type.KRYLOVSCHUR:
            return None
        vectors = self.eps.getBV()
        columns = min(vectors.getSizes()[1], self.eps.getDimensions()[1] + 1)
        found = np.empty((self.pencil.n_local, columns), dtype=PETSc.ScalarType, order="F")
        for i in range(columns):
            column = vectors.getColumn(i)
            found[:, i] = column.array_r
            vectors.restoreColumn(i, column)
        return found

    def eigenvalue(self, theta: Any) -> Any:
        """Return the eigenvalues of the pencil that belong to those of K^-1 M."""
        return theta if self.sigma is None else self.sigma + 1.0 / theta

    def forget(self) -> None:
        """Destroy the factors of other matrices.  (Collective.)"""
        for item in self.near.values():
            item.close()
        self.near.clear()

    def close(self) -> None:
        """Destroy the eigensolver if owned, and its factor unless the pencil keeps it.

        Collective. Factors of other matrices and spaces go, too.
        """
        self.forget()
        if self._iterations is not None:
            self._iterations.close()
            self._iterations = None
        self.spaces.clear()
        if self.owned and not self._closed:
            if self.pencil.kept is not None and self.scaling is None:
                self.pencil.kept.take_from(self.eps)
            drop_own_factor(self.eps.getST().getKSP())
            _petsc.destroy(self.eps)
        self._closed = True

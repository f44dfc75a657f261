"""The one factor an eigensolve leaves behind, and solves with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.pencil import Pencil


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

    """

    pencil: Pencil
    eps: SLEPc.EPS
    sigma: complex | None
    owned: bool = True
    _closed: bool = False

    @property
    def inverts(self) -> bool:
        """Whether a factor of A - sigma B is available."""
        return self.sigma is not None and not self._closed

    def solve(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return K^-1 block or K^-H block; without K the block itself.  (Collective.)"""
        if self.sigma is None and self.pencil.B is None:
            return block
        return _petsc.solve(self.eps.getST().getKSP(), block, hermitian=hermitian)

    def apply_hermitian(self, block: Block) -> Block:
        """Return K^-H (M^H block): the operator whose eigenvectors are left vectors.

        Collective. K^H y theta_bar = M^H y follows from y^H A = lam y^H B.
        """
        if self.sigma is None:
            return self.solve(self.pencil.multiply_a(block, hermitian=True), hermitian=True)
        return self.solve(self.pencil.multiply_b(block, hermitian=True), hermitian=True)

    def eigenvalue(self, theta: Any) -> Any:
        """Return the eigenvalues of the pencil that belong to those of K^-1 M."""
        return theta if self.sigma is None else self.sigma + 1.0 / theta

    def close(self) -> None:
        """Destroy the eigensolver and its factor if owned.  (Collective.)"""
        if self.owned and not self._closed:
            _petsc.destroy(self.eps)
        self._closed = True

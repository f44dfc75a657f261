"""`QuadraticPencil`: the matrices of a quadratic problem as a pencil of twice the size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint.collective import check_equal_input, raise_together
from geneig_adjoint.companion import (
    FORMS,
    SIDES,
    Layout,
    companion_matrix,
    scaling_of,
    terms,
)
from geneig_adjoint.errors import InputError
from geneig_adjoint.pencil import HERMITIAN_TOLERANCE, Pencil
from geneig_adjoint.pencil_checks import AIJ_TYPES, entries_error
from geneig_adjoint.quadratic_pairs import QuadraticView
from geneig_adjoint.symmetry import hermitian_defect, symmetric_defect

if TYPE_CHECKING:
    from mpi4py import MPI


class QuadraticPencil(Pencil):
    """The matrices of ``(lam^2 M + lam C + K) x = 0`` as a pencil of twice the size.

    Collective. `solve_quadratic` returns its pairs. Each rank has both halves of its rows.

    Parameters
    ----------
    K, C, M
        Square PETSc matrices of one layout, assembled, with entries; C may be None. They stay
        the user's and are not needed afterwards.
    form
        "companion": for every problem, M or K may be singular. "symmetric": keeps the symmetry
        of K, C and M (real, complex or Hermitian), so that left vectors cost nothing, and
        allows normalization "bilinear"; M must be regular.

    Attributes
    ----------
    layout : Layout
        Rows of the quadratic problem.
    form : str
    scaling : Scaling
        g of X = [x; lam x / g], and nu.
    sizes : tuple of float
        Infinity norms of K, C and M.
    diagonals : ndarray
        Absolute values of the diagonals of K, C and M, this rank's rows, (3, n_local).

    Raises
    ------
    InputError
        Matrices that cannot be used, M without entries, no symmetry to keep.

    """

    def __init__(
        self, K: PETSc.Mat, C: PETSc.Mat | None, M: PETSc.Mat, *, form: str = "companion"
    ) -> None:
        comm = K.comm.tompi4py()
        check_equal_input(comm, "form", form)
        raise_together(comm, _matrices_error(K, C, M, form))
        self.form = form
        self.layout = Layout(K)
        mats = self._filled(K, C, M, (None, None))
        try:
            declared = "gnhep" if form == "companion" else None
            super().__init__(*mats, problem_type=declared, owned=True)
        except BaseException:
            _petsc.destroy_quietly(*mats)
            raise
        self.view = QuadraticView(self.layout, form, self)

    def refill(self, K: PETSc.Mat, C: PETSc.Mat | None, M: PETSc.Mat) -> None:
        """Fill in other matrices of the same patterns; older pairs become stale.  (Collective.)

        Raises
        ------
        InputError, StaleError
            Matrices that cannot be used or do not fit, a pencil that was closed.

        """
        raise_together(self.comm, _matrices_error(K, C, M, self.form))
        first, last = K.getOwnershipRange()
        self.begin_refill((2 * first, 2 * last), with_b=True)
        self._filled(K, C, M, (self.A, self.B))
        self.verify()

    def _filled(
        self,
        K: PETSc.Mat,
        C: PETSc.Mat | None,
        M: PETSc.Mat,
        out: tuple[PETSc.Mat | None, PETSc.Mat | None],
    ) -> list[PETSc.Mat]:
        given = {name: mat for name, mat in (("K", K), ("C", C), ("M", M)) if mat is not None}
        if self.form == "symmetric":
            _check_symmetry(self.layout.comm, given)
        self.sizes = norms_of(self.layout.comm, given)
        self.diagonals = np.zeros((3, self.layout.n_local))
        for row, mat in zip(self.diagonals, (K, C, M), strict=True):
            row[:] = 0.0 if mat is None else np.abs(_petsc.diagonal(mat))
        self.scaling = scaling_of(*self.sizes)
        blocks = terms(self.form, self.scaling)
        return [
            companion_matrix(
                self.layout, [term for term in blocks if term.side == side], given, mat
            )
            for side, mat in zip(SIDES, out, strict=True)
        ]


def norms_of(comm: MPI.Comm, given: dict[str, PETSc.Mat]) -> tuple[float, float, float]:
    """Return the infinity norms of K, C and M, 0 for one that is missing.

    Collective.

    Raises
    ------
    InputError
        NaN or Inf entries, or no mass.

    """
    for name, mat in given.items():
        # NaN does not survive the maximum of an infinity norm.
        if not np.isfinite(comm.bcast(mat.norm(PETSc.NormType.FROBENIUS), root=0)):
            raise_together(comm, entries_error(name, mat))
    found = {name: float(mat.norm(PETSc.NormType.INFINITY)) for name, mat in given.items()}
    k, c, m = comm.bcast([found.get(name, 0.0) for name in "KCM"], root=0)
    if m == 0:
        raise InputError(
            "M must have entries, got zeros only: the problem is linear then; use Pencil(K, -C)"
        )
    return k, c, m


def _matrices_error(
    K: PETSc.Mat, C: PETSc.Mat | None, M: PETSc.Mat, form: str
) -> InputError | None:
    if form not in FORMS:
        return InputError(
            f'form must be "companion" or "symmetric", got {form!r}; "companion" serves every '
            "problem"
        )
    for name, mat in (("K", K), ("C", C), ("M", M)):
        if mat is None:
            continue
        if not mat.getType().startswith(AIJ_TYPES):
            return InputError(
                f"{name} must have entries, got a matrix of type {mat.getType()!r}; use "
                f'{name}.convert("aij"), or assemble it'
            )
        if not mat.isAssembled():
            return InputError(
                f"{name} must be assembled, got a matrix with values still in transit; call "
                f"{name}.assemble() first"
            )
        (rows_local, _), (columns_local, _) = mat.getSizes()
        if rows_local != columns_local or mat.getSizes() != K.getSizes():
            return InputError(
                f"K, C and M must be square and have one layout, got {mat.getSizes()} ((local, "
                f"global) rows and columns) for {name} and {K.getSizes()} for K; create them with "
                "the same sizes"
            )
    return None


def _check_symmetry(comm: MPI.Comm, given: dict[str, PETSc.Mat]) -> None:
    """Raise unless the matrices are symmetric, or Hermitian, and M may be regular."""
    for measure in (hermitian_defect, symmetric_defect):
        defects = {name: measure(mat) for name, mat in given.items()}
        if max(defects.values()) <= HERMITIAN_TOLERANCE:
            break
    else:
        worst = max(defects, key=lambda name: defects[name])
        raise InputError(
            f'form="symmetric" needs K, C and M symmetric, got {worst} with a relative asymmetry '
            f'of {defects[worst]:.1e}; use form="companion"'
        )
    offsets, _, values = given["M"].getValuesCSR()
    occupied = np.zeros(len(offsets) - 1)
    np.add.at(occupied, np.repeat(np.arange(len(occupied)), np.diff(offsets)), np.abs(values))
    error = None
    if (occupied == 0).any():
        row = given["M"].getOwnershipRange()[0] + int(np.argmin(occupied))
        error = InputError(
            f'form="symmetric" needs a regular M, got zeros only in row {row}; use form="companion"'
        )
    raise_together(comm, error)

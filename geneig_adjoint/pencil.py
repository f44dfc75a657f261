"""`Pencil`: the matrices of A x = lam B x with what is measured about them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.collective import CollectiveContext, raise_together
from geneig_adjoint.errors import StaleError
from geneig_adjoint.kept_factors import KeptFactor
from geneig_adjoint.near_null_space import (
    NearNullSpace,
    attach,
    check_near_null_space,
    no_entries_error,
)
from geneig_adjoint.pencil_checks import (
    empty_b_error,
    entries_error,
    layout_error,
    negative_b_error,
    refill_error,
    type_error,
)
from geneig_adjoint.preconditioners import PreconditionerSource, check_source
from geneig_adjoint.symmetry import (
    check_hermitian,
    hermitian_defect,
    infinity_norm,
    is_positive,
    symmetric_defect,
)
from geneig_adjoint.views import PlainView

if TYPE_CHECKING:
    from mpi4py import MPI

HERMITIAN_TOLERANCE = 1e-12
"""Largest asymmetry, relative to the size of A v, that still counts as rounding."""


class Pencil(CollectiveContext):
    """The matrices A and B of ``A x = lam B x``.

    Collective.

    Parameters
    ----------
    A
        Square PETSc matrix; rows and columns distributed alike. Assembled, or an
        operator (type ``python`` or ``shell``) with a product.
    B
        Matrix in the layout of A; None stands for the identity.
    problem_type
        ``"hep"``, ``"ghep"`` (A Hermitian, B Hermitian positive (semi)definite),
        ``"ghiep"`` (A and B Hermitian, B not taken for definite), ``"nhep"``,
        ``"gnhep"``; None: measured. A declaration that the measurement contradicts is
        an error.
    owned
        Whether `close` destroys A and B. Matrices of a user stay the user's.
    preconditioner
        For operators, and for matrices too large to factor: an assembled matrix near
        A - sigma B, or a function ``preconditioner(sigma)`` that returns a new one (it is
        destroyed after use). Solves with A - sigma B, of the eigensolver and of adjoint
        systems, are then iterative.
    preconditioner_b
        Likewise for solves with B, without arguments: ``which=`` of a generalized problem.

    Attributes
    ----------
    comm : MPI.Comm
    n : int
        Global number of rows.
    rows : tuple of int
        First row of this rank and one past its last.
    point : dict or None
        Fingerprint of the parameters a model assembled this pencil at.
    kept : KeptFactor or None
        Where closed pairs leave their factor for the next solve: in loops that refill the
        pencil; None: closing pairs frees it.
    one_pattern : bool
        Promise of the model that made the pencil: refills never change the nonzero pattern.
    structure : PETSc.Mat.Structure
        What is known of B's nonzero pattern beside that of A.
    version : int
        Raised whenever the entries change in place; eigenpairs remember theirs.
    B_proved : bool
        Whether the model that assembled B knows that it is positive semidefinite.

    Raises
    ------
    InputError
        Matrices that are not square, not assembled, of different layouts, with NaN
        or Inf entries, B = 0, or contradicting ``problem_type``.

    """

    view = PlainView()

    def __init__(
        self,
        A: PETSc.Mat,
        B: PETSc.Mat | None = None,
        *,
        problem_type: str | None = None,
        owned: bool = False,
        preconditioner: PreconditionerSource = None,
        preconditioner_b: PreconditionerSource = None,
    ) -> None:
        self.A = A
        self.B = B
        self.comm: MPI.Comm = A.comm.tompi4py()
        _petsc.hold_world(self.comm)
        self.version = 0
        self.B_proved = False
        self.kept: KeptFactor | None = None
        self.one_pattern, self.structure = False, PETSc.Mat.Structure.UNKNOWN_NONZERO_PATTERN
        self.point: dict[str, tuple[int, bytes]] | None = None
        self._declared = problem_type
        self._owned = owned
        self._open = True
        raise_together(self.comm, layout_error(A, B) or type_error(problem_type, B))
        self.n: int = A.getSize()[0]
        self.rows: tuple[int, int] = A.getOwnershipRange()
        self.preconditioner, self.preconditioner_b = preconditioner, preconditioner_b
        check_source(A, preconditioner, "preconditioner")
        check_source(A, preconditioner_b, "preconditioner_b")
        self.near_null_space: NearNullSpace | None = None
        self.check_finite()
        self._check_declaration()

    @property
    def n_local(self) -> int:
        """Rows of this rank."""
        return self.rows[1] - self.rows[0]

    @property
    def matrix_free(self) -> bool:
        """Whether A or B has no entries, so that nothing can be factored."""
        return any(_petsc.is_shell(mat) for mat in (self.A, self.B) if mat is not None)

    @property
    def factorable(self) -> bool:
        """Whether A - sigma B has entries and nobody said that it is not to be factored."""
        return not self.matrix_free and self.preconditioner is None

    @cached_property
    def hermitian(self) -> bool:
        """Whether A and B are Hermitian, as measured on two random vectors.  (Collective.)"""
        return self.B_hermitian and hermitian_defect(self.A) <= HERMITIAN_TOLERANCE

    @cached_property
    def symmetric(self) -> bool:
        """Whether A = A^T and B = B^T, real or complex, as measured.  (Collective.)

        Then conj(x) is the left vector of x. False when the user declared the problem
        nonsymmetric, and for operators in the complex build.
        """
        if self._declared in {"nhep", "gnhep"}:
            return False
        if _petsc.REAL_SCALARS:
            return self.hermitian
        mats = [mat for mat in (self.A, self.B) if mat is not None]
        return not self.matrix_free and all(
            symmetric_defect(mat) <= HERMITIAN_TOLERANCE for mat in mats
        )

    @cached_property
    def B_hermitian(self) -> bool:  # noqa: N802  (B is the matrix)
        """Whether B is Hermitian.  (Collective.)"""
        return self.B is None or hermitian_defect(self.B) <= HERMITIAN_TOLERANCE

    @cached_property
    def definite(self) -> bool:
        """Whether the pencil is Hermitian with B positive (semi)definite, or A definite.

        Collective. Then the eigenvalues are real and every right vector is its own
        left vector. False when the user declared the problem nonsymmetric.
        """
        if self._declared in {"nhep", "gnhep"} or not self.hermitian:
            return False
        return self.B_positive or self.A_positive

    @cached_property
    def A_positive(self) -> bool:  # noqa: N802  (A is the matrix)
        """Whether A is Hermitian positive definite, measured as `B_positive`.  (Collective.)"""
        return self.hermitian and is_positive(self.A, strictly=True)

    @property
    def definite_by_a(self) -> bool:
        """Whether A is definite where B is not: B x = mu A x, mu = 1 / lam, is the definite form.

        Collective. Linear buckling: K x = lam (-K_g) x with an indefinite K_g.
        """
        return self.definite and not self.B_positive

    @cached_property
    def B_positive(self) -> bool:  # noqa: N802
        """Whether B is Hermitian positive (semi)definite.

        Collective. Proved by its entries, or measured by a few Lanczos steps; a solve that
        shows the measurement wrong corrects it (`found_indefinite`).
        """
        if self.B is None:
            return True
        if self._declared == "ghiep" or not self.B_hermitian:
            return False
        return self.B_proved or is_positive(self.B)

    def exchanged_in(self, eps: Any) -> bool:
        """Whether an EPS holds (B, A) in place of (A, B).  (Not collective.)"""
        return self.B is not None and bool(eps.getOperators()[0].handle == self.B.handle)

    @property
    def declared(self) -> str | None:
        """The problem type given by the user, None if it is measured.  (Not collective.)"""
        return self._declared

    @property
    def problem_type(self) -> str:
        """SLEPc's name of the problem class.  (Collective.)

        ``"ghiep"``: A and B are Hermitian and neither is known to be definite.
        """
        if self.definite:
            return "hep" if self.B is None else "ghep"
        if self.B is not None and self._declared != "gnhep" and self.hermitian:
            return "ghiep"
        return "nhep" if self.B is None else "gnhep"

    @property
    def block_dtype(self) -> np.dtype[Any]:
        """Data type of eigenvector blocks: real iff the pencil is and so is the build."""
        real = _petsc.REAL_SCALARS and self.definite
        return np.dtype(np.float64 if real else np.complex128)

    @cached_property
    def norms(self) -> tuple[float, float]:
        """Infinity norms of A and B (an estimate from products for operators).  (Collective.)"""
        return infinity_norm(self.A), 1.0 if self.B is None else infinity_norm(self.B)

    def multiply_a(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return A @ block or A^H @ block.  (Collective.)"""
        self.check_open()
        return _petsc.multiply(self.A, block, hermitian=hermitian and not self._self_adjoint)

    def multiply_b(self, block: Block, *, hermitian: bool = False) -> Block:
        """Return B @ block or B^H @ block; the block itself for B = I.  (Collective.)"""
        self.check_open()
        if self.B is None:
            return block
        return _petsc.multiply(self.B, block, hermitian=hermitian and not self._self_adjoint)

    @property
    def _self_adjoint(self) -> bool:
        """Whether A and B were measured to be Hermitian, and are taken for it.

        Not collective. Products with transposes need passes of another kind, half as fast.
        """
        return bool(self.__dict__.get("definite", False))

    def shifted(self, sigma: complex) -> PETSc.Mat:
        """Return a new matrix A - sigma B; the caller destroys it.  (Collective.)"""
        self.check_open()
        mat = self.A.copy()
        if self.B is None:
            mat.shift(-sigma)
        else:
            mat.axpy(-sigma, self.B, structure=self.structure)
        return mat

    def set_near_null_space(self, space: NearNullSpace) -> None:
        """Have A - sigma B preconditioned by multigrid, and not factored, from now on.

        Collective. A itself gets the vectors, unless there is a ``preconditioner``.

        Raises
        ------
        InputError
            Vectors that do not fit the rows, or an operator without entries to precondition.

        """
        if space is self.near_null_space:
            return
        check_near_null_space(self.comm, self.rows, space)
        if self.preconditioner is None:
            raise_together(self.comm, no_entries_error(self.matrix_free))
            attach(self.A, space)
            self.preconditioner = self.A
        self.near_null_space = space

    def check_finite(self) -> None:
        """Raise on all ranks when A or B has NaN or Inf entries, or B none.  (Collective.)"""
        for name, mat in (("A", self.A), ("B", self.B)):
            if mat is not None and not _petsc.is_shell(mat):
                norm = mat.norm(PETSc.NormType.FROBENIUS)
                raise_together(self.comm, None if np.isfinite(norm) else entries_error(name, mat))
                if norm == 0 and name == "B":
                    raise empty_b_error()

    def entries_changed(self) -> None:
        """Note that A or B was changed in place: older eigenpairs stop answering.

        Collective. Call it after changing the entries of matrices a pencil holds.
        """
        self.invalidate()
        self.verify()

    def invalidate(self) -> None:
        """Forget what was measured; eigenpairs of this pencil become stale.  (Not collective.)"""
        self.version += 1
        self.B_proved = False
        for name in (
            "hermitian",
            "symmetric",
            "B_hermitian",
            "B_positive",
            "A_positive",
            "definite",
            "norms",
        ):
            self.__dict__.pop(name, None)

    def found_indefinite(self) -> None:
        """Correct what was measured: the definite one of A and B is not.  (Not collective.)

        A few steps of Lanczos miss one negative direction among many positive ones.
        """
        wrong = "A_positive" if self.definite_by_a else "B_positive"
        self.__dict__[wrong] = False
        self.__dict__.pop("definite", None)

    def begin_refill(self, rows: tuple[int, int], *, with_b: bool) -> None:
        """Check that a model's matrices fit in here, and make older pairs stale.

        Collective. The version rises first: a refill that fails half-way must not leave
        pairs that look current.

        Raises
        ------
        StaleError
            When the pencil is closed.
        InputError
            When it was made by another model.

        """
        self.check_open()
        here, model = (self.rows, self.B is not None), (rows, with_b)
        raise_together(self.comm, None if here == model else refill_error(here, model))
        self.invalidate()

    def verify(self) -> None:
        """Check entries and declaration as at creation.  (Collective.)"""
        self.check_finite()
        self._check_declaration()

    def raise_callback_error(self) -> None:
        """Raise what a user's product raised inside a solver, once it is safe to.

        Collective. Exceptions must not unwind through PETSc's C code.
        """
        for mat in (self.A, self.B):
            if mat is not None:
                _petsc.raise_deferred(mat)

    def check_open(self) -> None:
        """Raise when the pencil was closed.  (Not collective.)"""
        if not self._open:
            raise StaleError(
                "the pencil must be open, got one that was closed; solve again on a new pencil"
            )

    def close(self) -> None:
        """Destroy the matrices if the pencil owns them, and a kept factor.  (Collective.)"""
        if self.kept is not None:
            self.kept.close()
            self.kept = None
        if self._open and self._owned:
            _petsc.destroy(self.A, self.B)
        self._open = False

    def _check_declaration(self) -> None:
        if self._declared not in {"hep", "ghep", "ghiep"}:
            return
        remedy = 'use problem_type="nhep" or "gnhep"'
        declared = f"problem_type={self._declared!r}"
        check_hermitian(self.A, self.B, HERMITIAN_TOLERANCE, declared, remedy=remedy)
        if self._declared != "ghiep" and not self.B_positive:
            raise negative_b_error(self._declared)

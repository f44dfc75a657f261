"""Iterative solves inside an eigensolve: method, preconditioner, account of what they did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.block_solves import solve_block
from geneig_adjoint.errors import ConvergenceError
from geneig_adjoint.factoring import mumps_trouble
from geneig_adjoint.near_null_space import attach
from geneig_adjoint.pencil import HERMITIAN_TOLERANCE, Pencil
from geneig_adjoint.preconditioners import made
from geneig_adjoint.reductions import column_norms
from geneig_adjoint.symmetry import hermitian_defect

LARGEST_ITERATIONS = 2000
"""Of one inner solve; a preconditioner that needs more is no help."""
SINGULAR = "SINGULAR_PRECONDITIONER"
LARGEST_RESIDUAL = 1e-6
"""Of a solve with a factored preconditioner: above it the matrix is singular."""
FACTORS = {"lu", "cholesky"}
ACCOUNT = "ga_account"


class Account:
    """Monitor of a KSP inside an eigensolve: what it did, and the first solve that failed.

    PETSc would raise in the middle of SLEPc's iteration, which leaves objects that cannot be
    destroyed. Instead all that follows a failure is cut short, and `check` repeats it.

    Attributes
    ----------
    solves, iterations : int
    options : mapping
        Those of the eigensolve, without the prefix.
    prefix : str

    """

    def __init__(self, options: Mapping[str, Any], prefix: str) -> None:
        self.solves, self.iterations = 0, 0
        self.options, self.prefix = options, prefix
        self._rhs: Block | None = None
        self._norms = (0.0, 0.0)
        self._failed: tuple[Block, int] | None = None

    def __call__(self, ksp: PETSc.KSP, iteration: int, norm: float) -> None:
        """Note one iteration.  (Not collective; norms are the same on all ranks.)"""
        if iteration == 0:
            self.end_solve(ksp)
            self.solves += 1
            self._norms = (norm, norm)
            self._rhs = ksp.getRhs().array_r.copy()
        else:
            self.iterations += 1
            self._norms = (self._norms[0], norm)

    def stop(self, eps: SLEPc.EPS, iteration: int, *_: Any) -> None:
        """Monitor of the eigensolver: end it early after a failure.  (Not collective.)"""
        if self._failed is not None:
            eps.setTolerances(max_it=iteration)

    def check(self, ksp: PETSc.KSP) -> tuple[str, int] | None:
        """Return reason and iterations of the first failed solve since the last check.

        Collective. None: all have converged.
        """
        self.end_solve(ksp)
        if self._failed is None:
            return None
        rhs, max_it = self._failed
        ksp.setTolerances(max_it=max_it)
        source, target = ksp.getOperators()[0].createVecs()
        source.array[:] = rhs
        ksp.solve(source, target)
        _petsc.destroy(source, target)
        self._failed, self._rhs = None, None
        return _petsc.reason_name(PETSc.KSP.ConvergedReason, ksp.getConvergedReason()), int(
            ksp.getIterationNumber()
        )

    def end_solve(self, ksp: PETSc.KSP) -> None:
        """Judge the last solve by the tolerance it was meant for.  (Not collective.)"""
        rtol, atol, _, max_it = ksp.getTolerances()
        first, last = self._norms
        if self._rhs is not None and self._failed is None and not last <= max(rtol * first, atol):
            self._failed = (self._rhs, max_it)
            ksp.setTolerances(max_it=1)
        self._rhs = None


def account_of(ksp: PETSc.KSP) -> Account | None:
    """Return the account of a KSP that `watch` was called for.  (Not collective.)"""
    found = ksp.getAttr(ACCOUNT)
    return found if isinstance(found, Account) else None


def watch(ksp: PETSc.KSP, options: Mapping[str, Any], prefix: str) -> Account:
    """Keep an account of a KSP's solves, none of which raises from now on.  (Not collective.)"""
    account = Account(options, prefix)
    ksp.setAttr(ACCOUNT, account)
    ksp.setMonitor(account)
    ksp.setErrorIfNotConverged(False)
    return account


def inner_matrix(
    pencil: Pencil, sigma: complex | None, *, wanted_b: bool
) -> tuple[PETSc.Mat, bool] | None:
    """Return the matrix that preconditions the solves of an eigensolve, and whether to destroy it.

    Collective. None: there is none.

    Parameters
    ----------
    pencil
        The pencil.
    sigma
        Shift of K = A - sigma B.
    wanted_b
        Whether solves are with B in place of K.

    """
    if wanted_b:
        if pencil.preconditioner_b is None:
            return None
        return made(pencil.A, pencil.preconditioner_b, (), "preconditioner_b")
    if pencil.preconditioner is None:
        return None
    assert sigma is not None
    shift = complex(sigma)
    space, itself = pencil.near_null_space, pencil.preconditioner is pencil.A
    if space is not None and itself and shift.real < 0 and not shift.imag:
        # Nearer than A, which may be singular; above 0 A is definite where A - sigma B is not.
        found = pencil.shifted(shift.real), True
    else:
        at = (shift if shift.imag else shift.real,)
        found = made(pencil.A, pencil.preconditioner, at, "preconditioner")
    if space is not None and found[0] is not pencil.A:
        attach(found[0], space)
    return found


def method_for(
    pencil: Pencil, sigma: complex | None, mat: PETSc.Mat | None, *, wanted_b: bool
) -> str:
    """Return the Krylov method for solves with K = A - sigma B, or with B.

    Collective. ``"cg"`` for pencils whose values lie on one side of most shifts: it notices
    when K is not definite after all. ``"minres"`` for other Hermitian K, ``"gmres"`` where K
    or the preconditioner is not Hermitian.
    """
    if mat is not None and hermitian_defect(mat) > HERMITIAN_TOLERANCE:
        return "gmres"
    if wanted_b:
        return "cg" if pencil.B_positive else "gmres"
    if np.imag(sigma or 0.0) or not pencil.hermitian:
        return "gmres"
    return "cg" if pencil.definite else "minres"


def next_method(reason: str, tried: str) -> str | None:
    """Return the Krylov method to try after one has failed, None: there is none.

    Not collective.

    Parameters
    ----------
    reason
        PETSc's name of the reason, the same on all ranks.
    tried
        The method that failed; "": the first one of `method_for`.

    """
    if reason == "DIVERGED_INDEFINITE_MAT" and not tried:
        return "minres"
    indefinite = reason in {"DIVERGED_INDEFINITE_MAT", "DIVERGED_INDEFINITE_PC"}
    return "gmres" if tried != "gmres" and (indefinite or tried == "minres") else None


def inner_notes(ksp: PETSc.KSP, pencil: Pencil) -> tuple[str, ...]:
    """Return what the inner solves did, for ``pairs.info``; nothing for factors.  (Collective.)"""
    account = account_of(ksp)
    if account is None:
        return ()
    used = f"{ksp.getType()} with {name_of(ksp.getPC())} to {ksp.getTolerances()[0]:.0e}"
    notes = [
        f"inner solves: {used}, {account.iterations} iterations in {account.solves} solves",
    ]
    if _petsc.REAL_SCALARS and pencil.definite:
        notes.append("the pairs were not counted: that needs a factor of A - sigma B")
    return tuple(notes)


def method_options(method: str) -> dict[str, Any]:
    """Return options of the inner KSP, without the prefix.  (Not collective.)"""
    return {
        "st_ksp_type": method,
        "st_ksp_max_it": LARGEST_ITERATIONS,
        "st_ksp_gmres_restart": 60,
    }


def check_preconditioner(ksp: PETSc.KSP, status: int) -> None:
    """Raise when the factor of a preconditioner cannot solve: its matrix is singular.

    Collective. A singular matrix often factors without complaint.

    Parameters
    ----------
    ksp
        Set up.
    status
        What MUMPS said of the factor, 0: nothing.

    """
    if ksp.getPC().getType() not in FACTORS:
        return
    mat = ksp.getOperators()[1]
    residual = np.inf
    if status >= 0:
        block = _petsc.deterministic_block(mat.getOwnershipRange(), 1, seed=9)
        with np.errstate(all="ignore"):
            solution = _petsc.columnwise(mat, ksp.getPC().apply, block)
            defect = _petsc.multiply(mat, solution) - block
            norms = column_norms(mat.comm.tompi4py(), np.hstack([defect, block]))
        residual = float(norms[0] / norms[1])
    if not residual <= LARGEST_RESIDUAL:
        raise singular_error(f"a residual of {residual:.1e}" if status >= 0 else
                             mumps_trouble(status))  # fmt: skip


def singular_error(trouble: str) -> ConvergenceError:
    """Return the error for a preconditioner whose factor is of no use.  (Not collective.)"""
    return ConvergenceError(
        f"the preconditioner must be a regular matrix, got {trouble} from its factor; add a "
        "multiple of the identity to it, move the target, or choose another st_pc_type",
        reason=SINGULAR,
    )


class _OfMatrix:
    """Python context of a PC that sees the user's matrix only.

    PETSc's multigrid takes residuals with the operator and smoothers from the matrix; where
    the two are of different size it diverges.
    """

    def __init__(self, mat: PETSc.Mat, prefix: str) -> None:
        self.pc = PETSc.PC().create(mat.comm)
        self.pc.setOperators(mat, mat)
        self.pc.setOptionsPrefix(prefix)
        self.pc.setFromOptions()

    def setUp(self, _: PETSc.PC) -> None:
        self.pc.setUp()

    def apply(self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec) -> None:
        self.pc.apply(source, target)

    def applyTranspose(  # noqa: N802
        self, _: PETSc.PC, source: PETSc.Vec, target: PETSc.Vec
    ) -> None:
        self.pc.applyTranspose(source, target)

    def destroy(self, _: PETSc.PC) -> None:
        self.pc.destroy()


def isolate(pc: PETSc.PC, mat: PETSc.Mat, prefix: str) -> None:
    """Make a PC that its options have configured one of the user's matrix alone.

    Collective. Factors are that already. The options must be in the database.
    """
    if pc.getType() not in FACTORS:
        pc.setType(PETSc.PC.Type.PYTHON)
        pc.setPythonContext(_OfMatrix(mat, prefix))


def name_of(pc: PETSc.PC) -> str:
    """Return the type of a PC, or of the one of the user's matrix inside.  (Not collective.)"""
    if pc.getType() == PETSc.PC.Type.PYTHON:
        context = pc.getPythonContext()
        pc = context.pc if isinstance(context, _OfMatrix) else pc
    return str(pc.getType())


class IterativeSolver:
    """K^-1 and K^-H by a KSP of an eigensolver and its preconditioner.

    Collective. `close` destroys what it made.

    Parameters
    ----------
    ksp
        Set up, with an account (`watch`).
    self_adjoint
        Whether K is Hermitian: no transposes are needed then.

    """

    def __init__(self, ksp: PETSc.KSP, *, self_adjoint: bool) -> None:
        self._ksp = ksp
        self._self_adjoint = self_adjoint
        self._transposed: PETSc.KSP | None = None
        self._owned: list[PETSc.Object] = []
        self._asked = self_adjoint

    def ksp_for(self, *, hermitian: bool) -> PETSc.KSP:
        """Return the KSP that solves in a direction.

        Collective. Preconditioners that cannot be applied transposed, such as hypre's, are
        made of the transposed matrix once more.
        """
        if not hermitian:
            return self._ksp
        if not self._asked:
            self._asked = True
            if _lacks_transpose(self._ksp):
                self._make_transposed()
        return self._transposed or self._ksp

    def solve(self, block: Block, *, hermitian: bool) -> Block:
        """Return K^-1 block or K^-H block, (n_local, k).  (Collective.)"""
        ksp = self.ksp_for(hermitian=hermitian)
        if not hermitian or self._self_adjoint:
            return solve_block(ksp, block)
        if self._transposed is None:
            return solve_block(ksp, block, hermitian=True)
        return solve_block(ksp, block.conj()).conj()

    def precondition(self, block: Block, *, hermitian: bool) -> Block:
        """Return what the preconditioner has for K^-1 block or K^-H block.  (Collective.)"""
        ksp = self.ksp_for(hermitian=hermitian)
        mat, pc = ksp.getOperators()[1], ksp.getPC()
        if not hermitian or self._self_adjoint:
            return _petsc.columnwise(mat, pc.apply, block)
        operation = pc.applyTranspose if self._transposed is None else pc.apply
        return _petsc.columnwise(mat, operation, block.conj()).conj()

    def close(self) -> None:
        """Destroy the KSP of the transposed matrix.  (Collective.)"""
        _petsc.destroy(*self._owned)
        self._owned, self._transposed, self._asked = [], None, self._self_adjoint

    def _make_transposed(self) -> None:
        K, P = self._ksp.getOperators()
        account = account_of(self._ksp)
        assert account is not None
        transposed, view = PETSc.Mat(), PETSc.Mat().createTranspose(K)
        P.transpose(out=transposed)
        self._transposed = PETSc.KSP().create(self._ksp.comm)
        self._owned = [self._transposed, view, transposed]
        self._transposed.setOperators(view, transposed)
        prefix = f"{account.prefix}st_"
        options = {
            name.removeprefix("st_"): value
            for name, value in account.options.items()
            if name.startswith("st_")
        }
        self._transposed.setOptionsPrefix(prefix)
        with _petsc.inserted_options(prefix, options):
            self._transposed.setFromOptions()
            isolate(self._transposed.getPC(), transposed, prefix)
            watch(self._transposed, account.options, account.prefix)
            self._transposed.setUp()


def _lacks_transpose(ksp: PETSc.KSP) -> bool:
    source, target = ksp.getOperators()[1].createVecs()
    try:
        with _petsc.plain_errors():
            ksp.getPC().applyTranspose(source, target)
    except PETSc.Error:
        return True
    finally:
        _petsc.destroy(source, target)
    return False


def callback_error(pencil: Pencil) -> Exception | None:
    """Return what a user's product raised inside a solver, once.  (Collective.)"""
    try:
        pencil.raise_callback_error()
    except Exception as error:
        return error
    return None

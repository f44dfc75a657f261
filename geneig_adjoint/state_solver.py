"""The Jacobian of a solved state: one factor for both directions, and Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.block_solves import solve_block
from geneig_adjoint.collective import CollectiveContext, freed_on_error
from geneig_adjoint.errors import ConvergenceError, InputError
from geneig_adjoint.factoring import MUMPS_SINGULAR, mumps_trouble, set_up_factor
from geneig_adjoint.reductions import column_norms

if TYPE_CHECKING:
    from mpi4py import MPI

OPTIONS = {
    "ksp_type": "preonly",
    "pc_type": "lu",
    "pc_factor_mat_solver_type": "mumps",
    "ksp_rtol": 1e-12,
}
"""Under the prefix ``ga_state_``; those of the user win."""
SINGULAR = 1e-3
"""A second solve that changes a solution by more, relatively, has met a singular matrix."""
LARGEST_RESIDUAL = 1e-8
"""Of iterative solves, relative to the right-hand side."""
SURE = 1e-4
"""Newton steps below this, relative to the state, are taken in full: rounding of the residual
must not hold them up."""
SUFFICIENT = 1e-4
"""Part of the linear decrease of the residual that a shortened step must bring (Armijo)."""
HALVINGS = 12
IMAGINARY = 1e-14
"""Relative size of imaginary parts that is rounding."""


class JacobianSolver(CollectiveContext):
    """Solves with the Jacobian of a state and with its transpose, by one KSP.

    Collective. Options under ``<prefix>ga_state_`` choose another KSP than the direct one.

    Parameters
    ----------
    mat
        The Jacobian, real entries. It is copied if it has entries, so that its owner may
        refill it.
    prefix
        In front of ``ga_state_``.

    Raises
    ------
    ConvergenceError
        A Jacobian that is exactly singular, or too large to be factored.
    InputError
        Complex entries.

    """

    def __init__(self, mat: PETSc.Mat, prefix: str = "") -> None:
        self.comm: MPI.Comm = mat.comm.tompi4py()
        self._copied = not _petsc.is_shell(mat)
        if self._copied and not _petsc.REAL_SCALARS:
            _check_real(mat)
        self._mat = mat.copy() if self._copied else mat
        if self._copied:
            # PETSc numbers the pattern of a distributed copy anew when it is first assembled.
            self._mat.assemble()
        self._prefix = f"{prefix}ga_state_"
        self._ksp = PETSc.KSP().create(mat.comm)
        owned = (self._ksp, *[self._mat] * self._copied)
        with freed_on_error(self.comm, partial(_petsc.destroy_quietly, *owned)):
            self._configure()

    def refill(self, mat: PETSc.Mat) -> bool:
        """Factor another Jacobian of the same pattern in place of this one, if it has it.

        Collective. PETSc then repeats only the numeric part of a factorisation.

        Returns
        -------
        bool
            False, and nothing is changed, where the pattern or the kind is another one.

        Raises
        ------
        ConvergenceError, InputError
            As at creation; the solver is of no use then.

        """
        own = self._mat if self._copied else None
        same = own is not None and mat.getType() == own.getType() in {"seqaij", "mpiaij"}
        if self.comm.allreduce(int(not same)) or own is None:
            return False
        if not _petsc.REAL_SCALARS:
            _check_real(mat)
        csr, known = mat.getValuesCSR(), own.getValuesCSR()
        same = all(np.array_equal(*pair) for pair in zip(csr[:2], known[:2], strict=True))
        if self.comm.allreduce(int(not same)):
            return False
        own.setValuesCSR(*csr)
        own.assemble()
        self._factor()
        return True

    def solve(self, rhs: Block, *, transposed: bool = False) -> Block:
        """Return J^-1 rhs or J^-T rhs, refined once where a factor makes that cheap.

        Collective.

        Parameters
        ----------
        rhs
            This rank's rows, (n_local,), real.
        transposed
            Solve with the transpose.

        Raises
        ------
        ConvergenceError
            When the Jacobian is singular to working precision, or the KSP failed.

        """
        b = np.ascontiguousarray(rhs, dtype=float)[:, None]
        size = column_norms(self.comm, b)[0]
        if size == 0:
            return np.zeros(len(b))
        x = self._raw(b, transposed)
        defect = b - self._times(x, transposed)
        if self._direct:
            more = self._raw(defect, transposed)
            change, length = column_norms(self.comm, np.hstack([more, x]))
            if not change <= SINGULAR * length:  # also nan
                raise singular_error(f"a refined solution that differs by {change / length:.1e}")
            x = x + more
        else:
            self._check_iterations(column_norms(self.comm, defect)[0] / size)
        return np.asarray(x[:, 0])

    def close(self) -> None:
        """Destroy the factor.  (Collective.)"""
        _petsc.destroy(self._ksp, *[self._mat] * self._copied)
        self._copied = False

    @property
    def _direct(self) -> bool:
        factored = self._ksp.getPC().getType() in {PETSc.PC.Type.LU, PETSc.PC.Type.CHOLESKY}
        return factored and self._ksp.getType() == PETSc.KSP.Type.PREONLY

    def _configure(self) -> None:
        self._ksp.setOptionsPrefix(self._prefix)
        with _petsc.inserted_options(self._prefix, OPTIONS):
            self._ksp.setFromOptions()
            self._factor()

    def _factor(self) -> None:
        self._ksp.setOperators(self._mat)
        with _petsc.translated_errors(_factor_error):
            status = set_up_factor(self._ksp, self._prefix)
        if status in MUMPS_SINGULAR:
            raise singular_error(mumps_trouble(status))
        if status < 0:
            raise ConvergenceError(
                f"the Jacobian of a state must be factored, got {mumps_trouble(status)}; "
                "use more ranks, or an iterative solver: -ga_state_ksp_type gmres",
                reason="FACTOR",
            )

    def _raw(self, block: Block, transposed: bool) -> Block:
        with _petsc.translated_errors(_factor_error):
            return np.asarray(solve_block(self._ksp, block, hermitian=transposed).real)

    def _times(self, block: Block, transposed: bool) -> Block:
        return np.asarray(_petsc.multiply(self._mat, block, hermitian=transposed).real)

    def _check_iterations(self, residual: float) -> None:
        reason = self._ksp.getConvergedReason()
        if reason > 0 and residual <= LARGEST_RESIDUAL:
            return
        name = _petsc.reason_name(PETSc.KSP.ConvergedReason, reason)
        raise ConvergenceError(
            f"solves with the Jacobian of a state must reach a residual of {LARGEST_RESIDUAL:.0e}, "
            f"got {residual:.1e} ({name}, {self._ksp.getIterationNumber()} iterations); raise "
            "-ga_state_ksp_max_it, lower -ga_state_ksp_rtol, choose another -ga_state_pc_type, "
            "or leave them out: the direct factor needs no iterations",
            reason=name,
            iterations=int(self._ksp.getIterationNumber()),
            residual_norm=float(residual),
        )


class KeptJacobian:
    """The solver of the last Jacobian: the next one goes on with its ordering where it can.

    Parameters
    ----------
    prefix
        As of `JacobianSolver`.

    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._solver: JacobianSolver | None = None

    def factored(self, mat: PETSc.Mat) -> JacobianSolver:
        """Return the solver of a Jacobian; it is valid until the next one is factored.

        Collective. Raises what `JacobianSolver` does.
        """
        with freed_on_error(mat.comm.tompi4py(), self.close):
            if self._solver is not None and self._solver.refill(mat):
                return self._solver
        self.close()
        self._solver = JacobianSolver(mat, self._prefix)
        return self._solver

    def close(self) -> None:
        """Destroy the factor.  (Collective.)"""
        if self._solver is not None:
            self._solver.close()
        self._solver = None


def _check_real(mat: PETSc.Mat) -> None:
    """Raise on all ranks unless the entries of a matrix are real.  (Collective.)"""
    part = mat.copy()
    part.imagPart()
    size, whole = part.norm(PETSc.NormType.INFINITY), mat.norm(PETSc.NormType.INFINITY)
    part.destroy()
    if size > IMAGINARY * whole:
        raise InputError(
            f"the Jacobian of a state must be real, got imaginary parts of {size:.1e} beside "
            f"{whole:.1e}; split a complex state into its real and imaginary part"
        )


def singular_error(trouble: str) -> ConvergenceError:
    """Return the error for a state without derivatives.  (Not collective.)"""
    return ConvergenceError(
        f"the Jacobian of a state must be regular, got {trouble}: the state stands at a limit "
        "point or a bifurcation, or is not held; move the parameters away from there, "
        "constrain rigid motions, or check the Jacobian with check_base_state",
        reason="SINGULAR_JACOBIAN",
    )


def _factor_error(code: int) -> Exception | None:
    return singular_error(f"PETSc error {code}") if code in _petsc.SINGULAR_FACTOR else None


@dataclass(frozen=True)
class Newton:
    """Damped Newton's method for r(u) = 0.

    Attributes
    ----------
    rtol : float
        Bound on the last step, relative to the state; the error left is of the order of its
        square.
    max_it : int

    """

    rtol: float
    max_it: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 < self.rtol < 1 and self.max_it >= 1):
            raise InputError(
                f"newton must have rtol in 0 ... 1 and max_it of at least 1, got {self.rtol} and "
                f"{self.max_it}; 1e-10 and 30 are the defaults"
            )

    def solve(
        self,
        u: PETSc.Vec,
        residual: Callable[[PETSc.Vec], Block],
        solver_at: Callable[[PETSc.Vec], JacobianSolver],
    ) -> None:
        """Improve u in place until it solves r(u) = 0.

        Collective.

        Raises
        ------
        ConvergenceError
            With the remedy, the same on all ranks.

        """
        comm = u.comm.tompi4py()
        start = rows_norm(comm, local_rows(u))
        r = residual(u)
        for iteration in range(self.max_it):
            size = rows_norm(comm, r)
            if not np.isfinite(size):
                raise self._error("a residual that is not finite", iteration, size)
            if size == 0:
                return
            step = -solver_at(u).solve(r)
            length = rows_norm(comm, step)
            bound = max(start, rows_norm(comm, local_rows(u) + step))
            if length <= SURE * bound:
                u.array[:] = local_rows(u) + step
                if length <= self.rtol * bound:
                    return
                r = residual(u)
            else:
                r = self._shortened(u, step, residual, (size, iteration))
        raise self._error(f"a last step of {length / bound:.1e}", self.max_it, size)

    def _shortened(
        self,
        u: PETSc.Vec,
        step: Block,
        residual: Callable[[PETSc.Vec], Block],
        known: tuple[float, int],
    ) -> Block:
        """Go along the step as far as the residual falls; return it there."""
        comm, old, (size, iteration) = u.comm.tompi4py(), local_rows(u), known
        for halving in range(HALVINGS):
            factor = 0.5**halving
            u.array[:] = old + factor * step
            with np.errstate(all="ignore"):
                r = residual(u)
            if rows_norm(comm, r) <= (1 - SUFFICIENT * factor) * size:
                return r
        u.array[:] = old
        raise self._error("a residual that falls no more along the step", iteration, size)

    def _error(self, trouble: str, iterations: int, residual: float) -> ConvergenceError:
        return ConvergenceError(
            f"Newton's method for a state must end with a step below {self.rtol:.0e} of it, got "
            f"{trouble} after {iterations} iterations (residual norm {residual:.1e}); there may be "
            "no state at these parameters (a limit point), or start nearer with guess=, move the "
            "parameters in smaller steps, bring your own solve(p), or check the Jacobian with "
            "check_base_state",
            reason="NEWTON",
            iterations=iterations,
            residual_norm=float(residual),
        )


def rows_norm(comm: MPI.Comm, rows: Block) -> float:
    """Return the 2-norm of a vector, the same on every rank.  (Collective.)"""
    return float(column_norms(comm, rows[:, None])[0])


def local_rows(vector: Any) -> Block:
    """Return a copy of this rank's rows, real, of a PETSc.Vec or an array.  (Not collective.)"""
    entries = vector.array_r if isinstance(vector, PETSc.Vec) else np.asarray(vector)
    return np.array(entries.real, dtype=float)


def new_vec(comm: MPI.Comm, rows: tuple[int, int], n: int, values: Any = 0.0) -> PETSc.Vec:
    """Return a vector with these rows on this rank; the caller destroys it.  (Collective.)"""
    vec = PETSc.Vec().createMPI((rows[1] - rows[0], n), comm=comm)
    vec.array[:] = values
    return vec


def vector_error(what: str, result: Any, n_local: int, *, finite: bool = True) -> InputError | None:
    """Return an error unless a user's vector holds this rank's rows.  (Not collective.)"""
    entries = np.asarray(result.array_r if isinstance(result, PETSc.Vec) else result)
    trouble = None
    if entries.shape != (n_local,) or entries.dtype.kind not in "fciu":
        trouble = f"shape {entries.shape}, dtype {entries.dtype}"
    elif np.any(entries.imag):
        trouble = "complex entries"
    elif finite and not np.isfinite(entries).all():
        trouble = "NaN or Inf"
    if trouble is None:
        return None
    return InputError(
        f"{what} must hold this rank's {n_local} real rows, a PETSc.Vec or an array, got "
        f"{trouble} in a {type(result).__name__}; use the layout that rows says, and split a "
        "complex state into its real and imaginary part"
    )

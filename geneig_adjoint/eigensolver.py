"""Right eigenvectors by SLEPc's Krylov-Schur: EPS and ST set-up, solve, extraction, order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import column_norms
from geneig_adjoint.errors import ConvergenceError
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.invariant_subspace import rayleigh_ritz
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.wanted import WHICH, Wanted, kept_indices

DEFAULT_TOLERANCE = 1e-12
"""Eigenvector derivatives are of first order in the error of the vectors."""

LARGEST_DISTANCE = 1e-5
"""Largest relative residual of the inverted operator that is accepted."""


@dataclass(frozen=True, eq=False)
class RightPairs:
    """What the eigensolver found: ordered, of arbitrary length and phase.

    Attributes
    ----------
    values : ndarray
        (k,), complex, k >= count where more converged that belongs to the last pair.
    right : ndarray
        This rank's rows (n_local, k).
    residuals : ndarray
        Backward errors (k,).
    distances : ndarray or None
        ||(A - sigma B)^-1 (A - lam B) x|| / ||x||, (k,): how far x is from an eigenvector
        of the inverted operator, relatively. None without a factor.
    transformation : SpectralTransformation or None
        The factor, if one of known shift is left.
    reason, iterations, converged, tolerance
        SLEPc's account of the solve.
    notes : tuple of str
    sigma : complex or None
        Shift of the factor.

    """

    values: Block
    right: Block
    residuals: Block
    distances: Block | None
    transformation: SpectralTransformation | None
    reason: str
    iterations: int
    converged: int
    tolerance: float
    notes: tuple[str, ...] = ()
    sigma: complex | None = None


def solve_right(pencil: Pencil, wanted: Wanted) -> tuple[RightPairs, Wanted]:
    """Return the wanted eigenpairs with checked residuals, and what was wanted in the end.

    Collective. A shift that hits an eigenvalue (singular factor, or residuals that
    give it away) is moved once and the problem solved again. Options from the command
    line may change the count or the target; the returned request says so.

    Raises
    ------
    ConvergenceError
        Fewer pairs than wanted, or residuals too large even with the moved shift. The
        pairs that are good are in the error.

    """
    try:
        return _solve_once(pencil, wanted, wanted.target)
    except _ShiftError as hit:
        moved = _better_shift(pencil, wanted)
        try:
            found, wanted = _solve_once(pencil, wanted, moved)
        except _ShiftError as again:
            raise again.error from hit
    note = f"the shift was moved from {wanted.target} to {moved}: it hits an eigenvalue"
    return replace(found, notes=(*found.notes, note)), wanted


def _better_shift(pencil: Pencil, wanted: Wanted) -> complex:
    """Return a shift beside the target that does not spoil the accuracy of the other pairs.

    Collective. Next to a zero eigenvalue the factor is nearly singular, so that a first
    solve there only tells how far away the next values are.
    """
    moved = moved_shift(pencil, wanted.target or 0.0)
    if wanted.target:
        return moved
    try:
        found, _ = _solve_once(pencil, wanted, moved, gated=False)
    except _ShiftError:
        return moved
    if found.transformation is not None:
        found.transformation.close()
    away = np.abs(found.values)[np.abs(found.values) > 1e3 * abs(moved)]
    return moved if not away.size else -0.1 * float(away.min())


class _ShiftError(Exception):
    """Internal: the error to raise if moving the shift does not help either."""

    def __init__(self, error: ConvergenceError) -> None:
        super().__init__(str(error))
        self.error = error


def moved_shift(pencil: Pencil, target: complex) -> complex:
    """Return a shift next to the target, by a relative 1e-3, or scaled by the pencil at 0."""
    if target != 0:
        return target * (1 - 1e-3)
    return -1e-8 * pencil.norms[0] / max(pencil.norms[1], TINY)


def _solve_once(
    pencil: Pencil, wanted: Wanted, sigma: complex | None, *, gated: bool = True
) -> tuple[RightPairs, Wanted]:
    eps = SLEPc.EPS().create(pencil.comm)
    transformation = None
    try:
        with _petsc.log_stage("eigensolve"), _explained(sigma, wanted):
            wanted = _set_up(eps, pencil, wanted, sigma)
            eps.solve()
            pencil.raise_callback_error()
        if wanted.interval is not None:
            _check_inertia(eps, wanted)
        else:
            transformation = spectral_transformation(pencil, eps, owned=True)
        found = extracted(eps, pencil, wanted, transformation)
        problem = convergence_problem(found, wanted) if gated else None
        if problem is not None:
            inaccurate = not problem.residual_norm <= residual_limit(found.tolerance)
            if inaccurate and sigma is not None:
                raise _ShiftError(problem)
            raise problem
    except BaseException:
        _petsc.destroy_quietly(eps)
        raise
    if transformation is None:
        _petsc.destroy(eps)
    return found, wanted


def _check_inertia(eps: SLEPc.EPS, wanted: Wanted) -> None:
    """Raise when the factors at the ends of an interval count more values than were found."""
    _, inertias = eps.getKrylovSchurInertias()
    inside, found = int(inertias[-1] - inertias[0]), eps.getConverged()
    if found < inside:
        raise ConvergenceError(
            f"all {inside} eigenvalues in {wanted.interval} must be found, got {found}: copies of "
            "a multiple one are missing; shorten the interval, or use target= with a larger count",
            reason="MISSING_COPIES",
            iterations=eps.getIterationNumber(),
        )


def _explained(sigma: complex | None, wanted: Wanted) -> _petsc.translated_errors:
    def translated(code: int) -> Exception | None:
        if code not in _petsc.SINGULAR_FACTOR | _petsc.FAILED_PROJECTION:
            return None  # such as unknown names in options: PETSc's own message is the best
        error = ConvergenceError(
            f"A - sigma B must be regular and B not zero, got PETSc error {code} at "
            f"{wanted.interval or sigma}; choose another target, and look for rows without entries",
            reason=f"PETSc error {code}",
        )
        hit = sigma is not None and code in _petsc.SINGULAR_FACTOR
        return _ShiftError(error) if hit else error

    return _petsc.translated_errors(translated)


def _set_up(eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, sigma: complex | None) -> Wanted:
    """Prepare an EPS; return the request as the options database has changed it."""
    eps.setOperators(pencil.A, pencil.B)
    eps.setProblemType(getattr(SLEPc.EPS.ProblemType, pencil.problem_type.upper()))
    eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
    eps.setDimensions(nev=wanted.count)
    eps.setTolerances(tol=DEFAULT_TOLERANCE, max_it=500)
    if sigma is not None:
        eps.setTarget(sigma)
        eps.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_MAGNITUDE)
        eps.getST().setType(SLEPc.ST.Type.SINVERT)
    elif wanted.interval is not None:
        eps.setWhichEigenpairs(SLEPc.EPS.Which.ALL)
        eps.setInterval(*wanted.searched)
        eps.getST().setType(SLEPc.ST.Type.SINVERT)
    else:
        eps.setWhichEigenpairs(WHICH[wanted.which or "largest_magnitude"])
    # Spectrum slicing starts by itself, in every interval between two shifts.
    vectors = [] if wanted.interval is not None else _start_vectors(pencil, wanted)
    if vectors:
        eps.setInitialSpace(vectors)
    prefix = f"{wanted.prefix}ga_"
    eps.setOptionsPrefix(prefix)
    options = {**_solver_options(pencil, wanted, sigma), **wanted.options}
    try:
        with _petsc.inserted_options(prefix, options):
            eps.setFromOptions()
            eps.setUp()
    finally:
        _petsc.destroy(*vectors)
    if wanted.interval is not None:
        return wanted
    target = wanted.target
    if sigma is not None and complex(eps.getTarget()) != complex(sigma):
        target = eps.getTarget()
    return replace(wanted, count=eps.getDimensions()[0], target=target)


def _solver_options(pencil: Pencil, wanted: Wanted, sigma: complex | None) -> dict[str, Any]:
    if sigma is None and wanted.interval is None and (pencil.B is None or pencil.matrix_free):
        if pencil.B is None:
            return {}
        # B^-1 of an operator: nothing to factor, so iterate to rounding.
        return {"st_ksp_type": "gmres", "st_pc_type": "none", "st_ksp_rtol": 1e-13,
                "st_ksp_max_it": 10_000}  # fmt: skip
    symmetric = _petsc.REAL_SCALARS and pencil.definite
    if symmetric:  # measured to be so; MUMPS then needs half the time and memory
        for mat in (pencil.A, pencil.B):
            if mat is not None:
                mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    options = _factor_options("st_", symmetric)
    if wanted.interval is not None:
        options |= {"st_mat_mumps_icntl_13": 1, "st_mat_mumps_icntl_24": 1}
    return options


def _factor_options(prefix: str, symmetric: bool) -> dict[str, Any]:
    # MUMPS factors a symmetric matrix at half the cost; it need not be definite.
    return {
        f"{prefix}ksp_type": "preonly",
        f"{prefix}pc_type": "cholesky" if symmetric else "lu",
        f"{prefix}pc_factor_mat_solver_type": "mumps",
    }


def _start_vectors(pencil: Pencil, wanted: Wanted) -> list[PETSc.Vec]:
    """Return start vectors that do not depend on the number of ranks."""
    block = _petsc.deterministic_block(pencil.rows, 1, seed=5)
    if wanted.start is not None and wanted.start.shape[1]:
        # One vector is all Krylov-Schur takes: the sum holds every earlier direction.
        total = wanted.start.sum(axis=1, keepdims=True)
        block = np.asarray(total.real if _petsc.REAL_SCALARS else total)
    return [_petsc.vec_from(pencil.A, column) for column in block.T]


def spectral_transformation(
    pencil: Pencil, eps: SLEPc.EPS, *, owned: bool
) -> SpectralTransformation | None:
    """Return the operator of a solved EPS, None if its kind is unknown here.  (Not collective.)"""
    st = eps.getST()
    if st.getType() == SLEPc.ST.Type.SINVERT:
        return SpectralTransformation(pencil, eps, st.getShift(), owned)
    if st.getType() == SLEPc.ST.Type.SHIFT and st.getShift() == 0:
        return SpectralTransformation(pencil, eps, None, owned)
    return None


def extracted(
    eps: SLEPc.EPS,
    pencil: Pencil,
    wanted: Wanted,
    transformation: SpectralTransformation | None,
) -> RightPairs:
    """Return the pairs an EPS holds, ordered and cut to those wanted.  (Collective.)"""
    values, right = _petsc.converged_pairs(eps, pencil.A, dtype=pencil.block_dtype)
    if pencil.definite:
        values = values.real.astype(complex)
    finite = np.flatnonzero(np.isfinite(values))
    chosen = finite[wanted.order(values[finite])]
    chosen = chosen[kept_indices(values[chosen], wanted)]
    values, right = values[chosen], np.asfortranarray(right[:, chosen])
    if pencil.definite:
        values, right = rayleigh_ritz(pencil, values, right)
        again = wanted.order(values)
        values, right = values[again], np.asfortranarray(right[:, again])
    return RightPairs(
        values=values,
        right=right,
        residuals=backward_errors(pencil, values, right),
        distances=_distances(pencil, values, right, transformation),
        transformation=transformation,
        sigma=None if transformation is None else transformation.sigma,
        reason=_petsc.reason_name(SLEPc.EPS.ConvergedReason, eps.getConvergedReason()),
        iterations=eps.getIterationNumber(),
        converged=eps.getConverged(),
        tolerance=float(eps.getTolerances()[0]),
    )


def backward_errors(pencil: Pencil, values: Block, vectors: Block, *, left: bool = False) -> Block:
    """Return ||A x - lam B x|| / ((||A|| + |lam| ||B||) ||x||), or the same of y^H.

    Collective. For left vectors A^H y - conj(lam) B^H y is meant.
    """
    shifts = values.conj() if left else values
    if vectors.dtype.kind == "f":
        shifts = shifts.real
    defect = pencil.multiply_a(vectors, hermitian=left)
    defect = defect - shifts * pencil.multiply_b(vectors, hermitian=left)
    a_norm, b_norm = pencil.norms
    sizes = (a_norm + np.abs(values) * b_norm) * column_norms(pencil.comm, vectors)
    return np.asarray(column_norms(pencil.comm, defect) / np.maximum(sizes, TINY))


def _distances(
    pencil: Pencil,
    values: Block,
    right: Block,
    transformation: SpectralTransformation | None,
) -> Block | None:
    # A backward error is relative to ||A||, which says nothing about a small eigenvalue of a
    # stiff problem; the residual seen through the factor does.
    if transformation is None or transformation.sigma is None:
        return None
    shifts = (values.real if right.dtype.kind == "f" else values)[None, :]
    defect: Block = pencil.multiply_a(right) - shifts * pencil.multiply_b(right)
    sizes = column_norms(pencil.comm, transformation.solve(defect))
    return np.asarray(sizes / np.maximum(column_norms(pencil.comm, right), TINY))


def residual_limit(tolerance: float) -> float:
    """Return the backward error above which a pair is not accepted."""
    return max(1e-8, 10 * tolerance)


def convergence_problem(found: RightPairs, wanted: Wanted) -> ConvergenceError | None:
    """Return the error for too few pairs or too large residuals.  (Not collective.)"""
    limit = residual_limit(found.tolerance)
    quality = found.residuals
    if found.distances is not None:
        # Distances are cruder by the condition of the factor; only gross ones are refused.
        quality = np.where(found.distances <= LARGEST_DISTANCE, quality, found.distances)
    worst = float(quality.max(initial=0.0)) if not np.isnan(quality).any() else float("nan")
    account: dict[str, Any] = {
        "reason": found.reason,
        "iterations": found.iterations,
        "residual_norm": worst,
        "pairs": found,
    }
    if wanted.interval is not None and not len(found.values):
        return ConvergenceError(
            f"the interval must hold eigenvalues, got no eigenvalue in {wanted.interval}; widen it",
            reason="EMPTY_INTERVAL",
        )
    few = len(found.values) < wanted.count and wanted.interval is None
    if found.reason.startswith("DIVERGED") or few:
        return ConvergenceError(
            f"the eigensolve must give {wanted.count} pairs, got {len(found.values)} "
            f"({found.reason}, {found.iterations} iterations, worst residual {worst:.1e}); raise "
            "eps_max_it or eps_ncv, or choose a target nearer to the wanted values",
            **account,
        )
    if not worst <= limit:
        return ConvergenceError(
            f"eigenpairs must have residuals below {limit:.1e}, got {worst:.1e} for pair "
            f"{int(np.argmax(quality))}; the target may hit an eigenvalue: move it",
            **account,
        )
    return None

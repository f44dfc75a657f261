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
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.wanted import WHICH, Wanted, completed_count

DEFAULT_TOLERANCE = 1e-12
"""Eigenvector derivatives are of first order in the error of the vectors."""


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
    transformation : SpectralTransformation or None
        The factor, if one of known shift is left.
    reason, iterations, converged, tolerance
        SLEPc's account of the solve.
    notes : tuple of str

    """

    values: Block
    right: Block
    residuals: Block
    transformation: SpectralTransformation | None
    reason: str
    iterations: int
    converged: int
    tolerance: float
    notes: tuple[str, ...] = ()


def solve_right(pencil: Pencil, wanted: Wanted) -> RightPairs:
    """Return the wanted eigenpairs with checked residuals.

    Collective. A shift that hits an eigenvalue (singular factor, or residuals that
    give it away) is moved once and the problem solved again.

    Raises
    ------
    ConvergenceError
        Fewer pairs than wanted, or residuals too large even with the moved shift. The
        pairs that are good are in the error.

    """
    try:
        found = _solve_once(pencil, wanted, wanted.target)
    except ConvergenceError as error:
        if wanted.target is None or error.reason == "":
            raise
        moved = moved_shift(pencil, wanted.target)
        found = _solve_once(pencil, wanted, moved)
        note = f"the shift was moved from {wanted.target} to {moved}: it hits an eigenvalue"
        return replace(found, notes=(*found.notes, note))
    return found


def moved_shift(pencil: Pencil, target: complex) -> complex:
    """Return a shift next to the target, by a relative 1e-3, or scaled by the pencil at 0."""
    if target != 0:
        return target * (1 - 1e-3)
    return -1e-8 * pencil.norms[0] / max(pencil.norms[1], TINY)


def _solve_once(pencil: Pencil, wanted: Wanted, sigma: complex | None) -> RightPairs:
    eps = _new_eps(pencil, wanted, sigma)
    try:
        with _petsc.log_stage("ga eigensolve"), _singular_factor(sigma):
            eps.solve()
        transformation = None
        if wanted.interval is None:
            transformation = spectral_transformation(pencil, eps, owned=True)
        found = extracted(eps, pencil, wanted, transformation)
        problem = convergence_problem(found, wanted)
        if problem is not None:
            raise problem
    except BaseException:
        _petsc.destroy(eps)
        raise
    if transformation is None:
        _petsc.destroy(eps)
    return found


def _singular_factor(sigma: complex | None) -> _petsc.translated_errors:
    return _petsc.translated_errors(
        lambda code: ConvergenceError(
            f"the eigensolve must run through, got PETSc error {code} (shift {sigma}); the factor "
            "of A - sigma B may be singular: choose another target",
            reason=f"PETSc error {code}",
        )
    )


def _new_eps(pencil: Pencil, wanted: Wanted, sigma: complex | None) -> SLEPc.EPS:
    eps = SLEPc.EPS().create(pencil.comm)
    eps.setOperators(pencil.A, pencil.B)
    eps.setProblemType(getattr(SLEPc.EPS.ProblemType, pencil.problem_type.upper()))
    eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
    eps.setDimensions(nev=wanted.count)
    eps.setTolerances(tol=DEFAULT_TOLERANCE, max_it=500)
    symmetric = _petsc.REAL_SCALARS and pencil.definite
    if symmetric:
        for mat in (pencil.A, pencil.B):
            if mat is not None and not _petsc.is_shell(mat):
                mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    options: dict[str, Any] = {}
    if sigma is not None:
        eps.setTarget(sigma)
        eps.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_MAGNITUDE)
        eps.getST().setType(SLEPc.ST.Type.SINVERT)
        options |= _factor_options("st_", symmetric)
    elif wanted.interval is not None:
        _set_interval(eps, wanted.interval)
        options |= _factor_options("st_", symmetric)
        options |= {"st_mat_mumps_icntl_13": 1, "st_mat_mumps_icntl_24": 1}
    else:
        eps.setWhichEigenpairs(WHICH[wanted.which or "largest_magnitude"])
        if pencil.B is not None and not pencil.matrix_free:
            options |= _factor_options("st_", symmetric)
    vectors = _start_vectors(pencil, wanted)
    eps.setInitialSpace(vectors)
    prefix = f"{wanted.prefix}ga_"
    eps.setOptionsPrefix(prefix)
    with _petsc.inserted_options(prefix, {**options, **wanted.options}):
        eps.setFromOptions()
        with _singular_factor(sigma):
            eps.setUp()
    _petsc.destroy(*vectors)
    return eps


def _factor_options(prefix: str, symmetric: bool) -> dict[str, Any]:
    # MUMPS factors a symmetric matrix at half the cost; it need not be definite.
    return {
        f"{prefix}ksp_type": "preonly",
        f"{prefix}pc_type": "cholesky" if symmetric else "lu",
        f"{prefix}pc_factor_mat_solver_type": "mumps",
    }


def _set_interval(eps: SLEPc.EPS, interval: tuple[float, float]) -> None:
    eps.setWhichEigenpairs(SLEPc.EPS.Which.ALL)
    eps.setInterval(*interval)
    eps.getST().setType(SLEPc.ST.Type.SINVERT)


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
    chosen = chosen[: completed_count(values[chosen], wanted)]
    values, right = values[chosen], np.asfortranarray(right[:, chosen])
    return RightPairs(
        values=values,
        right=right,
        residuals=backward_errors(pencil, values, right),
        transformation=transformation,
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


def residual_limit(tolerance: float) -> float:
    """Return the backward error above which a pair is not accepted."""
    return max(1e-8, 10 * tolerance)


def convergence_problem(found: RightPairs, wanted: Wanted) -> ConvergenceError | None:
    """Return the error for too few pairs or too large residuals.  (Not collective.)"""
    limit = residual_limit(found.tolerance)
    worst = float(found.residuals.max(initial=0.0))
    if found.reason.startswith("DIVERGED") or (
        len(found.values) < wanted.count and wanted.interval is None
    ):
        return ConvergenceError(
            f"the eigensolve must give {wanted.count} pairs, got {len(found.values)} "
            f"({found.reason}, {found.iterations} iterations, worst residual {worst:.1e}); raise "
            "eps_max_it or eps_ncv, or choose a target nearer to the wanted values",
            reason=found.reason if worst > limit else "",
            iterations=found.iterations,
            residual_norm=worst,
            pairs=found,
        )
    if worst > limit:
        return ConvergenceError(
            f"eigenpairs must have residuals below {limit:.1e}, got {worst:.1e} for pair "
            f"{int(np.argmax(found.residuals))}; the target may hit an eigenvalue: move it",
            reason="RESIDUAL",
            iterations=found.iterations,
            residual_norm=worst,
            pairs=found,
        )
    return None

"""Right eigenvectors by SLEPc's Krylov-Schur: EPS and ST set-up, solve, extraction, order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.completeness import ROUNDS, completed
from geneig_adjoint.conditioning import backward_errors, residual_limit
from geneig_adjoint.definiteness import contradicts_definiteness, failed_as_indefinite
from geneig_adjoint.eigenpairs import Completeness
from geneig_adjoint.errors import ConvergenceError, MissingEigenvaluesError
from geneig_adjoint.factorization import (
    FAILED_SOLVE,
    SpectralTransformation,
    check_inner_solve,
    inner_solve_error,
)
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.right_pairs import (
    RightPairs,
    convergence_problem,
    selected,
)
from geneig_adjoint.wanted import WHICH, Wanted, kept_indices

DEFAULT_TOLERANCE = 1e-12
"""Eigenvector derivatives are of first order in the error of the vectors."""
TIES = 20
"""Values within so many times their rounding are not told apart, as in clusters."""


def solve_right(pencil: Pencil, wanted: Wanted) -> tuple[RightPairs, Wanted]:
    """Return the wanted eigenpairs with checked residuals, and what was wanted in the end.

    Collective. A shift that hits an eigenvalue (singular factor, or residuals that
    give it away) is moved once and the problem solved again; so is a pencil that looked
    definite and turns out not to be. Options from the command line may change the count
    or the target; the returned request says so.

    Raises
    ------
    ConvergenceError
        Fewer pairs than wanted, or residuals too large even with the moved shift. The
        pairs that are good are in the error.
    InputError
        An interval of a pencil that turns out not to be definite.

    """
    try:
        found, done = _solve_beside(pencil, wanted)
    except (PETSc.Error, ConvergenceError, MissingEigenvaluesError) as error:
        if not failed_as_indefinite(pencil, error):
            raise
    else:
        if not contradicts_definiteness(pencil, found.right, found.completeness):
            return found, done
        if found.transformation is not None:
            found.transformation.close()
    name = "A" if pencil.definite_by_a else "B"
    pencil.found_indefinite()
    found, done = solve_right(pencil, wanted.checked(pencil))
    note = f"{name} looked definite and is not: there is a v with v^H {name} v < 0"
    return replace(found, notes=(*found.notes, note)), done


def _solve_beside(pencil: Pencil, wanted: Wanted) -> tuple[RightPairs, Wanted]:
    """Return what `solve_right` does, with the shift moved if it hits an eigenvalue."""
    try:
        found, done = _solve_once(pencil, wanted, wanted.target)
        record = found.completeness
        if wanted.interval is None or (record.found or 0) >= (record.expected or 0):
            return found, done
        return _sliced_again(pencil, done, record), done
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
        with _petsc.log_stage("eigensolve"), _explained(eps, sigma, wanted):
            wanted = _set_up(eps, pencil, wanted, sigma)
            eps.solve()
            pencil.raise_callback_error()
            check_inner_solve(eps.getST().getKSP(), "the eigensolve")
        if wanted.interval is None:
            transformation = spectral_transformation(pencil, eps, owned=True)
        found = extracted(eps, pencil, wanted, transformation)
        if wanted.interval is not None:
            found = replace(found, completeness=_counted_interval(eps, wanted))
        elif gated:
            _raise_problem(found, wanted, sigma)
            found, wanted = _with_ties(eps, pencil, wanted, found)
            # Constrained rows may be many thousand: nobody wants all of their pairs.
            if wanted.count_check and not found.constrained:
                found = _complete(eps, pencil, wanted, found)
        if gated:
            _raise_problem(found, wanted, sigma)
    except BaseException:
        _petsc.destroy_quietly(eps)
        raise
    if transformation is None:
        _petsc.destroy(eps)
    return found, wanted


def _raise_problem(found: RightPairs, wanted: Wanted, sigma: complex | None) -> None:
    problem = convergence_problem(found, wanted)
    if problem is None:
        return
    inaccurate = not problem.residual_norm <= residual_limit(found.tolerance)
    if inaccurate and sigma is not None:
        raise _ShiftError(problem)
    raise problem


def _counted_interval(eps: SLEPc.EPS, wanted: Wanted) -> Completeness:
    """Return the count of the factors at the ends of an interval."""
    _, inertias = eps.getKrylovSchurInertias()
    inside = int(inertias[-1] - inertias[0])
    return Completeness("inertia", eps.getConverged(), inside, wanted.interval)


def _sliced_again(pencil: Pencil, wanted: Wanted, record: Completeness) -> RightPairs:
    """Return all pairs of an interval of which copies were missed: those nearest to its middle.

    Collective. The solve around a target searches the complement of what it found.
    """
    assert wanted.interval is not None
    expected, found = record.expected or 0, record.found or 0
    middle = 0.5 * (wanted.interval[0] + wanted.interval[1])
    around = replace(wanted, interval=None, target=middle, count=expected, count_check=True)
    pairs, _ = _solve_beside(pencil, around)
    inside = kept_indices(pairs.values, wanted)
    if inside.size != expected:
        raise MissingEigenvaluesError(
            f"all {expected} eigenvalues in {wanted.interval} must be found, got {inside.size} "
            "around its middle: shorten the interval, or use target= with a larger count",
            found=int(inside.size),
            expected=expected,
            window=wanted.interval,
        )
    ordered = inside[np.argsort(pairs.values[inside].real, kind="stable")]
    mended = replace(record, found=expected, mended=expected - found)
    return replace(pairs.taken(ordered), completeness=mended)


def _with_ties(
    eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, found: RightPairs
) -> tuple[RightPairs, Wanted]:
    """Return the pairs with all that converged to the same values up to rounding.

    Collective. Zeros (rigid bodies) are alike by no relative measure. The rounding of a value
    is that of A over B, or what can be seen of it through the factor.
    """
    a_norm, b_norm = pencil.norms
    sizes = a_norm / max(b_norm, TINY) + np.abs(found.values)
    rounding = TIES * float(((found.residuals + EPS) * sizes).max())
    if found.distances is not None and found.sigma is not None:
        through = (found.distances + EPS) * np.abs(found.values - found.sigma)
        rounding = min(rounding, 1e2 * TIES * float(through.max()))
    wanted = replace(wanted, rounding=rounding)
    pool = _finite_pairs(eps, pencil)
    ordered = pool[0][wanted.order(pool[0])]
    tied = bool((np.abs(np.diff(found.values)) <= rounding).any())
    if tied or len(kept_indices(ordered, wanted)) > len(found.values):
        account = (found.reason, found.iterations, found.converged, found.tolerance)
        found = selected(pencil, wanted, pool, found.transformation, account)
    return found, wanted


def _complete(eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, found: RightPairs) -> RightPairs:
    """Return the pairs with those the first pass had missed.  (Collective.)"""
    pool = _finite_pairs(eps, pencil)
    counts = (eps.getIterationNumber(), eps.getConverged())
    errors = backward_errors(pencil, *pool)
    # Pairs nobody asked for have passed no gate yet.
    good = np.flatnonzero(errors <= residual_limit(found.tolerance))
    pool, errors = (pool[0][good], np.asfortranarray(pool[1][:, good])), errors[good]
    errors = errors * (pencil.norms[0] + np.abs(pool[0]) * pencil.norms[1])
    if found.distances is not None and found.sigma is not None:
        through = found.distances * np.abs(found.values - found.sigma)
        errors = np.minimum(errors, 1e2 * through.max())
    searched, record = completed(eps, pencil, wanted, pool, errors)
    missing = 0 if record.expected is None else record.expected - (record.found or 0)
    if searched[1] is not pool[1]:
        pool, reason = searched, (found.reason, *counts, found.tolerance)
        found = selected(pencil, wanted, pool, found.transformation, reason)
    found = replace(found, completeness=record)
    if record.method == "unfinished":
        raise MissingEigenvaluesError(
            f"all copies of the eigenvalues in {record.window} must be found, got {record.found} "
            f"and still more in every one of {ROUNDS} searches in the complement; move the target "
            "away from the repeated value, or separate its copies by a change of the design",
            found=record.found or 0,
            expected=(record.found or 0) + 1,
            window=record.window,
            pairs=found,
        )
    if missing > 0:
        raise MissingEigenvaluesError(
            f"all {record.expected} eigenvalues in {record.window} must be found, got "
            f"{record.found} in spite of searches in the complement; raise eps_ncv or count, or "
            "move the target",
            found=record.found or 0,
            expected=record.expected or 0,
            window=record.window,
            pairs=found,
        )
    return found


def _explained(eps: SLEPc.EPS, sigma: complex | None, wanted: Wanted) -> _petsc.translated_errors:
    def translated(code: int) -> Exception | None:
        if code in FAILED_SOLVE:
            return inner_solve_error(eps.getST().getKSP(), "the eigensolve")
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
    # Nearest to 0 is largest in 1 / lam; elsewhere the two orders differ.
    inverted = sigma == 0 and pencil.definite_by_a
    eps.setOperators(*((pencil.B, pencil.A) if inverted else (pencil.A, pencil.B)))
    eps.setProblemType(_slepc_type(pencil, inverted=inverted))
    eps.setType(SLEPc.EPS.Type.KRYLOVSCHUR)
    eps.setDimensions(nev=wanted.count)
    eps.setTolerances(tol=DEFAULT_TOLERANCE, max_it=500)
    if inverted:
        eps.setWhichEigenpairs(SLEPc.EPS.Which.LARGEST_MAGNITUDE)
    elif sigma is not None:
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
    options = wanted.with_inner_tolerance(_solver_options(pencil, wanted, sigma), DEFAULT_TOLERANCE)
    try:
        with _petsc.inserted_options(prefix, options):
            eps.setFromOptions()
            eps.setUp()
    finally:
        _petsc.destroy(*vectors)
    if wanted.interval is not None:
        return wanted
    target = wanted.target
    if sigma is not None and not inverted and complex(eps.getTarget()) != complex(sigma):
        target = eps.getTarget()
    return replace(wanted, count=eps.getDimensions()[0], target=target)


def _slepc_type(pencil: Pencil, *, inverted: bool) -> int:
    """Return how SLEPc is to treat the pencil.  (Collective.)

    Its own solver of indefinite pencils (GHIEP) is left alone: it works in a basis that is
    orthogonal in an indefinite product, which may break down, and its residuals reach 6e-10
    where an orthonormal basis gives rounding.
    """
    definite = pencil.definite and (inverted or not pencil.definite_by_a)
    kind = "HEP" if definite else "NHEP"
    name = kind if pencil.B is None else f"G{kind}"
    return int(getattr(SLEPc.EPS.ProblemType, name))


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
    if symmetric and wanted.count_check and pencil.comm.size > 1:
        options["st_mat_mumps_icntl_13"] = 1  # ScaLAPACK does not count negative pivots
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
    if pencil.exchanged_in(eps):
        return SpectralTransformation(pencil, eps, 0.0, owned)  # its factor is that of A
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
    account = (
        _petsc.reason_name(SLEPc.EPS.ConvergedReason, eps.getConvergedReason()),
        eps.getIterationNumber(),
        eps.getConverged(),
        float(eps.getTolerances()[0]),
    )
    return selected(pencil, wanted, _finite_pairs(eps, pencil), transformation, account)


def _finite_pairs(eps: SLEPc.EPS, pencil: Pencil) -> tuple[Block, Block]:
    values, right = _petsc.converged_pairs(
        eps, pencil.A, dtype=pencil.block_dtype, inverted=pencil.exchanged_in(eps)
    )
    if pencil.definite:
        values = values.real.astype(complex)
    finite = np.flatnonzero(np.isfinite(values))
    return values[finite], np.asfortranarray(right[:, finite])

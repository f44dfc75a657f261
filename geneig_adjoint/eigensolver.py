"""Right eigenvectors by SLEPc's Krylov-Schur: EPS and ST set-up, solve, extraction, order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, TINY
from geneig_adjoint.collective import freed_on_error
from geneig_adjoint.completeness import Pool, completed
from geneig_adjoint.conditioning import backward_errors, residual_limit
from geneig_adjoint.definiteness import (
    contradicts_definiteness,
    failed_as_indefinite,
    is_bad_product,
)
from geneig_adjoint.eigenpairs import Completeness
from geneig_adjoint.eps_setup import set_up
from geneig_adjoint.errors import ConvergenceError, InputError, MissingEigenvaluesError
from geneig_adjoint.exceptional_points import check_target
from geneig_adjoint.extraction import extracted, finite_pairs, spectral_transformation
from geneig_adjoint.factorization import (
    FAILED_SOLVE,
    SpectralTransformation,
    check_inner_solve,
    inner_solve_error,
)
from geneig_adjoint.inner_solver import (
    SINGULAR,
    callback_error,
    inner_notes,
    next_method,
    singular_error,
)
from geneig_adjoint.observers import is_observed, report
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.preconditioned_pairs import FOUND, lowest_pairs
from geneig_adjoint.right_pairs import (
    RightPairs,
    convergence_problem,
    lost_error,
    selected,
)
from geneig_adjoint.rows_beside import completed_beside_rows
from geneig_adjoint.simple_pairs import proved_simple, watch_ritz_values
from geneig_adjoint.wanted import Wanted, kept_indices

OFFSETS = (1e-8, 1e-6, 1e-3)
"""Distances of a shift from an eigenvalue, relative to it, for a first look around."""
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
    DefectiveEigenvalueError
        That is so because the target lies beside an exceptional point.
    InputError
        An interval of a pencil that turns out not to be definite.

    """
    try:
        found, done = _solve_beside(pencil, wanted)
    except (PETSc.Error, ConvergenceError, MissingEigenvaluesError) as error:
        if not failed_as_indefinite(pencil, error):
            if wanted.plain_product or not is_bad_product(error):
                raise
            return solve_right(pencil, replace(wanted, plain_product=True))
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
        whole = (record.found or 0) >= (record.expected or 0)
        if wanted.interval is None or whole or not wanted.count_check:
            return found, done
        return _sliced_again(pencil, done, record), done
    except _ShiftError as hit:
        found, done, moved = _solve_moved(pencil, wanted, hit)
    note = f"the shift was moved from {wanted.target} to {moved}: it hits an eigenvalue"
    return replace(found, notes=(*found.notes, note)), done


def _solve_moved(
    pencil: Pencil, wanted: Wanted, hit: _ShiftError
) -> tuple[RightPairs, Wanted, complex]:
    """Solve with the nearest shift beside the target that gives good pairs; return it, too."""
    last = hit
    for moved in _better_shifts(pencil, wanted):
        try:
            return (*_solve_once(pencil, wanted, moved), moved)
        except _ShiftError as again:
            last = again
    check_target(pencil, wanted.target or 0.0)
    raise last.error from hit


def _better_shifts(pencil: Pencil, wanted: Wanted) -> Iterator[complex]:
    """Give shifts beside the target that do not spoil the accuracy of the other pairs.

    Collective. Next to an eigenvalue the factor is nearly singular, so that a first solve
    there only tells how far away the next values are; a fixed distance may lie beyond them.
    The next values may be those of a Jordan block that rounding has split, and the factor
    beside one of these as bad: the later ones look farther.
    """
    target = wanted.target or 0.0
    size, natural = abs(target), pencil.norms[0] / max(pencil.norms[1], TINY)
    if size <= OFFSETS[0] * natural:
        size = natural  # as for 0: the eigenvalue it hits is rounding of 0
    more = replace(wanted, count=min(pencil.n, wanted.count + 2))
    for offset in (part * size for part in OFFSETS):
        try:
            found, _ = _solve_once(pencil, more, target - offset, gated=False)
        except _ShiftError:
            continue
        if found.transformation is not None:
            found.transformation.close()
        distances = np.abs(found.values - target)
        away = distances[distances > 1e3 * offset]
        yield target - (0.1 * float(away.min()) if away.size else offset)
    yield target - OFFSETS[-1] * size


class _ShiftError(Exception):
    """Internal: the error to raise if moving the shift does not help either."""

    def __init__(self, error: ConvergenceError) -> None:
        super().__init__(str(error))
        self.error = error


def _solve_once(
    pencil: Pencil, wanted: Wanted, sigma: complex | None, *, gated: bool = True
) -> tuple[RightPairs, Wanted]:
    """Solve with one shift; again where the method of inner solves did not fit the matrix."""
    try:
        return _solved_by(pencil, wanted, sigma, gated=gated)
    except ConvergenceError as error:
        if error.reason == SINGULAR and sigma is not None:
            raise _ShiftError(error) from None
        chosen = wanted.option("st_ksp_type", wanted.options) is not None
        method = None if chosen else next_method(error.reason, wanted.inner)
        if method is None:
            raise
    return _solve_once(pencil, replace(wanted, inner=method), sigma, gated=gated)


def _solved_by(
    pencil: Pencil, wanted: Wanted, sigma: complex | None, *, gated: bool
) -> tuple[RightPairs, Wanted]:
    eps = SLEPc.EPS().create(pencil.comm)
    transformation: SpectralTransformation | None = None

    def free() -> None:
        if transformation is not None:
            transformation.forget()
        _petsc.destroy_quietly(eps)

    with freed_on_error(pencil.comm, free), _explained(eps, pencil, sigma, wanted):
        wanted, how = _run(eps, pencil, wanted, sigma)
        if wanted.interval is None:
            transformation = spectral_transformation(pencil, eps, owned=True)
        pool = finite_pairs(eps, pencil)
        found = extracted(eps, pencil, wanted, transformation, pool)
        if wanted.interval is not None:
            found = replace(found, completeness=_counted_interval(eps, wanted))
        elif gated:
            # Copies that turned out to be one are looked for again; the gate comes after.
            searched = wanted.count_check and found.reason.startswith("CONVERGED")
            enough = min(wanted.count, len(found.values)) if searched else wanted.count
            _raise_problem(found, replace(wanted, count=max(1, enough)), sigma)
            found, wanted = _with_ties(pencil, wanted, found, pool)
            if wanted.count_check:
                found = _complete(eps, pencil, wanted, found, pool)
        pencil.raise_callback_error()
        check_inner_solve(eps.getST().getKSP(), "the eigensolve")
        if gated:
            _raise_problem(found, wanted, sigma)
        eps.setAttr(FOUND, None)
        notes = (*found.notes, *inner_notes(eps.getST().getKSP(), pencil), *how)
        found = replace(found, notes=notes)
    if transformation is None:
        _petsc.destroy(eps)
    return found, wanted


def _run(
    eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, sigma: complex | None
) -> tuple[Wanted, tuple[str, ...]]:
    """Solve by Krylov-Schur, or for the lowest pairs without a factor by a method of our own.

    Collective. Returns the request as options have changed it, and notes.
    """
    with _petsc.log_stage("eigensolve"):
        wanted = set_up(eps, pencil, wanted, sigma)
        lowest = lowest_pairs(eps, pencil, wanted)
        eps.setAttr(FOUND, lowest)
        if lowest is None:
            watch_ritz_values(eps, pencil, wanted)
            if is_observed():
                eps.setMonitor(_report_restart)
            eps.solve()
        pencil.raise_callback_error()
        check_inner_solve(eps.getST().getKSP(), "the eigensolve")
    return wanted, () if lowest is None else (lowest.note,)


def _report_restart(eps: SLEPc.EPS, restarts: int, converged: int, *_: object) -> None:
    report("eigensolve", converged=converged, wanted=int(eps.getDimensions()[0]), restarts=restarts)


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
        if pairs.transformation is not None:
            pairs.transformation.close()
        raise MissingEigenvaluesError(
            f"all {expected} eigenvalues in {wanted.interval} must be found, got {inside.size} "
            "around its middle: shorten the interval, or use target= with a larger count",
            found=int(inside.size),
            expected=expected,
            window=wanted.interval,
            pairs=replace(pairs.taken(inside), transformation=None),
        )
    ordered = inside[np.argsort(pairs.values[inside].real, kind="stable")]
    mended = replace(record, found=expected, mended=expected - found)
    return replace(pairs.taken(ordered), completeness=mended)


def _with_ties(
    pencil: Pencil, wanted: Wanted, found: RightPairs, pool: Pool
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
    ordered = pool[0][wanted.order(pool[0])]
    tied = bool((np.abs(np.diff(found.values)) <= rounding).any())
    if tied or len(kept_indices(ordered, wanted)) > len(found.values):
        account = (found.reason, found.iterations, found.converged, found.tolerance)
        found = selected(pencil, wanted, pool, found.transformation, account)
    return found, wanted


def _complete(
    eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, found: RightPairs, pool: Pool
) -> RightPairs:
    """Return the pairs with those the first pass had missed.  (Collective.)"""
    counts = (eps.getIterationNumber(), eps.getConverged())
    errors = backward_errors(pencil, *pool)
    # Pairs nobody asked for have passed no gate yet.
    good = np.flatnonzero(errors <= residual_limit(found.tolerance))
    if not good.size:
        raise lost_error(errors, found)
    pool, errors = (pool[0][good], np.asfortranarray(pool[1][:, good])), errors[good]
    errors = errors * (pencil.norms[0] + np.abs(pool[0]) * pencil.norms[1])
    if found.distances is not None and found.sigma is not None:
        through = found.distances * np.abs(found.values - found.sigma)
        errors = np.minimum(errors, 1e2 * through.max())
    simple = proved_simple(eps, pencil, wanted, found, (pool[0], errors))
    if simple is not None:
        return replace(found, completeness=simple)
    complete = completed_beside_rows if found.constrained else completed
    searched, record = complete(eps, pencil, wanted, pool, errors)
    missing = 0 if record.expected is None else record.expected - (record.found or 0)
    if searched[1] is not pool[1]:
        pool, reason = searched, (found.reason, *counts, found.tolerance)
        found = selected(pencil, wanted, pool, found.transformation, reason)
    found = replace(found, completeness=record)
    if record.method == "off":
        note = "copies that were missed have not been looked for: there are constrained rows"
        return replace(found, notes=(*found.notes, note))
    if record.method == "unfinished" or missing > 0:
        raise _missing_error(found)
    return found


def _missing_error(found: RightPairs) -> MissingEigenvaluesError:
    """Return the error for pairs that searches did not bring in.  (Not collective.)"""
    record = found.completeness
    number = record.found or 0
    expected = number + 1 if record.method == "unfinished" else record.expected or 0
    message = (
        f"all {expected} eigenvalues in {record.window} must be found, got {number} in spite of "
        "searches in the complement; raise eps_ncv or count, or move the target"
    )
    if found.constrained:
        message += ", or take the constrained rows out of the matrices"
    if record.method == "unfinished":
        message = (
            f"all copies of the eigenvalues in {record.window} must be found, got {number}, and "
            "searches in the complement still show more; move the target away from the repeated "
            "value, or separate its copies by a change of the design"
        )
    return MissingEigenvaluesError(
        message, found=number, expected=expected, window=record.window, pairs=found
    )


def _explained(
    eps: SLEPc.EPS, pencil: Pencil, sigma: complex | None, wanted: Wanted
) -> _petsc.translated_errors:
    def translated(code: int) -> Exception | None:
        raised = callback_error(pencil)
        if raised is not None:
            return raised  # what a product of the user raised is the cause of all else
        if code in FAILED_SOLVE:
            return inner_solve_error(eps.getST().getKSP(), "the eigensolve")
        if code not in _petsc.SINGULAR_FACTOR | _petsc.FAILED_PROJECTION:
            return None  # such as unknown names in options: PETSc's own message is the best
        if code in _petsc.SINGULAR_FACTOR and pencil.norms[0] == 0:
            return InputError(
                "A must have entries, got zeros only; check its elements, their dofs and the "
                "parameters"
            )
        if code in _petsc.SINGULAR_FACTOR and not pencil.factorable:
            return singular_error(f"PETSc error {code}")
        need = ("A - sigma B must be regular and B not zero", "choose another target")
        if sigma is None and wanted.interval is None:
            need = ("B must be regular for which=", "give a target")
        error = ConvergenceError(
            f"{need[0]}, got PETSc error {code} at {wanted.interval or wanted.which or sigma}; "
            f"{need[1]}, and look for rows without entries",
            reason=f"PETSc error {code}",
        )
        hit = sigma is not None and code in _petsc.SINGULAR_FACTOR
        return _ShiftError(error) if hit else error

    return _petsc.translated_errors(translated)

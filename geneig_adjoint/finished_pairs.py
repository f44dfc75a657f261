"""From what the eigensolver found to `Eigenpairs`: left vectors, units, scale, error estimates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from geneig_adjoint._types import EPS, Block
from geneig_adjoint.clusters import group_values
from geneig_adjoint.collective import freed_on_error
from geneig_adjoint.conditioning import (
    DEFECTIVE_CONDITION,
    ILL_CONDITION,
    chain_rounding,
    conditions_and_errors,
    euclidean_conditions,
    residual_limit,
)
from geneig_adjoint.constraints import row_left_vectors
from geneig_adjoint.eigenpairs import Eigenpairs, SolveInfo
from geneig_adjoint.entrywise import moved_by_diagonals, moved_by_rounding
from geneig_adjoint.equilibration import Equilibration
from geneig_adjoint.errors import ConvergenceError
from geneig_adjoint.improved_pairs import doubtful_pairs, improved
from geneig_adjoint.left_vectors import LeftVectors, biorthonormal, left_vectors
from geneig_adjoint.normalization import choose_normalization, normalized
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms
from geneig_adjoint.right_pairs import RightPairs
from geneig_adjoint.views import PlainView
from geneig_adjoint.wanted import Wanted

LAST_BITS = 20 * EPS
"""Relative error of a value that a smaller residual does not exclude."""
SEEN = 6.0
"""Errors of values over those of vectors that the factor shows: rounding is lucky now and then."""
NEARLY_NULL = 1e-6
"""||B x|| / (||B|| ||x||) below which an eigenvalue may be an infinite one."""


def finished(
    pencil: Pencil,
    work: Pencil,
    found: RightPairs,
    left: LeftVectors | None,
    *,
    scale: tuple[Any, str | None, Eigenpairs | None],
    scaling: Equilibration | None = None,
) -> Eigenpairs:
    """Return normalised pairs with conditions, error estimates and clusters.

    Collective. ``work`` is the pencil that was solved: pencil, or that with ``scaling``, in
    whose units errors and conditions are measured.
    """
    with freed_on_error(pencil.comm, found.forget):
        measures = _measures(work, found, None if left is None else left.vectors)
        turns = rounding = offsets = None
        if left is not None and not pencil.definite:
            offsets = _offsets(found, left)
            found, left, measures, (turns, rounding) = _sharpened(work, found, left, measures)
            measures = measures[0], _visible(found, measures[1], turns, offsets)
        found = in_units(pencil, found, scaling)
        normalization, phase, like = scale
        if like is not None and normalization is None:
            normalization = like.normalization
        norm = choose_normalization(pencil, normalization, found.right)
        kept_rows = None
        if like is not None and like.count == len(found.values):
            kept_rows = like.phase_rows
        right, rows = normalized(pencil, norm, found.right, phase=phase, rows=kept_rows)
        found = replace(found, right=right)
        if left is not None:
            vectors = left.vectors if scaling is None else scaling.left(left.vectors)
            left = replace(left, vectors=biorthonormal(pencil, found, vectors))
            measures = pencil.view.measures(found, left.vectors, measures)
        pairs = _assembled(pencil, found, left, measures, (norm, rows))
        return replace(pairs, turns=turns, rounding=rounding, offsets=offsets)


def _sharpened(
    pencil: Pencil, found: RightPairs, left: LeftVectors, measures: tuple[Block, Block]
) -> tuple[RightPairs, LeftVectors, tuple[Block, Block], tuple[Block, Block]]:
    """Return ill-conditioned pairs corrected, their measures, and (turns, rounding).

    Collective. The last two are those of `Eigenpairs`.
    """
    turns, rounding = np.full((2, len(found.values)), np.nan)
    if pencil.matrix_free or not isinstance(pencil.view, PlainView):
        return found, left, measures, (turns, rounding)
    chosen = doubtful_pairs(pencil, found, left, measures)
    if chosen:
        better = improved(pencil, found, left, chosen)
        found, left, turns = better.found, better.left, better.turns
        condition, errors = _measures(pencil, found, left.vectors)
        measures = condition, np.where(np.isnan(better.errors), errors, better.errors)
    measures = measures[0], np.maximum(measures[1], LAST_BITS * np.abs(found.values))
    ill = np.flatnonzero(measures[0] > DEFECTIVE_CONDITION)
    if ill.size:
        parts = found.values[ill], found.right[:, ill], left.vectors[:, ill]
        # Of what was not corrected nobody knows whether it is as harmless as it looks.
        careful = chain_rounding(pencil, *parts, measures[0][ill])
        plain = moved_by_rounding(pencil, *parts)
        rounding[ill] = np.where(np.isnan(turns[ill]), careful, plain)
    return found, left, measures, (turns, rounding)


def _offsets(found: RightPairs, left: LeftVectors) -> Block | None:
    """Return the larger error of right and left vectors, as far as the factor shows them, (k,)."""
    if found.distances is None:
        return None
    seen = found.distances if left.distances is None else left.distances
    return np.where(np.isfinite(seen), np.fmax(found.distances, seen), found.distances)


def _visible(found: RightPairs, errors: Block, turns: Block, offsets: Block | None) -> Block:
    """Return errors of values, none below what two measures of rounding through the factor show."""
    if offsets is None or found.distances is None or found.sigma is None:
        return errors
    seen = SEEN * np.fmin(offsets, 10 * found.distances) * np.abs(found.values - found.sigma)
    return np.where(np.isnan(turns), np.fmax(errors, seen), errors)


def in_units(pencil: Pencil, found: RightPairs, scaling: Equilibration | None) -> RightPairs:
    """Return pairs of a scaled pencil as pairs of the original one.  (Collective.)"""
    if scaling is None:
        return found
    note = (
        "rows and columns were scaled for the solve, by factors that differ by up to "
        f"{scaling.spread:.0e}"
    )
    return replace(
        found,
        right=scaling.right(found.right),
        transformation=scaling.undone(pencil, found.transformation),
        notes=(*found.notes, note),
    )


def with_left_vectors(
    pencil: Pencil, found: RightPairs, wanted: Wanted, *, asked: bool
) -> tuple[RightPairs, LeftVectors | None]:
    """Return the finite pairs and their left vectors if asked for; closes the factor on failure.

    Only left vectors tell infinite eigenvalues, which rounding makes finite, for certain.
    """
    with freed_on_error(pencil.comm, found.forget):
        if not asked and not _maybe_infinite(pencil, found).any():
            return found, None
        found, left = _finite(pencil, found, wanted)
        return found, left if asked else None


def _finite(pencil: Pencil, found: RightPairs, wanted: Wanted) -> tuple[RightPairs, LeftVectors]:
    """Return the finite pairs and their left vectors.

    Rounding makes infinite eigenvalues of a singular B large finite ones, defective ones not
    even very large: known by an error as large as the value, or by left vectors that cannot
    be found.
    """
    suspect = _maybe_infinite(pencil, found)
    try:
        left = _left_of_modes(pencil, found, wanted)
        # What the factor shows is no measure here: it does not see the null space of B.
        residuals = np.maximum(found.residuals, EPS)
        _, errors = conditions_and_errors(
            pencil, found.values, found.right, left.vectors, residuals
        )
        suspect &= errors >= np.abs(found.values)
    except ConvergenceError:
        if not suspect.any():
            raise
        left = None
    if not suspect.any() and left is not None:
        return found, left
    finite = found.taken(np.flatnonzero(~suspect))
    if len(finite.values) < wanted.count:
        raise ConvergenceError(
            f"the eigensolve must give {wanted.count} pairs, got {len(finite.values)} finite ones "
            f"and {np.count_nonzero(suspect)} that are infinite to working accuracy (B is "
            "singular); ask for fewer",
            reason="INFINITE_EIGENVALUES",
            iterations=found.iterations,
            residual_norm=float(finite.residuals.max(initial=0.0)),
            pairs=replace(finite, transformation=None),
        )
    return finite, _left_of_modes(pencil, finite, wanted)


def _maybe_infinite(pencil: Pencil, found: RightPairs) -> Block:
    """Tell which values are large and belong to vectors that are nearly in B's null space."""
    if pencil.B is None:
        return np.zeros(len(found.values), dtype=bool)
    a_norm, b_norm = pencil.norms
    Bx = column_norms(pencil.comm, pencil.multiply_b(found.right))
    small = Bx <= NEARLY_NULL * b_norm * column_norms(pencil.comm, found.right)
    return np.asarray(small & (np.abs(found.values) * b_norm > a_norm))


def _left_of_modes(pencil: Pencil, found: RightPairs, wanted: Wanted) -> LeftVectors:
    """Return left vectors; those of constrained rows, whose cluster is rarely whole, are known."""
    if pencil.definite or not found.constrained:
        return left_vectors(pencil, found, wanted)
    chosen = np.setdiff1d(np.arange(len(found.values)), found.constrained)
    vectors, residuals = np.zeros_like(found.right), np.zeros(len(found.values))
    rows = list(found.constrained)
    vectors[:, rows] = row_left_vectors(pencil, found.values[rows], found.right[:, rows])
    if not chosen.size:
        return LeftVectors(vectors, residuals)
    part = left_vectors(pencil, found.taken(chosen), wanted)
    vectors[:, chosen], residuals[chosen] = part.vectors, part.residuals
    return LeftVectors(vectors, residuals, part.notes)


def _assembled(
    pencil: Pencil,
    found: RightPairs,
    left: LeftVectors | None,
    measures: tuple[Block, Block],
    scale: tuple[Any, Block | None],
) -> Eigenpairs:
    condition, errors = measures
    norm, rows = scale
    notes = found.notes + (left.notes if left else ())
    large = np.flatnonzero(condition > ILL_CONDITION)
    if large.size:
        notes += (f"eigenvalue {large[0]} has condition number {condition[large[0]]:.1e}",)
    transformation = found.transformation
    return Eigenpairs(
        pencil=pencil,
        values=found.values,
        right=found.right,
        left=None if left is None else left.vectors,
        residuals=found.residuals,
        condition=condition,
        errors=errors,
        gaps=found.gaps,
        clusters=group_values(found.values, errors),
        normalization=norm,
        phase_rows=rows,
        info=SolveInfo(
            reason=found.reason,
            iterations=found.iterations,
            converged=found.converged,
            tolerance=found.tolerance,
            sigma=found.sigma,
            left_residuals=None if left is None else left.residuals,
            notes=notes,
            completeness=found.completeness,
            constrained=found.constrained,
        ),
        factor=transformation,
        version=pencil.version,
    )


def _measures(pencil: Pencil, found: RightPairs, left: Block | None) -> tuple[Block, Block]:
    """Return condition numbers and error estimates of the eigenvalues."""
    right = found.right
    if left is None and not pencil.definite:
        unknown = np.full(len(found.values), np.nan)
        return unknown, unknown
    y = right if left is None else left
    condition, errors = conditions_and_errors(pencil, found.values, right, y, found.residuals)
    if found.distances is not None and found.sigma is not None:
        # Through the factor the estimate is not blown up by the largest entries of A. Where a
        # rounded entry moves the eigenvalue visibly, the factor is that of another problem.
        amplified = condition if pencil.definite else euclidean_conditions(pencil, right, y)
        through = amplified * found.distances * np.abs(found.values - found.sigma)
        # One residual may be small by luck, where the factor's own rounding moved the value.
        through = np.fmax(through, moved_by_diagonals(pencil, found.values, right, y))
        errors = np.where(condition > ILL_CONDITION, errors, np.minimum(errors, through))
    return condition, errors


def partial(pencil: Pencil, found: RightPairs, phase: str | None) -> Eigenpairs | None:
    """Return the good ones of some pairs, without left vectors and without the factor."""
    found = found.taken(np.flatnonzero(found.residuals <= residual_limit(found.tolerance)))
    if not len(found.values):
        return None
    norm = choose_normalization(pencil, None, found.right)
    right, rows = normalized(pencil, norm, found.right, phase=phase, rows=None)
    scaled = replace(found, right=right, transformation=None)
    return _assembled(pencil, scaled, None, _measures(pencil, scaled, None), (norm, rows))

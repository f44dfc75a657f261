"""`RightPairs`: what the eigensolver found, and whether it is good enough."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.clusters import nearest_gaps
from geneig_adjoint.conditioning import backward_errors, defects, residual_limit
from geneig_adjoint.constraints import constrained_pairs
from geneig_adjoint.eigenpairs import Completeness
from geneig_adjoint.eigenspaces import disentangled
from geneig_adjoint.errors import ConvergenceError
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.invariant_subspace import rayleigh_ritz
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import norms_of_columns
from geneig_adjoint.wanted import INNER_SHARE, Wanted, kept_indices

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
    gaps : ndarray
        Distance of each value to the nearest other one that converged, kept or not, (k,).
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
    completeness : Completeness
        Whether pairs may be missing.
    constrained : tuple of int
        Pairs that belong to constrained rows kept in the matrices.

    """

    values: Block
    right: Block
    gaps: Block
    residuals: Block
    distances: Block | None
    transformation: SpectralTransformation | None
    reason: str
    iterations: int
    converged: int
    tolerance: float
    notes: tuple[str, ...] = ()
    sigma: complex | None = None
    completeness: Completeness = field(default_factory=lambda: Completeness("off"))
    constrained: tuple[int, ...] = ()

    def forget(self) -> None:
        """Free the factor.  (Collective.)"""
        if self.transformation is not None:
            self.transformation.close()

    def taken(self, chosen: Block) -> RightPairs:
        """Return some of the pairs."""
        return replace(
            self,
            values=self.values[chosen],
            right=np.asfortranarray(self.right[:, chosen]),
            gaps=self.gaps[chosen],
            residuals=self.residuals[chosen],
            distances=None if self.distances is None else self.distances[chosen],
            constrained=tuple(i for i, j in enumerate(chosen) if int(j) in self.constrained),
        )


def selected(
    pencil: Pencil,
    wanted: Wanted,
    pool: tuple[Block, Block],
    transformation: SpectralTransformation | None,
    account: tuple[str, int, int, float],
) -> RightPairs:
    """Return the wanted ones of all converged pairs, in order.  (Collective.)"""
    values, right = pool
    chosen = wanted.order(values)
    chosen = chosen[kept_indices(values[chosen], wanted)]
    gaps = nearest_gaps(values)[chosen]
    values, right = values[chosen], np.asfortranarray(right[:, chosen])
    inverted = pencil.definite_by_a and transformation is not None and transformation.sigma == 0
    plain = (pencil.definite_by_a and not inverted) or wanted.plain_product
    if not pencil.definite or plain:
        values, right, origin = disentangled(pencil, values, right)
        gaps = gaps[origin]
    if pencil.definite:
        values, right = rayleigh_ritz(pencil, values, right, rounding=wanted.rounding)
        again = wanted.order(values)
        values, right, gaps = values[again], np.asfortranarray(right[:, again]), gaps[again]
    reason, iterations, converged, tolerance = account
    constrained, notes = constrained_pairs(pencil, values, right)
    defect = defects(pencil, values, right)
    return RightPairs(
        values=values,
        right=right,
        gaps=gaps,
        residuals=backward_errors(pencil, values, right, known=defect),
        distances=_distances(pencil, defect, right, transformation),
        transformation=transformation,
        sigma=None if transformation is None else transformation.sigma,
        reason=reason,
        iterations=iterations,
        converged=converged,
        tolerance=tolerance,
        notes=notes,
        constrained=constrained,
    )


def _distances(
    pencil: Pencil,
    defect: Block,
    right: Block,
    transformation: SpectralTransformation | None,
) -> Block | None:
    # A backward error is relative to ||A||, which says nothing about a small eigenvalue of a
    # stiff problem; the residual seen through the factor does.
    if transformation is None or transformation.sigma is None:
        return None
    solved = transformation.estimate(defect, purpose="the residual check of the eigensolve")
    errors, sizes = norms_of_columns(pencil.comm, solved, right)
    return np.asarray(errors / np.maximum(sizes, TINY))


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
            "eps_max_it or eps_ncv, or choose a target nearer to the wanted values"
            + _loose_solves(found),
            **account,
        )
    if not worst <= limit:
        return ConvergenceError(
            f"eigenpairs must have residuals below {limit:.1e}, got {worst:.1e} for pair "
            f"{int(np.argmax(quality))}; {_advice(wanted)}{_loose_solves(found)}",
            **account,
        )
    return None


def lost_error(errors: Block, found: RightPairs) -> ConvergenceError:
    """Return the error for pairs whose second residuals are not good.  (Not collective.)"""
    limit, best = residual_limit(found.tolerance), float(errors.min(initial=np.inf))
    return ConvergenceError(
        f"converged pairs must have residuals below {limit:.1e}, got {best:.1e} at best; look for "
        "entries that overflow",
        reason="RESIDUAL",
        iterations=found.iterations,
        residual_norm=best,
    )


def _advice(wanted: Wanted) -> str:
    if wanted.target is not None:
        return "the target may hit an eigenvalue, or lie beside a defective one: move it"
    return "a nearly singular B, or a stiff pencil, needs a factor: give a target"


def _loose_solves(found: RightPairs) -> str:
    """Return more advice where iterative solves inside the eigensolve end too early."""
    inner = None if found.transformation is None else found.transformation.inner_rtol
    if inner is None or inner <= found.tolerance:
        return ""
    return (
        f"; its inner solves stop at st_ksp_rtol {inner:.1e}: lower that to "
        f"{INNER_SHARE * found.tolerance:.1e}"
    )

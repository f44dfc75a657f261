"""How bordered systems are solved: the user's choice and what it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from petsc4py import PETSc

from geneig_adjoint.errors import ArgumentError
from geneig_adjoint.factorization import SpectralTransformation
from geneig_adjoint.pencil import Pencil

OwnSolver: TypeAlias = Callable[[PETSc.Mat, PETSc.Vec, PETSc.Vec], None]
Strategy: TypeAlias = str | PETSc.KSP | OwnSolver | None


STRATEGIES = ("block-krylov", "deflated-cg", "direct", "ksp")
TOGETHER = ("block-krylov", "deflated-cg")
"""Those that solve the systems of all pairs at once."""


@dataclass(frozen=True)
class AdjointSettings:
    """How bordered systems are solved.

    Attributes
    ----------
    strategy : str, PETSc.KSP, callable or None
        "block-krylov": all pairs together by blocked solves with the eigensolver's factor;
        "deflated-cg": all pairs together by conjugate gradients with the eigensolver's
        preconditioner, where that has no factor and the pencil is Hermitian and definite;
        "direct": assembled and factored; "ksp": operator, Krylov method and
        preconditioner from the options; a KSP (its operators are replaced) or a callable
        ``solve(operator, rhs, solution)`` of the user's own; None: "block-krylov" where the
        eigensolver left a factor (and left vectors, unless the pencil is Hermitian and
        definite) and factors of bordered matrices for the pairs of nonsymmetric pencils where
        they are kept or cheaper (`near_factors`), "deflated-cg" where that is possible, "ksp"
        where it left an iterative solver or nothing can be factored, else "direct".
        What None has chosen gives way to the next where it fails and ``options`` is empty.
    rtol : float
        Bound on the true relative residual; of "block-krylov" on the estimated relative
        error of solutions.
    options : mapping
        PETSc options without prefix, e.g. ``{"ksp_type": "bcgs"}``.
    prefix : str
        In front of ``ga_adjoint_``.

    """

    strategy: str | PETSc.KSP | OwnSolver | None = None
    rtol: float = 1e-10
    options: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""


def may_turn_direct(settings: AdjointSettings, pencil: Pencil) -> bool:
    """Tell whether nobody has chosen a solver and there is a matrix.  (Not collective.)"""
    return settings.strategy is None and not settings.options and pencil.factorable


def chosen_strategy(
    requested: Any, pencil: Pencil, transformation: SpectralTransformation | None
) -> str | PETSc.KSP | OwnSolver:
    """Return the strategy in force: never None.  (Not collective.)"""
    if requested is None or requested in TOGETHER:  # blocks are solved elsewhere
        return "ksp" if transformation is not None or not pencil.factorable else "direct"
    if isinstance(requested, str) and requested not in STRATEGIES:
        raise ArgumentError(
            'strategy must be "block-krylov", "deflated-cg", "direct", "ksp", a KSP, a callable or '
            f"None, got {requested!r}; None chooses by what the eigensolver left"
        )
    if requested == "direct" and pencil.matrix_free:
        raise ArgumentError(
            'strategy "direct" needs assembled matrices, got an operator without entries; '
            'use strategy="ksp"'
        )
    chosen: str | PETSc.KSP | OwnSolver = requested
    return chosen


def remedy_of(strategy: str | PETSc.KSP | OwnSolver, *, assembled: bool) -> str:
    """Return what to do when a strategy has failed, for messages.  (Not collective.)"""
    if strategy == "direct":
        return (
            "the eigenvalue may be multiple or defective, or nearly: look at pairs.clusters and "
            "pairs.gaps"
        )
    direct = 'use strategy="direct", or ' if assembled else ""
    if strategy == "ksp":
        return direct + "raise ksp_max_it, or choose another ksp_type"
    return direct + "make the solver given as strategy more accurate"

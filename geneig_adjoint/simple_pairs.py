"""Pairs of nonsymmetric pencils that are proved to be simple by the factors of their left vectors.

A value that has a second copy, or belongs to a Jordan block, makes the bordered matrix of its pair
singular; one with a near neighbour makes it nearly so. Two steps of inverse iteration with its
factor, which left vector and adjoints need anyway, tell how far the next value is. A second start
of Krylov-Schur in the complement, which looks for missed copies elsewhere, takes some forty
solves for the same.

Other values than copies are no matter of the start vector: a random one holds a part of every
eigenvector, which grows with every step, and the space that has found the wanted pairs to ten
digits shows whatever lies as near to the target.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.clusters import group_values
from geneig_adjoint.completeness import window_end
from geneig_adjoint.eigenpairs import Completeness
from geneig_adjoint.errors import ConvergenceError, IllConditionedWarning, InputError
from geneig_adjoint.near_factors import factors_pay, forward_share, keep
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms
from geneig_adjoint.right_pairs import RightPairs
from geneig_adjoint.wanted import Wanted

EXTRA_CANDIDATES = 2
"""Left pairs asked for beyond the right ones: the two solves may cut the spectrum differently."""
LEFT_TYPES = (None, "krylov", "factors")
SAME = 1e-13
"""Relative distance of a value from the conjugate of its partner: equal but for rounding."""

RITZ = "ga_ritz"
TIGHT = 1e-8
"""Tolerance of an eigensolve that lets no value nearer to the target go unseen."""
ALLOWED = ("eps_tol", "eps_nev", "eps_target")
"""Options of eigensolves that change nothing of how they proceed."""
TOLD = 0.1
"""Relative residual above which a Ritz value tells nothing."""
INFLATED = 10.0
"""Errors of Ritz values relative to their residuals, as far as they are foreseen."""
NEAREST = 1e-4
"""Distance of the next value, relative to that of the shift, from which a pair is simple."""
BEYOND = 10.0
"""The same, relative to how far the window reaches beyond the last pair."""
STEPS = 2
SECOND_START = 30.0
"""Solves that a search in the complement takes, usually."""


def takes_factors(pencil: Pencil, found: RightPairs, wanted: Wanted, *, saved: float = 0.0) -> bool:
    """Tell whether left vectors come from bordered matrices, one factor each.

    Not collective; the same on all ranks. saved: other solves that these save.
    """
    kind = wanted.option("left_type", wanted.options)
    if kind not in LEFT_TYPES:
        raise InputError(
            f'left_type must be "krylov" or "factors", got {kind!r}; leave it out for the cheaper'
        )
    transformation = found.transformation
    if transformation is None or kind == "krylov":
        return False
    if kind == "factors":
        return pencil.factorable
    # Krylov-Schur starts with a basis of twice the pairs at least, and renews half of it.
    nev = len(found.values) + EXTRA_CANDIDATES
    solves = max(2 * nev, nev + 15) * (1 + 0.5 * found.iterations) + saved
    upper = found.values.imag >= 0 if _petsc.REAL_SCALARS else np.ones(len(found.values), bool)
    return factors_pay(pencil, transformation, found.values[upper], solves)


def groups_of_values(pencil: Pencil, found: RightPairs) -> tuple[tuple[int, ...], ...]:
    """Return the pairs grouped into clusters.  (Not collective.)"""
    estimate = found.residuals * (pencil.norms[0] + np.abs(found.values) * pencil.norms[1])
    return group_values(found.values, estimate)


def partner_of(found: RightPairs, j: int) -> int | None:
    """Return the pair of which pair j is the conjugate in a real build.  (Not collective.)"""
    lam = found.values[j]
    if not _petsc.REAL_SCALARS or lam.imag >= 0:
        return None
    distances = np.abs(found.values - lam.conj())
    partner = int(np.argmin(distances))
    return partner if distances[partner] <= SAME * np.abs(lam) else None


def bordered_of(pencil: Pencil, found: RightPairs, members: list[int]) -> BorderedSystem:
    """Return the system of the first of some pairs with all of them in the border."""
    return BorderedSystem(
        pencil,
        complex(found.values[members[0]]),
        found.right[:, members],
        members=found.values[members],
        transformation=found.transformation,
        settings=AdjointSettings("direct" if pencil.factorable else "ksp"),
        name=f"left vector {members[0]}",
    )


class RitzWatch:
    """Monitor of an EPS: the Ritz values of its last restart, and their relative residuals."""

    def __init__(self) -> None:
        self.values, self.residuals = np.zeros(0, dtype=complex), np.zeros(0)

    def __call__(self, eps: SLEPc.EPS, _: int, __: int, values: Any, residuals: Any) -> None:
        """Keep what the EPS has.  (Not collective.)"""
        self.values = np.asarray(values, dtype=complex)
        self.residuals = np.asarray(residuals, dtype=float)


def watch_ritz_values(eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted) -> None:
    """Let an EPS that is set up remember its Ritz values, where `proved_simple` may ask.

    Not collective.
    """
    prefix = f"{wanted.prefix}ga_"
    given = (name.removeprefix(prefix) for name in PETSc.Options().getAll())
    names = {*wanted.options, *given}
    chosen = any(name.startswith("eps_") and name not in ALLOWED for name in names)
    if wanted.left and not pencil.definite and wanted.start is None and not chosen:
        watch = RitzWatch()
        eps.setMonitor(watch)
        eps.setAttr(RITZ, watch)


def proved_simple(
    eps: SLEPc.EPS,
    pencil: Pencil,
    wanted: Wanted,
    found: RightPairs,
    converged: tuple[Block, Block],
) -> Completeness | None:
    """Return that nothing was missed, as far as an eigensolve and factors next to it tell.

    Collective. The factors are kept with the transformation. None: it is to be looked for.

    Parameters
    ----------
    eps
        Solved, and watched by `watch_ritz_values`.
    pencil, wanted
        What was solved.
    found
        Its pairs.
    converged
        All values that have converged, and their estimated errors.

    """
    watch, transformation = eps.getAttr(RITZ), found.transformation
    if watch is None or transformation is None or transformation.sigma is None:
        return None
    sigma, number = complex(transformation.sigma), len(found.values)
    # Of these left vectors cost nothing, and factors would be made for the proof alone.
    cheap = pencil.symmetric or pencil.problem_type == "ghiep"
    if cheap or found.tolerance > TIGHT:
        return None
    cut = window_end(pencil, wanted, *converged)
    more = np.count_nonzero(wanted.keys(converged[0]) <= cut) > number
    more = more or len(groups_of_values(pencil, found)) < number
    if more or _shows_more(pencil, wanted, watch, (sigma, cut, number)):
        return None
    saved = SECOND_START * forward_share(transformation)
    if not takes_factors(pencil, found, wanted, saved=saved):
        return None
    beyond = BEYOND * float(cut - wanted.keys(found.values).max())
    for j in map(int, np.argsort(-found.values.imag, kind="stable")):
        distance = max(NEAREST * abs(found.values[j] - sigma), beyond)
        if partner_of(found, j) is None and not _stands_alone(pencil, found, j, distance):
            transformation.forget()
            return None
    return Completeness("simple", number, None, wanted.window(cut))


def _shows_more(
    pencil: Pencil, wanted: Wanted, watch: RitzWatch, window: tuple[complex, float, int]
) -> bool:
    """Tell whether there are more Ritz values with keys up to the cut than pairs.  (Collective.)"""
    sigma, cut, known = window
    told = watch.residuals <= TOLD
    theta = watch.values * (1.0 + INFLATED * np.where(told, watch.residuals, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        keys = wanted.keys(sigma + 1.0 / theta)
    return bool(pencil.comm.bcast(np.count_nonzero(keys <= cut) > known, root=0))


def _stands_alone(pencil: Pencil, found: RightPairs, j: int, distance: float) -> bool:
    """Tell whether no value is as near to that of a pair, and keep the factor that told it.

    Collective.
    """
    assert found.transformation is not None
    system, stored = bordered_of(pencil, found, [j]), False
    try:
        alone = False
        with suppress(ConvergenceError):
            alone = _growth(pencil, system) * distance <= 1.0
        if alone:
            stored = keep(found.transformation, complex(found.values[j]), system)
    finally:
        if not stored:
            system.close()
    return alone


def _growth(pencil: Pencil, system: BorderedSystem) -> float:
    """Return 1 / distance of the next value from that of a bordered system, or less.

    Collective.
    """
    block, growth = _petsc.deterministic_block(pencil.rows, 1, seed=23), 0.0
    zero = np.zeros((1, 1))
    for _ in range(STEPS):
        block = block / max(float(column_norms(pencil.comm, block)[0]), TINY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IllConditionedWarning)
            block = system.solve(pencil.multiply_b(block), zero, hermitian=False)[0]
        growth = max(growth, float(column_norms(pencil.comm, block)[0]))
    return growth if np.isfinite(growth) else np.inf

"""Exceptional points told from problems that are merely hard to solve: by null vectors.

A - lam B with a border of B x and x is singular at an exceptional point, and as good as singular
for a matrix that is stiff enough, or for a solver that was stopped too early. With any other
border it is regular in all of these cases, and gives a right and a left vector of lam: how far
rounding of each entry of A and B then moves lam tells the cases apart, whatever ||A|| is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.conditioning import (
    DEFECTIVE_CONDITION,
    LARGEST_SPLIT,
    NEAR_ZERO,
    defects,
    euclidean_conditions,
    is_split,
)
from geneig_adjoint.entrywise import moved_by_rounding
from geneig_adjoint.errors import ConvergenceError, DefectiveEigenvalueError, IllConditionedWarning
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pencil import Pencil

RING_SHARE = 1e-5
"""Of the step to the nearest value, that rounding of each entry moves a number among those of a
chain; of chains of four it is 1e-4 and more, of matrices that are merely far from normal 1e-13."""


@dataclass(frozen=True)
class _Measured:
    """Condition of a number as an eigenvalue, what rounding does to it, and the next value."""

    condition: float
    rounding: float
    step: float


def _measured(pencil: Pencil, lam: complex) -> _Measured | None:
    """Return what vectors that A - lam B all but annihilates tell; None: nothing.  (Collective.)"""
    if not pencil.factorable:
        return None
    try:
        x, y = _null_vectors(pencil, lam)
    except ConvergenceError:
        return None
    values = np.array([lam])
    product = np.abs(column_dots(pencil.comm, y, pencil.multiply_b(x)))[0]
    off = np.abs(column_dots(pencil.comm, y, defects(pencil, values, x)))[0]
    return _Measured(
        float(euclidean_conditions(pencil, x, y)[0]),
        float(moved_by_rounding(pencil, values, x, y)[0]),
        float(off / max(product, TINY)),
    )


def _null_vectors(pencil: Pencil, lam: complex) -> tuple[Block, Block]:
    """Return x and y, (n_local, 1) each, with a residual in one direction.  (Collective.)"""
    border = _petsc.deterministic_block(pencil.rows, 1, seed=29)
    zero, one = np.zeros_like(border), np.ones((1, 1))
    settings = AdjointSettings("direct")
    with (
        BorderedSystem(pencil, lam, border, settings=settings, name="a number") as system,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", IllConditionedWarning)
        x, y = (system.solve(zero, one, hermitian=side)[0] for side in (False, True))
    return x, y


@contextmanager
def explained_as_defective(pencil: Pencil, j: int, value: complex, gap: float) -> Iterator[None]:
    """Tell an exceptional point from a solve that fails for other reasons.

    Collective where it fails; the error meant is raised on all ranks.

    Parameters
    ----------
    pencil
        A and B.
    j, value, gap
        Index and eigenvalue of a pair, and the distance to the next one.

    Raises
    ------
    DefectiveEigenvalueError
        In place of a ConvergenceError, when the value and its neighbour are members of a chain
        that rounding has split; without entries that can be factored, when a neighbour is near.

    """
    try:
        yield
    except ConvergenceError as error:
        known = _measured(pencil, value)
        if known is None:
            size = max(abs(value), NEAR_ZERO * pencil.norms[0] / max(pencil.norms[1], TINY))
            condition, split = float(size / max(gap, TINY)), gap <= LARGEST_SPLIT * size
        else:
            condition = known.condition
            split = is_split(condition, value, gap, known.rounding)
        if not split:
            raise
        raise DefectiveEigenvalueError(
            f"eigenvalue {j} must be simple to have a left vector, got {value:.12g} with "
            f"a neighbour at distance {gap:.1e} and a singular bordered system: an exceptional "
            "point; move the parameters away from it, or pass left=False for values and right "
            "vectors alone",
            condition=condition,
        ) from error


def check_target(pencil: Pencil, target: complex) -> None:
    """Raise when no factor around a target is any good since rounding splits a chain there.

    Collective.

    Raises
    ------
    DefectiveEigenvalueError
        When it lies among the values of a chain, or as near to them.

    """
    known = _measured(pencil, target)
    if known is None or known.condition <= DEFECTIVE_CONDITION:
        return
    if known.rounding > RING_SHARE * known.step:
        raise DefectiveEigenvalueError(
            f"eigenvalues around the target must be simple, got {target:.12g} beside some that "
            f"rounding moves by their distances (condition number {known.condition:.1e}): an "
            "exceptional point, next to which there are no pairs; move the parameters away from "
            "it, or move the target away for values alone",
            condition=known.condition,
        )

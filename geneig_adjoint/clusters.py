"""Eigenvalues that cannot be told apart, and derivatives that do not exist because of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from geneig_adjoint._types import EPS, Block
from geneig_adjoint.conditioning import (
    check_not_defective,
    known_condition,
    warn_of_condition,
)
from geneig_adjoint.constraints import REMEDY, SHOWN
from geneig_adjoint.eigenpairs import RELATIVE_GAP, Eigenpairs
from geneig_adjoint.errors import (
    ConstrainedRowError,
    DegenerateEigenvalueError,
)
from geneig_adjoint.matching import linked
from geneig_adjoint.mixing import measured_mixing

ADMISSIBLE_ERROR = 1e-6
"""Largest predicted relative error of a gradient that is still returned."""
NEAR = 1e-2
"""Relative gap beyond which inexact eigenvalues are not taken for a cluster."""

APART = "or separate the values by a change of the design"
TANGENT = (
    "pairs must be simple to have tangents and second derivatives, got a member of",
    f"ask for the other pairs (columns= of jvp), use directional_derivatives, {APART}",
)
VECTOR = (
    "vectors of clusters are differentiated for Hermitian definite pencils only, got a member of",
    f"use functions of the eigenvalues of the whole cluster, directional_derivatives, {APART}",
)
REMEDIES = (
    "use a function of the whole cluster (sum, mean or KS over all its members, a spectral "
    "function), directional_derivatives, or separate the values by a change of the design"
)


def group_values(
    values: Block, errors: Block, *, relative: float = RELATIVE_GAP
) -> tuple[tuple[int, ...], ...]:
    """Return the indices of eigenvalues grouped into clusters.

    Not collective. i and j belong together when |lam_i - lam_j| is at most
    1e-6 max(|lam_i|, |lam_j|) + 10 (err_i + err_j), and with them all in between.
    ``relative`` replaces the 1e-6.
    """
    errors = np.where(np.isnan(errors), 0.0, errors)  # unknown without left vectors
    distance = np.abs(values[:, None] - values)
    size = np.abs(values)
    limit = relative * np.maximum(size[:, None], size) + 10 * (errors[:, None] + errors)
    return tuple(map(tuple, linked(distance <= limit)))


def nearest_gaps(values: Block) -> Block:
    """Return the distance of every value to the nearest other one.  (Not collective.)"""
    distance = np.abs(values[:, None] - values[None, :])
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.min(axis=1, initial=np.inf))


def cluster_of(pairs: Eigenpairs, j: int) -> tuple[int, ...]:
    """Return the members of pair j's cluster, j among them.  (Not collective.)"""
    return next(group for group in pairs.clusters if j in group)


def check_value_cotangent(pairs: Eigenpairs, lam_bar: Block) -> None:
    """Raise when derivatives of single eigenvalues are asked for that do not exist.

    Collective; every rank comes to the same verdict.

    Raises
    ------
    DegenerateEigenvalueError
        When the weights of two values differ and the error of the pairs, divided by
        their gap, predicts a relative gradient error above 1e-6; outside of clusters the
        measured mixing of their vectors predicts it.
    DefectiveEigenvalueError
        When an eigenvalue with a large condition number has a close neighbour.
    ConstrainedRowError
        When one belongs to constrained rows.

    """
    largest = np.abs(lam_bar).max(initial=0.0)
    for i in np.flatnonzero(lam_bar):
        check_differentiable(pairs, int(i))
        for j in range(pairs.count):
            defect = float(np.abs(lam_bar[i] - lam_bar[j]))
            if i != j and defect > 0 and _mixed(pairs, (int(i), j), defect / largest):
                raise degenerate_error(pairs, (int(i), j), defect=defect / largest)


def _mixed(pairs: Eigenpairs, two: tuple[int, int], defect: float) -> bool:
    """Return whether weights that differ by a defect make a gradient wrong.  (Collective.)"""
    values, errors = pairs.values[list(two)], pairs.errors[list(two)]
    gap, size = float(np.abs(values[0] - values[1])), float(np.abs(values).max())
    error, together = float(errors.sum()), two[1] in cluster_of(pairs, two[0])
    if np.isnan(error):  # unknown without left vectors; then the clusters decide
        return together
    # Residuals may vanish by luck; eigenvalues are never better than rounding.
    if not defect * max(error, EPS * abs(values[0])) > ADMISSIBLE_ERROR * gap:
        return False
    if together or gap > NEAR * size:
        return together
    # Values of a stiff matrix that are merely inexact: what counts is whether vectors mix.
    return defect * float(measured_mixing(pairs, two).vectors[0, 1]) > ADMISSIBLE_ERROR


def check_vector_cotangent(pairs: Eigenpairs, j: int, *, tangent: bool = False) -> None:
    """Raise when a vector that is not unique is to be differentiated.

    Collective for pairs without left vectors. ``tangent``: forward, where the message names
    other remedies than for an objective of the vectors of a pencil that is not Hermitian.

    Raises
    ------
    DegenerateEigenvalueError
        When pair j belongs to a cluster.
    DefectiveEigenvalueError
        When it is close to defective.
    ConstrainedRowError
        When it belongs to constrained rows.

    """
    check_differentiable(pairs, j)
    members = cluster_of(pairs, j)
    if len(members) > 1:
        raise unresolved_error(pairs, members, *(TANGENT if tangent else VECTOR))


def unresolved_error(
    pairs: Eigenpairs, members: tuple[int, ...], need: str, remedies: str
) -> DegenerateEigenvalueError:
    """Return the error for what needs single pairs, or whole clusters, and got something else.

    Not collective. need: the message up to the members; remedies: what to do instead. Copies of
    constrained rows are no cluster of modes: their error is raised.
    """
    check_not_constrained(pairs, members)
    values = pairs.values[list(members)]
    gap = float(nearest_gaps(values).min())
    shown = ", ".join(f"{value:.12g}" for value in values)
    return DegenerateEigenvalueError(
        f"{need} the cluster of pairs {list(members)} with eigenvalues {shown} (gap {gap:.1e}); "
        f"{remedies}",
        members=members,
        gap=gap,
        defect=1.0,
    )


def degenerate_error(
    pairs: Eigenpairs, members: tuple[int, ...], *, defect: float
) -> DegenerateEigenvalueError:
    """Return the error for a derivative that does not exist in a cluster.

    Not collective. Copies of constrained rows are no cluster of modes: their error is raised.
    """
    need = (
        "the objective must treat the members of a cluster alike, got different weights (defect "
        f"{defect:.1e}) in"
    )
    error = unresolved_error(pairs, members, need, REMEDIES)
    error.defect = defect
    return error


def check_differentiable(pairs: Eigenpairs, j: int) -> None:
    """Raise when pair j has no derivative for a reason of its own, and warn about a rough one.

    Collective without left vectors, whose place the angles between right ones take.

    Raises
    ------
    DefectiveEigenvalueError
        When it is close to an exceptional point.
    ConstrainedRowError
        When it belongs to constrained rows.

    """
    condition = known_condition(pairs, j)
    check_not_defective(pairs, j, condition)
    check_not_constrained(pairs, (j,))
    warn_of_condition(j, condition, float(pairs.errors[j]))


def check_not_constrained(pairs: Eigenpairs, columns: Iterable[int]) -> None:
    """Raise when pairs are no modes of the problem.  (Not collective.)

    Raises
    ------
    ConstrainedRowError
        When one of them belongs to constrained rows.

    """
    members = [j for j in columns if j in pairs.info.constrained]
    if members:
        shown = ", ".join(f"{pairs.values[j]:.12g}" for j in members[:SHOWN])
        raise ConstrainedRowError(
            f"derivatives must be of modes of the problem, got pairs {members[:SHOWN]} with "
            f"eigenvalues {shown}, which belong to constrained rows kept in the matrices; "
            f"{REMEDY}; rows that are meant belong into a pencil of their own",
            members=members,
        )

"""From tangents of the matrices to tangents of the pairs: the bordered systems, not transposed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.adjoint import in_real_where_real, solved_left
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.clusters import check_vector_cotangent
from geneig_adjoint.eigenpairs import Eigenpairs, EigenTangent
from geneig_adjoint.gauge import complete_tangent
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pair_systems import Question, Steps, Task, run


def tangents(
    pairs: Eigenpairs,
    products: tuple[Block, Block],
    left_products: tuple[Block, Block] | None,
    settings: AdjointSettings,
    *,
    columns: Sequence[int] | None = None,
) -> EigenTangent:
    """Return the derivatives of pairs along one direction.

    Collective. Per pair, the bordered system untransposed with the right-hand side
    -(dA - lam dB) x; its lower unknown is -dlam.

    Parameters
    ----------
    pairs
        Eigenpairs; those asked for must be simple.
    products
        (dA @ right, dB @ right).
    left_products
        (dA^H @ left, dB^H @ left), None if the left tangent is not wanted or follows
        from the right one (Hermitian definite pencils).
    settings
        Of the bordered systems.
    columns
        Indices of the pairs, the same on every rank; the tangents of others are zero.
        None: all.

    """
    values = np.zeros(pairs.count, dtype=complex)
    right = np.zeros_like(pairs.right)
    left = None if pairs.left is None else np.zeros_like(pairs.left)
    with _petsc.log_stage("adjoint"):
        chosen = range(pairs.count) if columns is None else columns
        for j in chosen:
            check_vector_cotangent(pairs, j, tangent=True)
        tasks = [Task(j, (j,), _pair_steps(pairs, j, products, left_products)) for j in chosen]
        for j, found in zip(chosen, run(pairs, tasks, settings), strict=True):
            values[j], right[:, j] = found[:2]
            if left is not None and found[2] is not None:
                left[:, j] = found[2]
    if left_products is None and not pairs.pencil.definite:
        left = None
    return EigenTangent(values, right, left)


def _pair_steps(
    pairs: Eigenpairs,
    j: int,
    products: tuple[Block, Block],
    left_products: tuple[Block, Block] | None,
) -> Steps:
    """Return lam_dot, x_dot and y_dot of a pair, None for what is not wanted."""
    dA_x, dB_x = products
    lam = in_real_where_real(np.array([pairs.values[j]]), pairs)[0]
    if pairs.left is None and not pairs.pencil.definite:
        yield from solved_left(pairs, j)  # for its checks
    rhs = -(dA_x[:, [j]] - lam * dB_x[:, [j]])
    found = yield Question(rhs, np.zeros(1), hermitian=False)
    x_dot = complete_tangent(pairs, j, found.v[:, 0], dB_x[:, j])
    tangent = (-found.nu[0], x_dot, dB_x[:, j])
    y_dot = None
    if pairs.left is not None and pairs.pencil.definite:
        y_dot = _hermitian_left_tangent(pairs, j, tangent)
    elif pairs.left is not None and left_products is not None:
        y_dot = yield from _left_tangent(pairs, j, left_products, tangent)
    return *tangent[:2], y_dot


def _left_tangent(
    pairs: Eigenpairs,
    j: int,
    left_products: tuple[Block, Block],
    tangent: tuple[complex, Block, Block],
) -> Steps:
    """Differentiate (A - lam B)^H y = 0 and y^H B x = 1."""
    assert pairs.left is not None
    lam_dot, x_dot, dB_x = tangent
    y, lam = pairs.left[:, j], pairs.values[j]
    dAh_y, dBh_y = (product[:, j] for product in left_products)
    Bh_y = pairs.pencil.multiply_b(y[:, None], hermitian=True)[:, 0]
    rhs = -(dAh_y - np.conj(lam) * dBh_y - np.conj(lam_dot) * Bh_y)
    # b^H w = 0 makes w^H B x = 0, so that the multiple of y follows from the other terms.
    w = (yield Question(rhs[:, None], np.zeros(1), hermitian=True)).v[:, 0]
    terms = column_dots(
        pairs.comm, np.column_stack([y, Bh_y]), np.column_stack([dB_x, x_dot])
    ).sum()
    return np.asarray(w - np.conj(terms) * y)


def _hermitian_left_tangent(
    pairs: Eigenpairs, j: int, tangent: tuple[complex, Block, Block]
) -> Block:
    """Differentiate y = x / (x^H B x)."""
    _, x_dot, dB_x = tangent
    x = pairs.right[:, j]
    Bx = pairs.pencil.multiply_b(x[:, None])[:, 0]
    square, mixed, explicit = column_dots(
        pairs.comm, np.column_stack([x, Bx, x]), np.column_stack([Bx, x_dot, dB_x])
    ).real
    return np.asarray(x_dot / square - x * (2 * mixed + explicit) / square**2)

r"""From cotangents to adjoint vectors, and from tangents of matrices to tangents of pairs.

Per pair, with the projected cotangent x_eff (`normalization`):

    [ A - lam B   B x ]^H [ w  ]   [  x_eff   ]
    [   c^H        0  ]   [ mu ] = [ -lam_bar ],   a = -w,  b = conj(lam) w + (term of B)

and dg/dp_i = Re(a^H A_i x + b^H B_i x). If only eigenvalues are touched, w = -lam_bar y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.clusters import check_value_cotangent, check_vector_cotangent
from geneig_adjoint.collective import allreduce_same
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent
from geneig_adjoint.errors import InputError
from geneig_adjoint.gauge import complete_tangent, project_cotangent
from geneig_adjoint.normalization import column_dots


@dataclass
class Contraction:
    """Columns to be contracted with dA (left_a), dB (left_b) and right."""

    left_a: list[Block] = field(default_factory=list)
    left_b: list[Block] = field(default_factory=list)
    right: list[Block] = field(default_factory=list)

    def add(self, left_a: Block, left_b: Block, right: Block) -> None:
        """Append one column, or several."""
        for columns, new in zip(
            (self.left_a, self.left_b, self.right), (left_a, left_b, right), strict=True
        ):
            columns.append(new if new.ndim == 2 else new[:, None])

    def blocks(self, n_local: int) -> tuple[Block, Block, Block]:
        """Return the three blocks, (n_local, j) each."""
        empty = np.zeros((n_local, 0))
        a, b, r = (
            np.hstack([empty, *columns]) for columns in (self.left_a, self.left_b, self.right)
        )
        return a, b, r


def adjoint_vectors(
    pairs: Eigenpairs, cotangents: Sequence[EigenCotangent], settings: AdjointSettings
) -> list[Contraction]:
    """Return, for every cotangent, the vectors whose contraction is the gradient.

    Collective. One bordered system per pair serves all cotangents; pairs whose
    cotangent is zero cost nothing.

    Raises
    ------
    ConvergenceError
        When an adjoint solve misses its tolerance.
    DegenerateEigenvalueError, DefectiveEigenvalueError, GaugeError
        When a derivative asked for does not exist.

    """
    results = [Contraction() for _ in cotangents]
    duals = [_Dual(pairs, cotangent) for cotangent in cotangents]
    for dual in duals:
        check_value_cotangent(pairs, dual.lam_bar)
    with _petsc.log_stage("adjoint"):
        for j in range(pairs.count):
            _add_pair(pairs, j, duals, results, settings)
    for cotangent, result in zip(cotangents, results, strict=True):
        if cotangent.matrices is not None:
            result.add(*cotangent.matrices)
    return results


class _Dual:
    """A cotangent with its missing parts filled in and its zero columns known."""

    def __init__(self, pairs: Eigenpairs, cotangent: EigenCotangent) -> None:
        k = pairs.count
        values = np.zeros(k) if cotangent.values is None else np.asarray(cotangent.values)
        # The eigenvalues of a Hermitian pencil are real: an imaginary part has no effect.
        self.lam_bar = values.real.astype(complex) if pairs.pencil.definite else values
        self.x_bar = _nonzero_columns(pairs, cotangent.right)
        self.y_bar = _nonzero_columns(pairs, cotangent.left)
        if self.y_bar and pairs.left is None:
            raise InputError(
                "a cotangent of left vectors needs pairs with left vectors, got pairs solved with "
                "left=False; solve again with left=True"
            )


def _nonzero_columns(pairs: Eigenpairs, block: Block | None) -> dict[int, Block]:
    """Return the columns that are nonzero on any rank."""
    present = pairs.comm.allreduce(int(block is not None))
    if not present:
        return {}
    shape = (pairs.pencil.n_local, pairs.count)
    block = np.zeros(shape) if block is None else np.asarray(block)
    used = allreduce_same(pairs.comm, np.count_nonzero(block, axis=0).astype(float))
    return {int(j): block[:, j] for j in np.flatnonzero(used)}


def _add_pair(
    pairs: Eigenpairs,
    j: int,
    duals: Sequence[_Dual],
    results: Sequence[Contraction],
    settings: AdjointSettings,
) -> None:
    vector = [i for i, dual in enumerate(duals) if j in dual.x_bar or j in dual.y_bar]
    # The left vector is the adjoint of the eigenvalue; without it the system gives it.
    scalar = [i for i, dual in enumerate(duals) if i not in vector and dual.lam_bar[j] != 0]
    lam, x = pairs.values[j], pairs.right[:, j]
    if pairs.left is not None:
        for i in scalar:
            a = _match(duals[i].lam_bar[j] * pairs.left[:, j], pairs)
            results[i].add(a, -_conj_value(lam, a) * a, x)
        scalar = []
    if not vector and not scalar:
        return
    if vector:
        check_vector_cotangent(pairs, j)
    with _bordered(pairs, j, settings) as system:
        _add_solved(pairs, j, system, [(duals[i], results[i]) for i in vector + scalar])


def _add_solved(
    pairs: Eigenpairs, j: int, system: BorderedSystem, parts: list[tuple[_Dual, Contraction]]
) -> None:
    lam, x = pairs.values[j], pairs.right[:, j]
    projected = []
    for dual, result in parts:
        x_bar = dual.x_bar.get(j, np.zeros_like(x))
        if j in dual.y_bar:
            x_bar = x_bar + _left_cotangent(pairs, j, system, dual.y_bar[j], result)
        projected.append(project_cotangent(pairs, j, x_bar))
    rhs = np.column_stack([item.x_eff for item in projected])
    rho = -np.array([dual.lam_bar[j] for dual, _ in parts])
    if rhs.dtype.kind == "f" and pairs.right.dtype.kind == "f":
        rho = rho.real
    w, _ = system.solve(rhs, rho, hermitian=True)
    for column, (_, result) in enumerate(parts):
        a = -w[:, column]
        result.add(a, -_conj_value(lam, a) * a + projected[column].left_b, x)


def _left_cotangent(
    pairs: Eigenpairs, j: int, system: BorderedSystem, y_bar: Block, result: Contraction
) -> Block:
    """Add the part of y_bar that moves y, and return what it adds to x_bar.

    With nu = y^H y_bar and (A - lam B) v = y_bar - nu B x, y^H B v = 0: contract v with
    (-y, conj(lam) y) and x with (0, -conj(nu) y); x_bar loses conj(nu) B^H y.
    """
    assert pairs.left is not None
    y, x, lam = pairs.left[:, j], pairs.right[:, j], pairs.values[j]
    Bh_y = pairs.pencil.multiply_b(y[:, None], hermitian=True)[:, 0]
    nu = column_dots(pairs.comm, y[:, None], y_bar[:, None])[0]
    v = system.solve(y_bar[:, None], np.zeros(1), hermitian=False)[0]
    v = v[:, 0] - x * column_dots(pairs.comm, Bh_y[:, None], v)[0]
    result.add(-y, _conj_value(lam, y) * y, v)
    result.add(np.zeros_like(y), -np.conj(nu) * y, x)
    return np.asarray(-np.conj(nu) * Bh_y)


def _bordered(pairs: Eigenpairs, j: int, settings: AdjointSettings) -> BorderedSystem:
    return BorderedSystem(
        pairs.pencil,
        complex(pairs.values[j]),
        pairs.right[:, j],
        transformation=pairs.factor,
        settings=settings,
        name=f"eigenpair {j}",
    )


def _match(block: Block, pairs: Eigenpairs) -> Block:
    """Return a real block where the pairs are real."""
    return np.asarray(block.real if pairs.right.dtype.kind == "f" else block)


def _conj_value(lam: complex, block: Block) -> complex:
    return lam.real if block.dtype.kind == "f" else np.conj(lam)


def tangents(
    pairs: Eigenpairs,
    products: tuple[Block, Block],
    left_products: tuple[Block, Block] | None,
    settings: AdjointSettings,
) -> EigenTangent:
    """Return the derivatives of all pairs along one direction.

    Collective. Per pair, the bordered system untransposed with the right-hand side
    -(dA - lam dB) x; its lower unknown is -dlam.

    Parameters
    ----------
    pairs
        Simple eigenpairs.
    products
        (dA @ right, dB @ right).
    left_products
        (dA^H @ left, dB^H @ left), None if the left tangent is not wanted or follows
        from the right one (Hermitian definite pencils).
    settings
        Of the bordered systems.

    """
    dA_x, dB_x = products
    values = np.zeros(pairs.count, dtype=complex)
    right = np.zeros_like(pairs.right)
    left = None if pairs.left is None else np.zeros_like(pairs.left)
    with _petsc.log_stage("adjoint"):
        for j in range(pairs.count):
            check_vector_cotangent(pairs, j)
            lam = _match(np.array([pairs.values[j]]), pairs)[0]
            with _bordered(pairs, j, settings) as system:
                rhs = -(dA_x[:, [j]] - lam * dB_x[:, [j]])
                v, nu = system.solve(rhs, np.zeros(1), hermitian=False)
                values[j] = -nu[0]
                right[:, j] = complete_tangent(pairs, j, v[:, 0], dB_x[:, j])
                tangent = (values[j], right[:, j], dB_x[:, j])
                if left is not None and left_products is not None:
                    left[:, j] = _left_tangent(pairs, j, system, left_products, tangent)
            if left is not None and pairs.pencil.definite:
                left[:, j] = _hermitian_left_tangent(pairs, j, tangent)
    if left_products is None and not pairs.pencil.definite:
        left = None
    return EigenTangent(values, right, left)


def _left_tangent(
    pairs: Eigenpairs,
    j: int,
    system: BorderedSystem,
    left_products: tuple[Block, Block],
    tangent: tuple[complex, Block, Block],
) -> Block:
    """Differentiate (A - lam B)^H y = 0 and y^H B x = 1."""
    assert pairs.left is not None
    lam_dot, x_dot, dB_x = tangent
    y, lam = pairs.left[:, j], pairs.values[j]
    dAh_y, dBh_y = (product[:, j] for product in left_products)
    Bh_y = pairs.pencil.multiply_b(y[:, None], hermitian=True)[:, 0]
    rhs = -(dAh_y - np.conj(lam) * dBh_y - np.conj(lam_dot) * Bh_y)
    # b^H w = 0 makes w^H B x = 0, so that the multiple of y follows from the other terms.
    w = system.solve(rhs[:, None], np.zeros(1), hermitian=True)[0][:, 0]
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

"""Directions in the parameters of batches of elements, and what must hold along them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.differentiation import STEP, scale
from geneig_adjoint.energies import outer_products
from geneig_adjoint.errors import InputError


def unit_directions(values: Mapping[str, Block], name: str, column: int) -> dict[str, Block]:
    """Return directions that are 1 in one column of one parameter, else 0."""
    dots = {other: np.zeros(value.shape) for other, value in values.items()}
    dots[name].reshape(dots[name].shape[0], -1)[:, column] = 1.0
    return dots


def moved(values: Mapping[str, Block], dots: Mapping[str, Block], steps: Block) -> dict[str, Block]:
    """Return values + steps dots, with one step per element."""
    return {
        name: value + steps.reshape(-1, *[1] * (value.ndim - 1)) * dots[name]
        for name, value in values.items()
    }


def standing_still(dots: Mapping[str, Block], count: int) -> Block:
    """Return which elements do not move along dots, (count,)."""
    still = np.ones(count, dtype=bool)
    for dot in dots.values():
        still &= ~np.any(np.reshape(dot, (count, -1)), axis=1)
    return still


def first_steps(values: Mapping[str, Block], dots: Mapping[str, Block]) -> Block:
    """Return the first steps of `difference` along dots, (batch,), by the values that move most."""
    count = len(next(iter(values.values())))
    rates = np.zeros(count)
    for name, value in values.items():
        rate = np.abs(dots[name] / scale(value)).reshape(count, -1).max(axis=1, initial=0.0)
        rates = np.maximum(rates, rate)
    return STEP / np.where(rates > 0, rates, 1.0)


def check_derivatives(found: Block, rows: slice, what: str) -> None:
    """Raise, naming the first element, unless derivatives are finite.  (Not collective.)"""
    bad = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(axis=1))
    if bad.size:
        raise InputError(
            f"derivatives of {what} must be finite, got NaN or Inf in {bad.size} elements, the "
            f"first is element {rows.start + int(bad[0])} of this rank; keep away from values "
            "without a derivative (sqrt or a power at 0)"
        )


def partials(
    values: Mapping[str, Block],
    slope: Callable[[Mapping[str, Block], Block], Block],
    left: Block,
    right: Block,
) -> dict[str, Block]:
    """Return Re sum_j left_j^H slope(unit direction, values) right_j, value by value."""
    outer = outer_products(left, right, real=False)
    real = np.ascontiguousarray(outer.real)
    bars = {name: np.zeros(value.shape) for name, value in values.items()}
    for name, value in values.items():
        columns = value.reshape(len(outer), -1)
        found = bars[name].reshape(columns.shape)
        for column in range(columns.shape[1]):
            matrices = slope(unit_directions(values, name, column), columns[:, column])
            found[:, column] = np.einsum("edf,edf->e", real, matrices.real)
            if np.iscomplexobj(matrices):
                found[:, column] -= np.einsum("edf,edf->e", outer.imag, matrices.imag)
    return bars

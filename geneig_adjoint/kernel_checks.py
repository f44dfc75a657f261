"""`check_kernels`: whether two sources of the same derivatives agree, element by element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.differenced_kernels import Differenced
from geneig_adjoint.differentiation import scale
from geneig_adjoint.directions import unit_directions
from geneig_adjoint.errors import InputError
from geneig_adjoint.kernels import Kernel

ENTRIES = 4_000_000
"""Entries of element matrices compared at once: 32 MB per real array."""
VECTORS = 2
FLOOR = 1e-3
"""Errors are relative to derivatives that are at least this part of matrix / value: of smaller
ones, the differences of large matrices know fewer digits."""


@dataclass(frozen=True)
class KernelComparison:
    """One quantity from two sources, at the element where they differ most.

    Attributes
    ----------
    quantity : str
        What was compared: ``"matrices"``, ``"derivative in area[1]"``, both kernels';
        ``"first vjp in area[1]"``, the vjp of the first kernel and its own derivative; ...
    element : int
        Element of this rank with the largest relative error.
    first, second : complex
        The entries there that differ most.
    relative_error : float
        Of that element, relative to its largest entry.

    """

    quantity: str
    element: int
    first: complex
    second: complex
    relative_error: float


@dataclass(frozen=True)
class KernelReport:
    """What `check_kernels` found; prints as a table.

    Attributes
    ----------
    comparisons : tuple of KernelComparison
        One per quantity and column of a parameter.
    rtol : float
        The bound.

    """

    comparisons: tuple[KernelComparison, ...]
    rtol: float

    @property
    def worst(self) -> KernelComparison:
        """The comparison with the largest error; one that is not a number counts as largest."""
        return max(self.comparisons, key=lambda one: np.nan_to_num(one.relative_error, nan=np.inf))

    @property
    def failures(self) -> tuple[KernelComparison, ...]:
        """The quantities that do not agree to ``rtol`` at some element."""
        return tuple(one for one in self.comparisons if not one.relative_error <= self.rtol)

    @property
    def passed(self) -> bool:
        """Whether every quantity agrees to ``rtol`` at every element."""
        return not self.failures

    def __str__(self) -> str:
        width = max(len(one.quantity) for one in self.comparisons) + 2
        lines = [f"{'quantity':<{width}}worst element   first          second         rel. error"]
        lines += [
            f"{one.quantity:<{width}}{one.element:<16d}{one.first:<14.6g} {one.second:<14.6g} "
            f"{one.relative_error:.1e}"
            for one in self.comparisons
        ]
        verdict = "passed" if self.passed else f"FAILED, worst at element {self.worst.element}"
        return "\n".join([*lines, f"verdict: {verdict} (bound {self.rtol:.0e})"])


def check_kernels(
    first: Kernel,
    second: Kernel | None,
    values: Mapping[str, Block],
    *,
    rtol: float = 1e-9,
    seed: int = 0,
) -> KernelReport:
    """Compare everything two kernels say about the same elements, and name the worst element.

    Not collective. Compares the matrices, their derivative in every column of every parameter,
    the ``vjp`` of each with its own derivative between vectors drawn at random, and the
    ``vjp_tangent`` of both where both have one.

    Parameters
    ----------
    first, second
        Two kernels of the same elements: a `JaxKernel` and a `NumpyKernel`, or a kernel with a
        derivative of your own. ``second=None``: differences of eighth order of the first one's
        matrices, whose relative errors are near 1e-12.
    values
        The elements' parameters as kernels get them, ``{"rho": p["rho"][ids]}``: (batch,) or
        (batch, q).
    rtol
        Largest error of an element, relative to its largest entry.
    seed
        Of the vectors.

    Returns
    -------
    KernelReport
        ``report.passed``, ``report.worst``, and a table when printed.

    Raises
    ------
    InputError
        Without values, or when the kernels' results have different shapes.

    """
    counts = {len(value) for value in values.values()}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            "check_kernels needs the values of at least one element, as many for every parameter, "
            f"got {sorted(counts)} values; pass {{name: p[name][ids]}}"
        )
    other: Kernel = Differenced(first) if second is None else second
    count = counts.pop()
    nd = np.shape(first.matrices(_cut(values, slice(0, 1)), slice(0, 1)))[-1]
    step = max(1, ENTRIES // max(nd * nd, 1))
    worst: dict[str, KernelComparison] = {}
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        for one in _comparisons((first, other), _cut(values, rows), rows, seed):
            known = worst.get(one.quantity)
            if known is None or not one.relative_error <= known.relative_error:
                worst[one.quantity] = one
    return KernelReport(tuple(worst.values()), rtol)


def _comparisons(
    kernels: tuple[Kernel, Kernel], values: Mapping[str, Block], rows: slice, seed: int
) -> Iterator[KernelComparison]:
    """Yield what the kernels differ by at these elements."""
    matrices = [np.asarray(kernel.matrices(values, rows)) for kernel in kernels]
    size = _largest(matrices[0])
    yield _comparison("matrices", matrices, 0 * size, rows)
    left, right = _vectors(matrices[0].shape, rows, seed)
    products = [kernel.vjp(values, left, right, rows) for kernel in kernels]
    lengths = np.linalg.norm(left, axis=(1, 2)) * np.linalg.norm(right, axis=(1, 2))
    for name, column in _columns(values):
        unit = unit_directions(values, name, column)
        floor = FLOOR * size / scale(_column(values[name], column))
        slopes = [np.asarray(kernel.derivative(values, unit, rows)) for kernel in kernels]
        yield _comparison(f"derivative in {name}[{column}]", slopes, floor, rows)
        # Its own derivative: a vjp is wrong by itself, or alike in both kernels.
        for which, slope, product in zip(("first", "second"), slopes, products, strict=True):
            pair = [_column(product[name], column), _contracted(slope, left, right)]
            bound = np.maximum(lengths * np.maximum(_largest(slope), floor), floor)
            yield _comparison(f"{which} vjp in {name}[{column}]", pair, FLOOR * bound, rows)
    yield from _second_comparisons(kernels, values, (left, right), rows, size * lengths)


def _second_comparisons(
    kernels: tuple[Any, Any],
    values: Mapping[str, Block],
    sides: tuple[Block, Block],
    rows: slice,
    size: Block,
) -> Iterator[KernelComparison]:
    """Yield what second derivatives along a random direction differ by, where both have them."""
    if not all(hasattr(kernel, "vjp_tangent") for kernel in kernels):
        return
    rng = np.random.default_rng(rows.start)
    dots = {name: scale(v) * rng.uniform(0.5, 1.0, v.shape) for name, v in values.items()}
    products = [kernel.vjp_tangent(values, dots, *sides, rows) for kernel in kernels]
    for name, column in _columns(values):
        floor = FLOOR * size / scale(_column(values[name], column))
        pair = [_column(product[name], column) for product in products]
        yield _comparison(f"vjp_tangent in {name}[{column}]", pair, floor, rows)


def _comparison(quantity: str, pair: list[Block], floor: Block, rows: slice) -> KernelComparison:
    """Compare element by element, relative to the largest entry or to the floor."""
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"{quantity} of two kernels must have the same shape, got {pair[0].shape} and "
            f"{pair[1].shape}; the kernels are not of the same elements"
        )
    one, other = (block.reshape(len(block), -1) for block in pair)
    distance = np.abs(one - other)
    size = np.maximum(np.maximum(_largest(one), _largest(other)), floor)
    errors = distance.max(axis=1, initial=0.0) / np.maximum(size, TINY)
    element = int(np.argmax(np.nan_to_num(errors, nan=np.inf)))
    entry = int(np.argmax(np.nan_to_num(distance[element], nan=np.inf)))
    found = [complex(block[element, entry]) for block in (one, other)]
    first, second = (value.real if value.imag == 0 else value for value in found)
    return KernelComparison(quantity, rows.start + element, first, second, float(errors[element]))


def _vectors(shape: tuple[int, ...], rows: slice, seed: int) -> tuple[Block, Block]:
    rng = np.random.default_rng([seed, rows.start])
    parts = rng.normal(size=(4, *shape[:2], VECTORS))
    return parts[0] + 1j * parts[1], parts[2] + 1j * parts[3]


def _contracted(slope: Block, left: Block, right: Block) -> Block:
    return np.asarray(np.sum(left.conj() * (slope @ right), axis=(1, 2)).real)


def _columns(values: Mapping[str, Block]) -> Iterator[tuple[str, int]]:
    for name, value in values.items():
        for column in range(value.reshape(len(value), -1).shape[1]):
            yield name, column


def _column(block: Block, column: int) -> Block:
    """Return a column of (batch, ...), a view."""
    return block.reshape(len(block), -1)[:, column]


def _largest(block: Block) -> Block:
    return np.asarray(np.abs(block.reshape(len(block), -1)).max(axis=1, initial=0.0))


def _cut(values: Mapping[str, Block], rows: slice) -> dict[str, Block]:
    return {name: np.asarray(value)[rows] for name, value in values.items()}

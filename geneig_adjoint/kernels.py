"""Element kernels: matrices of batches of elements, and their derivatives in the parameters.

A kernel works on batches: all arrays have the element as leading axis. Values of a
parameter have shape (batch,) or (batch, q), as the ids of the element block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.differentiation import (
    STEP,
    Subject,
    check_complex_step,
    check_curvature,
    check_real,
    difference,
    imaginary_parts,
    law_values,
    sample,
    scale,
    second_derivative,
)
from geneig_adjoint.directions import (
    check_derivatives,
    first_steps,
    moved,
    partials,
    standing_still,
)
from geneig_adjoint.energies import energies
from geneig_adjoint.errors import InputError
from geneig_adjoint.laws import Law, Linear, slope
from geneig_adjoint.structures import keywords


class Kernel(Protocol):
    """What an element block needs to know about its elements."""

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return the element matrices (batch, nd, nd) of the elements ``rows``."""
        ...

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return the derivative of the matrices along ``dots``, (batch, nd, nd)."""
        ...

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Return Re sum_j left_j^H (dK/dvalue) right_j for every value, in the shape of values.

        ``left`` and ``right`` have shape (batch, nd, k). Other names, shapes or complex numbers
        are refused.
        """
        ...

    # Only for second derivatives:
    # def vjp_tangent(self, values, dots, left, right, rows) -> dict[str, Block]
    #     """Return the derivative of vjp along dots."""


@dataclass(frozen=True)
class ScaledKernel:
    """Element matrices K_e = s(rho_e) K0, with one scalar parameter per element.

    Parameters
    ----------
    base
        K0: (nd, nd) shared by all elements of the block, or (n_elements, nd, nd).
    law
        s: `Linear`, `PowerLaw`, or any NumPy function of an array that is analytic
        (no abs, no comparison), whose derivative is taken by a complex step, its second one
        by a method ``curvature(rho)`` if it has one, else by `second_derivative`.

    """

    base: Block
    law: Law = field(default_factory=Linear)

    def __post_init__(self) -> None:
        """Take lists, too."""
        object.__setattr__(self, "base", np.asarray(self.base))

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return s(rho) K0."""
        return np.asarray(self.factors(values)[:, None, None] * self.base_of(rows))

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return s'(rho) rho_dot K0."""
        return np.asarray(self.slopes(values, dots)[:, None, None] * self.base_of(rows))

    def factors(self, values: Mapping[str, Block]) -> Block:
        """Return s(rho), (batch,)."""
        return law_values(self.law, _single(values))

    def slopes(self, values: Mapping[str, Block], dots: Mapping[str, Block]) -> Block:
        """Return s'(rho) rho_dot, (batch,)."""
        rho_dot = _single(dots)
        at = _where_moving(_single(values), rho_dot)
        return np.zeros(rho_dot.shape) if at is None else np.asarray(slope(self.law, at) * rho_dot)

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Return s'(rho) Re sum_j left_j^H K0 right_j."""
        return self.vjp_of_energies(values, energies(self.base_of(rows), left, right))

    def vjp_tangent(
        self,
        values: Mapping[str, Block],
        dots: Mapping[str, Block],
        left: Block,
        right: Block,
        rows: slice,
    ) -> dict[str, Block]:
        """Return s''(rho) rho_dot Re sum_j left_j^H K0 right_j."""
        energy = energies(self.base_of(rows), left, right)
        return self.vjp_tangent_of_energies(values, dots, energy)

    def vjp_of_energies(self, values: Mapping[str, Block], energy: Block) -> dict[str, Block]:
        """Return `vjp` from energies Re sum_j left_j^H K0 right_j, (batch,)."""
        return {next(iter(values)): slope(self.law, _single(values)) * energy}

    def vjp_tangent_of_energies(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], energy: Block
    ) -> dict[str, Block]:
        """Return `vjp_tangent` from energies Re sum_j left_j^H K0 right_j, (batch,)."""
        rho, rho_dot = _single(values), _single(dots)
        at = _where_moving(rho, rho_dot)
        bend = np.zeros(rho.shape) if at is None else self._curvature(at) * rho_dot
        return {next(iter(values)): bend * energy}

    def _curvature(self, rho: Block) -> Block:
        own = getattr(self.law, "curvature", None)
        if own is None:
            return second_derivative(self.law, rho)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.asarray(own(rho))
        check_curvature(rho, np.isfinite(found))
        return found

    def base_of(self, rows: slice) -> Block:
        """Return K0 of some elements."""
        return self.base if self.base.ndim == 2 else self.base[rows]


def _where_moving(rho: Block, rho_dot: Block) -> Block | None:
    """Return values with those that stand still replaced by one that moves; None without one.

    What stands still stays, even where there is no derivative: rho^1.5 at 0.
    """
    moving = rho_dot != 0
    return np.where(moving, rho, rho[np.argmax(moving)]) if moving.any() else None


def _single(values: Mapping[str, Block]) -> Block:
    return next(iter(values.values()))


MATRICES = Subject(
    "the function of a NumpyKernel",
    "return the pair (real part, imaginary part), or give the kernel "
    "tangent=function(values, dots, **data) that returns the derivative of the matrices",
)


@dataclass(frozen=True)
class NumpyKernel:
    """Element matrices from a NumPy function of any number of parameters.

    Parameters
    ----------
    function
        ``function(**values, **data)`` -> (batch, nd, nd). Without ``tangent`` it must be
        analytic in the values (plain arithmetic, sqrt, exp; no abs, conj or comparison) and
        pass complex numbers on: derivatives are taken by a complex step, the first of each kind
        compared with differences at three elements (InputError). Complex matrices come
        as a pair ``(real part, imaginary part)`` then, each real for real values.
    data
        Arrays with the element as leading axis, cut to the same batch as the values.
    tangent
        ``tangent(values, dots, **data)`` -> the derivative of the matrices along ``dots``;
        ``values`` and ``dots`` are mappings from names to arrays of the same shapes. With it
        the function may be any, complex-valued too. `check_kernels` compares the two.

    """

    function: Callable[..., Any]
    data: Mapping[str, Block] = field(default_factory=dict)
    tangent: Callable[..., Any] | None = None
    _compared: set[Any] = field(default_factory=set, init=False, repr=False, compare=False)

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return function(values), complex if it returns a pair."""
        found = _parts(self.function(**keywords(values), **self._data(rows)))
        if self.tangent is None or len(found) == 2:
            for part in found:
                check_real(part, MATRICES)
        return _joined(found)

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return Im function(values + i h dots) / h, or what ``tangent`` returns.

        Elements whose dots are 0 get exact zeros.
        """
        found = self._slope(values, dots, rows)
        check_derivatives(found, rows, "a NumpyKernel")
        return found

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Contract the derivative with respect to each value in turn."""

        def slope(unit: Mapping[str, Block], _: Block) -> Block:
            return self.derivative(values, unit, rows)

        return partials(values, slope, left, right)

    def vjp_tangent(
        self,
        values: Mapping[str, Block],
        dots: Mapping[str, Block],
        left: Block,
        right: Block,
        rows: slice,
    ) -> dict[str, Block]:
        """Contract the derivative along dots, differenced with respect to each value in turn.

        Elements whose dots are 0 get exact zeros.
        """

        def bend(unit: Mapping[str, Block], column: Block) -> Block:
            def at(steps: Block) -> Block:
                return self._slope(moved(values, unit, steps), dots, rows)

            return difference(at, STEP * scale(column), rows.start)

        return partials(values, bend, left, right)

    def _slope(self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice) -> Block:
        data = self._data(rows)
        if self.tangent is not None:
            return _own_slope(
                _joined(_parts(self.tangent(keywords(values), keywords(dots), **data))), dots
            )

        def at(step: complex) -> tuple[Block, ...]:
            there = {name: values[name] + step * dots[name] for name in values}
            return _parts(self.function(**keywords(there), **data))

        moves = any(np.any(dot) for dot in dots.values())
        found = _joined(imaginary_parts(at, moves, MATRICES))
        if moves and found.ndim == 3:
            self._check_first(found, values, dots, rows)
        return found

    def _check_first(
        self, found: Block, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> None:
        """Compare the first derivative of its kind with differences, at a few elements."""
        columns = {name: np.any(dots[name], axis=0) for name in values}
        kind = tuple((name, moves.tobytes()) for name, moves in columns.items())
        if kind in self._compared:
            return
        few = sample(np.flatnonzero(~standing_still(dots, len(found))))
        here, along = ({name: part[name][few] for name in values} for part in (values, dots))
        data = {name: array[few] for name, array in self._data(rows).items()}

        def at(steps: Block) -> Block:
            return _joined(_parts(self.function(**keywords(moved(here, along, steps)), **data)))

        check_complex_step(found[few], at, first_steps(here, along), MATRICES)
        self._compared.add(kind)

    def _data(self, rows: slice) -> dict[str, Block]:
        return {name: np.asarray(array)[rows] for name, array in self.data.items()}


def _parts(found: Any) -> tuple[Block, ...]:
    """Return what a function returned as one array, or as real and imaginary part."""
    if not isinstance(found, tuple):
        return (np.asarray(found),)
    if len(found) != 2:
        raise InputError(
            f"a function of a NumpyKernel must return an array or a pair, got {len(found)} "
            "arrays; return the matrices, or (real part, imaginary part) of complex ones"
        )
    return np.asarray(found[0]), np.asarray(found[1])


def _joined(parts: Sequence[Block]) -> Block:
    return parts[0] if len(parts) == 1 else np.asarray(parts[0] + 1j * parts[1])


def _own_slope(found: Block, dots: Mapping[str, Block]) -> Block:
    """Return the derivative that a user's function gave, zero for elements that stand still."""
    count = len(next(iter(dots.values()))) if dots else len(found)
    if found.ndim != 3 or len(found) != count or found.shape[1] != found.shape[2]:
        raise InputError(
            f"the tangent of a NumpyKernel must return shape ({count}, nd, nd), got {found.shape}; "
            "it returns the derivative of the matrices along dots, one matrix per element"
        )
    return np.where(standing_still(dots, count)[:, None, None], 0.0, found)


def differenced_vjp(
    kernel: Kernel,
    values: Mapping[str, Block],
    dots: Mapping[str, Block],
    sides: tuple[Block, Block],
    rows: slice,
) -> dict[str, Block]:
    """Return the derivative of a kernel's vjp along dots by differences of eighth order.

    Not collective. For the ``vjp_tangent`` of a kernel of your own with an exact vjp: relative
    errors are near 1e-12. Every element has its own step, which shrinks until sixth and
    eighth order agree; values move by 2 % at most, or by 0.02 where they are below 1e-6.
    Elements that do not move get exact zeros.

    Parameters
    ----------
    kernel
        Anything with ``vjp``.
    values, dots
        Point and direction, the element as leading axis.
    sides
        left and right, (batch, nd, k) each.
    rows
        The elements.

    """
    count = len(sides[0])
    sizes = {name: scale(value) for name, value in values.items()}

    def at(steps: Block) -> Block:
        found = kernel.vjp(moved(values, dots, steps), *sides, rows)
        # value x derivative: all parameters in the same unit
        return np.hstack([(found[name] * size).reshape(count, -1) for name, size in sizes.items()])

    bends = difference(at, first_steps(values, dots), rows.start)
    widths = np.cumsum([size.reshape(count, -1).shape[1] for size in sizes.values()])[:-1]
    parts = zip(sizes.items(), np.split(bends, widths, axis=1), strict=True)
    return {name: part.reshape(size.shape) / size for (name, size), part in parts}

"""Element kernels: matrices of batches of elements, and their derivatives in the parameters.

A kernel works on batches: all arrays have the element as leading axis. Values of a
parameter have shape (batch,) or (batch, q), as the ids of the element block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError

ComplexWarning: type[Warning] = getattr(np, "exceptions", np).ComplexWarning

COMPLEX_STEP = 1e-30
"""Far below any rounding: the derivative of an analytic function is exact to the last bits."""

CIRCLE = 0.02
"""Radius of the circles of `second_derivative`, relative to the number."""
CIRCLE_POINTS = 32
STEP = 5e-3
"""Relative step of `differenced_vjp`: truncation and rounding are both near 1e-13."""
EIGHTH = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}

Law = Callable[[Block], Block]


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

        ``left`` and ``right`` have shape (batch, nd, k).
        """
        ...

    # Only for second derivatives:
    # def vjp_tangent(self, values, dots, left, right, rows) -> dict[str, Block]
    #     """Return the derivative of vjp along dots."""


@dataclass(frozen=True)
class Linear:
    """The law s(rho) = rho."""

    def __call__(self, rho: Block) -> Block:
        """Return rho."""
        return rho

    def curvature(self, rho: Block) -> Block:
        """Return s'' = 0."""
        return np.zeros_like(rho)


@dataclass(frozen=True)
class PowerLaw:
    """The law s(rho) = floor + rho^p (SIMP with an additive floor).

    Parameters
    ----------
    p
        Exponent.
    floor
        Value at rho = 0; keeps a void element's matrix from vanishing.

    """

    p: float
    floor: float = 0.0

    def __call__(self, rho: Block) -> Block:
        """Return floor + rho^p."""
        return np.asarray(self.floor + rho**self.p)

    def curvature(self, rho: Block) -> Block:
        """Return s'' = p (p - 1) rho^(p - 2)."""
        factor = self.p * (self.p - 1)
        return np.zeros_like(rho) if factor == 0 else np.asarray(factor * rho ** (self.p - 2))


def complex_step(function: Callable[[Block], Block], x: Block, direction: Block) -> Block:
    """Return the derivative of an analytic function along a direction.

    Not collective. Im f(x + i h direction) / h with h so small that nothing is
    truncated (Squire & Trapp, SIAM Rev. 40(1), 1998).

    Raises
    ------
    InputError
        When the function drops the imaginary part: a derivative of zero would follow.

    """
    return _imaginary_part(
        lambda step: function(x + step * direction), bool(np.any(direction)), "a law"
    )


def second_derivative(function: Callable[[Block], Block], x: Block) -> Block:
    """Return f'' of an analytic function of one number, entry by entry.

    Not collective. Cauchy's integral over a circle around each entry by the trapezoidal
    rule, whose error falls geometrically (Lyness & Moler, SIAM J. Numer. Anal. 4(2), 1967):
    relative errors near 1e-12, as long as no singularity is closer than twice the radius.
    """
    radius = CIRCLE * np.maximum(np.abs(x), CIRCLE)
    total = np.zeros(np.shape(x))
    # f(conj z) = conj f(z): half of the circle holds all there is to know.
    for k in range(CIRCLE_POINTS // 2 + 1):
        direction = np.exp(2j * np.pi * k / CIRCLE_POINTS)
        weight = 1.0 if k in {0, CIRCLE_POINTS // 2} else 2.0
        total += weight * np.real(function(x + radius * direction) / direction**2)
    return np.asarray(2 * total / (CIRCLE_POINTS * radius**2))


def _imaginary_part(at: Callable[[complex], Block], moves: bool, what: str) -> Block:
    """Return Im at(i h) / h, for ``at`` a function of the step along some direction."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ComplexWarning)
        try:
            result = np.asarray(at(1j * COMPLEX_STEP))
        except ComplexWarning as warning:
            raise InputError(
                f"{what} must pass complex numbers on, got one that casts to real and drops the "
                "imaginary part; allocate with numpy.result_type(...) of the values"
            ) from warning
    if np.iscomplexobj(result):
        return np.asarray(np.imag(result) / COMPLEX_STEP)
    # Real for complex input: constant, or something like abs() that no complex step can see.
    if moves and not np.array_equal(at(1e-3), at(0.0)):
        raise InputError(
            f"{what} must be analytic, got one that returns real numbers for complex values; use "
            "plain arithmetic, sqrt or exp in place of abs, real or comparisons"
        )
    return np.zeros(result.shape)


@dataclass(frozen=True)
class ScaledKernel:
    """Element matrices K_e = s(rho_e) K0, with one scalar parameter per element.

    Parameters
    ----------
    base
        K0: (nd, nd) shared by all elements of the block, or (n_elements, nd, nd).
    law
        s: `Linear`, `PowerLaw`, or any NumPy function of an array that is analytic
        (no abs, no comparison); its derivative is taken by a complex step.

    """

    base: Block
    law: Law = field(default_factory=Linear)

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return s(rho) K0."""
        return self._scaled(self.law(_single(values)), rows)

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return s'(rho) rho_dot K0."""
        return self._scaled(self._slope(values) * _single(dots), rows)

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Return s'(rho) Re sum_j left_j^H K0 right_j."""
        return {next(iter(values)): self._slope(values) * self._energy(left, right, rows)}

    def vjp_tangent(
        self,
        values: Mapping[str, Block],
        dots: Mapping[str, Block],
        left: Block,
        right: Block,
        rows: slice,
    ) -> dict[str, Block]:
        """Return s''(rho) rho_dot Re sum_j left_j^H K0 right_j.

        s'' is the law's own ``curvature(rho)``, or Cauchy's integral.
        """
        rho, rho_dot = _single(values), _single(dots)
        own = getattr(self.law, "curvature", None)
        curvature = second_derivative(self.law, rho) if own is None else own(rho)
        return {next(iter(values)): curvature * rho_dot * self._energy(left, right, rows)}

    def _energy(self, left: Block, right: Block, rows: slice) -> Block:
        base = self._base(rows)
        if base.ndim == 2:  # one GEMM for the whole batch
            product = np.tensordot(right, base, axes=(1, 1)).transpose(0, 2, 1)
        else:
            product = base @ right
        return np.asarray(np.einsum("edk,edk->e", left.conj(), product).real)

    def _slope(self, values: Mapping[str, Block]) -> Block:
        rho = _single(values)
        return complex_step(self.law, rho, np.ones_like(rho))

    def _base(self, rows: slice) -> Block:
        return self.base if self.base.ndim == 2 else self.base[rows]

    def _scaled(self, factors: Block, rows: slice) -> Block:
        return np.asarray(factors[:, None, None] * self._base(rows))


def _single(values: Mapping[str, Block]) -> Block:
    return next(iter(values.values()))


@dataclass(frozen=True)
class NumpyKernel:
    """Element matrices from a NumPy function of any number of parameters.

    Parameters
    ----------
    function
        ``function(**values, **data)`` -> real (batch, nd, nd). It must be analytic in
        the values (plain arithmetic, sqrt, exp; no abs, conj or comparison) and must
        pass complex numbers on: derivatives are taken by a complex step.
    data
        Arrays with the element as leading axis, cut to the same batch as the values.

    """

    function: Callable[..., Block]
    data: Mapping[str, Block] = field(default_factory=dict)

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return function(values)."""
        result = np.asarray(self.function(**values, **self._data(rows)))
        if np.iscomplexobj(result):
            raise InputError(
                "a NumpyKernel must return real matrices for real values, got dtype "
                f"{result.dtype}; a complex step cannot differentiate complex-valued functions: "
                "split it into blocks, or write a kernel with its own derivative"
            )
        return result

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return Im function(values + i h dots) / h."""
        data = self._data(rows)

        def at(step: complex) -> Block:
            moved = {name: values[name] + step * dots[name] for name in values}
            return np.asarray(self.function(**moved, **data))

        moves = any(np.any(dot) for dot in dots.values())
        return _imaginary_part(at, moves, "a NumpyKernel")

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Contract the derivative with respect to each value in turn."""
        outer = np.einsum("edk,efk->edf", left.conj(), right).real
        return {name: self._partials(name, values, outer, rows) for name in values}

    def vjp_tangent(
        self,
        values: Mapping[str, Block],
        dots: Mapping[str, Block],
        left: Block,
        right: Block,
        rows: slice,
    ) -> dict[str, Block]:
        """Return the derivative of vjp along dots, by `differenced_vjp`."""
        return differenced_vjp(self, values, dots, (left, right), rows)

    def _partials(self, name: str, values: Mapping[str, Block], outer: Block, rows: slice) -> Block:
        partials = np.zeros(values[name].shape)
        columns = partials.reshape(partials.shape[0], -1)
        for column in range(columns.shape[1]):
            dots = unit_directions(values, name, column)
            derivative = self.derivative(values, dots, rows)
            columns[:, column] = np.einsum("edf,edf->e", outer, derivative)
        return partials

    def _data(self, rows: slice) -> dict[str, Block]:
        return {name: np.asarray(array)[rows] for name, array in self.data.items()}


def unit_directions(values: Mapping[str, Block], name: str, column: int) -> dict[str, Block]:
    """Return directions that are 1 in one column of one parameter, else 0."""
    dots = {other: np.zeros(value.shape) for other, value in values.items()}
    dots[name].reshape(dots[name].shape[0], -1)[:, column] = 1.0
    return dots


def differenced_vjp(
    kernel: Kernel,
    values: Mapping[str, Block],
    dots: Mapping[str, Block],
    sides: tuple[Block, Block],
    rows: slice,
) -> dict[str, Block]:
    """Return the derivative of a kernel's vjp along dots by differences of eighth order.

    Not collective. For a ``vjp_tangent`` of your own kernel: relative errors are near 1e-12
    if vjp is exact and changes little over 4 % of the values. Every element has its own
    step; elements that do not move get exact zeros.

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
    rates = np.zeros(sides[0].shape[0])
    for name, value in values.items():
        size, speed = (np.abs(a).reshape(len(rates), -1).max(axis=1) for a in (value, dots[name]))
        rates = np.maximum(rates, speed / np.where(size > 0, size, 1.0))
    step = STEP / np.where(rates > 0, rates, 1.0)

    def shaped(factor: Block, like: Block) -> Block:
        return factor.reshape(-1, *[1] * (like.ndim - 1))

    total = {name: np.zeros(value.shape) for name, value in values.items()}
    for k, weight in EIGHTH.items():
        for side in (k, -k):
            moved = {
                name: value + side * shaped(step, value) * dots[name]
                for name, value in values.items()
            }
            found = kernel.vjp(moved, *sides, rows)
            for name, part in found.items():
                total[name] += np.sign(side) * weight / shaped(step, part) * part
    moving = rates > 0
    return {name: np.where(shaped(moving, part), part, 0.0) for name, part in total.items()}

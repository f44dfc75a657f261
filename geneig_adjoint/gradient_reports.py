"""`GradientReport`: what `verify_gradient` found, and how it reads."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

import numpy as np

from geneig_adjoint.parameters import Gradient

LARGEST_DIFFERENCE = 1e-6
"""Of a derivative from differences, relative, that still counts as agreement."""


@dataclass(frozen=True)
class Comparison:
    """Directional derivative in one parameter: from the gradient and from differences.

    Attributes
    ----------
    parameter : str
    derivative, difference, relative_error : float
        ``relative_error`` is relative to the larger of the two and to the size of the
        gradient, so that a parameter without effect compares well.
    noise : float
        The part of ``relative_error`` that the errors of the values may cause: of a
        derivative that is small compared with the value, differences know few digits.
    order : float
        Of the Taylor remainder along this parameter alone; nan: rounding.

    """

    parameter: str
    derivative: float
    difference: float
    relative_error: float
    noise: float = 0.0
    order: float = float("nan")

    @property
    def agrees(self) -> bool:
        """Whether gradient and differences agree as far as differences can tell."""
        return self.relative_error <= LARGEST_DIFFERENCE + self.noise


@dataclass(frozen=True)
class GradientReport:
    """What `verify_gradient` found; prints as a table.

    Attributes
    ----------
    value : float
    gradient : dict
        In the structure of the parameters.
    steps, remainders, orders : tuple of float
        Taylor test |g(p + h d) - g(p) - h g'd|; orders between steps, nan: noise.
    comparisons : tuple of Comparison
        Per parameter, against fourth-order central differences.
    dot_product_error : float or None
        |<cotangent, tangent> - <gradient, direction>|, relative; None if the model has
        no ``tangent``, or if the objective's vectors belong to a cluster and have none.
    relative_error : float
        Estimated error of the gradient (`EstimatedGradient`).
    residual, left_residual : float
        Worst backward errors of the pairs.

    """

    value: float
    gradient: Gradient
    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    orders: tuple[float, ...]
    comparisons: tuple[Comparison, ...]
    dot_product_error: float | None
    relative_error: float
    residual: float
    left_residual: float
    failures: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every test is within its bound."""
        return not self.failures

    def __str__(self) -> str:
        lines = [f"value               {self.value:.12g}"]
        lines.append(
            f"residuals           {self.residual:.1e} right, {self.left_residual:.1e} left"
        )
        lines.append("Taylor test         step        remainder   order (2 expected)")
        for i, (step, remainder) in enumerate(zip(self.steps, self.remainders, strict=True)):
            order = "" if i == 0 else _order_text(self.orders[i - 1])
            lines.append(f"                    {step:<11.3e} {remainder:<11.3e} {order}")
        lines.append("differences         from gradient      from differences   relative error")
        lines += [
            f"  {item.parameter:<17.17} {item.derivative:<18.10e} {item.difference:<18.10e} "
            f"{item.relative_error:.1e}{_noise_text(item)}"
            for item in self.comparisons
        ]
        lines += _order_lines(self.comparisons)
        dot = "no tangent of the model, or of a cluster"
        if self.dot_product_error is not None:
            dot = f"{self.dot_product_error:.1e}"
        lines.append(f"dot-product error   {dot}")
        lines.append(f"estimated error     {self.relative_error:.1e} of the terms of the gradient")
        lines.append("verdict             " + ("passed" if self.passed else "FAILED"))
        lines += [f"  {failure}" for failure in self.failures]
        return "\n".join(lines)


def _noise_text(item: Comparison) -> str:
    hidden = item.agrees and item.relative_error > LARGEST_DIFFERENCE
    return f" (below noise: {item.noise:.1e})" if hidden else ""


def _order_text(order: float) -> str:
    return "exact (remainder is rounding)" if np.isnan(order) else f"{order:.2f}"


def _order_lines(comparisons: tuple[Comparison, ...]) -> list[str]:
    """Return the orders by parameter, as many to a line as fit."""
    texts = [
        f"{item.parameter:.17} {'exact' if np.isnan(item.order) else f'{item.order:.2f}'}"
        for item in comparisons
    ]
    lines = textwrap.wrap(", ".join(texts), 78)
    heads = ["orders, one by one  ", *[" " * 20] * len(lines)]
    return [head + line for head, line in zip(heads, lines, strict=False)]

"""Laws s(rho) that scale element matrices, and their slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.differentiation import complex_step, law_values
from geneig_adjoint.errors import InputError

Law = Callable[[Block], Block]


@dataclass(frozen=True)
class Linear:
    """The law s(rho) = rho."""

    def __call__(self, rho: Block) -> Block:
        """Return rho."""
        return rho

    def slope(self, rho: Block) -> Block:
        """Return s' = 1."""
        return np.ones_like(rho)

    def curvature(self, rho: Block) -> Block:
        """Return s'' = 0."""
        return np.zeros_like(rho)


@dataclass(frozen=True)
class PowerLaw:
    """The law s(rho) = floor + rho^p (SIMP with an additive floor).

    Derivatives where there are none are refused: at 0 for p < 1, below 0 for most p.

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

    def slope(self, rho: Block) -> Block:
        """Return s' = p rho^(p - 1)."""
        return np.zeros_like(rho) if self.p == 0 else np.asarray(self.p * rho ** (self.p - 1))

    def curvature(self, rho: Block) -> Block:
        """Return s'' = p (p - 1) rho^(p - 2)."""
        factor = self.p * (self.p - 1)
        return np.zeros_like(rho) if factor == 0 else np.asarray(factor * rho ** (self.p - 2))


def slope(law: Law, rho: Block) -> Block:
    """Return s'(rho): by the formula of a law of this module, else by a complex step.

    Not collective. Classes made from these laws may have other values: they take the complex
    step.

    Raises
    ------
    InputError
        Where a law has no derivative: rho^0.5 at 0, rho^1.5 below.

    """
    if type(law) not in {Linear, PowerLaw}:
        return complex_step(law, rho, np.ones_like(rho))
    law_values(law, rho[:1])  # with complex coefficients it is no law
    with np.errstate(all="ignore"):
        found = np.asarray(law.slope(rho))  # type: ignore[attr-defined]
    known = np.isfinite(found)
    if not known.all():
        raise InputError(
            f"a law must have a derivative where its parameter moves, got {law} at "
            f"{rho[np.argmin(known)]:.6g}; keep away from there, by a lower bound of the "
            "parameter, say"
        )
    return found

"""One design, evaluated: objective, constraints and their derivatives, scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.chain import ValueAndGradient
from geneig_adjoint.errors import ModeTrackingError
from geneig_adjoint.study.design import Design, Goal
from geneig_adjoint.tracking import Placed

FEASIBLE = 1e-5
"""Violation, relative to the bound, that counts as none."""
HALVINGS = 4
"""A step in which a mode is lost is gone in so many halvings at most."""


@dataclass(frozen=True)
class Evaluation:
    """A design and what was found there; the same on every rank.

    Attributes
    ----------
    z : ndarray
        The design.
    values : dict
        Objective -> value.
    slopes : dict
        Objective -> derivatives with respect to z.
    constraints : dict
        Label -> value of what is bounded.
    violation : float
        The largest, relative to the bound; at most 0 where all hold.
    residual : float
        The largest of the pairs.
    confidence : float or None
        With which the worst of the modes was followed.
    placed : Placed
        Eigenvalues by place.

    """

    z: Block
    values: dict[str, float]
    slopes: dict[str, Block]
    constraints: dict[str, float]
    violation: float
    residual: float
    confidence: float | None
    placed: Placed


class Evaluator:
    """Evaluates designs on all ranks.

    Parameters
    ----------
    goal
        What is searched.
    design
        The parameters as a vector.
    function
        Values and gradients of ``goal.objectives``.

    """

    def __init__(self, goal: Goal, design: Design, function: ValueAndGradient) -> None:
        self.goal, self.design, self.function = goal, design, function
        self.reference = 1.0
        self._before: Block | None = None
        self._linear = [c for c in goal.constraints if c.of != "objective"]
        self._others = [c for c in goal.constraints if c.of == "objective"]
        self._rows = [design.linear(c) for c in self._linear]

    @property
    def nonlinear_count(self) -> int:
        """How many constraints are on objectives."""
        return len(self._others)

    def linear_constraints(self) -> tuple[Block, Block]:
        """Return matrix and bound of matrix z <= bound, relative to the bounds."""
        factors = np.array([c.sign / c.scale for c in self._linear])
        matrix = np.array([row for row, _ in self._rows]).reshape(-1, self.design.size)
        offsets = np.array([offset for _, offset in self._rows])
        bounds = np.array([c.bound for c in self._linear])
        return factors[:, None] * matrix, factors * (bounds - offsets)

    def __call__(self, z: Block) -> Evaluation:
        """Evaluate a design.  (Collective.)

        Raises
        ------
        ModeTrackingError
            When a mode is lost even in small steps from the design before.

        """
        values, gradients = self._followed(z, HALVINGS)
        self._before = z
        named = dict(zip(self.goal.objectives, map(float, values), strict=True))
        slopes = {}
        for name, gradient in zip(self.goal.objectives, gradients, strict=True):
            slopes[name] = self.design.gradient(gradient)
            params.release(gradient)
        return self._evaluation(z, named, slopes)

    def _followed(self, z: Block, halvings: int) -> tuple[Any, Any]:
        """Return values and gradients; follow lost modes through the design half-way."""
        p = self.design.at(z)
        try:
            return self.function(p)
        except ModeTrackingError:
            if self._before is None or halvings == 0:
                raise
        finally:
            self.design.release(p)
        self._before = self._half_way(z, halvings - 1)
        return self._followed(z, halvings - 1)

    def _half_way(self, z: Block, halvings: int) -> Block:
        assert self._before is not None
        middle = np.asarray((self._before + z) / 2)
        _, gradients = self._followed(middle, halvings)
        for gradient in gradients:
            params.release(gradient)
        return middle

    def _evaluation(
        self, z: Block, values: dict[str, float], slopes: dict[str, Block]
    ) -> Evaluation:
        found = {c.label: values[c.name] for c in self._others}
        for c, (row, offset) in zip(self._linear, self._rows, strict=True):
            found[c.label] = float(row @ z) + offset
        parts = [c.sign * (found[c.label] - c.bound) / c.scale for c in self.goal.constraints]
        pairs = self.function.pairs
        assert pairs is not None
        return Evaluation(
            z=z,
            values=values,
            slopes=slopes,
            constraints=found,
            violation=max(parts, default=0.0),
            residual=float(np.max(pairs.residuals)),
            confidence=self.function.confidence,
            placed=Placed(np.array(pairs.values), pairs.phase_rows),
        )

    def objective(self, at: Evaluation) -> tuple[float, Block]:
        """Return what is to become small, relative to its first size."""
        factor = self.goal.sign / self.reference
        return factor * at.values[self.goal.objective], factor * at.slopes[self.goal.objective]

    def constraints(self, at: Evaluation) -> tuple[Block, Block]:
        """Return the constraints on objectives, at most 0, and their derivatives."""
        values = [c.sign * (at.values[c.name] - c.bound) / c.scale for c in self._others]
        slopes: list[Any] = [c.sign * at.slopes[c.name] / c.scale for c in self._others]
        return np.array(values), np.array(slopes).reshape(-1, self.design.size)

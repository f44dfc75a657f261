"""Problems x normalizations, and their chains from parameters to objectives, solved once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from dense_reference import DenseReference, Scale, State
from mpi4py import MPI
from objective_specs import Spec, objectives_for
from pencils import Problem, directions, flat, moved
from problems import problems

import geneig_adjoint as ga
from geneig_adjoint.evaluation import evaluate

STEP = 5e-4
"""Of differences: its fourth power, and the eigensolver's 1e-13 divided by it, stay below 1e-9."""
FLOOR = 1e-11
"""Taylor remainders below this, relative to the terms, are rounding: the order is infinite."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """A problem with one normalization, as the package and as the reference call it."""

    problem: Problem
    label: str

    def __str__(self) -> str:
        return f"{self.problem}-{self.label}"

    @property
    def scale(self) -> Scale:
        order = (("hermitian", "B"), ("symmetric", "bilinear"))
        default = next((kind for name, kind in order if name in self.problem.traits), "2")
        unit = np.eye(self.problem.n)[self.problem.component]
        return {
            "default": Scale(default),
            "component": Scale("linear", unit),
            "linear": Scale("linear", self.problem.functional),
        }.get(self.label, Scale(self.label))

    def normalization(self, rows: tuple[int, int]) -> Any:
        return {
            "default": None,
            "component": ("component", self.problem.component),
            "linear": ("linear", self.problem.functional[slice(*rows)]),
        }.get(self.label, self.label)


NEEDS = {
    "default": set(),
    "B": {"hermitian"},
    "2": set(),
    "component": set(),
    "linear": set(),
    "bilinear": {"symmetric"},
}


def scenarios(*labels: str) -> list[Scenario]:
    return [
        Scenario(problem, label)
        for problem in problems()
        for label in labels
        if NEEDS[label] <= problem.traits
    ]


class Chain:
    """Pairs at p and around p, the reference, and what tests ask of every objective."""

    def __init__(self, scenario: Scenario, comm: MPI.Comm, stack: ExitStack) -> None:
        self.scenario, self.problem = scenario, scenario.problem
        self.reference = DenseReference(self.problem, scenario.scale)
        self.model = stack.enter_context(self.problem.model(comm))
        self.stack = stack
        self.pairs = self.solved(self.problem.p)
        self.specs = objectives_for(self.problem)
        self.objectives = [spec.make(self.problem, self.pairs) for spec in self.specs]
        self._gradients: dict[str | None, np.ndarray] = {}
        self._tangents: dict[str | None, ga.EigenTangent] = {}

    def solved(self, p, **changes) -> ga.Eigenpairs:
        pencil = self.stack.enter_context(self.model.assemble(p))
        norm = self.scenario.normalization(pencil.rows)
        settings = {**self.problem.solver, "normalization": norm, **changes}
        return self.stack.enter_context(ga.solve_eigenproblem(pencil, **settings))

    @cached_property
    def neighbours(self) -> dict[int, ga.Eigenpairs]:
        """Pairs at p + k STEP p_dot; their order, phases and start follow the pairs at p."""
        return {
            k: self.solved(self.point(k), like=self.pairs, keep_factor=False)
            for k in (-2, -1, 1, 2)
        }

    @cached_property
    def around(self) -> dict[int, np.ndarray]:
        """Values of all objectives at p + k STEP p_dot."""
        found = {k: self.values(pairs, self.point(k)) for k, pairs in self.neighbours.items()}
        return {**found, 0: self.values(self.pairs, self.problem.p)}

    def point(self, k: int) -> dict[str, np.ndarray]:
        return moved(self.problem.p, k * STEP, self.problem.p_dot)

    def taylor_orders(self, slopes: np.ndarray) -> np.ndarray:
        """Return log2 of the ratio of the remainders at 2 STEP and STEP, per objective."""
        tiny = np.finfo(float).tiny
        one, two = (
            np.abs(self.around[k] - self.around[0] - k * STEP * slopes) + tiny for k in (1, 2)
        )
        rounding = np.maximum(one, two) <= FLOOR * self.sizes + tiny
        return np.where(rounding, np.inf, np.log2(two / one))

    def named(self, numbers: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
        """Return the numbers of the objectives that are wrong: an empty dict passes."""
        return {str(self.specs[i]): float(numbers[i]) for i in np.flatnonzero(wrong)}

    def too_large(self, errors: np.ndarray, limit: float) -> dict[str, float]:
        """Return the objectives whose errors exceed a limit, relative to the size of the terms."""
        worst = np.abs(errors).reshape(len(self.specs), -1).max(axis=1) / self.sizes
        return self.named(worst, ~(worst <= limit))

    def values(self, pairs, p) -> np.ndarray:
        return np.array([evaluate(item, pairs, p)[0] for item in self.objectives])

    def cotangents(self) -> list[ga.EigenCotangent]:
        return [evaluate(item, self.pairs, self.problem.p)[1] for item in self.objectives]

    def gradients(self, strategy: str | None = None) -> np.ndarray:
        """Return one row of all parameters per objective; computed once per strategy."""
        if strategy not in self._gradients:
            found = ga.gradient(
                self.model, self.problem.p, self.pairs, self.objectives, strategy=strategy
            )
            self._gradients[strategy] = np.array([flat(item) for item in found])
        return self._gradients[strategy]

    def tangent(self, strategy: str | None = None) -> ga.EigenTangent:
        """Return the tangent of the pairs along p_dot; computed once per strategy."""
        if strategy not in self._tangents:
            problem = self.problem
            self._tangents[strategy] = ga.jvp(
                self.model, problem.p, self.pairs, problem.p_dot, strategy=strategy
            )
        return self._tangents[strategy]

    def along(self, tangent: ga.EigenTangent, cotangent: ga.EigenCotangent) -> float:
        """Return Re <cotangent, tangent>, with the explicit terms in p, A and B."""
        pairs, problem = self.pairs, self.problem
        zero = np.zeros_like(pairs.right)
        own = cotangent.parameters or {}
        explicit = {**{name: 0 * v for name, v in problem.p.items()}, **own}
        left_a, left_b, right = cotangent.matrices or (zero, zero, zero)
        dA_x, dB_x = self.model.tangent(problem.p, problem.p_dot, right)
        value_bar = np.zeros(pairs.count) if cotangent.values is None else cotangent.values
        terms = [
            (value_bar, tangent.values),
            (zero if cotangent.right is None else cotangent.right, tangent.right),
            (zero if cotangent.left is None else cotangent.left, tangent.left),
            (flat(explicit), flat(problem.p_dot)),
            (left_a, dA_x),
            (left_b, dB_x),
        ]
        return sum(np.vdot(bar, dot).real for bar, dot in terms)

    @cached_property
    def slopes(self) -> np.ndarray:
        """Return the gradients along p_dot, by the default strategy."""
        return self.gradients() @ flat(self.problem.p_dot)

    @cached_property
    def unit_tangents(self) -> list[State]:
        return [self.reference.tangent(unit) for unit in directions(self.problem.p)]

    @cached_property
    def reference_gradients(self) -> np.ndarray:
        return np.array(
            [
                [
                    self.reference.derivative(self.dense(spec), tangent)
                    for tangent in self.unit_tangents
                ]
                for spec in self.specs
            ]
        )

    def dense(self, spec: Spec) -> Callable[[State], float]:
        return lambda state: spec.dense(self.problem, state)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Return, per objective, the sum of the sizes of the terms a derivative is made of.

        Rounding is relative to the terms: they may cancel, down to a derivative of zero.
        """
        tangents = [*self.unit_tangents, self.reference.tangent(self.problem.p_dot)]
        return np.array(
            [
                max(term_size(cotangent, tangent) for tangent in tangents)
                for cotangent in self.cotangents()
            ]
        )


def term_size(cotangent: ga.EigenCotangent, tangent: State) -> float:
    bars = (cotangent.values, cotangent.right, cotangent.left)
    parts = zip(bars, tangent[:3], strict=True)
    total = sum(
        (np.linalg.norm(bar, axis=0) * np.linalg.norm(dot, axis=0)).sum()
        for bar, dot in parts
        if bar is not None
    )
    return float(total)


@contextmanager
def solved(scenario: Scenario, comm: MPI.Comm) -> Iterator[Chain]:
    with ExitStack() as stack:
        yield Chain(scenario, comm, stack)


def fourth_order_difference(at: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return the derivative from the values at +-1 and +-2 steps."""
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP)

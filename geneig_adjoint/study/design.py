"""Table [optimize]: what is searched, between which bounds, under which constraints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.errors import StudyError
from geneig_adjoint.structures import carried
from geneig_adjoint.study.settings import INTERVAL, NUMBER, TEXT, Study, check_values

METHODS = ("mma", "slsqp", "l-bfgs-b", "trust-constr")
SENSES = {"min": 1.0, "max": -1.0}
CONSTRAINT = {"objective": TEXT, "mean": TEXT, "sum": TEXT, "min": NUMBER, "max": NUMBER}
OF = ("objective", "mean", "sum")
MAX_ITERATIONS = 200
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Constraint:
    """One side of a bound: sign (g - bound) <= 0.

    Attributes
    ----------
    label : str
        In the history, such as "mean(density) <= 0.5".
    of, name : str
        "objective" and its name, or "mean" or "sum" and a parameter.
    sign, bound : float
        1 for an upper bound, -1 for a lower one.

    """

    label: str
    of: str
    name: str
    sign: float
    bound: float

    @property
    def scale(self) -> float:
        """What a violation of size 1 is relative to."""
        return abs(self.bound) or 1.0


@dataclass(frozen=True)
class Goal:
    """A checked table [optimize].

    Attributes
    ----------
    objective : str
        Name of the objective.
    sign : float
        -1 where the largest value is best.
    method : str
        One of METHODS.
    max_iterations : int
    tolerance : float
    track : bool
    constraints : tuple of Constraint
    options : dict
        Of the method.

    """

    objective: str
    sign: float
    method: str
    max_iterations: int
    tolerance: float
    track: bool
    constraints: tuple[Constraint, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def objectives(self) -> list[str]:
        """Names of all objectives that are evaluated; the one to improve comes first."""
        others = (each.name for each in self.constraints if each.of == "objective")
        return list(dict.fromkeys([self.objective, *others]))


def goal_of(study: Study) -> Goal:
    """Return what a study wants to be searched.  (Not collective.)

    Raises
    ------
    StudyError
        Names that do not exist, methods that cannot do what is asked for.

    """
    table = study.optimize
    names = [str(objective["name"]) for objective in study.objectives]
    if table.get("objective") not in names:
        raise StudyError(
            f"objective of [optimize] must be one of {', '.join(names)}, got "
            f"{table.get('objective')!r}; name the [[objective]] to improve"
        )
    _check_word("sense", table.get("sense", "min"), tuple(SENSES))
    _check_word("method", table.get("method", "mma"), METHODS)
    constraints = tuple(
        side for entry in table.get("constraints", []) for side in _sides(entry, names)
    )
    if constraints and table.get("method") == "l-bfgs-b":
        raise StudyError(
            'method "l-bfgs-b" has no constraints but bounds, got '
            f'{constraints[0].label}; choose "mma" or "slsqp"'
        )
    goal = Goal(
        objective=table["objective"],
        sign=SENSES[table.get("sense", "min")],
        method=table.get("method", "mma"),
        max_iterations=table.get("max_iterations", MAX_ITERATIONS),
        tolerance=float(table.get("tolerance", TOLERANCE)),
        track=table.get("track", True),
        constraints=constraints,
        options=dict(table.get("options", {})),
    )
    for name, value in goal.options.items():
        if goal.method == "mma" and not NUMBER.fits(value):
            raise StudyError(
                f"options of [optimize] must be numbers for mma, got {name} = {value!r}; "
                "NLopt's manual lists them"
            )
    if goal.max_iterations < 1 or not goal.tolerance > 0:
        raise StudyError(
            "max_iterations and tolerance of [optimize] must be positive, got "
            f"{goal.max_iterations} and {goal.tolerance}; correct them"
        )
    return goal


def _check_word(key: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise StudyError(
            f"{key} of [optimize] must be one of {', '.join(known)}, got {word!r}; correct it"
        )


def _sides(entry: Mapping[str, Any], names: list[str]) -> list[Constraint]:
    """Return the upper and the lower bound of an entry of [[optimize.constraints]]."""
    check_values("[[optimize.constraints]]", entry, CONSTRAINT)
    subjects = [of for of in OF if of in entry]
    if len(subjects) != 1 or not {"min", "max"} & set(entry):
        raise StudyError(
            f"a constraint must have one of {', '.join(OF)}, and min or max, got {dict(entry)}; "
            'write for example mean = "density", max = 0.5'
        )
    of, name = subjects[0], str(entry[subjects[0]])
    if of == "objective" and name not in names:
        raise StudyError(
            f"objective of a constraint must be one of {', '.join(names)}, got {name!r}; correct it"
        )
    text = name if of == "objective" else f"{of}({name})"
    found = []
    for key, relation, sign in (("max", "<=", 1.0), ("min", ">=", -1.0)):
        if key in entry:
            bound = float(entry[key])
            found.append(Constraint(f"{text} {relation} {bound:g}", of, name, sign, bound))
    return found


class Design:
    """The parameters that are searched, as one vector z with entries in [0, 1] where bounded.

    z = (x - low) / (high - low) where both bounds are finite, else z = x.

    Parameters
    ----------
    study
        The study.
    p
        Parameters at the start; the others keep these values.

    Raises
    ------
    StudyError
        Parameters that do not exist, bounds that are none or do not hold at the start.

    """

    def __init__(self, study: Study, p: Any) -> None:
        self._p = p
        self.names = list(study.optimize.get("parameters", p))
        _check_names("parameters of [optimize]", self.names, p)
        sizes = [params.length(p[name]) or 0 for name in self.names]
        ends = np.cumsum([0, *sizes])
        self.places = {
            name: slice(int(first), int(last))
            for name, first, last in zip(self.names, ends[:-1], ends[1:], strict=True)
        }
        self.size = int(ends[-1])
        bounds = study.optimize.get("bounds", {})
        _check_names("bounds of [optimize]", list(bounds), self.places)
        self.low, self.high = np.full(self.size, -math.inf), np.full(self.size, math.inf)
        for name, pair in bounds.items():
            check_values("bounds of [optimize]", {name: pair}, {name: INTERVAL})
            self.low[self.places[name]], self.high[self.places[name]] = pair
        if np.any(self.low >= self.high):
            raise StudyError(
                f"bounds of [optimize] must be [low, high] with low < high, got {bounds}; "
                "correct them"
            )
        both = np.isfinite(self.low) & np.isfinite(self.high)
        self._origin = np.where(both, self.low, 0.0)
        self._width = np.where(both, self.high - self.low, 1.0)

    @property
    def bounds(self) -> tuple[Block, Block]:
        """Bounds of z."""
        return (self.low - self._origin) / self._width, (self.high - self._origin) / self._width

    def start(self) -> Block:
        """Return z of the parameters at the start.  (Collective.)

        Raises
        ------
        StudyError
            When it is out of bounds.

        """
        x = self._whole(self._p)
        outside = np.flatnonzero((x < self.low) | (x > self.high))
        if outside.size:
            j = int(outside[0])
            raise StudyError(
                f"the search must start within the bounds, got {x[j]:g} outside of "
                f"[{self.low[j]:g}, {self.high[j]:g}] for entry {j} of {', '.join(self.names)}; "
                "change [parameters] or the bounds"
            )
        return self.to_z(x)

    def to_z(self, x: Block) -> Block:
        """Return z of parameters in one vector.  (Not collective.)"""
        return np.asarray((x - self._origin) / self._width)

    def to_x(self, z: Block) -> Block:
        """Return the parameters in one vector, never out of bounds.  (Not collective.)"""
        return np.asarray(np.clip(self._origin + self._width * z, self.low, self.high))

    def at(self, z: Block) -> Any:
        """Return the parameters of a design; new PETSc vectors belong to the caller.

        Collective for PETSc vectors.
        """
        x, changed = self.to_x(z), dict(self._p)
        for name, place in self.places.items():
            if params.is_distributed(self._p[name]):
                changed[name] = self._p[name].copy()
                changed[name].array[:] = x[place][slice(*changed[name].getOwnershipRange())]
            else:
                changed[name] = x[place]
        return carried(self._p, changed, point=True)

    def release(self, p: Any) -> None:
        """Free the PETSc vectors that `at` has made.  (Collective.)"""
        for name in self.names:
            if params.is_distributed(p[name]):
                p[name].destroy()

    def gradient(self, gradient: Mapping[str, Any]) -> Block:
        """Return a gradient with respect to z, whole on every rank.  (Collective.)"""
        return self._whole(gradient) * self._width

    def _whole(self, p: Mapping[str, Any]) -> Block:
        whole = np.empty(self.size)
        for name, place in self.places.items():
            local = params.local_values(p[name])
            if params.is_distributed(p[name]):
                local = np.concatenate(p[name].comm.tompi4py().allgather(local))
            whole[place] = local
        return whole

    def linear(self, constraint: Constraint) -> tuple[Block, float]:
        """Return a and b of a^T z + b = mean or sum of a parameter.  (Not collective.)

        Raises
        ------
        StudyError
            A parameter that is not searched.

        """
        _check_names("a constraint", [constraint.name], self.places)
        weights = np.zeros(self.size)
        place = self.places[constraint.name]
        count = place.stop - place.start
        weights[place] = 1.0 / count if constraint.of == "mean" else 1.0
        return weights * self._width, float(weights @ self._origin)

    def named(self, z: Block) -> dict[str, Block]:
        """Return the searched parameters by name.  (Not collective.)"""
        x = self.to_x(z)
        return {name: x[place] for name, place in self.places.items()}


def _check_names(what: str, names: list[str], known: Mapping[str, Any]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        raise StudyError(
            f"{what} must name parameters among {', '.join(known)}, got "
            f"{unknown[0] if unknown else 'none'!r}; correct the study"
        )

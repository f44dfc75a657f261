"""A function written in JAX for parameters of certain shapes: what it depends on, compiled once."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError
from geneig_adjoint.jax_support import (
    check_precision,
    float64,
    jax_module,
    traceable,
    variables_of,
)
from geneig_adjoint.maps import like
from geneig_adjoint.parameters import Gradient, Parameters, is_distributed, length, local_values
from geneig_adjoint.structure_kinds import Leaf
from geneig_adjoint.structures import SEPARATOR, Structure, grown_from, with_vectors

COUPLING = 1e-8
"""Entries of a distributed field that move others by more than this, relative, are coupled."""

SPLITS = 2
"""How often the entries of a field are split at random into such that move and others."""
SHIFT = 0.02
"""How far entries move beside changing places, relative: few functions refuse what is so near."""

CALLS = {"pjit", "jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint"}
"""Steps of a traced function that call another one."""


@dataclass
class Plan:
    """A function for parameters of certain names and shapes.

    Attributes
    ----------
    what : str
        Its name in messages.
    call
        The function, of names -> arrays and the structure of p.
    names : list of str
        Its parameters.
    structure : Structure or None
        Of p.
    outputs : list of str
        Names of its results.
    outcome : Structure or None
        Of its results.
    layouts : dict
        Result that depends on a distributed field -> name of the field.
    needs : dict
        Whether there are results that are distributed (True), replicated (False).

    """

    what: str
    call: Callable[[dict[str, Any], Structure | None], Any]
    names: list[str]
    structure: Structure | None

    def trace(self, point: Parameters) -> None:
        """Look at the function: its results, and what they depend on."""
        jax = jax_module("JaxMap")
        local = self.locals_of(point)
        with float64(), traceable("JaxMap"):
            shapes = {
                name: jax.ShapeDtypeStruct(part.shape, part.dtype) for name, part in local.items()
            }
            closed, results = jax.make_jaxpr(self.pure, return_shape=True)(shapes)
        check_precision("JaxMap", list(variables_of(closed.jaxpr)))
        self.outputs = list(self._grown.leaves)
        for name in self.outputs:
            if str(results[name].dtype) != "float64":
                raise InputError(
                    f"{self.what} must return real numbers, got {results[name].dtype} for "
                    f"{name!r}; split complex ones into real and imaginary part"
                )
        fields = sorted(name for name in self.names if is_distributed(point[name]))
        self.layouts = self._dependent(closed.jaxpr, sorted(results), fields)
        self._check_shapes(local)
        self.needs = {True: bool(self.layouts), False: len(self.layouts) < len(self.outputs)}
        sizes = {name: length(point[field]) or 0 for name, field in self.layouts.items()}
        self.outcome = with_vectors(self._grown, sizes)
        if self.layouts:
            self._check_entrywise(local, fields)

    def pure(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the function's results as names -> 1-D arrays."""
        jnp = jax_module("JaxMap").numpy
        result = self.call(values, self.structure)
        self._grown, raw = grown_from(result)
        return {name: jnp.ravel(jnp.asarray(value)) for name, value in raw.items()}

    def locals_of(self, point: Parameters) -> dict[str, Block]:
        """Return this rank's entries of the function's parameters."""
        return {name: np.asarray(local_values(point[name]), dtype=float) for name in self.names}

    def run(self, operation: str, *operands: Any) -> dict[str, Block]:
        """Return what a compiled operation gives."""
        with float64():
            found = self._operations[operation](*operands)
            return {name: np.array(value) for name, value in found.items()}

    def results(self, point: Parameters, found: dict[str, Block]) -> Gradient:
        """Return results in the layout of the fields they depend on.  (Collective.)"""
        made: Gradient = {}
        for name in sorted(found):
            field = self.layouts.get(name)
            made[name] = found[name] if field is None else like(point[field], found[name])
        return {name: made[name] for name in self.outputs}

    @cached_property
    def _operations(self) -> dict[str, Callable[..., Any]]:
        jax = jax_module("JaxMap")

        def jvp(values: Any, dots: Any) -> Any:
            return jax.jvp(self.pure, (values,), (dots,))[1]

        def vjp(values: Any, bars: Any) -> Any:
            return jax.vjp(self.pure, values)[1](bars)[0]

        def vjp_tangent(values: Any, dots: Any, bars: Any) -> Any:
            return jax.jvp(lambda moved: vjp(moved, bars), (values,), (dots,))[1]

        every = {"value": self.pure, "jvp": jvp, "vjp": vjp, "vjp_tangent": vjp_tangent}
        return {name: jax.jit(function) for name, function in every.items()}

    def _dependent(self, jaxpr: Any, outputs: list[str], fields: list[str]) -> dict[str, str]:
        """Return result -> the first distributed field that it depends on."""
        if not fields:
            return {}
        sources = [{name} & set(fields) for name in sorted(self.names)]
        reached = dict(zip(outputs, _reached(jaxpr, sources), strict=True))
        return {name: min(reached[name]) for name in self.outputs if reached[name]}

    def _check_shapes(self, local: dict[str, Block]) -> None:
        for name, field in self.layouts.items():
            shape = self._grown.leaves[name].shape
            if shape != local[field].shape:
                raise InputError(
                    f"the result {name!r} of {self.what} depends on the distributed "
                    f"{field!r} and must have one entry for each of its entries, "
                    f"{local[field].shape} on this rank, got shape {shape}; compiled code cannot "
                    "communicate: write sums over the ranks as a map of your own"
                )

    def _check_entrywise(self, local: dict[str, Block], fields: list[str]) -> None:
        """Raise when an entry of a result depends on other entries of a distributed field.

        By derivatives, which see any two entries; and by values, where some entries move
        and the others stand still, which see what has no derivative (sign, argsort) too.
        """
        rng = np.random.default_rng(0)
        sizes = sorted({local[name].size for name in fields})
        weights = {size: rng.uniform(0.5, 1.5, size) for size in sizes}
        dots = {name: np.zeros(part.shape) for name, part in local.items()}
        alike = self.run("jvp", local, dots | {name: np.ones(local[name].size) for name in fields})
        mixed = self.run("jvp", local, dots | {name: weights[local[name].size] for name in fields})
        for name, field in self.layouts.items():
            self._compare(name, mixed[name], weights[local[field].size] * alike[name])
        value = self.run("value", local)
        for _ in range(SPLITS):
            orders = {size: rng.permutation(size) for size in sizes}
            for half in (0, 1):
                still = {size: order % 2 == half for size, order in orders.items()}
                there = {
                    name: _shuffled(local[name], still[local[name].size], rng) for name in fields
                }
                found = self.run("value", local | there)
                for name, field in self.layouts.items():
                    kept = still[local[field].size]
                    self._compare(name, found[name], np.where(kept, value[name], found[name]))

    def _compare(self, name: str, found: Block, expected: Block) -> None:
        with np.errstate(invalid="ignore"):  # not finite there: known when it is asked for
            error = np.abs(found - expected)
        known = np.isfinite(error)
        bound = COUPLING * np.abs(np.r_[0.0, found[known], expected[known]]).max()
        if np.any(error[known] > bound):
            entry = int(np.flatnonzero(known & (error > bound))[0])
            raise InputError(
                f"the result {name!r} of {self.what} must be computed entry by entry from the "
                f"distributed {self.layouts[name]!r}, got entry {entry} of this rank that depends "
                "on other entries too; compiled code cannot communicate: pass replicated arrays, "
                "or write a map of your own"
            )


def _shuffled(entries: Block, still: Block, rng: np.random.Generator) -> Block:
    """Return entries some of which stand still; the others are like any of them, but moved."""
    moved = entries.copy()
    count = int(np.sum(~still))
    if count:
        moved[~still] = rng.choice(entries, count) * rng.uniform(1 - SHIFT, 1 + SHIFT, count)
    return moved


def argument(values: dict[str, Any], structure: Structure | None, part: str) -> Any:
    """Return p, or a part of it, with traced numbers.  (Not collective.)"""
    if structure is not None:
        return structure.rebuild(values, point=True, built=_shaped, part=part)
    if part in values or not part:
        return values[part] if part else dict(values)
    cut = len(part) + len(SEPARATOR)
    return {name[cut:]: values[name] for name in below(values, part)}


def _shaped(leaf: Leaf, value: Any) -> Any:
    return value if leaf.kind == "vector" else value.reshape(leaf.shape)


def below(point: Mapping[str, Any], part: str) -> list[str]:
    """Return the names of a part of p.  (Not collective.)"""
    return [name for name in point if name == part or name.startswith(part + SEPARATOR)]


def structure_key(structure: Structure | None) -> Any:
    """Return what tells structures apart, values that are no parameters included.

    Not collective.
    """
    if structure is None:
        return None
    fixed = [(name, type(value), _mark(value)) for name, value in structure.fixed.items()]
    kinds = [(kind, _hashable(more)) for kind, more in structure.kinds]
    return (tuple(structure.description.items()), tuple(fixed), tuple(kinds))


def _mark(value: Any) -> Any:
    """Return what tells a value from others, and from itself once its contents have changed."""
    try:
        return hashlib.blake2b(pickle.dumps(value)).digest()
    except Exception:  # anything may refuse; the plan holds it, so that no other gets its place
        return id(value)


def _hashable(item: Any) -> Any:
    """Return what a registered class holds beside its parts; by identity if need be."""
    try:
        hash(item)
    except TypeError:
        return id(item)
    return item


def _reached(jaxpr: Any, sources: list[set[str]]) -> list[set[str]]:
    """Return, for every result, the sources that it depends on."""
    known: dict[Any, set[str]] = dict(zip(jaxpr.invars, sources, strict=True))

    def of(variable: Any) -> set[str]:
        literal = hasattr(variable, "val")
        return set() if literal else known.get(variable, set())

    for equation in jaxpr.eqns:
        into = [of(variable) for variable in equation.invars]
        inner = _inner(equation)
        out = [set().union(*into)] * len(equation.outvars)
        if inner is not None and len(inner.invars) == len(into):
            out = _reached(inner, into)
        known.update(zip(equation.outvars, out, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _inner(equation: Any) -> Any:
    if equation.primitive.name not in CALLS:
        return None
    names = [name for name in ("jaxpr", "call_jaxpr") if name in equation.params]
    found = equation.params[names[0]] if names else None
    return getattr(found, "jaxpr", found)

"""`JaxKernel`: the matrices of one element as a JAX function, batched and differentiated by JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.energies import outer_products
from geneig_adjoint.errors import InputError
from geneig_adjoint.jax_support import (
    check_precision,
    jax_module,
    traceable,
    variables_of,
)
from geneig_adjoint.jax_support import float64 as _float64
from geneig_adjoint.structures import keywords

CHUNK_ENTRIES = 2**20
"""Numbers that the intermediate results of one compiled call may hold together: 8 MB, which is
small next to the batches of an element block, and large next to what a call costs."""


@dataclass(frozen=True)
class JaxKernel:
    """Element matrices from a JAX function of one element.

    Batched by ``vmap`` and compiled once; products with derivatives are those of the scalar
    Re sum_j left_j^H K_e(p) right_j by reverse mode, so dK_e/dp is never formed; tangents by
    forward mode, second derivatives by forward over reverse. All in float64, whatever JAX is
    set to elsewhere in the program. Nothing that is compiled communicates: every rank calls it
    for its own elements, as often as it has some.

    Parameters
    ----------
    function
        ``function(**values, **data)`` -> (nd, nd), real or complex, for one element: a value is
        a scalar, or (q,) for q ids per element; written with ``jax.numpy``. Constants that it
        uses are best NumPy arrays: those made by ``jax.numpy`` outside are in single precision.
    data
        Arrays with the element as leading axis (coordinates, material numbers); not
        differentiated.
    chunk_entries
        Bound of the numbers in all intermediate results of one compiled call; sets how many
        elements a call takes. Default 2^20, which is 8 MB.

    Raises
    ------
    MissingPackageError
        When jax is not installed.
    InputError
        On use: a function that JAX cannot trace, matrices that are not square or not in double
        precision, derivatives that are not finite.

    """

    function: Callable[..., Any]
    data: Mapping[str, Block] = field(default_factory=dict)
    chunk_entries: int = CHUNK_ENTRIES
    _plans: dict[Any, _Plan] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look for jax."""
        jax_module("JaxKernel")

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return the element matrices (batch, nd, nd)."""
        return self._run("matrices", values, rows)

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return the derivative of the matrices along ``dots``, (batch, nd, nd).

        Elements whose dots are 0 get exact zeros.
        """
        found = self._run("derivative", values, rows, _floats(dots))
        return _checked({"": found}, rows, _still(dots))[""]

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Return Re sum_j left_j^H (dK/dvalue) right_j for every value, in the shape of values."""
        if not values:
            return {}
        weights = self._weights(values, left, right, rows)
        return _checked(self._run("vjp", values, rows, weights), rows, None)

    def vjp_tangent(
        self,
        values: Mapping[str, Block],
        dots: Mapping[str, Block],
        left: Block,
        right: Block,
        rows: slice,
    ) -> dict[str, Block]:
        """Return the derivative of `vjp` along ``dots``; exact zeros where these are 0."""
        if not values:
            return {}
        weights = self._weights(values, left, right, rows)
        found = self._run("vjp_tangent", values, rows, weights, _floats(dots))
        return _checked(found, rows, _still(dots))

    def _weights(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> Block:
        """Return sum_j conj(left_j) right_j^T, its real part if the matrices are real.

        Re sum_j left_j^H K right_j is the real part of the sum of its entries times those of K:
        what is compiled does not depend on the number of vectors.
        """
        plan = self._plan("matrices", self._operands(values, rows))
        real = not np.issubdtype(plan.shapes.dtype, np.complexfloating)
        return outer_products(left, right, real=real)

    def _operands(self, values: Mapping[str, Block], rows: slice, *others: Any) -> tuple[Any, ...]:
        data = {name: _wide(np.asarray(array)[rows]) for name, array in self.data.items()}
        return _floats(values), data, *others

    def _run(self, name: str, values: Mapping[str, Block], rows: slice, *others: Any) -> Any:
        """Return what an operation gives for a batch of elements, chunk by chunk."""
        jax = jax_module("JaxKernel")
        operands = self._operands(values, rows, *others)
        count = len(next(iter(values.values()))) if values else rows.stop - rows.start
        for key, array in operands[1].items():
            if len(array) != count:
                raise InputError(
                    f"data {key!r} of a JaxKernel must have one row per element, got {len(array)} "
                    f"rows for {count} elements; repeat what is constant, or bind it in the "
                    "function"
                )
        plan = self._plan(name, operands)
        size = plan.chunk(count)
        found = jax.tree.map(lambda one: np.empty((count, *one.shape), one.dtype), plan.shapes)
        outputs = jax.tree.leaves(found)
        with _float64():
            for first in range(0, count, size):
                part = slice(first, min(first + size, count))
                chunk = jax.tree.map(lambda a, part=part: _padded(a[part], size), operands)
                results = jax.tree.leaves(plan.compiled(size, *chunk))
                for out, result in zip(outputs, results, strict=True):
                    out[part] = np.asarray(result)[: part.stop - first]
        return found

    def _plan(self, name: str, operands: tuple[Any, ...]) -> _Plan:
        """Return what is known about an operation on elements of this kind, traced once."""
        jax = jax_module("JaxKernel")
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), operands)
        leaves, tree = jax.tree.flatten(one)
        key = (name, str(tree), *((leaf.shape, leaf.dtype.str) for leaf in leaves))
        if key not in self._plans:
            if name != "matrices":  # whatever is wrong with these is said first
                self._plan("matrices", operands[:2])
            self._plans[key] = self._traced(name, one)
        return self._plans[key]

    def _traced(self, name: str, one: tuple[Any, ...]) -> _Plan:
        jax = jax_module("JaxKernel")
        operation = self._operations[name]
        with _float64(), traceable("JaxKernel"):
            closed, shapes = jax.make_jaxpr(operation, return_shape=True)(*one)
            if name == "matrices":
                _check_matrix(shapes)
        variables = list(variables_of(closed.jaxpr))
        check_precision("JaxKernel", variables)
        entries = sum(int(np.prod(variable.shape)) for variable in variables)

        def batched(size: int, *operands: Any) -> Any:
            return jax.vmap(operation, axis_size=size)(*operands)

        limit = max(1, self.chunk_entries // max(entries, 1))
        return _Plan(
            jax.jit(batched, static_argnums=0), shapes, entries, 2 ** (limit.bit_length() - 1)
        )

    @cached_property
    def _operations(self) -> dict[str, Callable[..., Any]]:
        """What is done with one element, as functions of (values, data, ...)."""
        jax = jax_module("JaxKernel")
        jnp = jax.numpy

        def matrix(values: Any, data: Any) -> Any:
            return jnp.asarray(self.function(**keywords(values), **data))

        def energy(values: Any, data: Any, weight: Any) -> Any:
            return jnp.sum(weight * matrix(values, data)).real

        def derivative(values: Any, data: Any, dots: Any) -> Any:
            return jax.jvp(lambda moved: matrix(moved, data), (values,), (dots,))[1]

        slopes = jax.grad(energy)

        def bends(values: Any, data: Any, weight: Any, dots: Any) -> Any:
            return jax.jvp(lambda moved: slopes(moved, data, weight), (values,), (dots,))[1]

        return {"matrices": matrix, "derivative": derivative, "vjp": slopes, "vjp_tangent": bends}


@dataclass
class _Plan:
    """One operation on elements of one kind.

    Attributes
    ----------
    compiled
        (size, *operands of so many elements) -> results; JAX compiles it once per size.
    shapes
        Shapes and types of the result for one element.
    entries : int
        Numbers in all intermediate results for one element.
    limit : int
        Most elements per call, a power of two.
    largest : int
        Most elements of a call so far.

    """

    compiled: Callable[..., Any]
    shapes: Any
    entries: int
    limit: int
    largest: int = 0

    def chunk(self, count: int) -> int:
        """Return the elements per call: a size that is compiled already, if it will do."""
        wanted = min(self.limit, 2 ** max(count - 1, 0).bit_length())
        # Elements too many in a call cost less than to compile it again for fewer.
        self.largest = max(self.largest, wanted)
        return self.largest


def _check_matrix(shape: Any) -> None:
    if len(shape.shape) != 2 or shape.shape[0] != shape.shape[1]:
        raise InputError(
            "the function of a JaxKernel must return the square matrix of one element, got shape "
            f"{shape.shape}; it is called with the values of one element, without a batch axis"
        )
    if str(shape.dtype) not in {"float64", "complex128"}:
        raise InputError(
            "the function of a JaxKernel must return float64 or complex128, got "
            f"{shape.dtype}; remove the conversion from the function"
        )


def _checked(found: Any, rows: slice, still: Block | None) -> dict[str, Block]:
    """Return derivatives by name, zero for elements that stand still, or raise."""
    for name, block in found.items():
        if still is not None:
            block[still] = 0.0  # JAX multiplies: 0 x inf, where sqrt has no derivative
        bad = np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(axis=1))
        if bad.size:
            of = f" in {name!r}" if name else ""
            raise InputError(
                f"derivatives of a JaxKernel{of} must be finite, got NaN or Inf in {bad.size} "
                f"elements, the first is element {rows.start + int(bad[0])} of this rank; keep "
                "away from values without a derivative (sqrt or a power at 0), also in the "
                "branch that jax.numpy.where does not take"
            )
    return dict(found)


def _still(dots: Mapping[str, Block]) -> Block:
    """Return which elements do not move."""
    moves = [np.any(np.reshape(dot, (len(dot), -1)), axis=1) for dot in dots.values()]
    return ~np.logical_or.reduce(moves) if moves else np.asarray(True)


def _floats(values: Mapping[str, Block]) -> dict[str, Block]:
    return {name: np.asarray(value, dtype=float) for name, value in values.items()}


def _wide(array: Block) -> Block:
    """Return an array in double precision; integers stay integers."""
    narrow = array.dtype.kind in "fc"
    return array.astype(np.result_type(array, float), copy=False) if narrow else array


def _padded(array: Block, size: int) -> Block:
    """Return so many rows, the last one repeated: an element like the others."""
    missing = size - len(array)
    return array if missing == 0 else np.concatenate([array, np.repeat(array[-1:], missing, 0)])

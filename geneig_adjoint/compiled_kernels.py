"""`CompiledKernel`: element routines in C, C++ or Fortran, through plain pointers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.compiled_routines import Routine, find_address, load_library
from geneig_adjoint.directions import check_derivatives, partials, standing_still
from geneig_adjoint.energies import outer_products
from geneig_adjoint.errors import InputError
from geneig_adjoint.kernels import differenced_vjp


@dataclass(frozen=True)
class CompiledKernel:
    """Element matrices from a routine written in C, C++ or Fortran, with its own derivative.

    All routines work on ``count`` elements, get pointers to doubles and return 0, or the
    number (from 1) of an element that they cannot do. With two parameters and one array of data::

        int NAME(int count, const double *value_1, const double *value_2, const double *data_1,
                 double *K);
        int NAME_tangent(int count, const double *value_1, const double *value_2,
                         const double *data_1, const double *dot_1, const double *dot_2,
                         double *K_dot);
        int NAME_vjp(int count, const double *value_1, const double *value_2,
                     const double *data_1, const double *K_bar, double *bar_1, double *bar_2);

    The element is the slowest index everywhere, matrices go row by row: entry (i, j) of element
    e is ``K[(e * size + i) * size + j]``, in Fortran ``K(j, i, e)``. Complex entries are pairs of
    doubles. Results are zero before the call. ``K_dot`` is the derivative of K along the dots;
    ``bar_1`` of an element is the sum over the doubles of its matrix of ``K_bar`` times the
    derivative of K in value_1. One of tangent and vjp is enough; the vjp is what gradients need.

    Routines that keep nothing between calls may be called by several threads at once. Arrays
    that are contiguous and double are not copied.

    Parameters
    ----------
    library
        Where routines are found by name: the path of a shared library, a ``ctypes.CDLL``, what
        cffi's ``ffi.dlopen`` returns, or a mapping from names to pointers (functions of ctypes,
        pointers of cffi, addresses as integers: ``{"bar": f, "bar_vjp": g}``).
    name
        The routine; the other two are ``name_tangent`` and ``name_vjp``, where they exist.
    size
        nd, rows of an element matrix.
    values
        The parameters in the order of the arguments, and how many entries an element has of
        each: ``{"area": 1, "angles": 3}``.
    data
        Arrays with the element as leading axis, in the order of the arguments; all are passed as
        doubles, integers too.
    dtype
        ``float`` or ``complex``.

    Raises
    ------
    InputError
        A library that cannot be loaded, routines that are not there; on use, values that are not
        those of ``values``, elements that a routine cannot do, derivatives that are not finite,
        or that no routine gives.

    """

    library: Any
    name: str
    size: int
    values: Mapping[str, int]
    data: Mapping[str, Block] = field(default_factory=dict)
    dtype: type = float

    def __post_init__(self) -> None:
        """Load the library and look for the routine."""
        if self.dtype not in {float, complex}:
            raise InputError(
                f"dtype of a CompiledKernel must be float or complex, got {self.dtype!r}; "
                "routines work in double precision"
            )
        object.__setattr__(self, "library", load_library(self.library))
        _ = self._matrix, self._tangent, self._vjp  # whatever is wrong with them is said here

    def matrices(self, values: Mapping[str, Block], rows: slice) -> Block:
        """Return the element matrices (batch, nd, nd)."""
        inputs, count = self._inputs(values, rows)
        shape = (self.size**2 * self._width,)
        return self._as_matrices(self._called(self._matrix, count, inputs, [shape], rows)[0])

    def derivative(
        self, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
    ) -> Block:
        """Return the derivative of the matrices along ``dots``, (batch, nd, nd).

        By the tangent routine, or entry by entry by nd^2 calls of the vjp (2 nd^2 for complex
        matrices). Elements whose dots are 0 get exact zeros.
        """
        inputs, count = self._inputs(values, rows)
        slopes = self._arguments(dots, count)
        if not slopes:
            return np.zeros((count, self.size, self.size))
        if self._tangent is None:
            found = self._entries(inputs, slopes, rows)
        else:
            shape = (self.size**2 * self._width,)
            results = self._called(self._tangent, count, [*inputs, *slopes], [shape], rows)
            found = self._as_matrices(results[0])
        found[standing_still(dots, count)] = 0.0
        check_derivatives(found, rows, f"the routine {self.name!r}")
        return found

    def vjp(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        """Return Re sum_j left_j^H (dK/dvalue) right_j for every value, in the shape of values.

        By the vjp routine, or by one call of the tangent for each entry of an element.
        """
        bars = self._products(values, left, right, rows)
        for found in bars.values():
            check_derivatives(found, rows, f"the routine {self.name!r}")
        return bars

    def vjp_tangent(
        self,
        values: Mapping[str, Block],
        dots: Mapping[str, Block],
        left: Block,
        right: Block,
        rows: slice,
    ) -> dict[str, Block]:
        """Return the derivative of `vjp` along ``dots``, by differences of eighth order.

        Relative errors are near 1e-12. Elements whose dots are 0 get exact zeros.
        """
        products: Any = SimpleNamespace(vjp=self._products)
        return differenced_vjp(products, values, dots, (left, right), rows)

    def _products(
        self, values: Mapping[str, Block], left: Block, right: Block, rows: slice
    ) -> dict[str, Block]:
        if self._vjp is None or not values:

            def slope(unit: Mapping[str, Block], _: Block) -> Block:
                return self.derivative(values, unit, rows)

            return partials(values, slope, left, right)
        inputs, count = self._inputs(values, rows)
        weight = self._cotangent(left, right)
        shapes = [(entries,) for entries in self.values.values()]
        bars = self._called(self._vjp, count, [*inputs, weight], shapes, rows)
        found = zip(self.values, bars, strict=True)
        return {name: bar.reshape(np.shape(values[name])) for name, bar in found}

    def _cotangent(self, left: Block, right: Block) -> Block:
        """Return K_bar, as doubles: Re sum_j left_j^H K right_j = sum of K_bar times K."""
        if self.dtype is complex:
            found = outer_products(left, right, real=False).conj()
            return _doubles(np.asarray(found, dtype=complex))
        return outer_products(left, right, real=True)

    def _entries(self, inputs: list[Block], slopes: list[Block], rows: slice) -> Block:
        """Return the derivative along slopes, entry by entry from the vjp."""
        if self._vjp is None:
            raise InputError(
                f"derivatives need the routine {self.name + '_tangent'!r} or "
                f"{self.name + '_vjp'!r}, got a library with neither; write one of them, or "
                "accept differences: geneig_adjoint.Differenced(kernel)"
            )
        count, entries = len(slopes[0]), self.size**2 * self._width
        found, weight = np.zeros((count, entries)), np.zeros((count, entries))
        shapes = [(number,) for number in self.values.values()]
        for entry in range(entries):
            weight[:, entry] = 1.0
            bars = self._called(self._vjp, count, [*inputs, weight], shapes, rows)
            weight[:, entry] = 0.0
            for bar, dot in zip(bars, slopes, strict=True):
                found[:, entry] += np.sum(bar * dot, axis=1)
        return self._as_matrices(found)

    def _inputs(self, values: Mapping[str, Block], rows: slice) -> tuple[list[Block], int]:
        """Return what all routines get first, values and data, and the number of elements."""
        count = len(next(iter(values.values()))) if values else rows.stop - rows.start
        given = self._arguments(values, count)
        for name, array in self.data.items():
            part = np.asarray(array)[rows]
            if len(part) != count or np.iscomplexobj(part):
                raise InputError(
                    f"data {name!r} of a CompiledKernel must be real, one row per element, got "
                    f"{len(part)} rows for {count} elements and dtype {part.dtype}; repeat what "
                    "is constant, and pass real and imaginary part as two arrays"
                )
            given.append(np.ascontiguousarray(part, dtype=float))
        return given, count

    def _arguments(self, values: Mapping[str, Block], count: int) -> list[Block]:
        """Return the values in the order of the arguments, (count, entries) each."""
        found = {name: np.size(value) // max(count, 1) for name, value in values.items()}
        if found != dict(self.values):
            raise InputError(
                f"the routine {self.name!r} takes values with so many entries per element: "
                f"{dict(self.values)}, got {found}; name them in parameters= of the ElementBlock, "
                "with as many columns of ids"
            )
        return [
            np.ascontiguousarray(values[name], dtype=float).reshape(count, -1)
            for name in self.values
        ]

    def _called(
        self,
        routine: Routine,
        count: int,
        inputs: list[Block],
        shapes: Sequence[tuple[int, ...]],
        rows: slice,
    ) -> list[Block]:
        """Return the results of a routine, or raise for the element that it could not do."""
        status, results = routine(count, inputs, shapes)
        if status == 0:
            return results
        if not 0 < status <= count:
            raise InputError(
                f"the routine {routine.name!r} must return 0, or the number of an element from 1 "
                f"to {count}, got {status}; end it with return 0, in Fortran with the result set "
                "to 0"
            )
        values = zip(self.values, inputs, strict=False)
        there = ", ".join(f"{name} = {array[status - 1]}" for name, array in values)
        raise InputError(
            f"the routine {routine.name!r} must return 0, got {status}: it cannot do element "
            f"{rows.start + status - 1} of this rank ({there}); check its values and its geometry"
        )

    def _as_matrices(self, doubles: Block) -> Block:
        return np.asarray(doubles.view(self.dtype).reshape(-1, self.size, self.size))

    @property
    def _width(self) -> int:
        return 2 if self.dtype is complex else 1

    @cached_property
    def _matrix(self) -> Routine:
        found = self._routine("", 1)
        if found is None:
            raise InputError(
                f"the library must have the routine {self.name!r}, got {self.library!r} without; "
                "in C++ declare it extern \"C\", in Fortran bind(C, name='...'), and see what the "
                "library has by: nm -D --defined-only element.so"
            )
        return found

    @cached_property
    def _tangent(self) -> Routine | None:
        return self._routine("_tangent", len(self.values) + 1)

    @cached_property
    def _vjp(self) -> Routine | None:
        return self._routine("_vjp", len(self.values) + 1)

    def _routine(self, ending: str, more: int) -> Routine | None:
        """Return a routine with ``more`` arguments behind values and data, None without it."""
        name = self.name + ending
        address = find_address(self.library, name)
        pointers = len(self.values) + len(self.data) + more
        return None if address is None else Routine(name, address, pointers)


def _doubles(block: Block) -> Block:
    return block.reshape(len(block), -1).view(float)

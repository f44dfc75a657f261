"""Functions that stand for parameters in forms, and what goes in and out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.adapters import _dolfinx_api as api
from geneig_adjoint.adapters import _dolfinx_forms as forms
from geneig_adjoint.errors import InputError
from geneig_adjoint.parameters import IdAccess, is_distributed, length


class Coefficient:
    """A function that stands for a parameter in the forms, or for one entry of a Constant.

    A Constant is a cellwise constant function here: a shift of all its entries together is
    the shift of the Constant, so that the sum of their derivatives is its derivative.
    """

    def __init__(self, name: str, space: Any, access: IdAccess, uniform: bool) -> None:
        self.name = name
        self.function = api.Function(space)
        self.direction = api.Function(space)
        self.access = access
        self.uniform = uniform

    def collected(self, entries: Block) -> Block:
        """Return this rank's share of the derivatives, one per entry of the parameter."""
        return np.array([entries.sum()]) if self.uniform else entries


def own_entries(space: Any) -> Block:
    """Return the global numbers of this rank's entries.  (Not collective.)"""
    first, last = space.dofmap.index_map.local_range
    size = space.dofmap.index_map_bs
    return np.arange(first * size, last * size)


def parameter_size(given: Any) -> int:
    if isinstance(given, api.Function):
        return api.layout(given.function_space)[1]
    return int(np.prod(given.ufl_shape, dtype=int))


def names_error(parameters: Any, bcs: Any) -> InputError | None:
    """Return an error unless parameters have names and conditions are in a list."""
    if not isinstance(parameters, Mapping):
        return InputError(
            f"parameters must map names to Functions and Constants, got "
            f'{type(parameters).__name__}; write parameters={{"thickness": thickness}}'
        )
    if not isinstance(bcs, Sequence):
        return InputError(
            f"bcs must be a list of Dirichlet conditions, got {type(bcs).__name__}; put it in "
            "brackets"
        )
    return None


def condition_error(space: Any, bcs: Sequence[Any]) -> InputError | None:
    """Return an error unless conditions are on a space or on parts of it.  (Not collective.)"""
    for i, condition in enumerate(bcs):
        if not api.conditions_fit(space, condition):
            return InputError(
                f"bcs[{i}] must be a condition on the space of a and b, got one on another space; "
                "make it with the very V of the forms, or with V.sub(i)"
            )
    return None


def entries_error(what: str, found: Any, size: int) -> InputError | None:
    """Return an error unless there is one entry for each of a number.  (Not collective.)"""
    shape = (length(found),) if is_distributed(found) else np.shape(found)
    if shape == (size,):
        return None
    return InputError(f"{what} must have shape ({size},), got {shape}; pass one number for each")


def halves(blocks: tuple[Block, Block, Block]) -> list[list[Block]]:
    """Return blocks that PETSc's scalars can hold, with the same sum of Re y^H M x.

    M is real in the real build: Re (u + iv)^H M (s + it) = u^T M s + v^T M t.
    """
    if not _petsc.REAL_SCALARS or not any(map(np.iscomplexobj, blocks)):
        return [list(blocks)]
    return [[block.real for block in blocks], [block.imag for block in blocks]]


def finite_error(
    used: Sequence[tuple[Coefficient, Any]], sums: Sequence[Block]
) -> InputError | None:
    for (one, _), part in zip(used, sums, strict=True):
        bad = np.flatnonzero(~np.isfinite(part))
        if bad.size:
            return InputError(
                f"derivatives with respect to {one.name!r} must be finite, got {part[bad[0]]} at "
                f"entry {one.access.unique[bad[0]]}; a root or quotient of a coefficient that is 0?"
            )
    return None


def parameter_error(parameters: Mapping[str, Any], given_forms: Sequence[Any]) -> InputError | None:
    """Return an error unless all parameters are real, different, and in a form.

    Not collective.
    """
    names: dict[int, str] = {}
    for name, given in parameters.items():
        if names.setdefault(id(given), name) != name:
            return InputError(
                f"parameters must be different objects, got the same {type(given).__name__} as "
                f"{names[id(given)]!r} and {name!r}; give it one name"
            )
        if not isinstance(given, api.Function | api.Constant):
            return InputError(
                f"parameter {name!r} must be a dolfinx Function or Constant, got "
                f"{type(given).__name__}; wrap a number in dolfinx.fem.Constant"
            )
        if not forms.depends(given_forms, given):
            return InputError(
                f"parameter {name!r} must be in a form, got {given} that is in none; write "
                "the forms with this very object"
            )
        entries = given.x.array if isinstance(given, api.Function) else given.value
        if np.any(np.imag(entries) != 0):
            return InputError(
                f"parameter {name!r} must be real, got imaginary parts; write it as "
                "re + 1j * im of two parameters"
            )
    return None

"""Structures of parameters (nested mappings, dataclasses, JAX pytrees): flat inside.

One mechanism for all of the package: `flatten` at the entrance gives names -> 1-D arrays, which
is what everything inside works on, and `Flat.rebuild` gives results in the structure that came in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint.errors import InputError
from geneig_adjoint.structure_kinds import (
    Branch,
    Fixed,
    Leaf,
    Part,
    is_data,
    is_jax_array,
    is_pytree,
    parts_of,
)

SEPARATOR = "/"
STATIC = (str, bytes, bool, np.bool_, type(None), Enum, PurePath)
"""Kinds of leaves that are no parameters and are passed on as they are."""


class Structure:
    """What a structure of parameters looks like without its numbers.

    Not collective.

    Attributes
    ----------
    leaves : dict
        Name -> `Leaf`.
    fixed : dict
        Name -> value that is no parameter.

    """

    def __init__(self, root: Branch) -> None:
        self.root = root
        ends = list(_ends(root))
        self.leaves: dict[str, Leaf] = {end.name: end for end in ends if isinstance(end, Leaf)}
        self.fixed: dict[str, Any] = {end.name: end.value for end in ends if isinstance(end, Fixed)}
        doubled = [name for name, times in Counter(end.name for end in ends).items() if times > 1]
        if doubled:
            raise InputError(
                f"names in p must differ, got {doubled[0]!r} twice; keys must do without "
                f"{SEPARATOR!r}"
            )

    def rebuild(
        self,
        values: Mapping[str, Any],
        *,
        point: bool,
        built: Callable[[Leaf, Any], Any] = Leaf.built,
        part: str = "",
    ) -> Any:
        """Return the structure, or the part of a name, with other numbers.

        Parameters
        ----------
        values
            Name -> entries, 1-D.
        point
            Whether these are parameters, whose dataclasses run ``__init__``, or derivatives,
            which need not pass what is checked there.
        built
            What makes a leaf of its entries.
        part
            Name of a part; default: all.

        """

        def grown(node: Any) -> Any:
            if isinstance(node, Fixed):
                return node.value
            if isinstance(node, Leaf):
                return built(node, values[node.name])
            return node.make([grown(child) for child in node.parts], point)

        found = [node for node in _nodes(self.root) if node.name == part] if part else [self.root]
        return grown(found[0])

    @property
    def kinds(self) -> tuple[Any, ...]:
        """What all that has parts is, and holds beside them."""
        return tuple(node.kind for node in _nodes(self.root) if isinstance(node, Branch))

    @property
    def description(self) -> dict[str, str]:
        """Name -> what is there in words: to compare ranks, and as a key of caches."""
        found = {leaf.name: f"{leaf.kind} {leaf.shape}" for leaf in self.leaves.values()}
        for name, value in self.fixed.items():
            plain = isinstance(value, (*STATIC, int))
            found[name] = f"fixed {value!r}" if plain else f"fixed {type(value).__name__}"
        return found

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        """What tells this structure from others on this rank, with all that is no number."""
        others = [value for value in self.fixed.values() if not isinstance(value, (*STATIC, int))]
        return (tuple(self.description.items()), tuple(map(id, others)))


class Flat(dict[str, Any]):
    """Names -> 1-D arrays or PETSc.Vec, and the structure they were taken from.

    Attributes
    ----------
    structure : Structure
    source
        What was flattened, None for numbers that were computed.
    point : bool
        Whether these are parameters (True) or derivatives and directions.

    """

    def __init__(
        self,
        values: Mapping[str, Any],
        structure: Structure,
        *,
        source: Any = None,
        point: bool = True,
    ) -> None:
        super().__init__(values)
        self.structure = structure
        self.source = source
        self.point = point

    def rebuild(self) -> Any:
        """Return the numbers in the structure.  (Not collective.)"""
        if self.source is not None:
            return self.source
        return self.structure.rebuild(self, point=self.point)


def is_flat(p: Any) -> bool:
    """Tell whether p maps names to 1-D arrays or PETSc.Vec already.  (Not collective.)"""
    return isinstance(p, Mapping) and all(
        isinstance(value, PETSc.Vec) or (isinstance(value, np.ndarray) and value.ndim == 1)
        for value in p.values()
    )


def flatten(p: Any) -> Any:
    """Return the numbers of a structure as names -> 1-D arrays.

    Not collective. Mappings, dataclasses, named tuples and registered JAX pytrees, and lists and
    tuples inside of them, at any depth. Names are joined by a slash: "core/young",
    "layers/0/angle"; rows of an array of several axes lie behind each other, so that entry
    (i, j) of "coordinates", (n, 3), is 3 i + j.

    Parameters
    ----------
    p
        Leaves are floats, arrays of floats of any shape (NumPy or JAX), and PETSc.Vec. Strings,
        bytes, None, bools, enums, paths and arrays of bools or text are no parameters, nor are
        fields of dataclasses that are declared ``int``, have ``metadata={"static": True}``, or
        are computed (``init=False``): results hold them as they are.

    Returns
    -------
    Flat, or p itself
        p itself if it maps names to 1-D arrays or PETSc.Vec, or is no structure at all.

    Raises
    ------
    InputError
        A leaf that may be a parameter or not (a whole number), or nothing known.

    """
    if isinstance(p, Flat) or not is_structure(p):
        return p
    structure, raw = grown_from(p)
    return Flat({name: _entries(value) for name, value in raw.items()}, structure, source=p)


def grown_from(p: Any) -> tuple[Structure, dict[str, Any]]:
    """Return the structure of something, and its leaves by name as they are.  (Not collective.)"""
    raw: dict[str, Any] = {}
    root = _node("", Part("", p), raw)
    return Structure(root), raw


def with_vectors(structure: Structure, sizes: Mapping[str, int]) -> Structure:
    """Return a structure some leaves of which are distributed, of these lengths."""

    def changed(node: Any) -> Any:
        if isinstance(node, Branch):
            return replace(node, parts=tuple(changed(child) for child in node.parts))
        distributed = isinstance(node, Leaf) and node.name in sizes
        return Leaf(node.name, "vector", (sizes[node.name],)) if distributed else node

    return Structure(changed(structure.root))


def flat_like(p: Any, result: Any, what: str) -> Any:
    """Return what somebody gave in the structure of p as names -> 1-D arrays.

    Not collective. Parts may be missing or None. Unchanged if p is no `Flat`.

    Raises
    ------
    InputError
        An unknown part, or another shape than in p.

    """
    if not isinstance(p, Flat) or isinstance(result, Flat) or result is None:
        return result
    leaves, values = p.structure.leaves, {}
    for name, value in _collected("", result).items():
        if name in leaves and value is not None:
            values[name] = _fitting(leaves[name], value, what)
        elif name not in p.structure.fixed and not isinstance(value, STATIC):
            raise InputError(
                f"{what} must have the structure of p, got {name!r}, which is not among "
                f"{sorted(leaves)}; return the parts that p has"
            )
    ordered = {name: values[name] for name in p if name in values}
    whole = result if len(ordered) == len(p) and not isinstance(result, dict) else None
    return Flat(ordered, p.structure, source=whole, point=False)


def carried(p: Any, values: Mapping[str, Any], *, point: bool) -> Any:
    """Return numbers computed from p with its structure, if it has one.  (Not collective.)"""
    return Flat(values, p.structure, point=point) if isinstance(p, Flat) else values


def kept(p: Any, values: Mapping[str, Any]) -> Any:
    """Return numbers with the structure of p as long as they have its names and lengths."""
    if not isinstance(p, Flat) or p.keys() != values.keys():
        return values
    same = all(_size(values[name]) == _size(p[name]) for name in p)
    return Flat(values, p.structure, point=p.point) if same else values


def keywords(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return names as a function can take them: "core/young" as core_young."""
    named = {name.replace(SEPARATOR, "_"): value for name, value in values.items()}
    if len(named) < len(values):
        raise InputError(
            f"names of parameters must differ as keywords, got {sorted(values)}, of which two are "
            f"alike with _ in place of {SEPARATOR}; rename one"
        )
    return named


def given(value: Any) -> Any:
    """Return parameters as the user gave them.  (Not collective.)"""
    return value.rebuild() if isinstance(value, Flat) else value


def rebuilt(p: Any, flat: Any, result: Mapping[str, Any]) -> Any:
    """Return a result in the structure of p, which was flattened.  (Not collective.)

    A dict with attributes of its own (`EstimatedGradient`) stays one if p is a dict.
    """
    if flat is p or not isinstance(flat, Flat):
        return result
    whole: Any = flat.structure.rebuild(result, point=False)
    if type(whole) is dict and type(result) not in {dict, Flat}:
        kind: Any = type(result)
        whole = kind(whole)
        vars(whole).update(vars(result))
    return whole


def is_structure(p: Any) -> bool:
    """Tell whether p has named parts and is not just names -> 1-D arrays.  (Not collective.)"""
    if isinstance(p, Flat):
        return True
    if is_flat(p):
        return False
    named_tuple = isinstance(p, tuple) and hasattr(p, "_fields")
    if isinstance(p, Mapping) or is_data(p) or named_tuple:
        return True
    return not isinstance(p, list | tuple) and is_pytree(p)


def _size(value: Any) -> int:
    return int(value.getSize() if isinstance(value, PETSc.Vec) else np.size(value))


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.parts if isinstance(node, Branch) else ():
        yield from _nodes(child)


def _ends(node: Any) -> Iterator[Any]:
    return (found for found in _nodes(node) if not isinstance(found, Branch))


def _node(name: str, part: Part, raw: dict[str, Any]) -> Any:
    """Return the node of a part; leaves are put into ``raw``."""
    value = part.value
    if part.fixed or isinstance(value, STATIC):
        return Fixed(name, value)
    if isinstance(value, int | np.integer) and not re.search(r"\bfloat", part.declared):
        if re.search(r"\bint\b", part.declared):
            return Fixed(name, value)
        raise _whole_number_error(name, f"the whole number {value}", f"{value}.0")
    leaf = _leaf(name, value)
    if leaf is not None:
        if isinstance(leaf, Leaf):
            raw[name] = value
        return leaf
    found = parts_of(value)
    if found is None:
        raise InputError(
            f"leaf {name!r} of p must be a float, an array of floats or a PETSc.Vec, got "
            f"{type(value).__name__}; use numpy.asarray(..., dtype=float), or, if it is no "
            'parameter, a dataclass field with metadata={"static": True}'
        )
    parts, make, more = found
    nodes = [_node(f"{name}{SEPARATOR}{one.key}" if name else one.key, one, raw) for one in parts]
    return Branch(name, tuple(nodes), make, (type(value), more))


def _leaf(name: str, value: Any) -> Leaf | Fixed | None:
    if isinstance(value, PETSc.Vec):
        return Leaf(name, "vector", (int(value.getSize()),))
    if isinstance(value, float | int | np.floating | np.integer | complex):
        return Leaf(name, "number", ())
    if not (isinstance(value, np.ndarray) or is_jax_array(value)):
        return None
    shape, kind = tuple(value.shape), np.dtype(value.dtype).kind
    if kind in "bUS":
        return Fixed(name, value)
    if kind in "iu":
        what = f"an array of whole numbers, shape {shape}"
        raise _whole_number_error(name, what, ".astype(float)")
    return Leaf(name, "array", shape)


def _whole_number_error(name: str, what: str, remedy: str) -> InputError:
    return InputError(
        f"leaf {name!r} of p must be a parameter or not, got {what}; write {remedy} if it is one, "
        'else use a dataclass field declared int or with metadata={"static": True}, or leave it out'
    )


def _entries(value: Any) -> Any:
    """Return the numbers of a leaf, 1-D; arrays are not copied where they need not be."""
    if isinstance(value, PETSc.Vec):
        return value
    array = np.asarray(value)
    # Complex and other numbers are for `check_parameters` to refuse, by their name.
    plain = array.dtype.kind in "fiu" or array.dtype.name == "bfloat16"
    return np.asarray(array, dtype=float if plain else None).ravel()


def _collected(name: str, value: Any) -> dict[str, Any]:
    """Return all leaves by name, whatever they are."""
    found = None
    if not isinstance(value, (PETSc.Vec, np.ndarray, float, int, *STATIC)):
        found = None if is_jax_array(value) else parts_of(value)
    if found is None:
        return {name: value}
    result: dict[str, Any] = {}
    for part in found[0]:
        below = f"{name}{SEPARATOR}{part.key}" if name else part.key
        if not part.fixed:
            result |= _collected(below, part.value)
    return result


def _fitting(leaf: Leaf, value: Any, what: str) -> Any:
    vector = isinstance(value, PETSc.Vec)
    shape = (int(value.getSize()),) if vector else np.shape(value)
    behind_each_other = (int(np.prod(leaf.shape, dtype=int)),)
    if vector != (leaf.kind == "vector") or shape not in {leaf.shape, behind_each_other}:
        wanted = "a PETSc.Vec" if leaf.kind == "vector" else f"shape {leaf.shape}"
        raise InputError(
            f"{what} must have the structure of p, {wanted} for {leaf.name!r}, got "
            f"{type(value).__name__} of shape {shape}; return every part in the shape it has in p"
        )
    return _entries(value)

"""Kinds of things that have parts: mappings, sequences, dataclasses, what JAX has been told of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeAlias

from geneig_adjoint.errors import InputError


@dataclass(frozen=True)
class Leaf:
    """A place for numbers: its name, and what is there ("number", "array" or "vector")."""

    name: str
    kind: str
    shape: tuple[int, ...]

    def built(self, value: Any) -> Any:
        """Return entries (1-D) as they were given: a float, an array, a PETSc.Vec."""
        if self.kind == "vector":
            return value
        return float(value[0]) if self.kind == "number" else value.reshape(self.shape)


@dataclass(frozen=True)
class Fixed:
    """A leaf that is no parameter, with its value."""

    name: str
    value: Any


@dataclass(frozen=True)
class Branch:
    """Something with parts.

    Attributes
    ----------
    make
        (parts, whether it is a point) -> the same kind of thing with these parts.
    kind
        Its type, and what else it holds beside its parts.

    """

    name: str
    parts: tuple[Any, ...]
    make: Callable[[list[Any], bool], Any]
    kind: Any


@dataclass(frozen=True)
class Part:
    """A part before it is looked at: key, value, declared type; fixed ones are no parameters."""

    key: str
    value: Any
    declared: str = ""
    fixed: bool = False


Parts: TypeAlias = tuple[list[Part], Callable[[list[Any], bool], Any], Any]
"""Parts, what makes the same kind of thing of others, and what else tells things apart."""


def parts_of(value: Any) -> Parts | None:
    """Return the parts of something, and what makes the same with others; None: a leaf."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _named_tuple(value)
    if isinstance(value, list | tuple):
        numbered = [Part(str(i), item) for i, item in enumerate(value)]
        return numbered, lambda parts, _: type(value)(parts), None
    # Before dataclasses and mappings: registered ones say themselves what their parts are.
    if not isinstance(value, dict) and is_pytree(value):
        return _pytree(value)
    if is_data(value):
        return _dataclass(value)
    if isinstance(value, Mapping):
        return _mapping(value)
    return None


def _mapping(value: Mapping[Any, Any]) -> Parts:
    keys = list(value)

    def make(parts: list[Any], _: bool) -> Any:
        if not isinstance(value, dict):
            return dict(zip(keys, parts, strict=True))
        result = copy(value)
        result.update(zip(keys, parts, strict=True))
        return result

    return [Part(str(key), value[key]) for key in keys], make, None


def _named_tuple(value: Any) -> Parts:
    declared = getattr(type(value), "__annotations__", {})
    parts = [
        Part(key, item, str(getattr(declared.get(key), "__name__", declared.get(key))))
        for key, item in zip(value._fields, value, strict=True)
    ]
    return parts, lambda parts, _: type(value)._make(parts), None


def is_data(value: Any) -> bool:
    """Tell whether something is a dataclass (not the class itself)."""
    return is_dataclass(value) and not isinstance(value, type)


def _dataclass(value: Any) -> Parts:
    every = fields(value)

    def declared(field: Any) -> str:
        return field.type if isinstance(field.type, str) else _type_name(field.type)

    parts = [
        Part(
            field.name,
            getattr(value, field.name),
            declared(field),
            fixed=bool(field.metadata.get("static", False)) or not field.init,
        )
        for field in every
    ]

    def make(made: list[Any], point: bool) -> Any:
        new = {field.name: part for field, part in zip(every, made, strict=True)}
        if point:  # what is computed from the parameters must be computed again
            try:
                return replace(value, **{f.name: new[f.name] for f in every if f.init})
            except (TypeError, ValueError) as error:
                if "InitVar" not in str(error):
                    raise
                raise InputError(
                    f"{type(value).__name__} must be made again with other parameters, got "
                    f"{error}; give it a default, or store it in a field"
                ) from error
        result = copy(value)
        for name, part in new.items():
            object.__setattr__(result, name, part)
        return result

    return parts, make, None


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


# -- what JAX knows, if the program has loaded it --


def _jax() -> Any:
    return getattr(sys.modules.get("jax"), "tree_util", None) and sys.modules["jax"]


def is_jax_array(value: Any) -> bool:
    """Tell whether something is an array of JAX, also one that is traced."""
    jax = _jax()
    return jax is not None and isinstance(value, jax.Array)


def is_pytree(value: Any) -> bool:
    """Tell whether somebody has told JAX what the parts of this kind of thing are."""
    jax = _jax()
    return jax is not None and value is not None and not jax.tree_util.all_leaves([value])


def _pytree(value: Any) -> Parts:
    tree = _jax().tree_util
    found, kind = tree.tree_flatten_with_path(value, is_leaf=lambda item: item is not value)
    parts = [Part(_key_text(path), item) for path, item in found]
    return parts, lambda made, _: tree.tree_unflatten(kind, made), kind


def _key_text(path: Sequence[Any]) -> str:
    key = path[-1]
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)

"""Calling a user's objective on every rank, and checking what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FunctionType, MethodType
from typing import Any, TypeAlias

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import from_root, raise_together, unequal_error, users_code
from geneig_adjoint.digests import fingerprint
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.parameters import is_distributed
from geneig_adjoint.reductions import allreduce_same
from geneig_adjoint.structures import flat_like, given

Objective: TypeAlias = Callable[..., tuple[float, EigenCotangent]]
_Parts: TypeAlias = dict[tuple[str, ...], Block]
_VALUES = ("values",)
_SPAN = (("span P",), ("span Q",))


def evaluate(objective: Objective, pairs: Eigenpairs, p: Any) -> tuple[float, EigenCotangent]:
    """Call an objective on every rank and check what it returns.

    Collective. An exception on one rank is raised on all ranks.

    Raises
    ------
    InputError
        Results of the wrong kind or shape, non-finite numbers, values that differ
        between ranks.

    """
    value, cotangent = float("nan"), EigenCotangent()
    shown = pairs.pencil.view.pairs(pairs)
    with users_code(pairs.comm):
        wants_p = positional_count(objective) > 1
        result = objective(shown, given(p)) if wants_p else objective(shown)
        value, cotangent = _checked_result(objective, result, shown)
        explicit = flat_like(p, cotangent.parameters, "the explicit derivative")
        cotangent = replace(cotangent, parameters=explicit)
    value, cotangent = _same_everywhere(objective, pairs, value, cotangent)
    return value, pairs.pencil.view.cotangent(cotangent)


def nonzero_pairs(pairs: Eigenpairs, cotangent: EigenCotangent) -> Block:
    """Return which pairs a cotangent is nonzero at: (k,) of bool, the same on every rank.

    Collective.
    """
    used = np.zeros(pairs.count)
    if cotangent.values is not None:
        used += np.abs(cotangent.values)
    for block in (cotangent.right, cotangent.left):
        if block is not None:
            used += np.abs(np.asarray(block)).sum(axis=0)
    whole = float(cotangent.span is not None)
    return np.asarray(allreduce_same(pairs.comm, used) + whole > 0)


def _same_everywhere(
    objective: Objective, pairs: Eigenpairs, value: float, cotangent: EigenCotangent
) -> tuple[float, EigenCotangent]:
    """Return value and cotangent with rank 0's bits where they are replicated.

    Collective. Decisions rest on them.
    """
    parameters = cotangent.parameters or {}
    # A parameter may have any name, "values" too: its kind is part of the key.
    parts: _Parts = {
        ("parameters", name): np.array(value)
        for name, value in sorted(parameters.items())
        if not is_distributed(value)
    }
    if cotangent.values is not None:
        parts[_VALUES] = np.array(cotangent.values)
    for key, small in zip(_SPAN, cotangent.span or (), strict=False):
        parts[key] = np.array(small)
    columns = [block.shape[1] for block in cotangent.matrices or ()]
    shapes = {key: part.shape for key, part in parts.items()}
    kind = (shapes, sorted(parameters), columns)
    mark = fingerprint(kind)
    number, known, first = from_root(pairs.comm, (value, mark, parts))
    error = _value_error(objective, pairs, value, number)
    if error is None and known != mark:
        what = f"the parts of the cotangent of {objective_name(objective)}"
        error = unequal_error(pairs.comm, what, kind)
    raise_together(pairs.comm, error or _difference_error(objective, pairs, parts, first))
    _collect(parameters)
    explicit = {name: first.get(("parameters", name), v) for name, v in parameters.items()}
    return number, replace(
        cotangent,
        values=first.get(_VALUES),
        span=None if cotangent.span is None else (first[_SPAN[0]], first[_SPAN[1]]),
        parameters=explicit or None,
    )


def _value_error(
    objective: Objective, pairs: Eigenpairs, value: float, first: float
) -> InputError | None:
    if first == value or abs(first - value) <= 1e-12 * abs(first):
        return None
    return InputError(
        f"the objective {objective_name(objective)} must return the same value on every rank, "
        f"got {value!r} on rank {pairs.comm.rank} and {first!r} on rank 0; sum local parts "
        "with pairs.comm.allreduce"
    )


def _collect(parameters: Mapping[str, Any]) -> None:
    """Free the distributed derivatives of earlier calls that nobody holds any longer.

    Collective. They are the objective's, which may keep them, so that they cannot be
    destroyed here; and PETSc frees what Python forgets only when all ranks ask for it.
    """
    for name in sorted(parameters):
        if is_distributed(parameters[name]):
            PETSc.garbage_cleanup(parameters[name].comm)
            return


def _difference_error(
    objective: Objective, pairs: Eigenpairs, mine: _Parts, first: _Parts
) -> InputError | None:
    for key, value in first.items():
        limit = 1e-12 * np.abs(value).max(initial=0.0)
        if not (np.abs(mine[key] - value) <= limit).all():
            return InputError(
                f"the cotangent {key[-1]!r} of {objective_name(objective)} must be the same on "
                f"every rank, got another one on rank {pairs.comm.rank} than on rank 0; sum local "
                "parts with pairs.comm.allreduce"
            )
    return None


def positional_count(function: Callable[..., Any]) -> int:
    """Return how many positional arguments a user's function is to be given.

    Not collective. Those without a default, and ``p`` and ``p_dot`` in any case; other
    arguments with a default are the user's own settings.
    """
    code = _code_of(function)
    if code is not None:
        plain, arguments = code
        return sum(i < plain or name in {"p", "p_dot"} for i, name in enumerate(arguments))
    return sum(
        item.kind in {item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD}
        and (item.default is item.empty or item.name in {"p", "p_dot"})
        for item in inspect.signature(function).parameters.values()
    )


def _code_of(function: Any) -> tuple[int, tuple[str, ...]] | None:
    """Return how many arguments have no default, and all that are positional, by name.

    Not collective. None where it takes `inspect.signature`, fifty times as long, to tell.
    """
    own = isinstance(function, FunctionType)
    inner = function if own else type(function).__dict__.get("__call__")
    inner = function.__func__ if isinstance(function, MethodType) else inner
    if not isinstance(inner, FunctionType) or vars(inner) or hasattr(function, "__signature__"):
        return None  # such as what is wrapped
    names = inner.__code__.co_varnames[int(not own) : inner.__code__.co_argcount]
    return len(names) - len(inner.__defaults__ or ()), names


def objective_name(objective: Any) -> str:
    """Return what messages call an objective.  (Not collective.)"""
    return getattr(objective, "__name__", type(objective).__name__)


def _checked_result(
    objective: Objective, result: Any, pairs: Eigenpairs
) -> tuple[float, EigenCotangent]:
    name = objective_name(objective)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise InputError(
            f"the objective {name} must return (value, EigenCotangent), got "
            f"{type(result).__name__}; return both"
        )
    value, cotangent = result
    if not isinstance(cotangent, EigenCotangent):
        raise InputError(
            f"the objective {name} must return an EigenCotangent as second item, got "
            f"{type(cotangent).__name__}; wrap it: EigenCotangent(values=..., right=...)"
        )
    if np.ndim(value) != 0 or np.iscomplexobj(value):
        raise InputError(
            f"the objective {name} must be one real number, got {value!r}; differentiate real and "
            "imaginary part as two objectives"
        )
    if not np.isfinite(value):
        raise InputError(f"the objective {name} must be finite, got {value!r}; check its formula")
    _check_shapes(name, cotangent, pairs)
    return float(value), cotangent


def _check_shapes(name: str, cotangent: EigenCotangent, pairs: Eigenpairs) -> None:
    shapes = {
        "values": (cotangent.values, (pairs.count,)),
        "right": (cotangent.right, pairs.right.shape),
        "left": (cotangent.left, pairs.right.shape),
    }
    k = (pairs.count, pairs.count)
    for index, small in enumerate(cotangent.span or ()):
        shapes[f"span[{index}]"] = (small, k)
    for part, (array, shape) in shapes.items():
        if array is None:
            continue
        if np.shape(array) != shape:
            raise InputError(
                f"the cotangent {part!r} of {name} must have shape {shape}, got {np.shape(array)}; "
                "use this rank's rows, one column per pair"
            )
        if not np.isfinite(array).all():
            raise InputError(
                f"the cotangent {part!r} of {name} must be finite, got "
                f"{np.count_nonzero(~np.isfinite(array))} NaN or Inf; check its formula"
            )
    blocks = cotangent.matrices
    n_local = pairs.right.shape[0]
    if blocks is not None and (
        len(blocks) != 3 or len({np.shape(block) for block in blocks}) != 1
        or np.ndim(blocks[0]) != 2 or np.shape(blocks[0])[0] != n_local
    ):  # fmt: skip
        raise InputError(
            f"the cotangent 'matrices' of {name} must be three blocks of shape ({n_local}, j), got "
            f"{[np.shape(block) for block in blocks]}; pass (left_a, left_b, right)"
        )

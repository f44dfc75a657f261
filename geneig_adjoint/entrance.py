"""Where structures of parameters come in: flat from here on, and as given for a user's code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from geneig_adjoint.collective import agreed, raise_together
from geneig_adjoint.digests import fingerprint
from geneig_adjoint.errors import InputError
from geneig_adjoint.structures import (
    Flat,
    flat_like,
    flatten,
    given,
    is_flat,
    is_structure,
    rebuilt,
)

if TYPE_CHECKING:
    from mpi4py import MPI

POINTS = {
    "assemble": 1,
    "contract": 1,
    "tangent": 2,
    "contract_tangent": 2,
    "derivative_products": 1,
    "multiply": 1,
}
"""Methods of a model -> how many structures they take: p, or p and p_dot."""
MARK = "takes_flat_parameters"

Kind = TypeVar("Kind", bound=type)


def entered(comm: MPI.Comm | None, model: Any, p: Any, *directions: Any) -> tuple[Any, ...]:
    """Return model, p and directions as everything inside uses them: flat.

    Collective. Mappings of names to 1-D arrays are passed on as they are; a model of a user
    gets what the user gave, and its results are made flat.

    Parameters
    ----------
    comm
        The ranks; None: unknown, nothing is compared.
    model, p
        As the user gave them.
    directions
        In the structure of p.

    Raises
    ------
    InputError
        A structure that cannot be used, or another one on another rank.

    """
    flat = _agreed(comm, p, directions)
    return _for_flat(model, flat[0]), *flat


def takes_structures(kind: Kind) -> Kind:
    """Let the methods of a model take structures and return them.  (Not collective.)

    A class decorator. Inside, the methods know names -> 1-D arrays only.
    """
    for name in POINTS.keys() & vars(kind).keys():
        setattr(kind, name, _entering(vars(kind)[name], POINTS[name]))
    return kind


def called(function: Callable[..., Any], p: Any, *arguments: Any, what: str = "") -> Any:
    """Call a user's function with p and directions as they were given.

    Collective if the function is. With ``what``, a name of the function, its result is in the
    structure of p and is made flat.
    """
    result = function(given(p), *map(given, arguments))
    return flat_like(p, result, f"the result of {what}") if what else result


def _agreed(comm: MPI.Comm | None, p: Any, directions: tuple[Any, ...]) -> tuple[Any, ...]:
    flat: tuple[Any, ...] = (p, *directions)
    error: InputError | None = None
    try:
        point = flatten(p)
        flat = (point, *(flat_like(point, dot, "the direction") for dot in directions))
    except InputError as caught:
        error = caught
    if comm is not None and comm.size > 1:
        _compare(comm, flat, error)
    elif error is not None:
        raise error
    return flat


def _compare(comm: MPI.Comm, flat: tuple[Any, ...], error: InputError | None) -> None:
    """Raise on all ranks when one has an error or another structure.  (Collective.)

    In this order: a rank whose p is flat compares its entries in the same way.
    """
    whole = error is None and isinstance(flat[0], Flat)
    mine = flat[0].structure.description if whole else {}
    if agreed(comm, error, fingerprint(sorted(mine.items()))):
        return
    first: dict[str, Any] = comm.bcast(mine, root=0)
    raise_together(comm, _difference_error(flat[0], mine, first, comm.rank))


def _difference_error(
    flat: Any, mine: dict[str, Any], first: dict[str, Any], rank: int
) -> InputError | None:
    different = [name for name in [*mine, *first] if mine.get(name) != first.get(name)]
    if not different:
        return None
    name = different[0]
    flat_there = not any(isinstance(text, str) for text in first.values())
    source = flat.source if isinstance(flat, Flat) else None
    if flat_there and isinstance(source, Mapping):
        key, value = next(item for item in source.items() if not is_flat(dict([item])))
        return InputError(
            f"parameter {key!r} must be a 1-D array or a PETSc.Vec, got {type(value).__name__} on "
            f"rank {rank} while all are on rank 0; build p in the same way everywhere"
        )
    return InputError(
        f"p must have the same structure on every rank, got {mine.get(name, 'nothing')} for "
        f"{name!r} on rank {rank} and {first.get(name, 'nothing')} on rank 0; build it in the "
        "same way everywhere"
    )


def _entering(method: Callable[..., Any], points: int) -> Callable[..., Any]:
    @wraps(method)
    def entering(self: Any, p: Any, *arguments: Any, **keywords: Any) -> Any:
        if not is_structure(p):
            return method(self, p, *arguments, **keywords)
        names = ["p_dot"][: points - 1]
        dots = [keywords.pop(name) for name in names if name in keywords]
        dots, rest = [*dots, *arguments][: points - 1], [*dots, *arguments][points - 1 :]
        inside = isinstance(p, Flat) and all(map(is_flat, dots))
        flat = (p, *dots) if inside else _agreed(self.comm, p, tuple(dots))
        result = method(self, *flat, *rest, **keywords)
        return rebuilt(p, flat[0], result) if isinstance(result, dict) else result

    setattr(entering, MARK, True)
    return entering


def _for_flat(model: Any, p: Any) -> Any:
    """Return a model that takes what is flat, whatever the model of a user takes."""
    methods = [getattr(type(model), name, None) for name in POINTS]
    if not isinstance(p, Flat) or all(getattr(one, MARK, one is None) for one in methods):
        return model
    # Messages name the user's model.
    return type(type(model).__name__, (_AsGiven,), {})(model)


class _AsGiven:
    """A user's model, whose methods get structures as the user gave them."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        return _giving(found) if name in POINTS else found


def _giving(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def giving(p: Any, *arguments: Any, **keywords: Any) -> Any:
        result = method(given(p), *map(given, arguments), **keywords)
        if method.__name__ not in {"contract", "contract_tangent"}:
            return result
        return flat_like(p, result, f"the result of {method.__name__}")

    return giving

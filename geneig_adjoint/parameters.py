"""Named parameters: replicated NumPy arrays or distributed PETSc vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import agreed, raise_together
from geneig_adjoint.digests import fingerprint
from geneig_adjoint.errors import InputError
from geneig_adjoint.exchange import as_range
from geneig_adjoint.reductions import allreduce_same
from geneig_adjoint.structures import SEPARATOR, Flat, carried

if TYPE_CHECKING:
    from mpi4py import MPI

Parameters: TypeAlias = Mapping[str, Any]
"""Names -> 1-D float arrays (the same on every rank) or PETSc.Vec (distributed)."""
Gradient: TypeAlias = dict[str, Any]


def check_parameters(
    comm: MPI.Comm, p: Parameters, sizes: Mapping[str, int], *, exact: bool = False
) -> None:
    """Raise on all ranks unless p holds exactly the named parameters in usable form.

    Collective.

    Parameters
    ----------
    comm
        Communicator of the model.
    p
        The parameters as the user passed them.
    sizes
        Names the model knows -> smallest admissible length.
    exact
        Whether longer parameters are wrong, too.

    Raises
    ------
    InputError
        Missing or unknown names, wrong lengths, complex or non-finite entries, or
        replicated arrays that differ between ranks.

    """
    error = _structure_error(p, sizes, exact) or _entries_error(p)
    digest = {} if comm.size == 1 or error is not None else _digest(p)
    if agreed(comm, error, fingerprint(sorted(digest.items()))):
        return
    changed = [name for name, entry in comm.bcast(digest).items() if digest.get(name) != entry]
    if changed:
        error = InputError(
            f"replicated parameter {changed[0]!r} must be the same on every rank, got different "
            "entries; compute it on rank 0 and broadcast it, or pass a PETSc.Vec"
        )
    raise_together(comm, error)


def _structure_error(p: Parameters, sizes: Mapping[str, int], exact: bool) -> InputError | None:
    if not isinstance(p, Mapping):
        return InputError(
            f"p must map names to arrays, got {type(p).__name__}; pass a dict such as "
            f"{{{', '.join(f'{name!r}: ...' for name in sizes)}}}"
        )
    if set(p) != set(sizes):
        return _parts_error(p, sizes) or InputError(
            f"p must hold the parameters {sorted(sizes)}, got {sorted(p)}; "
            "add the missing names and drop the others"
        )
    for name, size in sizes.items():
        got = length(p[name])
        if got is None:
            return InputError(
                f"parameter {name!r} must be a 1-D array or a PETSc.Vec, got "
                f"{type(p[name]).__name__}; use numpy.asarray(..., dtype=float).ravel()"
            )
        if got < size:
            return _number_error(p, name, size) or InputError(
                f"parameter {name!r} must have at least {size} entries (the largest id is "
                f"{size - 1}), got {got}; extend it or renumber the ids"
            )
        if exact and got != size:
            return InputError(
                f"parameter {name!r} must have {size} entries, one per derivative, got {got}; "
                "shorten it"
            )
    return None


def _parts_error(p: Parameters, sizes: Mapping[str, int]) -> InputError | None:
    """Return an error if one parameter of the model came as several numbers."""
    source = p.source if isinstance(p, Flat) else None
    if not isinstance(source, Mapping):
        return None
    for name in sizes:
        if isinstance(source.get(name), list | tuple) and f"{name}{SEPARATOR}0" in p:
            return InputError(
                f"parameter {name!r} must be a 1-D array or a PETSc.Vec, got "
                f"{type(source[name]).__name__}; use numpy.asarray(..., dtype=float).ravel()"
            )
    return None


def _number_error(p: Parameters, name: str, size: int) -> InputError | None:
    """Return an error if a number came where the model has several entries."""
    if not isinstance(p, Flat) or p.structure.leaves[name].kind != "number":
        return None
    return InputError(
        f"parameter {name!r} must be a 1-D array or a PETSc.Vec, got float; the model has "
        f"{size} entries: use numpy.full({size}, ...), or ids that are all 0"
    )


def _entries_error(p: Parameters) -> InputError | None:
    for name, value in p.items():
        entries = value.array_r if is_distributed(value) else np.asarray(value)
        if is_distributed(value) and not np.any(entries.imag):
            entries = entries.real
        if entries.dtype.kind not in "fiu":
            return InputError(
                f"parameter {name!r} must be real, got dtype {entries.dtype}; "
                "split a complex parameter into its real and imaginary part"
            )
        bad = np.flatnonzero(~np.isfinite(entries))
        if bad.size:
            return InputError(
                f"parameter {name!r} must be finite, got {entries[bad[0]]} at entry {bad[0]} and "
                f"{bad.size - 1} more; check where it is computed"
            )
    return None


def _digest(p: Parameters) -> dict[str, tuple[int, bytes]]:
    return {name: hashed for name, hashed in digest(p).items() if not is_distributed(p[name])}


def digest(p: Parameters) -> dict[str, tuple[int, bytes]]:
    """Return name -> (length, fingerprint of the entries of this rank).  (Not collective.)"""
    return {
        name: (
            length(value) or 0,
            hashlib.blake2b(np.asarray(local_values(value), dtype=float).tobytes()).digest(),
        )
        for name, value in p.items()
    }


def is_distributed(value: Any) -> bool:
    """Tell whether a parameter is a PETSc vector.  (Not collective.)"""
    return isinstance(value, PETSc.Vec)


def length(value: Any) -> int | None:
    """Return the global length of a parameter, None if it is not one.  (Not collective.)"""
    if is_distributed(value):
        return int(value.getSize())
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return int(value.size)
    return None


def local_values(value: Any) -> Block:
    """Return the entries this rank holds, real.  (Not collective.)"""
    if is_distributed(value):
        return np.asarray(value.array_r.real)
    return np.asarray(value)


class IdAccess:
    """Gather parameter entries at this rank's ids and add contributions back.

    Parameters
    ----------
    ids
        Global indices of any shape; repeated ones allowed.

    """

    def __init__(self, ids: Block) -> None:
        self.shape = ids.shape
        self.unique, inverse = np.unique(ids, return_inverse=True)
        self.inverse = inverse.reshape(ids.shape)
        # Ids in their order, as of one parameter per element, need no sums and no index.
        self._in_order = np.array_equal(inverse.ravel(), np.arange(self.unique.size))
        self._entries = as_range(self.unique)

    @property
    def smallest_length(self) -> int:
        """Length a parameter needs so that every id exists."""
        return int(self.unique[-1]) + 1 if self.unique.size else 0

    def gather(self, value: Any) -> Block:
        """Return the entries at the ids, in their shape.  (Collective for a PETSc.Vec.)"""
        if not is_distributed(value):
            return self._spread(np.array(np.asarray(value)[self._entries], dtype=float))
        wanted = PETSc.IS().createGeneral(self.unique.astype(PETSc.IntType), comm=PETSc.COMM_SELF)
        target = PETSc.Vec().createSeq(self.unique.size)
        scatter = PETSc.Scatter().create(value, wanted, target, None)
        scatter.scatter(value, target)
        entries = target.array_r.real.copy()
        for item in (scatter, target, wanted):
            item.destroy()
        return self._spread(entries)

    def _spread(self, entries: Block) -> Block:
        """Return distinct entries, an array that nobody else has, at the ids."""
        return entries.reshape(self.shape) if self._in_order else np.asarray(entries[self.inverse])

    def add(self, total: Any, contributions: Block) -> None:
        """Add contributions (shape of the ids) to a gradient entry.  (Not collective.)

        The sum is finished by `finish`.
        """
        sums = contributions.ravel()
        if not self._in_order:
            sums = np.bincount(self.inverse.ravel(), weights=sums, minlength=self.unique.size)
        if is_distributed(total):
            total.setValues(self.unique.astype(PETSc.IntType), sums, addv=PETSc.InsertMode.ADD)
        else:
            total[self._entries] += sums


def structure_error(what: str, p: Parameters, result: Mapping[str, Any]) -> InputError | None:
    """Return an error unless a user's result has the names and lengths of p and is finite.

    Not collective.
    """
    expected = {name: length(value) for name, value in p.items()}
    if not isinstance(result, Mapping):
        return InputError(
            f"{what} must return the structure of p, {expected} (name: length), got "
            f"{type(result).__name__}; return a dict with one entry per parameter"
        )
    got = {
        name: length(value if is_distributed(value) else np.asarray(value))
        for name, value in result.items()
    }
    if got == expected:
        return _result_error(what, result)
    return InputError(
        f"{what} must return the structure of p, {expected} (name: length), got {got}; "
        "return one entry per parameter, zeros where there is no effect"
    )


def _result_error(what: str, result: Mapping[str, Any]) -> InputError | None:
    """Return an error that names the first entry of a result that is not finite."""
    for name, value in result.items():
        entries = value.array_r if is_distributed(value) else np.asarray(value)
        if entries.dtype.kind not in "fc":
            continue
        bad = np.flatnonzero(~np.isfinite(entries))
        if bad.size:
            first = int(bad[0]) + (value.getOwnershipRange()[0] if is_distributed(value) else 0)
            return InputError(
                f"{what} must return finite numbers, got {entries[bad[0]]} at entry {first} of "
                f"{name!r} and {len(bad) - 1} more NaN or Inf; check the derivatives of its "
                "elements, laws and maps there"
            )
    return None


def zeros_like(p: Parameters) -> Gradient:
    """Return zeros in the structure of p; the caller owns new PETSc vectors.  (Collective.)"""
    zeros: Gradient = carried(p, {name: _zero(value) for name, value in p.items()}, point=False)
    return zeros


def unit_direction(p: Parameters, name: str, index: int) -> Gradient:
    """Return the direction in which one entry of one parameter moves by 1.

    Collective. The caller owns new PETSc vectors.
    """
    unit = zeros_like(p)
    if is_distributed(unit[name]):
        first, last = unit[name].getOwnershipRange()
        if first <= index < last:
            unit[name].array[index - first] = 1.0
    else:
        unit[name][index] = 1.0
    return unit


def _zero(value: Any) -> Any:
    if not is_distributed(value):
        return np.zeros(np.asarray(value).shape)
    vec = value.duplicate()
    vec.set(0.0)
    return vec


def finish(comm: MPI.Comm, total: Gradient) -> Gradient:
    """Complete sums over the ranks: the same bits everywhere.  (Collective.)"""
    finished: Gradient = {}
    for name in sorted(total):  # ranks may name their parameters in another order
        value = total[name]
        if is_distributed(value):
            value.assemble()
            finished[name] = value
        else:
            finished[name] = allreduce_same(comm, value)
    return {name: finished[name] for name in total}


def add_scaled(total: Gradient, scale: float, other: Parameters) -> None:
    """Add ``scale * other`` to a finished gradient in place.  (Collective for PETSc.Vec.)"""
    for name, value in other.items():
        if is_distributed(total[name]):
            total[name].axpy(scale, value)
        else:
            total[name] += scale * np.asarray(value)


def dot(p: Parameters, q: Parameters) -> float:
    """Return sum_i p_i q_i over all parameters.  (Collective for PETSc.Vec.)"""
    return float(
        sum(
            value.dot(q[name]).real if is_distributed(value) else np.dot(value, q[name])
            for name, value in p.items()
        )
    )


def absolute_dot(p: Parameters, q: Parameters) -> float:
    """Return sum |p_i q_i|: the size of `dot` before its terms cancel.  (Collective.)"""
    total = 0.0
    for name, value in p.items():
        part = float(np.abs(local_values(value) * local_values(q[name])).sum())
        if is_distributed(value):
            part = float(allreduce_same(value.comm.tompi4py(), np.array([part]))[0])
        total += part
    return total


def moved(p: Parameters, step: float, direction: Parameters) -> Gradient:
    """Return the new parameters p + step * direction.  (Collective for PETSc.Vec.)"""
    result: Gradient = {}
    for name, value in p.items():
        if is_distributed(value):
            result[name] = value.copy()
            result[name].axpy(step, direction[name])
        else:
            result[name] = np.asarray(value, dtype=float) + step * np.asarray(direction[name])
    point: Gradient = carried(p, result, point=True)
    return point


def release(p: Parameters) -> None:
    """Destroy the PETSc vectors of a structure made by this module.  (Collective.)"""
    for value in p.values():
        if is_distributed(value):
            value.destroy()


def pack(p: Parameters) -> Block:
    """Return all entries as one flat array, in the order of the names.  (Not collective.)

    Raises
    ------
    InputError
        For distributed parameters: a flat array would hold all of them on every rank.

    """
    for name, value in p.items():
        if is_distributed(value):
            raise InputError(
                f"packing needs replicated parameters, got a PETSc.Vec for {name!r}; "
                "call f(p) itself, or use an optimiser that works on PETSc vectors"
            )
    return np.concatenate([np.asarray(value, dtype=float).ravel() for value in p.values()])


def unpack(flat: Block, like: Parameters) -> Gradient:
    """Return a flat array in the structure of `like`.  (Not collective.)

    Raises
    ------
    InputError
        When the lengths do not match.

    """
    sizes = {name: length(value) or 0 for name, value in like.items()}
    if flat.shape != (sum(sizes.values()),):
        raise InputError(
            f"flat parameters must have shape ({sum(sizes.values())},), got {flat.shape}; "
            "use the array that pack returned"
        )
    cut = {
        name: np.array(flat[end - size : end], dtype=float)
        for (name, size), end in zip(sizes.items(), np.cumsum([*sizes.values()]), strict=True)
    }
    point: Gradient = carried(like, cut, point=True)
    return point

"""`Composed`: a model behind maps is a model of the parameters in front of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout, matrix_of_columns
from geneig_adjoint.collective import (
    CollectiveContext,
    check_equal_input,
    raise_together,
    users_code,
)
from geneig_adjoint.entrance import takes_structures
from geneig_adjoint.errors import InputError
from geneig_adjoint.maps import Map, map_error, result_error
from geneig_adjoint.models import Model, has_hermitian_tangent, refills
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    add_scaled,
    check_parameters,
    digest,
    is_distributed,
    length,
    structure_error,
    unit_direction,
)
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.structures import Flat, carried, kept

if TYPE_CHECKING:
    from mpi4py import MPI

AGREEMENT = 1e-8
"""Replicated results of a user's map may differ by this between ranks: other orders of sums."""


@takes_structures
class Composed(CollectiveContext):
    """The model at f_k(... f_1(p)), as a model of p.

    Collective. Whatever the model offers is offered here: tangents, products with Hermitian
    transposes, refilled pencils; second derivatives if the maps have ``vjp_tangent`` too.

    Maps are called when a pencil is assembled. What they made of that p is kept, one vector per
    result of a map, and serves the derivatives there: until p changes, which is seen by its
    contents, or until `close`.

    Parameters
    ----------
    model
        Any model of the parameters that the last map returns.
    maps
        Maps (`Map`), the first one is applied first; the same on every rank.
    comm
        The ranks; default: those of the model.

    Raises
    ------
    InputError
        Something that is no map, or other maps on other ranks.

    """

    def __init__(self, model: Model, maps: Sequence[Map], *, comm: MPI.Comm | None = None) -> None:
        if comm is None:
            comm = getattr(model, "comm", None)
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        self.comm = comm
        self.model: Any = model
        raise_together(comm, _maps_error(maps))
        self.maps = tuple(maps)
        check_equal_input(comm, "the kinds of maps", [type(item).__name__ for item in self.maps])
        self.refills = refills(model)
        self.has_tangent = bool(getattr(model, "has_tangent", hasattr(model, "tangent")))
        self.has_hermitian_tangent = self.has_tangent and has_hermitian_tangent(model)
        self._last: _Evaluation | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of this rank, as the model says."""
        rows: tuple[int, int] | None = getattr(self.model, "rows", None)
        if rows is None:
            raise InputError(
                f"this needs a model that knows its rows, got {type(self.model).__name__} without "
                "rows; give it an attribute rows = (first, last + 1) of this rank"
            )
        return rows

    def assemble(self, p: Parameters, out: Pencil | None = None) -> Pencil:
        """Return the model's pencil at the mapped parameters; it is one of p.

        Collective. ``out`` is refilled if the model can do that (``refills``).

        Raises
        ------
        InputError
            Parameters or results of maps that cannot be used; ``out`` for a model that
            cannot refill.

        """
        if out is not None and not self.refills:
            raise InputError(
                f"out= needs a model whose assemble takes it, got {type(self.model).__name__}; "
                "assemble a fresh pencil"
            )
        with self._points(p, anew=True) as points:
            keywords = {"out": out} if out is not None else {}
            with users_code(self.comm):
                pencil: Pencil = self.model.assemble(points[-1], **keywords)
            # Pairs are those of what the user varies.
            pencil.point = digest(p)
        return pencil

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the model's contraction pulled back to p; see `Model.contract`."""
        with self._points(p) as points:
            with users_code(self.comm):
                bar = self.model.contract(points[-1], left_a, left_b, right)
            for index in reversed(range(len(self.maps))):
                bar = self._pulled(index, points, bar)
        return {name: bar[name] for name in p}

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return the model's tangent along what p_dot becomes; see `ElementModel.tangent`.

        Raises
        ------
        InputError
            When the model has no tangent, or none with Hermitian transposes.

        """
        self._need_tangent(hermitian=hermitian)
        keywords = {"hermitian": True} if hermitian else {}
        with (
            self._points(p) as points,
            self._directions(points, p_dot) as dots,
            users_code(self.comm),
        ):
            dA_right, dB_right = self.model.tangent(points[-1], dots[-1], right, **keywords)
        return dA_right, dB_right

    def contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Gradient:
        """Return the derivative of `contract` along p_dot; see `ElementModel.contract_tangent`.

        Collective. With J the derivative of the maps and c the model's contraction, this is
        J^T c_dot + (J_dot)^T c, map by map.

        Raises
        ------
        InputError
            When the model has no ``contract_tangent`` or a map no ``vjp_tangent``.

        """
        self._need_second()
        vectors = (left_a, left_b, right)
        with self._points(p) as points, self._directions(points, p_dot) as dots:
            with users_code(self.comm):
                bar = self.model.contract(points[-1], *vectors)
                moving = self.model.contract_tangent(points[-1], dots[-1], *vectors)
            for index in reversed(range(len(self.maps))):
                bend = self._called(
                    index, "vjp_tangent", points[index], (points[index], dots[index], bar)
                )
                if index:
                    bar = self._pulled(index, points, bar)
                moving = self._pulled(index, points, moving)
                add_scaled(moving, 1.0, bend)
                _release(bend, keep=[moving, bar])
            _release(bar, keep=[moving])
        return {name: moving[name] for name in p}

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the matrices with columns (dA/dp_i) x and (dB/dp_i) x.

        Collective. One tangent of the model per column: meant for some indices, see
        `geneig_adjoint.derivative_products`.
        """
        self._need_tangent(hermitian=False)
        size = length(p[name]) or 0
        chosen = np.arange(size) if indices is None else np.asarray(indices)
        columns = equal_layout(self.comm, len(chosen))
        if indices is None and is_distributed(p[name]):
            columns = p[name].getSizes()
        found: list[tuple[Block, ...]] = []
        with self._points(p) as points:
            for index in chosen:
                unit = unit_direction(p, name, int(index))
                with self._directions(points, unit) as dots:
                    found.append(tuple(self.model.tangent(points[-1], dots[-1], x)))
                _release(unit)
        dA_x, dB_x = (
            matrix_of_columns(self.comm, self.rows, columns, [pair[side][:, 0] for pair in found])
            for side in (0, 1)
        )
        return dA_x, dB_x

    def close(self) -> None:
        """Free what the maps made of the last p; model and maps are the user's.  (Collective.)

        The model can be used again, and calls its maps anew then.
        """
        if self._last is not None:
            for made, passed in zip(self._last.made, self._last.passed, strict=True):
                _release({name: value for name, value in made.items() if name not in passed})
        self._last = None

    @contextmanager
    def _points(self, p: Parameters, *, anew: bool = False) -> Iterator[list[Parameters]]:
        """Give p and what every map makes of it.  (Collective.)"""
        check_parameters(self.comm, p, _sizes(p))
        entries = {name: (is_distributed(p[name]), *found) for name, found in digest(p).items()}
        # What is no number (a name, a switch) belongs to the structure.
        key = (entries, p.structure.fingerprint if isinstance(p, Flat) else None)
        known = self._last is not None and self._last.key == key and not anew
        if self.comm.allreduce(int(not known)) or self._last is None:
            self._last = self._evaluated(p, key)
        yield [p, *self._last.points(p)]

    def _evaluated(self, p: Parameters, key: Any) -> _Evaluation:
        """Return what the maps make of p; what was kept before is freed.  (Collective.)"""
        self.close()
        points: list[Parameters] = [p]
        try:
            for index in range(len(self.maps)):
                points.append(self._called(index, "__call__", None, (points[-1],)))
        except BaseException:
            for made in points[1:]:
                _release(made, keep=[p])
            raise
        names = {id(value): name for name, value in p.items() if is_distributed(value)}
        passed = [
            {key: names[id(value)] for key, value in made.items() if id(value) in names}
            for made in points[1:]
        ]
        return _Evaluation(key, points[1:], passed)

    @contextmanager
    def _directions(
        self, points: list[Parameters], p_dot: Parameters
    ) -> Iterator[list[Parameters]]:
        """Give p_dot and what every map makes of it; free it afterwards.  (Collective.)"""
        check_parameters(self.comm, p_dot, _sizes(points[0]), exact=True)
        dots: list[Parameters] = [p_dot]
        try:
            for index in range(len(self.maps)):
                arguments = (points[index], dots[-1])
                dots.append(self._called(index, "jvp", points[index + 1], arguments))
            yield dots
        finally:
            for made in dots[1:]:
                _release(made, keep=[p_dot, *points])

    def _pulled(self, index: int, points: list[Parameters], bar: Gradient) -> Gradient:
        """Return a cotangent in front of a map; the one behind it is freed.  (Collective.)"""
        raise_together(self.comm, structure_error("contract", points[index + 1], bar))
        pulled = self._called(index, "vjp", points[index], (points[index], bar))
        _release(bar, keep=[pulled])
        return pulled

    def _called(
        self, index: int, method: str, like: Parameters | None, arguments: tuple[Any, ...]
    ) -> Gradient:
        """Call a map, which may be a user's; the result is checked and the same on all ranks."""
        what = f"{method} of map {index} ({type(self.maps[index]).__name__})"
        with users_code(self.comm):
            result: Mapping[str, Any] = getattr(self.maps[index], method)(*arguments)
            error = result_error(what, result)
            if error is None and like is not None:
                error = structure_error(what, like, result)
            if error is not None:
                raise error
        return _agreed(self.comm, what, result)

    def _need_tangent(self, *, hermitian: bool) -> None:
        if not self.has_tangent or (hermitian and not self.has_hermitian_tangent):
            wanted = "tangent(..., hermitian=True)" if hermitian else "tangent"
            raise InputError(
                f"this needs {wanted} of the model behind the maps, got "
                f"{type(self.model).__name__} without; the README shows the methods of a model"
            )

    def _need_second(self) -> None:
        without = [item for item in self.maps if not hasattr(item, "vjp_tangent")]
        name = "vjp_tangent"
        if not hasattr(self.model, "contract_tangent"):
            without, name = [self.model], "contract_tangent"
        if without:
            raise InputError(
                f"second derivatives need {name}, got {type(without[0]).__name__} without; add "
                "the method, zeros where nothing bends"
            )


@dataclass(frozen=True)
class _Evaluation:
    """What the maps made of one p.

    Attributes
    ----------
    key
        Fingerprint of p on this rank.
    made : list of dict
        Results of the maps, one after the other.
    passed : list of dict
        Name in a result -> name in p, of vectors that were passed on as they are. They are the
        user's, who may have freed them since: those of the p at hand have the same entries.

    """

    key: Any
    made: list[Parameters]
    passed: list[dict[str, str]]

    def points(self, p: Parameters) -> list[Parameters]:
        """Return the results for a p with the same entries."""
        found = []
        for made, passed in zip(self.made, self.passed, strict=True):
            point = {name: p[passed[name]] if name in passed else made[name] for name in made}
            found.append(carried(made, point, point=True))
        return found


def _maps_error(maps: Any) -> InputError | None:
    if not isinstance(maps, Sequence):
        return InputError(
            f"maps must be a list, the first one applied first, got {type(maps).__name__}; write "
            "[map]"
        )
    return next(filter(None, map(map_error, maps)), None)


def _sizes(p: Parameters) -> dict[str, int]:
    """Return the lengths that p has; other errors are found by `check_parameters`."""
    return {name: length(p[name]) or 0 for name in p} if isinstance(p, Mapping) else {}


def _release(made: Parameters, keep: Sequence[Parameters] = ()) -> None:
    """Destroy the vectors of a structure that no other one holds.  (Collective.)"""
    kept = {id(value) for other in keep for value in other.values()}
    for name in sorted(made):
        if is_distributed(made[name]) and id(made[name]) not in kept:
            made[name].destroy()


def _agreed(comm: MPI.Comm, what: str, result: Mapping[str, Any]) -> Gradient:
    """Return replicated values with the bits of rank 0.  (Collective.)"""
    arrays = {
        name: np.array(value, dtype=float)
        for name, value in result.items()
        if not is_distributed(value)
    }
    reference = comm.bcast(arrays, root=0) if comm.size > 1 else arrays
    raise_together(comm, _difference_error(what, arrays, reference))
    agreed: Gradient = kept(result, {name: reference.get(name, result[name]) for name in result})
    return agreed


def _difference_error(
    what: str, mine: Mapping[str, Block], reference: Mapping[str, Block]
) -> InputError | None:
    if mine.keys() != reference.keys():
        return InputError(
            f"{what} must return the same replicated parameters on every rank, got "
            f"{sorted(mine)} and {sorted(reference)}; return the same names everywhere"
        )
    for name, first in reference.items():
        own = mine[name]
        bound = AGREEMENT * np.abs(first).max(initial=0.0)
        if own.shape != first.shape or not np.all(np.abs(own - first) <= bound):
            return InputError(
                f"{what} must return the same {name!r} on every rank, got other entries than on "
                "rank 0; sum over the ranks in it, or return a PETSc.Vec"
            )
    return None

"""`value_and_gradient`: assemble, solve and differentiate as one function of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Self

import numpy as np

from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.collective import close_after, leave_together, users_code
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.entrance import entered
from geneig_adjoint.errors import ConvergenceError, InputError, ModeTrackingError
from geneig_adjoint.evaluation import Objective, evaluate, nonzero_pairs
from geneig_adjoint.kept_factors import KeptFactor
from geneig_adjoint.models import Model, refills
from geneig_adjoint.parameters import Gradient, Parameters
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.sensitivity import adjoint_settings, values_and_gradients
from geneig_adjoint.solve import solve_eigenproblem
from geneig_adjoint.structures import flatten, given, rebuilt
from geneig_adjoint.tracking import (
    MINIMUM,
    Placed,
    Tracking,
    changes,
    followed,
    places,
    track_modes,
    with_phase_rows,
)

WIDENED = 4
"""At least so many pairs more are looked at when a mode is lost."""


class ValueAndGradient:
    """A function ``f(p) -> (value, gradient)`` that assembles, solves and differentiates.

    Made by `value_and_gradient`; of a list of objectives, it gives lists. Keeps the matrices'
    layout, the previous vectors and the factor of the eigensolver from call to call: the next one
    has its ordering and memory, never its values. A context manager, ``close`` frees matrices and
    factor.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective | Sequence[Objective],
        *,
        adjoint: Mapping[str, Any] | None = None,
        track: bool = True,
        **solver: Any,
    ) -> None:
        self._model = model
        self._one = not isinstance(objective, list | tuple)
        self._objectives: list[Any] = [objective] if self._one else [*objective]  # type: ignore[misc]
        self._track = track and not all(map(_symmetric, self._objectives))
        self._start: Placed | None = None
        self._tracking: Tracking | None = None
        self._used: set[int] = set()
        self._settings = adjoint_settings(**dict(adjoint or {}))
        self._every = _interval_of_checks(solver.pop("count_check", "every:10"))
        self._solver = solver
        self._calls = 0
        self._refills = refills(model)
        self._pencil: Pencil | None = None
        self._previous: Eigenpairs | None = None
        self._structure: Parameters | None = None

    @property
    def pairs(self) -> Eigenpairs | None:
        """The pairs of the last call, in the places they continue; their factor is gone."""
        return self._previous

    @property
    def confidence(self) -> float | None:
        """The smallest with which a mode the objectives look at continues; None: untracked."""
        if self._tracking is None or not self._used:
            return None
        return float(min(self._tracking.confidence[j] for j in self._used))

    def start_from(self, placed: Placed) -> None:
        """Put the pairs of the first call in the places that `placed` has noted.

        Not collective. For loops that go on in another process.
        """
        self._start = placed

    def __call__(self, p: Parameters) -> tuple[Any, Any]:
        """Return value and gradient at p, or lists of them.

        Collective. p is replicated or distributed as the model wants it; the gradient
        has its structure and belongs to the caller.

        Raises
        ------
        ModeTrackingError
            When a mode the objective looks at has no continuation, or no place.
        InputError, ConvergenceError, MissingEigenvaluesError
            As in `solve_eigenproblem`.
        DegenerateEigenvalueError, DefectiveEigenvalueError, GaugeError
            As in `gradient`.

        """
        model, flat = entered(getattr(self._model, "comm", None), self._model, p)
        pencil = self._assembled(model, flat)
        solver = dict(self._solver)
        if self._previous is not None:
            solver.setdefault("like", self._previous)
        checked = self._every and self._calls % self._every == 0
        solver["count_check"] = "inertia" if checked else "off"
        with ExitStack() as stack:
            if not self._refills:
                stack.enter_context(pencil)
            pairs = self._solved(pencil, solver, stack)
            results = [evaluate(each, pairs, flat) for each in self._objectives]
            self._note_used(pairs, [cotangent for _, cotangent in results])
            self._check_tracked()
            found = values_and_gradients(
                model, flat, pairs, self._objectives, self._settings, results=results
            )
            self._previous = pairs
        # Not before: a call that failed its count is no call that was checked.
        self._calls += 1
        values = [value for value, _ in found]
        gradients = [rebuilt(p, flat, result) for _, result in found]
        return (values[0], gradients[0]) if self._one else (values, gradients)

    def _note_used(self, pairs: Eigenpairs, cotangents: Sequence[EigenCotangent]) -> None:
        """Note the places the objectives look at; those of all pairs alike look at none."""
        for objective, cotangent in zip(self._objectives, cotangents, strict=True):
            if not _symmetric(objective):
                self._used |= set(np.flatnonzero(nonzero_pairs(pairs, cotangent)).tolist())

    def _solved(self, pencil: Pencil, solver: dict[str, Any], stack: ExitStack) -> Eigenpairs:
        """Return the pairs in the places of the modes they continue.  (Collective.)"""
        pairs = stack.enter_context(solve_eigenproblem(pencil, **solver))
        self._tracking = None
        if not self._track:
            return pairs
        if self._previous is None:
            return pairs if self._start is None else self._restored(pairs, pencil, solver, stack)
        tracking = track_modes(self._previous, pairs)
        wanted = pairs.count
        if self._used & set(tracking.lost) and "interval" not in solver and wanted < pencil.n:
            pairs.close()  # two factors at once would be too much memory
            wider = {**solver, "count": _widened(solver, pencil)}
            with suppress(ConvergenceError):  # fewer finite values than that, say: it stays lost
                pairs = stack.enter_context(solve_eigenproblem(pencil, **wider))
                tracking = track_modes(self._previous, pairs)
        self._tracking = tracking
        self._check_places(pairs)
        order = places(tracking, pairs, self._used, wanted)
        return followed(self._previous, pairs, order, changes(tracking, order))

    def _restored(
        self, pairs: Eigenpairs, pencil: Pencil, solver: dict[str, Any], stack: ExitStack
    ) -> Eigenpairs:
        """Return the pairs in the places of an earlier process.  (Collective.)"""
        assert self._start is not None
        order = self._start.order(pairs)
        if order is None and "interval" not in solver and pairs.count < pencil.n:
            pairs.close()
            wider = {**solver, "count": _widened(solver, pencil)}
            pairs = stack.enter_context(solve_eigenproblem(pencil, **wider))
            order = self._start.order(pairs)
        if order is None:
            raise ModeTrackingError(
                f"the first design must have the eigenvalues {self._start.values} of its places, "
                f"got {pairs.values}; start from the design they were noted at",
                modes=range(len(self._start.values)),
                confidence=[0.0] * len(self._start.values),
            )
        return with_phase_rows(pairs.reordered(order), self._start.phase_rows)

    def _check_places(self, pairs: Eigenpairs) -> None:
        """Raise when there are too few pairs for the places the objective looks at."""
        gone = sorted(j for j in self._used if j >= pairs.count)
        if gone:
            raise ModeTrackingError(
                f"modes {gone} must keep their places, got only {pairs.count} pairs at the new "
                "parameters; raise count, widen the interval, or pass track=False to go by the "
                "order of the eigenvalues",
                modes=gone,
                confidence=[0.0] * len(gone),
            )

    def _check_tracked(self) -> None:
        """Raise when the objective looks at a mode that has no continuation."""
        tracking = self._tracking
        lost = sorted(self._used & set(tracking.lost)) if tracking is not None else []
        if tracking is None or not lost:
            return
        found = [float(tracking.confidence[j]) for j in lost]
        raise ModeTrackingError(
            f"modes {lost} must continue at the new parameters with a confidence of {MINIMUM}, got "
            f"{', '.join(f'{value:.2f}' for value in found)} at best; take smaller steps, raise "
            "count, or pass track=False to go by the order of the eigenvalues",
            modes=lost,
            confidence=found,
        )

    def flat(self, x: Block) -> tuple[Any, Block]:
        """Return value and flat gradient at flat parameters, for `scipy.optimize.minimize`.

        Collective: every rank must call it with the same x. Of k objectives: values (k,) and
        gradients (k, number of entries).
        """
        value, result = self(self._cut(x))
        if self._one:
            return value, params.pack(result)
        return np.array(value), np.array([params.pack(each) for each in result])

    def pack(self, p: Parameters) -> Block:
        """Return p as one flat array and remember its structure.  (Not collective.)"""
        self._structure = flatten(p)
        return params.pack(self._structure)

    def unpack(self, x: Block) -> Gradient:
        """Return a flat array in the structure last packed.  (Not collective.)

        Raises
        ------
        InputError
            When no structure is known yet, or the length does not fit.

        """
        p: Gradient = given(self._cut(x))
        return p

    def _cut(self, x: Block) -> Gradient:
        if self._structure is None:
            raise InputError(
                "unpack needs the structure of the parameters, got no pack(p) before; "
                "start from x = f.pack(p)"
            )
        return params.unpack(np.asarray(x, dtype=float), self._structure)

    def close(self) -> None:
        """Free the matrices and the factor kept between calls.  (Collective.)"""
        if self._pencil is not None:
            self._pencil.close()
        self._pencil = None
        self._previous = None
        self._used = set()
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._pencil is None or leave_together(self._pencil.comm, error):
            close_after(error, self.close)

    def _assembled(self, model: Any, p: Parameters) -> Pencil:
        comm = getattr(model, "comm", None)
        if not self._refills:
            with users_code(comm):
                pencil: Pencil = model.assemble(p)
            return pencil
        with users_code(comm):
            self._pencil = model.assemble(p, out=self._pencil)
        if self._pencil.kept is None and self._solver.get("keep_factor", True):
            self._pencil.kept = KeptFactor(self._pencil.comm)
        return self._pencil


def _symmetric(objective: Objective) -> bool:
    """Tell whether an objective is of all pairs alike: it means those that are wanted now."""
    return bool(getattr(objective, "symmetric", False))


def _widened(solver: Mapping[str, Any], pencil: Pencil) -> int:
    """Return how many pairs to look at when a mode is not among those that were asked for."""
    count = solver.get("count", 1)
    return int(min(pencil.n, count + max(count, WIDENED)))


def _interval_of_checks(word: str) -> int:
    """Return N of "every:N", 1 for "inertia", 0 for "off"."""
    known = {"inertia": 1, "off": 0}
    if word in known:
        return known[word]
    name, _, number = str(word).partition(":")
    if name != "every" or not number.isdecimal() or int(number) < 1:
        raise InputError(
            f'count_check must be "inertia", "every:N" with N >= 1, or "off", got {word!r}; '
            '"every:10" is the default of loops'
        )
    return int(number)


def value_and_gradient(
    model: Model,
    objective: Objective | Sequence[Objective],
    *,
    adjoint: Mapping[str, Any] | None = None,
    track: bool = True,
    **solver: Any,
) -> ValueAndGradient:
    """Return a function ``f(p) -> (value, gradient)`` of the whole chain.

    Not collective; calling the function is.

    Parameters
    ----------
    model
        The model.
    objective
        The objective; a list of them (with constraints, say) shares the eigensolve and all
        adjoint solves, and the function returns lists.
    adjoint
        Keywords of `gradient` (strategy, rtol, ...).
    track
        Keep the modes an objective looks at in their places from call to call: "mode 2" is
        the continuation of the mode that was there in the first call, wherever its
        eigenvalue has gone (`track_modes`). A mode that cannot be followed is looked for
        among more pairs, then a `ModeTrackingError` says so. False: places are by the order
        of the eigenvalues. Objectives of all pairs alike (`KSMinimum` without ``pairs``) are
        never tracked.
    **solver
        Keywords of `solve_eigenproblem` (count, target, ...). ``count_check`` also takes
        "every:N", the default with N = 10: missed pairs are looked for in the first call
        and every tenth one after; calls that failed do not count. ``keep_factor=False`` keeps no
        factor between calls either.

    Returns
    -------
    ValueAndGradient
        Call it, or use ``f.flat``, ``f.pack``, ``f.unpack`` with SciPy's optimisers.

    """
    return ValueAndGradient(model, objective, adjoint=adjoint, track=track, **solver)

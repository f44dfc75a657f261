"""Who is told what long computations are doing: `observed` listens, `report` speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

Observer: TypeAlias = Callable[[str, dict[str, Any]], None]


@dataclass(eq=False)
class _Listener:
    """An observer, until it fails: the exception is kept for the end of its block."""

    tell: Observer
    error: Exception | None = None


_LISTENER: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextmanager
def observed(callback: Observer) -> Iterator[None]:
    """Tell a function what the computations inside a block are doing.

    Not collective. ``callback(event, numbers)`` is called on this rank, with numbers of this
    rank; it must not communicate. Events are ``"eigensolve"`` (``converged`` pairs of ``wanted``,
    ``restarts``), ``"adjoint"`` (``solved`` of ``columns`` or systems, and ``iterations`` where
    all are solved together) and ``"contraction"`` (``elements`` of ``total``). An exception of
    the callback silences it and is raised at the end of the block: it must not pass through
    PETSc.

    Parameters
    ----------
    callback
        Takes the name of the event and a dict of numbers.

    """
    listener = _Listener(callback)
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
    if listener.error is not None:
        raise listener.error


def is_observed() -> bool:
    """Tell whether anybody listens.  (Not collective.)"""
    listener = _LISTENER.get()
    return listener is not None and listener.error is None


def report(event: str, **numbers: Any) -> None:
    """Tell the observer what has been done, if there is one.  (Not collective.)"""
    listener = _LISTENER.get()
    if listener is None or listener.error is not None:
        return
    try:
        listener.tell(event, numbers)
    except Exception as error:
        listener.error = error

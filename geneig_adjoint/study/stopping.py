"""Requests to stop that a batch system sends as signals, agreed on by all ranks."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mpi4py import MPI

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class StopRequest:
    """Notes USR1 and TERM while it is open; work goes on to its next safe place.

    A context manager. Not collective, except for `agreed`. Outside the main thread, where
    Python has no handlers, nothing is noted.

    Parameters
    ----------
    comm
        All ranks.

    """

    def __init__(self, comm: MPI.Comm) -> None:
        self._comm = comm
        self._seen = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            # PETSc's own handlers are not Python's to give back.
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._seen = number

    def agreed(self) -> str | None:
        """Return the name of a signal that some rank has got, None: there is none.

        Collective. The same on every rank.
        """
        seen = max(self._comm.allgather(self._seen))
        return signal.Signals(seen).name if seen else None

"""Requests to stop that a batch system sends as signals, agreed on by all ranks."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mpi4py import MPI

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class StopRequests:
    """Notes USR1 and TERM while it is open; work goes on to its next safe place.

    A context manager. Outside the main thread, where Python has no signals, nothing is noted.
    """

    def __init__(self) -> None:
        self._noted = False
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            try:
                self._earlier[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._noted = True

    def agreed(self, comm: MPI.Comm) -> bool:
        """Tell whether some rank was asked to stop; the same on every rank.  (Collective.)"""
        return bool(comm.allreduce(int(self._noted)))

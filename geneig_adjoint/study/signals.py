"""Requests to stop: signals that are noted when they come and honoured between two steps."""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

from mpi4py import MPI

from geneig_adjoint.study.early_signals import SIGNALS, EarlySignals


class StopRequest(AbstractContextManager["StopRequest"]):
    """Notes SIGUSR1 and SIGTERM as long as it is open.

    Not collective, except for `agreed`. Only the main thread of a process can have handlers;
    elsewhere nothing is noted. Python calls a handler when PETSc has returned, so that a
    signal never interrupts a solve.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self._comm = comm
        self._seen = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            early = self._before[SIGNALS[0]]
            if isinstance(early, EarlySignals):
                self._seen = self._seen or early.seen
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            # PETSc's own handlers are not Python's to give back.
            signal.signal(number, signal.SIG_DFL if before is None else before)
            if number == self._seen and callable(before):
                before(number, None)  # a request around this one must hear of it, too
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self._seen = self._seen or number  # the first one counts

    def agreed(self) -> str | None:
        """Return the name of a signal that any rank has got, None: there is none.

        Collective. All ranks get the same answer.
        """
        seen = self._comm.allreduce(self._seen, op=MPI.MAX)
        return signal.Signals(seen).name if seen else None

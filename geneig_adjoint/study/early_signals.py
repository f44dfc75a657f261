"""Requests to stop that come before the first boundary, or behind the last one: noted, too."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class EarlySignals(AbstractContextManager["EarlySignals"]):
    """Notes SIGUSR1 and SIGTERM while MPI and PETSc are loaded, and behind the results.

    Not collective. Loading takes seconds, on many nodes minutes, and a signal that ends the
    process there ends a job that nobody puts back into the queue. It is honoured by the first
    `StopRequest`; one that comes when all is done changes nothing.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> EarlySignals:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):  # another thread than the main one
            for number, before in self._before.items():
                signal.signal(number, signal.SIG_DFL if before is None else before)

    def listen(self) -> None:
        """Install the handlers; again, where somebody has replaced them.  (Not collective.)"""
        with suppress(ValueError):
            for number in SIGNALS:
                signal.signal(number, self)

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Note a signal; the first one counts."""
        self.seen = self.seen or number

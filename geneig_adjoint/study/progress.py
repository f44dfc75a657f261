"""What a run is doing: a live line on a terminal, plain lines elsewhere, on rank 0 only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from mpi4py import MPI


class Progress:
    """Steps of a run with their times.

    Parameters
    ----------
    comm
        Communicator; only rank 0 writes.
    stream
        Where to write; default stderr, so that results on stdout stay clean.

    """

    def __init__(self, comm: MPI.Comm, stream: TextIO | None = None) -> None:
        self._stream = (stream or sys.stderr) if comm.rank == 0 else None
        self._live = self._stream is not None and self._stream.isatty()
        self._start = time.perf_counter()
        self.timings: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and say that it began and ended.  (Not collective.)"""
        begin = time.perf_counter()
        if self._live:
            self._write(f"\r\033[K[{begin - self._start:7.1f} s] {name} ...")
        try:
            yield
        except BaseException:
            # What is printed next must not continue the live line.
            self._write("\n" if self._live else "")
            raise
        self.timings[name] = time.perf_counter() - begin
        head = "\r\033[K" if self._live else ""
        self._write(
            f"{head}[{time.perf_counter() - self._start:7.1f} s] {name} "
            f"({self.timings[name]:.2f} s)\n"
        )

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text)
            self._stream.flush()

"""What a run is doing: a live line on a terminal, plain lines elsewhere, on rank 0 only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from mpi4py import MPI

EVERY = {True: 0.2, False: 10.0}
"""Seconds between two looks inside a step: on a terminal, and in a log."""
TEXTS = {
    "eigensolve": "{converged} of {wanted} pairs after {restarts} restarts",
    "adjoint": "{solved} of {columns} adjoint systems",
    "contraction": "{elements} of {total} elements of rank 0",
}


def tell(comm: MPI.Comm, text: str) -> None:
    """Write a line on stderr, on rank 0; nobody who reads it is no reason to end.

    Not collective.
    """
    if comm.rank == 0:
        with suppress(OSError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def show(comm: MPI.Comm, text: str) -> None:
    """Print on rank 0 what is in files, too: that it cannot be printed is no reason to fail.

    Not collective.
    """
    if comm.rank == 0:
        try:
            print(text, flush=True)
        except OSError as error:
            close_stdout(error)
        except ValueError:  # code of the user has closed it
            pass


def close_stdout(error: OSError) -> None:
    """Print nothing more, and say why unless nobody reads it.  (Not collective.)"""
    with suppress(OSError, ValueError):  # or Python would try again at its end, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"note: standard output ends here: {error.strerror}\n")


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
        self._shown = self._start
        self._names: list[str] = []
        self.timings: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and say that it began and ended.  (Not collective.)"""
        begin = self._shown = time.perf_counter()
        self._names.append(name)
        if self._live:
            self._write(f"\r\033[K[{begin - self._start:7.1f} s] {name} ...")
        try:
            yield
        except BaseException:
            # What is printed next must not continue the live line.
            self._write("\n" if self._live else "")
            raise
        finally:
            self._names.pop()
        self.timings[name] = time.perf_counter() - begin
        head = "\r\033[K" if self._live else ""
        self._write(
            f"{head}[{time.perf_counter() - self._start:7.1f} s] {name} "
            f"({self.timings[name]:.2f} s)\n"
        )

    def show(self, event: str, numbers: dict[str, Any]) -> None:
        """Say how far a step is, unless something was said a moment ago.  (Not collective.)"""
        now = time.perf_counter()
        if now - self._shown < EVERY[self._live] or event not in TEXTS or not self._names:
            return
        self._shown = now
        text = f"{self._names[-1]}: {TEXTS[event].format(**numbers)}"
        if self._live:
            self._write(f"\r\033[K[{now - self._start:7.1f} s] {text} ...")
        else:
            self._write(f"    {text} ({now - self._start:.1f} s)\n")

    def say(self, text: str) -> None:
        """Write a line of its own.  (Not collective.)"""
        self._write(f"\r\033[K{text}\n" if self._live else f"{text}\n")

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # a full disk, a terminal that is gone: no reason to end a run
            self._stream = None

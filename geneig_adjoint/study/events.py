"""`events.jsonl`: what a run did and when, one JSON object per line."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from mpi4py import MPI

EVERY = 1.0
"""Seconds between two lines about the progress of one kind in a step."""


class EventLog:
    """Appends to a file, line by line; never a reason for a run to fail.

    Not collective: rank 0 writes, the others are silent. Each line is flushed, so that what
    is read after a kill is whole except perhaps the last line.

    Parameters
    ----------
    comm
        Communicator of the run.
    path
        The file; its folder exists.

    """

    def __init__(self, comm: MPI.Comm, path: Path) -> None:
        self._start = time.perf_counter()
        self._last: dict[tuple[str, str], float] = {}
        self._waiting: dict[tuple[str, str], dict[str, Any]] = {}
        self._stream: TextIO | None = None
        if comm.rank == 0:
            self._tried(lambda: self._open(path))

    def write(self, event: str, step: str, **content: Any) -> None:
        """Append one event: begin, end, progress, note, checkpoint or stop."""
        if self._stream is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(time.perf_counter() - self._start, 3),
            "event": event,
            "step": step,
            **content,
        }
        text = json.dumps(line, ensure_ascii=False, default=float)
        self._tried(lambda: self._append(text))

    def progress(self, step: str, kind: str, numbers: dict[str, Any]) -> None:
        """Append numbers of a step unless some of this kind have just been written."""
        now, key = time.perf_counter(), (step, kind)
        if now - self._last.get(key, -EVERY) >= EVERY:
            self._last[key] = now
            self._waiting.pop(key, None)
            self.write("progress", step, of=kind, **numbers)
        else:
            self._waiting[key] = numbers

    def end_progress(self, step: str) -> None:
        """Append the last numbers of a step."""
        for name, kind in [key for key in self._waiting if key[0] == step]:
            self.write("progress", name, of=kind, **self._waiting.pop((name, kind)))
            del self._last[name, kind]

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._tried(self._stream.close)
        self._stream = None

    def _open(self, path: Path) -> None:
        cut = path.exists() and _last_byte(path) not in {b"", b"\n"}
        self._stream = path.open("a", encoding="utf-8", errors="backslashreplace")
        if cut:  # by a kill: what comes next must not continue that line
            self._append("")

    def _append(self, text: str) -> None:
        assert self._stream is not None
        self._stream.write(text + "\n")
        self._stream.flush()

    def _tried(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            stream, self._stream = self._stream, None
            if stream is not None:
                with suppress(OSError):  # of what could not be written and is tried again
                    stream.close()
            sys.stderr.write(f"note: events.jsonl ends here: {error.strerror or error}\n")


def _last_byte(path: Path) -> bytes:
    """Return the last byte of a file, which may be a long one; nothing of an empty one."""
    with path.open("rb") as stream:
        stream.seek(max(stream.seek(0, os.SEEK_END) - 1, 0))
        return stream.read(1)

"""The steps of a run: timed, shown, written down, and the places where it can be stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from geneig_adjoint import exit_codes
from geneig_adjoint.errors import StoppedError
from geneig_adjoint.observers import observed
from geneig_adjoint.study.events import EventLog
from geneig_adjoint.study.progress import Progress
from geneig_adjoint.study.signals import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


class Steps:
    """Where a run is.  A context manager, open as long as the run.

    Parameters
    ----------
    comm
        Communicator of the run.
    directory
        Folder of its results.

    Attributes
    ----------
    progress : Progress
    log : EventLog
    code : int
        Exit code of a run that ends without an error: some of its parts may have failed.

    """

    def __init__(self, comm: MPI.Comm, directory: Path) -> None:
        self._comm = comm
        self._names: list[str] = []
        self._opened = ExitStack()
        self.progress = Progress(comm)
        self.code = exit_codes.OK
        self.log = EventLog(comm, directory / "events.jsonl")
        self._stop = StopRequest(comm)

    def __enter__(self) -> Self:
        self._opened.enter_context(self._stop)
        if self._comm.rank == 0:
            self._opened.enter_context(observed(self._observe))
        self.log.write("begin", "run", ranks=self._comm.size)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        content: dict[str, Any] = {"code": self.code}
        if error is not None:
            content = {"code": exit_codes.of_error(error), "error": str(error)}
        self.log.write("end", "run", **content)
        self.log.close()
        self._opened.close()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Do a step that is timed and shown to the user.  (Not collective.)"""
        with self.progress.step(name), self.part(name):
            yield

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Do a step that only the events know of.  (Not collective.)"""
        begin = time.perf_counter()
        self.log.write("begin", name)
        self._names.append(name)
        try:
            yield
        finally:
            self._names.pop()
        self.log.end_progress(name)
        self.log.write("end", name, took=round(time.perf_counter() - begin, 3))

    def note(self, text: str) -> None:
        """Tell the user something at once.  (Not collective.)"""
        self.log.write("note", self._where, text=text)
        self.progress.say(f"note: {text}")

    def kept(self, **numbers: float) -> None:
        """Write down that there is a new checkpoint.  (Not collective.)"""
        self.log.write("checkpoint", self._where, **numbers)

    def requested(self) -> str | None:
        """Return the signal on which all ranks are to stop here, None: go on.  (Collective.)"""
        return self._stop.agreed()

    def stop(self, signal: str, message: str) -> None:
        """End the run.

        Not collective: to be called on all ranks.

        Raises
        ------
        StoppedError
            Always.

        """
        self.log.write("stop", self._where, signal=signal)
        raise StoppedError(f"stopped on request ({signal}); {message}")

    @property
    def _where(self) -> str:
        return self._names[-1] if self._names else "run"

    def _observe(self, event: str, numbers: dict[str, Any]) -> None:
        self.log.progress(self._where, event, numbers)
        self.progress.show(event, numbers)

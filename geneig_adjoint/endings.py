"""How a job ends when one rank fails: together if all do, else by an abort within seconds."""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from mpi4py import MPI

WAIT_SECONDS = 2.0
"""How long a failed rank waits for the others to fail too; times `crowding`."""
PATIENCE = 3.0
"""The same, where the others may still be busy in code of the user."""
ALONE = "_geneig_adjoint_alone"
"""Attribute of exceptions of a rank that has waited for the others in vain."""


def arrived(request: MPI.Request, seconds: float) -> bool:
    """Wait for a non-blocking operation; tell whether it completed in time.

    Not collective. The time is longer on a crowded machine, where all ranks are late.
    """
    deadline = time.monotonic() + seconds * crowding()
    while not request.Test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def crowding() -> float:
    """Return how many processes want each core of this machine, between 1 and 5."""
    try:
        load = os.getloadavg()[0]
    except OSError:  # not known here
        return 1.0
    return min(max(load / (os.cpu_count() or 1), 1.0), 5.0)


_GUARDS: list[Callable[[BaseException], None]] = []
"""What ends the job when this rank fails alone; the innermost guard is last."""


def fail_alone(error: BaseException) -> None:
    """End the job if `abort_on_failure` or the command line guards it.  (Not collective.)

    To be called when the others have not come in time. Unwinding further would run clean-ups
    that are collective, and hang in the first; where nothing guards the job, nobody who meets
    the exception waits a second time.
    """
    with suppress(AttributeError):  # a class of the user's with slots
        setattr(error, ALONE, True)
    if _GUARDS:
        _GUARDS[-1](error)


def is_alone(error: BaseException) -> bool:
    """Tell whether a rank has waited with this exception in vain.  (Not collective.)"""
    return getattr(error, ALONE, False)


@contextmanager
def abort_on_failure(comm: MPI.Comm | None = None) -> Iterator[None]:
    """End the whole MPI job when one rank fails, instead of leaving the others waiting.

    Collective on entry. For scripts: put everything a rank does inside it. When one
    rank leaves with an exception (or ``sys.exit(code)``, code other than 0) and the
    others do not follow within seconds, its traceback is printed and ``MPI_Abort``
    ends the job. When all ranks fail, one traceback is printed and all exit.

    Parameters
    ----------
    comm
        Communicator of the job; default ``MPI.COMM_WORLD``.

    """
    if comm is None:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    if comm.size == 1:
        yield
        return
    with guarded(comm, lambda error: (exit_code(error), _traceback(error))) as private:
        try:
            yield
        except BaseException as error:
            code = exit_code(error)
            if code == 0:
                raise
            end_together(private, code, _traceback(error), waited=is_alone(error))
            raise SystemExit(code) from None


@contextmanager
def guarded(
    comm: MPI.Comm, describe: Callable[[BaseException], tuple[int, str]]
) -> Iterator[MPI.Comm]:
    """Give a private communicator, and end the job when a rank fails alone in the block.

    Collective on entry, and on leaving without an exception.

    Parameters
    ----------
    comm
        Communicator of the job.
    describe
        Exit code of the job and text to print, for an exception.

    """
    private = comm.Dup()
    _GUARDS.append(lambda error: end_together(private, *describe(error), waited=True))
    try:
        yield private
        private.Free()
    finally:
        _GUARDS.pop()


def _traceback(error: BaseException) -> str:
    silent = isinstance(error, SystemExit)
    return "" if silent else "".join(traceback.format_exception(error))


def end_together(private: MPI.Comm, code: int, text: str, *, waited: bool = False) -> None:
    """Return when every rank has come here; abort the job when some do not.

    Not collective: that is the point. The text is printed once.

    Parameters
    ----------
    private
        A communicator no other code uses, so that the wait cannot meet a foreign message.
    code
        Exit code of the job.
    text
        What to print on stderr.
    waited
        Whether this rank has waited for the others before, so that a moment is enough.

    """
    with suppress(OSError, ValueError):  # a closed pipe must not hide the failure
        sys.stdout.flush()
    if not arrived(private.Ibarrier(), 0.1 if waited else WAIT_SECONDS):
        _say(f"rank {private.rank} of {private.size} failed, the others did not:\n{text}")
        private.Abort(code)
    if private.rank == 0:
        _say(text)


def _say(text: str) -> None:
    # One write: lines of several ranks must not be mixed.
    with suppress(OSError, ValueError):
        if text:
            sys.stderr.write(text)
        sys.stderr.flush()


def exit_code(error: BaseException) -> int:
    """Return the process exit code an exception stands for.  (Not collective.)"""
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


# -- scripts without `abort_on_failure` --


def watch(private: MPI.Comm) -> None:
    """End the job when a rank dies alone of an exception or `sys.exit`.  (Not collective.)

    One rank that dies alone would leave the others waiting for ever, and itself in
    PETSc's clean-up. A hook that somebody else has installed is left alone.

    A plain ``raise SystemExit(code)`` cannot be told from a good end here: the interpreter takes
    the code, drops the exception and calls no hook, all before the first function of atexit
    runs. Only `abort_on_failure` meets it.
    """
    if sys.excepthook is not sys.__excepthook__:
        return

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        end_together(private, 1, text, waited=is_alone(error))

    sys.excepthook = hook
    sys.exit = _leave
    # Before PETSc's own clean-up, which was registered earlier.
    atexit.register(_end_after_exit, private)


TOPS = ("<module>", "_run_module_as_main")
"""What every program begins in: a script, and ``python -m``."""
_EXITS: list[weakref.ref[_Exit]] = []
_FINAL: list[int] = []


class _Exit(SystemExit):
    """What `sys.exit` raises: unlike the plain one it tells whether it has ended the process."""

    def __init__(self, status: Any) -> None:
        super().__init__(status)
        code = exit_code(self)

        def gone(_: Any) -> None:
            try:
                sys._getframe(1)
            except ValueError:  # nobody caught it: no code of Python runs any more
                _FINAL.append(code)

        _EXITS.append(weakref.ref(self, gone))

    def __reduce__(self) -> tuple[Any, ...]:
        return SystemExit, self.args


def _leave(status: Any = None, /) -> NoReturn:
    """Exit the interpreter by raising SystemExit(status), as `sys.exit` does."""
    raise _Exit(status)


def _end_after_exit(private: MPI.Comm) -> None:
    """End the job if the process ends because of `sys.exit(code)`, code other than 0."""
    kept = [error for error in (known() for known in _EXITS) if error is not None]
    ended = [exit_code(error) for error in kept if _reached_the_top(error)]
    code = next((code for code in (*_FINAL, *ended) if code != 0), 0)
    if code != 0:
        waited = any(map(is_alone, kept))
        end_together(private, code, "", waited=waited)


def _reached_the_top(error: BaseException) -> bool:
    trace = error.__traceback__
    # Frames that have ended have no caller either: one that was caught and kept may begin there.
    return trace is not None and trace.tb_frame.f_code.co_name in TOPS

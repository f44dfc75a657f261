"""Agreement between ranks: raise everywhere or nowhere, reduce once, same bits on every rank."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError

if TYPE_CHECKING:
    from mpi4py import MPI

WAIT_SECONDS = 2.0
"""How long a failed rank waits for the others to fail too; times `crowding`."""
PATIENCE = 5.0
"""The same, where the others may still be busy in code of the user."""


def raise_together(
    comm: MPI.Comm, error: BaseException | None, *, patience: float | None = None
) -> None:
    """Raise the same exception on every rank when any rank has one.

    Collective.

    Parameters
    ----------
    comm
        Communicator of the ranks that must agree.
    error
        This rank's exception, or None.
    patience
        None: all ranks are sure to come. A number of seconds, after a user's code that
        may communicate: the others may be waiting in it for this rank, so a failing
        rank that is left alone for so long raises its exception by itself, and
        `abort_on_failure` or the command line can end the job.

    Raises
    ------
    Exception
        The exception of the lowest failing rank, with a note naming all failing ranks.

    """
    if comm.size == 1:
        if error is not None:
            raise error
        return
    private = private_comm(comm)
    mine, total = np.array([int(error is not None)]), np.zeros(1, dtype=int)
    request = private.Iallreduce(mine, total)
    if error is None or patience is None:
        request.Wait()
    elif not _arrived(request, patience):
        error.add_note(f"only rank {comm.rank} of {comm.size} is known to have failed")
        fail_alone(error)
        raise error
    if total[0] == 0:
        return
    found = private.allgather(_portable(error))
    failed = [rank for rank, other in enumerate(found) if other is not None]
    first = error if comm.rank == failed[0] and error is not None else found[failed[0]]
    assert first is not None
    first.add_note(f"found on ranks {failed} of {comm.size}")
    raise first


def _arrived(request: MPI.Request, seconds: float) -> bool:
    """Wait for a non-blocking operation; tell whether it completed in time.

    The time is longer on a crowded machine, where all ranks are late.
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


_KEYVAL: list[int] = []


def private_comm(comm: MPI.Comm, purpose: int = 0) -> MPI.Comm:
    """Return a duplicate of a communicator that only this module uses.

    Collective at the first call for a communicator, then cached on it. A user's own
    messages and reductions on ``comm`` can never meet those that agree on errors (0),
    nor these those that agree on leaving (1).
    """
    from mpi4py import MPI

    if not _KEYVAL:
        _KEYVAL.append(MPI.Comm.Create_keyval(delete_fn=_free_all))
    own: Any = comm.Get_attr(_KEYVAL[0])
    if own is None:
        own = (comm.Dup(), comm.Dup())
        comm.Set_attr(_KEYVAL[0], own)
        if comm.size > 1 and sys.excepthook is sys.__excepthook__:
            sys.excepthook = _ending_the_job(comm.Dup())
    chosen: MPI.Comm = own[purpose]
    return chosen


def _ending_the_job(private: MPI.Comm) -> Callable[..., None]:
    """Return a hook for uncaught exceptions of scripts without `abort_on_failure`.

    One rank that dies alone would leave the others waiting for ever, and itself in
    PETSc's clean-up. A hook that somebody else has installed is left alone.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        end_together(private, 1, "".join(traceback.format_exception(kind, error, trace)))

    return hook


def _free_all(_comm: MPI.Comm, _keyval: int, own: tuple[MPI.Comm, ...]) -> None:
    for comm in own:
        comm.Free()


_GUARDS: list[Callable[[BaseException], None]] = []
"""What ends the job when this rank fails alone; the innermost guard is last."""


def fail_alone(error: BaseException) -> None:
    """End the job if `abort_on_failure` or the command line guards it.  (Not collective.)

    Unwinding further would run clean-ups that are collective, and hang in the first.
    """
    if _GUARDS:
        _GUARDS[-1](error)


def leave_together(comm: MPI.Comm, error: BaseException | None) -> bool:
    """Tell whether all ranks leave a block, so that its collective clean-up can run.

    Collective without an error. With one, the other ranks may not be leaving: after
    some seconds the job is ended if it is guarded, else the clean-up must be skipped.
    """
    if error is None or comm.size == 1:
        return True
    if _arrived(private_comm(comm, 1).Ibarrier(), WAIT_SECONDS):
        return True
    fail_alone(error)
    return False


class Closable(Protocol):
    """Something ranks hold together."""

    @property
    def comm(self) -> MPI.Comm:
        """The ranks."""
        ...

    def close(self) -> None:
        """Free what is held.  (Collective.)"""
        ...


class CollectiveContext:
    """A context manager whose clean-up is collective.

    Beside exceptions and the ready-made maps, which are `Named` ones, the one use of
    inheritance: leaving must be decided in the same way everywhere, or a rank that fails
    alone hangs in somebody's clean-up.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self: Closable, _: object, error: BaseException | None, __: object) -> None:
        if leave_together(self.comm, error):
            self.close()


def _portable(error: BaseException | None) -> BaseException | None:
    """Return an exception that survives pickling, in place of one that may not."""
    if error is None:
        return None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # a user's exception class may fail in any way when pickled
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def guard(comm: MPI.Comm) -> Iterator[None]:
    """Run code that may fail on one rank only; leave it on all ranks or on none.

    Collective. The body must not communicate: a rank that fails early would leave
    the others waiting. Errors of the body are shared at the end of the block.
    """
    error: BaseException | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    raise_together(comm, error)


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
            end_together(private, code, _traceback(error))
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
    _GUARDS.append(lambda error: end_together(private, *describe(error)))
    try:
        yield private
        private.Free()
    finally:
        _GUARDS.pop()


def _traceback(error: BaseException) -> str:
    silent = isinstance(error, SystemExit)
    return "" if silent else "".join(traceback.format_exception(error))


def end_together(private: MPI.Comm, code: int, text: str) -> None:
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

    """
    sys.stdout.flush()
    if not _arrived(private.Ibarrier(), WAIT_SECONDS):
        _say(f"rank {private.rank} of {private.size} failed, the others did not:\n{text}")
        private.Abort(code)
    if private.rank == 0:
        _say(text)


def _say(text: str) -> None:
    # One write: lines of several ranks must not be mixed.
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


def allreduce_same(comm: MPI.Comm, local: Block) -> Block:
    """Return the sum of an array over the ranks, bitwise the same on every rank.

    Collective. MPI_Allreduce may add in another order on each rank; a decision
    taken from such a sum could differ between ranks, so the sum is formed once
    and broadcast.
    """
    local = np.ascontiguousarray(local)
    if comm.size == 1:
        return local.copy()
    total = np.empty_like(local)
    comm.Reduce(local, total, root=0)
    comm.Bcast(total, root=0)
    return total


def largest_over_ranks(comm: MPI.Comm, local: Block) -> Block:
    """Return the elementwise maximum of an array over the ranks.  (Collective.)"""
    from mpi4py import MPI

    result = np.empty_like(local)
    comm.Allreduce(np.ascontiguousarray(local), result, op=MPI.MAX)
    return result


def check_equal_input(comm: MPI.Comm, name: str, value: Any) -> None:
    """Raise on all ranks unless every rank passed the same value.

    Collective.

    Raises
    ------
    InputError
        When some rank's value differs from rank 0's.

    """
    key = _comparable(value)
    reference = comm.bcast(key, root=0)
    error = None
    if key != reference:
        error = InputError(
            f"{name} must be the same on every rank, got {value!r} on rank {comm.rank} and another "
            "value on rank 0; pass the same argument everywhere"
        )
    raise_together(comm, error)


def _comparable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    return repr(value)


def inner(comm: MPI.Comm, u: Block, v: Block) -> Block:
    """Return u^H v of two row blocks, the same on every rank.  (Collective.)"""
    return allreduce_same(comm, np.asarray(u.conj().T @ v))


def column_norms(comm: MPI.Comm, block: Block) -> Block:
    """Return the 2-norms of the columns of a row block, the same on every rank.  (Collective.)"""
    squares = np.einsum("ij,ij->j", block.conj(), block).real
    return np.asarray(np.sqrt(allreduce_same(comm, np.ascontiguousarray(squares))))

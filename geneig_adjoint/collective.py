"""Agreement between ranks: raise everywhere or nowhere, reduce once, same bits on every rank."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeVar

import numpy as np

from geneig_adjoint.digests import fingerprint
from geneig_adjoint.endings import PATIENCE, WAIT_SECONDS, arrived, fail_alone, is_alone, watch
from geneig_adjoint.errors import InputError

if TYPE_CHECKING:
    from mpi4py import MPI

Result = TypeVar("Result")
SHARED = (Exception, SystemExit, KeyboardInterrupt)
"""What is shared between ranks; a generator that is closed early is no failure."""
FOUND = "found on ranks"


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
    agreed(comm, error, 0, patience=patience)


def agreed(
    comm: MPI.Comm, error: BaseException | None, key: int, *, patience: float | None = None
) -> bool:
    """Do what `raise_together` does, and tell whether all ranks have come with one key.

    Collective, and met by ranks that come to `raise_together`, whose key is 0. key: below 2^63,
    such as the `fingerprint` of what must be alike.
    """
    if comm.size == 1:
        if error is not None:
            raise error
        return True
    from mpi4py import MPI

    private = private_comm(comm)
    if error is not None and _is_shared(error, private):
        raise error
    _count(private)
    mine, largest = np.array([int(error is not None), key, -key]), np.zeros(3, dtype=int)
    request = private.Iallreduce(mine, largest, op=MPI.MAX)
    if error is None or patience is None:
        request.Wait()
    elif not arrived(request, patience):
        error.add_note(f"only rank {comm.rank} of {comm.size} is known to have failed")
        fail_alone(error)
        raise error
    if largest[0]:
        _raise_first(comm, private, error)
    return bool(largest[1] == -largest[2])


def _raise_first(comm: MPI.Comm, private: MPI.Comm, error: BaseException | None) -> NoReturn:
    """Raise the exception of the lowest failing rank.  (Collective.)"""
    found = private.allgather(_portable(error))
    failed = [rank for rank, other in enumerate(found) if other is not None]
    first = error if comm.rank == failed[0] and error is not None else found[failed[0]]
    assert first is not None
    if not any(note.startswith(FOUND) for note in getattr(first, "__notes__", [])):
        first.add_note(f"{FOUND} {failed} of {comm.size}")
    with suppress(AttributeError):  # a class of the user's with slots
        setattr(first, SHARED_AT, _place(private))
    raise first


SHARED_AT = "_geneig_adjoint_shared_at"
_CALLS: dict[int, int] = {}
"""Calls of `raise_together` for a communicator, so that an error that is raised once more at
another time is known from one that is on its way out."""


def _is_shared(error: BaseException, private: MPI.Comm) -> bool:
    """Tell whether all ranks have this error already, and are on their way out of nested blocks.

    A rank may have failed before it came to an inner block: the others heard of it there, and
    will not meet it once more in the outer one.
    """
    return getattr(error, SHARED_AT, None) == _place(private)


def _place(private: MPI.Comm) -> tuple[int, int]:
    handle = int(private.py2f())
    return handle, _CALLS.get(handle, 0)


def _count(private: MPI.Comm) -> None:
    handle, calls = _place(private)
    _CALLS[handle] = calls + 1


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
    if own is None and MPI.Comm.Compare(comm, MPI.COMM_WORLD) == MPI.CONGRUENT:
        # PETSc's communicator is another one than the user's: a rank that fails between two
        # steps is heard in whatever step the others are.
        return private_comm(MPI.COMM_WORLD, purpose)
    if own is None:
        own = (comm.Dup(), comm.Dup())
        comm.Set_attr(_KEYVAL[0], own)
        if comm.size > 1:
            _watch_once(comm)
    chosen: MPI.Comm = own[purpose]
    return chosen


_WATCHED: list[MPI.Comm] = []


def _watch_once(comm: MPI.Comm) -> None:
    """Let a rank that dies alone end the job.  (Collective at the first call.)"""
    if not _WATCHED:
        _WATCHED.append(comm.Dup())
        watch(_WATCHED[0])


def _free_all(_comm: MPI.Comm, _keyval: int, own: tuple[MPI.Comm, ...]) -> None:
    for comm in own:
        comm.Free()


def leave_together(comm: MPI.Comm, error: BaseException | None) -> bool:
    """Tell whether all ranks leave a block, so that its collective clean-up can run.

    Collective without an error. With one, the other ranks may not be leaving: after
    some seconds the job is ended if it is guarded, else the clean-up must be skipped.
    """
    if error is None or comm.size == 1:
        return True
    if not is_alone(error) and arrived(private_comm(comm, 1).Ibarrier(), WAIT_SECONDS):
        return True
    fail_alone(error)
    return False


@contextmanager
def freed_on_error(comm: MPI.Comm, *free: Callable[[], None]) -> Iterator[None]:
    """Free things when a block ends in an error that all ranks have.

    Collective. A rank that fails alone leaves them: to free a factor takes all ranks.
    """
    try:
        yield
    except BaseException as error:
        if leave_together(comm, error):
            close_after(error, *free)
        raise


@contextmanager
def freed_at_end(comm: MPI.Comm, *free: Callable[[], None]) -> Iterator[None]:
    """Free things at the end of a block, as `freed_on_error` after an error.  (Collective.)"""
    with freed_on_error(comm, *free):
        yield
    close_after(None, *free)


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
            close_after(error, self.close)


def close_after(error: BaseException | None, *closers: Callable[[], None]) -> None:
    """Clean up; after an error, another one of the clean-up is only noted.

    Collective if the closers are. All of them run, and the first error is the one that counts.

    Parameters
    ----------
    error
        What ended the work; None: it ended well, and an error of the clean-up is raised.
    *closers
        What frees things, in order.

    """
    first = error
    for close in closers:
        try:
            close()
        except Exception as second:
            if first is None:
                first = second
            else:
                first.add_note(f"the clean-up failed, too: {type(second).__name__}: {second}")
    if error is None and first is not None:
        raise first


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
    except SHARED as caught:
        error = caught
    raise_together(comm, error)


@contextmanager
def users_code(comm: MPI.Comm | None) -> Iterator[None]:
    """Run code of a user that may fail on one rank only, and may communicate.

    Collective. As `guard`, but a rank whose failure leaves the others waiting inside the block
    raises its error alone after some seconds. ``comm`` None: the ranks are not known, and
    errors pass as they are.
    """
    if comm is None:
        yield
        return
    error: BaseException | None = None
    try:
        yield
    except SHARED as caught:
        error = caught
    raise_together(comm, error, patience=PATIENCE)


def from_first_rank(comm: MPI.Comm, compute: Callable[[], Result]) -> Result:
    """Return on every rank what rank 0 alone computes, or raise its error everywhere.

    Collective. The function must not communicate.
    """
    found: Any = None
    error: BaseException | None = None
    if comm.rank == 0:
        try:
            found = compute()
        except SHARED as caught:
            error = caught
    if comm.size > 1:
        shared, remote = comm.bcast((found, _portable(error)), root=0)
        found, error = (found, error) if comm.rank == 0 else (shared, remote)
    if error is not None:
        raise error
    result: Result = found
    return result


def from_root(comm: MPI.Comm, value: Result) -> Result:
    """Return what rank 0 has; on a single rank itself, without a copy.  (Collective.)"""
    if comm.size == 1:
        return value
    found: Result = comm.bcast(value, root=0)
    return found


def check_equal_input(comm: MPI.Comm, name: str, value: Any) -> None:
    """Raise on all ranks unless every rank passed the same value.

    Collective.

    Raises
    ------
    InputError
        When some rank's value differs from rank 0's.

    """
    if comm.size == 1:
        return
    key = fingerprint(value)
    if agreed(comm, None, key):  # and a rank that failed before it came here is heard
        return
    same = key == comm.bcast(key, root=0)
    raise_together(comm, None if same else unequal_error(comm, name, value))


def unequal_error(comm: MPI.Comm, name: str, value: Any) -> InputError:
    """Return the error for an argument that is another one on rank 0.  (Not collective.)"""
    return InputError(
        f"{name} must be the same on every rank, got {value!r} on rank {comm.rank} and another "
        "value on rank 0; pass the same argument everywhere"
    )

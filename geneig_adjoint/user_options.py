"""PETSc options that users give in Python or in a study: who reads them, which are refused."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from petsc4py import PETSc

from geneig_adjoint.errors import OptionError

if TYPE_CHECKING:
    from mpi4py import MPI

WRONG_INPUT = 95
"""PETSc's code for options that do not fit each other, found by the set-up of a solver."""
UNREAD = "PETSc options that nothing has read"


class Watch:
    """What has become of the options a user gave to one kind of solver.

    Not collective. An option counts as unread when it was in force while a solver was set up and
    no solver of this process has ever asked for it.
    """

    def __init__(self, prefixes: tuple[str, ...], options: Mapping[str, Any]) -> None:
        self._names = {prefix + name: name for name in options for prefix in prefixes}
        self._order = tuple(options)
        self._offered: set[str] = set()
        self._read: set[str] = set()

    def follow(self, names: list[str]) -> None:
        """Look which of some options of the database, perhaps about to go, have been read."""
        for name in self._names.keys() & set(names):
            self._offered.add(self._names[name])
            if name in _EVER_READ or _was_read(name):
                _EVER_READ.add(name)
                self._read.add(self._names[name])

    def takes(self, name: str) -> None:
        """Note that the package itself has read an option."""
        self._read.add(name)

    def name_of(self, name: str) -> str | None:
        """Return what the user calls an option of the database, None if it is another."""
        return self._names.get(name)

    def unread(self, comm: MPI.Comm) -> list[str]:
        """Return the names of options nobody has read, the same on all ranks.  (Collective.)"""
        if not self._order:  # on every rank: the ranks have compared what they were given
            return []
        return list(comm.bcast(self.names(), root=0))

    def names(self) -> list[str]:
        """Return the names of options nobody has read on this rank.  (Not collective.)"""
        return [name for name in self._order if name in self._offered - self._read]


_WATCHES: ContextVar[tuple[Watch, ...]] = ContextVar("watches", default=())
_FRAMES: ContextVar[tuple[tuple[str, tuple[str, ...]], ...]] = ContextVar("frames", default=())
_EVER_READ: set[str] = set()
# A factor that is kept reads its options once: later solves do not make them typing errors.


@contextmanager
def watched(prefixes: tuple[str, ...], options: Mapping[str, Any]) -> Iterator[Watch]:
    """Follow what becomes of a user's options inside a block.

    Not collective.

    Parameters
    ----------
    prefixes
        Beginnings under which the options come into the database.
    options
        Names without prefix -> values.

    """
    watch = Watch(prefixes, options)
    token = _WATCHES.set((*_WATCHES.get(), watch))
    try:
        yield watch
    finally:
        _WATCHES.reset(token)


def is_watched(name: str) -> bool:
    """Tell whether somebody follows an option of the database.  (Not collective.)"""
    return _typed(name) is not None


def _typed(name: str) -> str | None:
    found = (watch.name_of(name) for watch in _WATCHES.get())
    return next((typed for typed in found if typed is not None), None)


def take(name: str) -> None:
    """Note that the package reads an option, named without prefix.  (Not collective.)"""
    for watch in _WATCHES.get():
        watch.takes(name)


@contextmanager
def followed(prefix: str, names: list[str], wanted: list[str]) -> Iterator[None]:
    """Tell all watches what becomes of options; explain those PETSc refuses.

    Not collective. ``names``: those inserted, with the prefix, as they stand in the database;
    ``wanted``: the same and those that the command line gave, too.
    """
    token = _FRAMES.set((*_FRAMES.get(), (prefix, tuple(names))))
    try:
        yield
    except (PETSc.Error, SystemError) as error:  # slepc4py 3.26 wraps the first in the second
        cause = error if isinstance(error, PETSc.Error) else error.__cause__
        refused = refused_option(cause)
        if refused is not None:
            raise refused from error
        raise
    finally:
        _FRAMES.reset(token)
        for watch in _WATCHES.get():
            watch.follow(wanted)


def refused_option(error: BaseException | None) -> OptionError | None:
    """Return what an error of PETSc's means if a user's option is behind it, else None.

    Not collective; PETSc raises such errors on all ranks. Asked while the options are in force.
    """
    if not isinstance(error, PETSc.Error):
        return None
    text = str(error)
    if "SetFromOptions" not in text and "PetscOptions" not in text and error.ierr != WRONG_INPUT:
        return None
    reason = re.sub(r"^\[\d+\] ", "", text.strip().splitlines()[-1])
    given = _given()
    found = _meant(reason, given)
    if not found and error.ierr != WRONG_INPUT:  # set-ups fail so because of matrices, too
        found = given
    if not found:
        return None
    items = ", ".join(f"{name} = {value!r}" for name, value in sorted(found.items()))
    one = "the value of a PETSc option" if len(found) == 1 else "PETSc options"
    return OptionError(
        f"{one} must be something PETSc takes, got {items} ({reason}); correct it, or leave it out"
    )


def _given() -> dict[str, str]:
    """Return the options of the user that are in force, as they were typed."""
    frames = _FRAMES.get()
    ours = {name for _, names in frames for name in names if not is_watched(name)}
    inserted = {name for _, names in frames for name in names}
    prefixes, database = tuple(prefix for prefix, _ in frames), PETSc.Options()
    return {
        (_typed(name) if name in inserted else None) or f"-{name}": database.getString(name)
        for name in database.getAll()
        if prefixes and name.startswith(prefixes) and name not in ours
    }


def _meant(reason: str, given: dict[str, str]) -> dict[str, str]:
    """Return the options that PETSc's reason quotes, or calls by the last word of their name."""
    by_value = {name: value for name, value in given.items() if value and _holds(reason, value)}
    by_name = {name: value for name, value in given.items() if _holds(reason, _last_word(name))}
    return by_value or by_name


def _last_word(name: str) -> str:
    return name.rpartition("_")[2]


def _holds(reason: str, part: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", reason) is not None


def unread_text(names: list[str]) -> str:
    """Return the note on options nobody has read.  (Not collective.)"""
    return f"{UNREAD}: {', '.join(names)}"


def _was_read(name: str) -> bool:
    """Ask PETSc whether an option was read; True where it cannot be asked.  (Not collective.)"""
    used = ctypes.c_int(1)
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(PETSc.__file__)
        if library.PetscOptionsUsed(None, name.encode(), ctypes.byref(used)):
            return True
    return bool(used.value)

"""PETSc options that nothing has asked for: typing errors, or parts that were not needed."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, suppress

from petsc4py import PETSc

from geneig_adjoint.study.settings import Study
from geneig_adjoint.user_options import Watch, watched

PREFIXES = {"solver": ("ga_", "ga_left_"), "adjoint": ("ga_adjoint_",)}
"""Tables with options, and the beginnings under which PETSc sees them."""

LATER = ("options_left", "log_", "malloc", "objects_dump", "on_error_abort")
"""Beginnings of names that PETSc looks at when it ends."""


def unread_options() -> list[str]:
    """Return the names of options that nothing has read so far.

    Not collective. petsc4py cannot tell; none if PETSc's library cannot be asked.
    """
    count = ctypes.c_int(0)
    names, values = (ctypes.POINTER(ctypes.c_char_p)() for _ in range(2))
    wanted = (None, ctypes.byref(count), ctypes.byref(names), ctypes.byref(values))
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(PETSc.__file__)
        if library.PetscOptionsLeftGet(*wanted):
            return []
        found = [(names[i] or b"").decode() for i in range(count.value)]
        library.PetscOptionsLeftRestore(*wanted)
        return [f"-{name}" for name in found if not name.startswith(LATER)]
    return []


def watched_options(study: Study, table: str) -> AbstractContextManager[Watch]:
    """Follow what becomes of the options in [solver.options] or [adjoint.options] inside a block.

    Not collective.
    """
    return watched(PREFIXES[table], getattr(study, table).get("options", {}))

"""PETSc options that nothing has asked for: typing errors, or parts that were not needed."""

from __future__ import annotations

from geneig_adjoint import _petsc

LATER = ("options_left", "log_", "malloc", "objects_dump", "on_error_abort")
"""Beginnings of names that PETSc looks at when it ends."""


def unread_options() -> list[str]:
    """Return the names of options that nothing has read so far.  (Not collective.)"""
    return [f"-{name}" for name in _petsc.unread_options() if not name.startswith(LATER)]

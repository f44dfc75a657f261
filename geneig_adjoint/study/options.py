"""PETSc options that nothing has asked for: typing errors, or parts that were not needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from geneig_adjoint import _petsc

LATER = ("options_left", "log_", "malloc", "objects_dump", "on_error_abort")
"""Beginnings of names that PETSc looks at when it ends."""
ADJOINT = "ga_adjoint_"


def unread_options(adjoint: Iterable[str], read: Collection[str]) -> list[str]:
    """Return the names of options that nothing has read so far.

    Not collective.

    Parameters
    ----------
    adjoint
        Names in [adjoint.options], which count where a solver of adjoint systems was made.
    read
        Inserted options that were read, see `watched_options`.

    """
    found = [f"-{name}" for name in _petsc.unread_options() if not name.startswith(LATER)]
    if any(name.startswith(ADJOINT) for name in read):
        places = {name: ADJOINT + name for name in adjoint}
        found += [
            f"adjoint.options.{name}"
            for name, place in places.items()
            if place not in read and not _petsc.has_option(place)
        ]
    return found

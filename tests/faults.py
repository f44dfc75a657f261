"""Faults at chosen places: a function of the package that raises, or returns NaN, on one rank.

As a script it breaks one function on one rank and then is the command line:
``python faults.py geneig_adjoint.solve:finished 1 run study.toml``.
"""

import pkgutil
import sys
from contextlib import contextmanager
from unittest import mock

import numpy as np


class InjectedError(Exception):
    """Not one of the package's, nor one that Python raises by itself."""


class Fault:
    """What stands in for a function: the same but for its ``call``-th call on one rank."""

    def __init__(self, function, broken, *, call=0, damage=None):
        self.function, self.broken, self.left, self.damage = function, broken, call, damage
        self.met = False

    def __get__(self, owner, _=None):
        return self if owner is None else lambda *args, **named: self(owner, *args, **named)

    def __call__(self, *arguments, **keywords):
        self.left -= 1
        if not self.broken or self.left >= 0 or self.met:
            return self.function(*arguments, **keywords)
        self.met = True
        if self.damage is None:
            raise InjectedError("injected")
        return self.damage(self.function(*arguments, **keywords))


def with_nan(found):
    """Return what a function has found with a NaN in its first array."""
    if isinstance(found, dict):
        return {name: with_nan(part) for name, part in found.items()}
    if isinstance(found, tuple):
        return (with_nan(found[0]), *found[1:])
    found = np.array(found, dtype=np.result_type(found, float))
    found[...] = np.nan
    return found


def os_error(_):
    raise OSError(28, "No space left on device")


def owner_and_name(target):
    """Return where a function is kept that is given as "module:name" or "module:Class.name"."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    return pkgutil.resolve_name(f"{module}:{'.'.join(owners)}" if owners else module), name


@contextmanager
def injected(target, broken, **options):
    """Replace a function where ``broken``; give the `Fault`."""
    owner, name = owner_and_name(target)
    fault = Fault(getattr(owner, name), broken, **options)
    with mock.patch.object(owner, name, fault):
        yield fault


def main():
    """Break a function, then do what the command line says."""
    target, rank, *words = sys.argv[1:]
    import slepc4py

    slepc4py.init(["geneig-adjoint"])
    from mpi4py import MPI

    from geneig_adjoint import collective, endings
    from geneig_adjoint.cli import main as command_line

    # Who ends the job is the question, not when; `crowding` still multiplies this.
    collective.WAIT_SECONDS = endings.WAIT_SECONDS = 1.0
    with injected(target, MPI.COMM_WORLD.rank == int(rank)):
        return command_line(words)


if __name__ == "__main__":
    sys.exit(main())

"""What a failure on one rank must look like on all of them."""

from types import FunctionType

import pytest

import geneig_adjoint as ga


def with_cases(test, names, cases):
    """Return a serial test for several ranks, with other cases in place of its parameters.

    What does not depend on ranks has been shown with all of them: here, each value comes once,
    with every other value that matters to how ranks work together.
    """
    copy = FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__)
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name != "parametrize"]
    for mark in [pytest.mark.parametrize(names, cases), *marks]:
        copy = getattr(pytest.mark, mark.name)(*mark.args, **mark.kwargs)(copy)
    return copy


def last(comm):
    return comm.rank == comm.size - 1


def raised_everywhere(comm, kind, match, action, *arguments, **keywords):
    """Return the error after a look that it is the same on every rank."""
    with pytest.raises(kind, match=match) as caught:
        action(*arguments, **keywords)
    error = caught.value
    assert len(set(comm.allgather(f"{type(error)} {error}"))) == 1
    return error


def assert_from_the_last_rank(comm, error):
    notes = [note for note in getattr(error, "__notes__", []) if note.startswith("found on ranks")]
    assert notes == [f"found on ranks [{comm.size - 1}] of {comm.size}"][: comm.size - 1]


# Ranks that differ need two of them: on one rank each of these is a plain success.
def differing(comm, first, other):
    return first if comm.rank == 0 else other


def refused_if_different(comm, match, action):
    """Expect an InputError on more than one rank, success on one."""
    expected = {1: []}.get(comm.size, [match])
    for pattern in expected:
        raised_everywhere(comm, ga.InputError, pattern, action)
    for _ in range(comm.size == 1):
        action()

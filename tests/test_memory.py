"""Memory stays flat when work is done again and again; tests/soak has the long form."""

import mmap

import pytest
from loops import LOOPS, measured, slope

LIMIT = 0.1
"""MB per round. A forgotten factor, basis or matrix of these problems is about 0.1 MB or more."""
ROUNDS = {"rounds": 12, "warm": 6}


@pytest.mark.failure("memory grows", through="api")
@pytest.mark.parametrize("name", LOOPS)
def test_memory_of_a_loop_is_flat(comm, name):
    assert measured(LOOPS[name](comm), **ROUNDS) < LIMIT


def test_slope_sees_a_leak():
    kept = []

    def forget(_):
        # Pages of their own: what earlier tests have freed could hold other memory.
        pages = mmap.mmap(-1, 500_000)
        pages.write(b"x" * 500_000)
        kept.append(pages)

    assert measured(forget, **ROUNDS) > LIMIT
    assert slope([1.0, 1.5, 2.0]) == pytest.approx(0.5)

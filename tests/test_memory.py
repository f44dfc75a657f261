"""Memory stays flat when work is done again and again; tests/soak has the long form."""

import pytest
from loops import LOOPS, measured, slope

LIMIT = 0.1
"""MB per round. A forgotten factor, basis or matrix of these problems is about 0.1 MB or more."""


@pytest.mark.failure("memory grows")
@pytest.mark.parametrize("name", LOOPS)
def test_memory_of_a_loop_is_flat(comm, name):
    assert measured(LOOPS[name](comm), 40, warm=10) < LIMIT


def test_slope_sees_a_leak():
    kept = []
    # 4 MB each: what earlier tests have freed cannot hold forty of them.
    assert measured(lambda _: kept.append(b"x" * 4_000_000), 40, warm=10) > LIMIT
    assert slope([1.0, 1.5, 2.0]) == pytest.approx(0.5)

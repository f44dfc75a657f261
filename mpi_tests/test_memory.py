"""Memory stays flat on several ranks."""

import pytest
from loops import LOOPS, measured


@pytest.mark.failure("memory grows", through="api")
@pytest.mark.parametrize("name", ["design loop", "failing"])
def test_memory_of_a_loop_is_flat(comm, name):
    # MB per round; as in tests/test_memory.py
    assert max(comm.allgather(measured(LOOPS[name](comm), 16, warm=8))) < 0.1

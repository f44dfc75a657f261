"""Random pencils: the same values and gradients on any number of ranks."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_pencils import KINDS, SEEDS, SIZES, random_case, solved

profile = settings(
    max_examples=8,
    derandomize=True,  # all ranks must draw the same
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("kind", KINDS)
def test_number_of_ranks(comm, kind):
    from mpi4py import MPI

    @profile
    @given(SEEDS, SIZES)
    def compare(seed, n):
        case = random_case(seed, n, kind)
        found = solved(comm, case)
        alone = comm.bcast(solved(MPI.COMM_SELF, case) if comm.rank == 0 else None)
        for one, other in zip(found, alone, strict=True):
            # as in tests/test_properties.py
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)
            assert len(set(comm.allgather(one.tobytes()))) == 1

    compare()

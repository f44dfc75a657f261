"""A function of some stages raises on one rank of three; tests/soak has all stages and ranks."""

import pytest
from broken_stages import STAGES, broken_run
from faults import owner_and_name


@pytest.mark.parametrize("stage", STAGES)
def test_function_of_every_stage_exists(stage):
    assert callable(getattr(*owner_and_name(f"geneig_adjoint.{STAGES[stage]}")))


@pytest.mark.failure("exception on one rank", through="command")
@pytest.mark.parametrize(
    ("stage", "rank"),
    [
        ("eigenpairs", 1),
        ("left vectors", 2),
        # what is gathered and written has gone through Python's complex numbers in both builds
        pytest.param("gather", 2, marks=pytest.mark.any_scalars),
        pytest.param("write", 0, marks=pytest.mark.any_scalars),
    ],
)
def test_fault_ends_the_job_with_one_message(mpirun, tmp_path, stage, rank):
    broken_run(mpirun, tmp_path, stage, rank)

"""A function of every stage raises, on each of three ranks in turn, under the command line."""

import time

import pytest
from broken_stages import STAGES, broken_run


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize("stage", STAGES)
def test_fault_ends_the_job_with_one_message(mpirun, report, tmp_path, stage, rank):
    start = time.monotonic()
    finished = broken_run(mpirun, tmp_path, stage, rank)
    report(f"{stage}, rank {rank}: code {finished.returncode}, {time.monotonic() - start:.1f} s")

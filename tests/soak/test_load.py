"""A million parameters, more ranks than cores, more ranks than rows, a failing rank among many."""

import sys
import time
from pathlib import Path

import pytest
from broken_stages import broken_run
from study_files import ELEMENTS, P, chain_derivatives, result, study_folder

SCRIPT = str(Path(__file__).parents[1] / "load.py")
MANY = 8


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ranks", [1, 2], ids=["alone", "two"])
@pytest.mark.parametrize("kind", ["replicated", "distributed"])
@pytest.mark.parametrize("how", [[], ["study"]], ids=["call", "study"])
def test_a_million_parameters(mpirun, report, scalar_build, how, kind, ranks):
    words = [sys.executable, SCRIPT, "1000000", kind, *how]
    finished = mpirun(ranks, *words, timeout=500)
    assert finished.returncode == 0, finished.stderr
    seconds, error, memory, *sizes = finished.stdout.split("found")[-1].split()
    megabytes = ", ".join(f"{int(size) / 1e6:.1f}" for size in sizes)
    report(
        f"2 x 1,000,000 {kind}, {scalar_build}, ranks {ranks}: {seconds} s, error {error}, "
        f"peak {memory} MB, files (checkpoint, result.h5, result.json) {megabytes or 'none'} MB"
    )
    assert float(error) < 1e-8


@pytest.mark.timeout(400)
@pytest.mark.parametrize("ranks", [MANY, MANY + 4])
def test_more_ranks_than_cores_and_rows(mpirun, report, tmp_path, ranks):
    study = study_folder(tmp_path, ELEMENTS)  # 8 rows
    program = [sys.executable, "-m", "geneig_adjoint"]
    start = time.monotonic()
    finished = mpirun(ranks, *program, "run", str(study), timeout=350)
    assert finished.returncode == 0, finished.stderr
    found = result(tmp_path / "out")
    report(f"ranks {ranks}: {time.monotonic() - start:.0f} s, of which {found['timings']}")
    lam, _ = chain_derivatives(P, 1)
    assert found["objectives"]["second"] == pytest.approx(lam, rel=1e-10)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("stage", "rank"),
    [("build model", 7), ("assemble", 5), ("left vectors", 3), ("adjoint solve", 1), ("gather", 6)],
)
def test_failing_rank_among_many(mpirun, report, tmp_path, stage, rank):
    start = time.monotonic()
    finished = broken_run(mpirun, tmp_path, stage, rank, ranks=MANY, timeout=350)
    seconds = time.monotonic() - start
    report(f"{stage}, rank {rank} of {MANY}: code {finished.returncode}, {seconds:.0f} s")

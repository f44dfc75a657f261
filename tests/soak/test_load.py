"""A million parameters, more ranks than cores, more ranks than rows."""

import sys
from pathlib import Path

import pytest
from study_files import ELEMENTS, P, chain_derivatives, result, study_folder

SCRIPT = str(Path(__file__).parents[1] / "load.py")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("kind", ["replicated", "distributed"])
def test_a_million_parameters(mpirun, report, kind, ranks):
    words = [sys.executable, SCRIPT, "1000000", kind]
    finished = mpirun(ranks, *words, timeout=500)
    assert finished.returncode == 0, finished.stderr
    seconds, error, memory = finished.stdout.split("found")[-1].split()
    report(f"1,000,000 {kind}, ranks {ranks}: {seconds} s, error {error}, {memory} MB")
    assert float(error) < 1e-8


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ranks", [8, 12])
def test_more_ranks_than_cores_and_rows(mpirun, report, tmp_path, ranks):
    study = study_folder(tmp_path, ELEMENTS)  # 8 rows
    program = [sys.executable, "-m", "geneig_adjoint.cli"]
    finished = mpirun(ranks, *program, "run", str(study), timeout=250)
    assert finished.returncode == 0, finished.stderr
    found = result(tmp_path / "out")
    report(f"ranks {ranks}: {found['timings']}")
    lam, _ = chain_derivatives(P, 1)
    assert found["objectives"]["second"] == pytest.approx(lam, rel=1e-10)

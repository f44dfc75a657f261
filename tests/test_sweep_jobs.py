"""Sweeps whose ranks die: the job ends, the next one goes on."""

from pathlib import Path

import pytest
from study_files import result
from sweeps import MODES, statuses, sweep_folder

DONE = ("done", 0)
HERE = str(Path(__file__).parent)


@pytest.fixture
def job(mpirun, monkeypatch):
    """Run a sweep on two ranks."""
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=":")
    return lambda path, *words: mpirun(2, "geneig-adjoint", "sweep", str(path), *words, timeout=60)


def test_a_rank_that_dies_ends_the_job_and_the_next_goes_on(tmp_path, job):
    path = sweep_folder(tmp_path, MODES.format("kill"))
    assert job(path).returncode == 137
    assert statuses(tmp_path) == [DONE, ("running", None)]
    assert job(path).returncode == 137
    assert statuses(tmp_path) == [DONE, ("running", None), DONE, DONE]
    assert result(tmp_path / "out" / "sample_0003")["ranks"] == 2


def test_an_error_of_one_rank_alone_ends_the_job(tmp_path, job):
    path = sweep_folder(tmp_path, MODES.format("alone"))
    finished = job(path, "--only", "1")
    assert finished.returncode == 70, finished.stderr
    assert finished.stderr.count("KeyError: 'mine'") == 1
    assert statuses(tmp_path) == [("running", None)]

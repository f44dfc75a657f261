"""Sweeps whose ranks die, or are ended: the job ends, the next one goes on."""

import json
from pathlib import Path

import pytest
from study_files import result
from sweeps import MODES, statuses, sweep_folder

from geneig_adjoint.cli import main
from geneig_adjoint.study import sweep as sweep_module
from geneig_adjoint.study import sweep_state

DONE = ("done", 0)
HERE = str(Path(__file__).parent)


@pytest.fixture
def job(mpirun, monkeypatch):
    """Run a sweep on two ranks."""
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=":")
    return lambda path, *words: mpirun(2, "geneig-adjoint", "sweep", str(path), *words, timeout=60)


@pytest.mark.any_scalars
def test_a_rank_that_dies_ends_the_job_and_the_next_goes_on(tmp_path, job):
    path = sweep_folder(tmp_path, MODES.format("kill"))
    assert job(path).returncode == 137
    assert statuses(tmp_path) == [DONE, ("running", None)]
    assert job(path).returncode == 137
    assert statuses(tmp_path) == [DONE, ("running", None), DONE, DONE]
    assert result(tmp_path / "out" / "sample_0003")["ranks"] == 2


@pytest.mark.any_scalars
def test_an_error_of_one_rank_alone_ends_the_job(tmp_path, job):
    path = sweep_folder(tmp_path, MODES.format("alone"))
    finished = job(path, "--only", "1")
    assert finished.returncode == 70, finished.stderr
    assert finished.stderr.count("KeyError: 'mine'") == 1
    assert statuses(tmp_path) == [("running", None)]


def test_keyboard_is_no_attempt(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    path = sweep_folder(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(sweep_module, "run_study", interrupted)
        for _ in range(sweep_state.ATTEMPTS + 1):
            assert main(["sweep", str(path)]) == 130
    assert statuses(tmp_path) == [("stopped", 130)]
    record = json.loads((tmp_path / "out" / "sample_0000" / "sample.json").read_text())
    assert record["reason"] == "interrupted from the keyboard"
    assert main(["sweep", str(path), "--only", "0"]) == 0
    record = json.loads((tmp_path / "out" / "sample_0000" / "sample.json").read_text())
    assert record["attempts"] == 1

"""Job scripts of the examples: their syntax, and what they do, with stand-ins for the scheduler."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import environment_outside_mpi
from searches import SEARCH, search_folder, summary
from sweeps import MODES, ONE, statuses, sweep_folder

pytestmark = pytest.mark.any_scalars

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "examples" / "cluster"
DONE = ("done", 0)
# srun starts as many ranks as the job has tasks; scontrol notes what it is asked for.
STANDINS = {
    "srun": 'exec "$MPIRUN" -n "${RANKS:-1}" "$@"',
    "mpirun": 'exec "$MPIRUN" -n "${RANKS:-1}" "$@"',
    "scontrol": 'echo "$@" >>"$REQUESTS"',
}


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """Run a job script as the scheduler would, on one rank or $RANKS."""
    for name, text in STANDINS.items():
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/bash\n{text}\n")
        stub.chmod(0o755)

    def run(script, *words, **variables):
        environment = environment_outside_mpi() | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "MPIRUN": shutil.which("mpirun"),
            "REQUESTS": str(tmp_path / "requests"),
            "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}",
        }
        return subprocess.run(
            ["timeout", "60", "bash", str(SCRIPTS / script), *words],
            cwd=tmp_path,
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def requests(folder):
    path = folder / "requests"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.iterdir()))
def test_script_has_no_syntax_error(script):
    checked = subprocess.run(
        ["bash", "-n", str(SCRIPTS / script)], capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.sbatch")))
def test_jobs_are_told_before_their_time_is_over(script):
    lines = (SCRIPTS / script).read_text().splitlines()
    assert "#SBATCH --signal=USR1@300" in lines
    assert "#SBATCH --requeue" in lines
    assert "#SBATCH --open-mode=append" in lines


TWO = {"SLURM_JOB_ID": "18", "RANKS": "2"}
TASK = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_JOB_ID": "18"}


def test_task_of_a_slurm_array_runs_one_sample(tmp_path, submit):
    sweep_folder(tmp_path, MODES.format("raise"))
    good = submit("sweep_array.sbatch", "study.toml", SLURM_ARRAY_TASK_ID="2", **TASK)
    assert good.returncode == 0, good.stderr
    bad = submit("sweep_array.sbatch", "study.toml", SLURM_ARRAY_TASK_ID="1", **TASK)
    assert bad.returncode == 70
    assert statuses(tmp_path) == [("failed", 70), DONE]
    assert requests(tmp_path) == []


def test_task_of_a_pbs_array_runs_one_sample(tmp_path, submit):
    sweep_folder(tmp_path)
    variables = {"PBS_O_WORKDIR": str(tmp_path), "STUDY": "study.toml", "PBS_ARRAY_INDEX": "3"}
    finished = submit("sweep_array.pbs", **variables)
    assert finished.returncode == 0, finished.stderr
    assert statuses(tmp_path) == [DONE]
    assert (tmp_path / "out" / "sample_0003").is_dir()


def test_stopped_sweep_is_requeued_and_goes_on(tmp_path, submit):
    sweep_folder(tmp_path, MODES.format("stop"))
    first = submit("sweep_in_one_job.sbatch", "study.toml", **TWO)
    assert first.returncode == 75, first.stderr
    assert requests(tmp_path) == ["requeue 18"]
    second = submit("sweep_in_one_job.sbatch", "study.toml", **TWO)
    assert second.returncode == 0, second.stderr
    assert statuses(tmp_path) == [DONE] * 4
    assert requests(tmp_path) == ["requeue 18"]


def test_sweep_in_one_job_goes_on_after_a_sample_that_kills(tmp_path, submit):
    sweep_folder(tmp_path, MODES.format("kill"))
    finished = submit("sweep_in_one_job.sbatch", "study.toml", **TWO)
    assert finished.returncode == 70
    assert statuses(tmp_path) == [DONE, ("running", None), DONE, DONE]


def test_long_job_searches(tmp_path, submit):
    search_folder(tmp_path, ONE + SEARCH.replace("= 60", "= 3"))
    (tmp_path / "out").mkdir()
    finished = submit("run.sbatch", "study.toml", "optimize", SLURM_JOB_ID="18")
    assert finished.returncode == 0, finished.stderr
    assert summary(tmp_path)["iterations"] == 3
    assert requests(tmp_path) == []


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("sweep_array.sbatch", [], "usage: sbatch"),
        ("sweep_array.sbatch", ["study.toml"], "submit this script with --array"),
        ("run.sbatch", [], "usage: sbatch"),
        ("sweep_in_one_job.sbatch", [], "usage: sbatch"),
        ("sweep_array.pbs", [], "submit this script with qsub"),
    ],
)
def test_script_says_what_it_needs(submit, script, words, message):
    finished = submit(script, *words)
    assert finished.returncode != 0
    assert message in finished.stderr

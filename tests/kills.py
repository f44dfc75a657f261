"""Runs that lose a rank by SIGKILL at a random moment, and what must be left then."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import environment_outside_mpi
from resumable_studies import assert_alike, outcome_of
from slow_studies import SLOW_MODEL, SLOW_TEXT
from study_files import study_folder

from geneig_adjoint.cli import main
from geneig_adjoint.study.checkpoint_file import CheckpointReader

HERE = str(Path(__file__).parent)
RANKS = 2


def children(process):
    """Return the processes that a process has started."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    return [int(number) for number in listed.split()]


def killed_run(path, chance, seconds, pauses):
    """Run on several ranks and kill one of them; return the exit code.

    ``seconds``: how long after the run has begun to write events, at most; ``pauses``: of its
    model, so that it lasts.
    """
    environment = environment_outside_mpi()
    environment["PYTHONPATH"] = f"{HERE}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    environment["SLOW"] = str(chance.choice(pauses))
    command = [sys.executable, "-m", "geneig_adjoint", "run", str(path), "--resume"]
    events = path.parent / "out" / "events.jsonl"
    written = events.stat().st_size if events.exists() else 0
    with subprocess.Popen(
        ["mpirun", "-n", str(RANKS), *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and not (events.exists() and events.stat().st_size > written):
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, seconds))
        ranks = children(process.pid) if process.poll() is None else []
        if ranks:
            os.kill(chance.choice(ranks), signal.SIGKILL)
        try:
            return process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def what_is_left(folder):
    """Return what a killed run has left; a checkpoint and results are whole or not there."""
    if (folder / "checkpoint.h5").exists():
        reader = CheckpointReader(folder / "checkpoint.h5")
        finished = len(reader.json("outcome")["gradients"])
        adjoints = len(reader.json("adjoints_about"))
        reader.close()
        return f"{finished} objectives, {adjoints} adjoints"
    if (folder / "result.json").exists():
        outcome_of(folder)
        return "results"
    return "nothing"


def campaign(folder, seed, kills, seconds=1.2, pauses=(0.0, 0.05, 0.15)):
    """Kill a run several times, let it end, compare; return what each kill has left.

    A run that ended before it could be killed is not in the list.
    """
    chance = random.Random(seed)
    path = study_folder(folder, SLOW_TEXT, model=SLOW_MODEL)
    code = main(["run", str(path), "--set", "output.directory=whole"])
    assert code == 0, "the uninterrupted run"
    out, left = folder / "out", []
    for _ in range(kills):
        if killed_run(path, chance, seconds, pauses) != 0:
            left.append(what_is_left(out))
        if (out / "result.json").exists() and not (out / "checkpoint.h5").exists():
            break
    else:
        code = main(["run", str(path), "--resume"])
        assert code == 0, f"exit {code} after {left}"
    assert_alike(outcome_of(out), outcome_of(folder / "whole"))
    names = {file.name for file in out.iterdir()}
    assert names == {"events.jsonl", "result.h5", "result.json"}, (names, left)
    return left

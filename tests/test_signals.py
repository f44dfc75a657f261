"""Signals: honoured between two steps, on all ranks, and what was done is kept."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import environment_outside_mpi
from resumable_studies import assert_alike, outcome_of
from slow_studies import SLOW_MODEL, SLOW_TEXT
from study_files import study_folder
from test_events import events_of

from geneig_adjoint import cli
from geneig_adjoint.cli import main
from geneig_adjoint.study.early_signals import SIGNALS, EarlySignals
from geneig_adjoint.study.signals import StopRequest

HERE = str(Path(__file__).parent)
COMMAND = [sys.executable, "-m", "geneig_adjoint", "run"]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A study whose model signals itself when the environment says so."""
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
    monkeypatch.syspath_prepend(HERE)
    return study_folder(tmp_path, SLOW_TEXT, model=SLOW_MODEL)


def finish_and_compare(path):
    """Resume here, on one rank, and compare with an uninterrupted run."""
    assert main(["run", str(path), "--resume"]) == 0
    assert main(["run", str(path), "--set", "output.directory=whole"]) == 0
    assert_alike(outcome_of(path.parent / "out"), outcome_of(path.parent / "whole"))


def test_signal_of_one_rank_stops_all(path, mpirun, monkeypatch):
    monkeypatch.setenv("SIGNAL_AT", "1:3")
    finished = mpirun(2, "geneig-adjoint", "run", str(path), timeout=40)
    assert finished.returncode == 75, finished.stderr
    assert finished.stderr.count("geneig-adjoint: stopped on request (SIGUSR1)") == 1
    assert "with --resume to go on" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (path.parent / "out" / "result.json").exists()
    stop = events_of(path.parent / "out", event="stop")
    assert [(item["step"], item["signal"]) for item in stop] == [
        ("differentiate 5 objectives", "SIGUSR1")
    ]
    monkeypatch.delenv("SIGNAL_AT")
    finish_and_compare(path)


@pytest.mark.failure("killed", through="command")
@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        ([], signal.SIGUSR1),
        pytest.param([], signal.SIGTERM, marks=pytest.mark.any_scalars),
        pytest.param(["mpirun", "-n", "2"], signal.SIGUSR1, marks=pytest.mark.any_scalars),
    ],
    ids=["USR1", "TERM", "USR1 through mpirun"],
)
def test_signal_from_outside_stops_a_run(path, launcher, number, monkeypatch):
    monkeypatch.setenv("SLOW", "0.3")
    with subprocess.Popen(
        [*launcher, *COMMAND, str(path)],
        env=environment_outside_mpi(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            wait_for(path.parent / "out" / "checkpoint.h5")
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        except BaseException:
            process.terminate()
            raise
    assert process.returncode == 75, said
    assert said.count(f"stopped on request ({number.name})") == 1
    monkeypatch.delenv("SLOW")
    finish_and_compare(path)


def wait_for(file, seconds=40):
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.02)


def test_the_first_of_two_signals_counts(path, monkeypatch, capsys):
    monkeypatch.setenv("SIGNAL_AT", "0:2")
    monkeypatch.setenv("TWICE", "1")
    assert main(["run", str(path)]) == 75
    said = capsys.readouterr().err
    assert said.count("stopped on request") == 1
    assert "(SIGUSR1)" in said


def test_run_that_only_has_to_write_is_not_stopped(path, monkeypatch):
    monkeypatch.setenv("SIGNAL_AT", "0:5")  # the contraction of the last objective
    assert main(["run", str(path)]) == 0


def test_handlers_are_given_back(comm):
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest(comm) as request:
        assert [signal.getsignal(number) for number in SIGNALS] != before
        assert request.agreed() is None
    after = [signal.getsignal(number) for number in SIGNALS]
    expected = {None: signal.SIG_DFL}
    assert after == [expected.get(handler, handler) for handler in before]


def test_another_thread_runs_without_handlers(comm):
    seen = []

    def run():
        with StopRequest(comm) as request:
            seen.append(request.agreed())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert seen == [None]


def test_requests_may_be_nested(comm):
    with StopRequest(comm) as outer:
        with StopRequest(comm) as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.agreed() == "SIGTERM"
            assert outer.agreed() is None
        assert outer.agreed() == "SIGTERM"


@pytest.mark.any_scalars
def test_signal_that_comes_before_the_first_step_stops_a_run(path, monkeypatch, capsys):
    before = [signal.getsignal(number) for number in SIGNALS]
    loaded = cli._initialised

    def slowly(options):
        os.kill(os.getpid(), signal.SIGUSR1)
        return loaded(options)

    monkeypatch.setattr(cli, "_initialised", slowly)
    assert main(["run", str(path)]) == 75
    assert "stopped on request (SIGUSR1); there is nothing new to keep" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signal_behind_the_results_changes_nothing(comm):
    with EarlySignals() as early:
        with StopRequest(comm) as request:
            assert request.agreed() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert early.seen == signal.SIGTERM

"""What a run says about itself: events.jsonl, progress on stderr, observers of Python."""

import io
import json
import os
import tracemalloc
from datetime import datetime

import numpy as np
import pytest
from builders import chain, chain_parameters
from resumable_studies import stop_at
from study_files import PYTHON, study_folder

import geneig_adjoint as ga
from geneig_adjoint import observers
from geneig_adjoint.errors import StoppedError
from geneig_adjoint.study import events, progress
from geneig_adjoint.study.events import EventLog
from geneig_adjoint.study.progress import Progress
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study

KINDS = {"begin", "end", "progress", "note", "checkpoint", "stop"}


def events_of(folder, **chosen):
    """Return the events of a folder that have these entries."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [item for item in found if chosen.items() <= item.items()]


def test_events_tell_what_a_run_did(tmp_path, comm):
    run_study(read_study(study_folder(tmp_path, PYTHON)), comm)
    found = events_of(tmp_path / "out")
    assert {item["event"] for item in found} == KINDS - {"note", "stop"}
    assert all({"time", "seconds", "event", "step"} <= item.keys() for item in found)
    times = [datetime.fromisoformat(item["time"]) for item in found]
    assert times == sorted(times)
    assert all(time.utcoffset().total_seconds() == 0 for time in times)
    begun = [item["step"] for item in found if item["event"] == "begin"]
    ended = [item["step"] for item in found if item["event"] == "end"]
    assert sorted(begun) == sorted(ended)
    steps = ["run", "build model", "assemble", "solve eigenproblem", "differentiate 3 objectives"]
    contractions = [f"contraction of {name}" for name in ("f1", "second", "motion")]
    expected = [*steps, "adjoints of f1, second, motion", *contractions, "write results"]
    assert begun == expected
    assert found[0]["ranks"] == 1
    assert found[-1] == {**found[-1], "event": "end", "step": "run", "code": 0}
    shown = {item["of"]: item for item in found if item["event"] == "progress"}
    assert shown["eigensolve"]["converged"] >= shown["eigensolve"]["wanted"] == 2
    assert shown["adjoint"]["solved"] == shown["adjoint"]["columns"] == 1
    assert shown["contraction"]["elements"] == shown["contraction"]["total"] == 9
    kept = events_of(tmp_path / "out", event="checkpoint")
    assert (kept[0]["finished"], kept[0]["adjoints"]) == (0, 0)


def test_events_of_several_runs_follow_each_other(tmp_path, comm, monkeypatch):
    path = study_folder(tmp_path, PYTHON)
    stop_at(monkeypatch, 2)
    with pytest.raises(StoppedError):
        run_study(read_study(path), comm)
    stop_at(monkeypatch, None)
    with (tmp_path / "out" / "events.jsonl").open("a") as file:
        file.write('{"cut": ')  # by a kill
    run_study(read_study(path), comm, resume=True)
    lines = (tmp_path / "out" / "events.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if line and not line.startswith('{"cut')]
    runs = [item for item in found if item["step"] == "run" and item["event"] == "begin"]
    assert [item["ranks"] for item in runs] == [1, 1]
    ends = [item for item in found if item["step"] == "run" and item["event"] == "end"]
    assert [item["code"] for item in ends] == [75, 0]
    assert "stopped on request" in ends[0]["error"]
    notes = [item["text"] for item in found if item["event"] == "note"]
    assert len(notes) == 1
    assert notes[0].startswith("resumed what 1 rank")


def test_lines_of_one_kind_are_a_second_apart(tmp_path, comm, monkeypatch):
    clock = iter([0.0, *np.arange(1, 40) / 10.0])
    monkeypatch.setattr(events.time, "perf_counter", lambda: next(clock))
    log = EventLog(comm, tmp_path / "events.jsonl")
    for number in range(12):
        log.progress("step", "kind", {"number": number})
    log.end_progress("step")
    log.close()
    written = [item["number"] for item in events_of(tmp_path)]
    assert written[0] == 0
    assert written[-1] == 11  # the last one is always there
    assert len(written) == 3


def test_a_full_disk_ends_the_log_and_not_the_run(tmp_path, comm, capsys):
    log = EventLog(comm, tmp_path)  # a folder cannot be written to
    log.write("begin", "run")
    log.progress("run", "kind", {})
    log.end_progress("run")
    log.close()
    assert capsys.readouterr().err.count("note: events.jsonl ends here: Is a directory") == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def shown_on(stream, comm, clock):
    """Report every second for a minute inside a step."""
    shown = Progress(comm, stream)
    with shown.step("solve"):
        for second in range(1, 61):
            clock[0] = float(second)
            shown.show("eigensolve", {"converged": 2, "wanted": 6, "restarts": second})
        shown.show("unknown", {})
    return stream.getvalue()


def test_a_log_gets_a_line_now_and_then(comm, clock):
    lines = shown_on(io.StringIO(), comm, clock).splitlines()
    assert len(lines) == 60 / progress.EVERY[False] + 1
    assert lines[0] == "    solve: 2 of 6 pairs after 10 restarts (10.0 s)"
    assert lines[-1] == "[   60.0 s] solve (60.00 s)"


def test_a_terminal_is_redrawn(comm, clock):
    text = shown_on(Terminal(), comm, clock)
    assert text.count("\r\x1b[K") == 62
    assert "\r\x1b[K[   60.0 s] solve: 2 of 6 pairs after 60 restarts ..." in text
    assert text.count("\n") == 1


def differentiated(comm, told=None, n=30):
    """Differentiate an objective of a vector of the chain, told to an observer."""
    model, p = chain(n, comm), chain_parameters(n)
    c = np.linspace(0.0, 1.0, n)
    with (
        model.assemble(p) as pencil,
        ga.observed(told or (lambda *_: None)),
        ga.solve_eigenproblem(pencil, count=3, target=0.0) as pairs,
    ):
        return ga.gradient(model, p, pairs, ga.objectives.QuadraticForm(c, (0,)))["k"]


def test_python_can_listen(comm):
    told = []
    differentiated(comm, lambda event, numbers: told.append((event, numbers)))
    assert [event for event, _ in told] == sorted(
        (event for event, _ in told), key=["eigensolve", "adjoint", "contraction"].index
    )
    assert {event for event, _ in told} == {"eigensolve", "adjoint", "contraction"}
    solves = [numbers for event, numbers in told if event == "eigensolve"]
    assert [numbers["restarts"] for numbers in solves] == sorted(n["restarts"] for n in solves)
    assert told[-1] == ("contraction", {"elements": 31, "total": 31})


def test_observers_change_nothing_and_nobody_listening_costs_nothing(comm, monkeypatch):
    calls = []
    before = observers._Listener
    monkeypatch.setattr(
        observers, "_Listener", lambda *arguments: calls.append(1) or before(*arguments)
    )
    observed = differentiated(comm, lambda *_: None)
    assert calls == [1]
    model, p = chain(30, comm), chain_parameters(30)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count=3, target=0.0) as pairs:
        c = np.linspace(0.0, 1.0, 30)
        plain = ga.gradient(model, p, pairs, ga.objectives.QuadraticForm(c, (0,)))["k"]
        eps = pairs.factor.eps
        assert not eps.getMonitor()
    np.testing.assert_array_equal(observed, plain)
    assert calls == [1]


def test_an_observer_that_fails_is_silenced_and_its_error_kept(comm):
    calls, done = [], []

    def failing(*_):
        calls.append(1)
        raise KeyError("mine")

    def solve():
        model, p = chain(30, comm), chain_parameters(30)
        with model.assemble(p) as pencil, ga.observed(failing):
            ga.solve_eigenproblem(pencil, count=3, target=0.0).close()
            done.append("solved")

    with pytest.raises(KeyError, match="mine"):
        solve()
    assert calls == [1]
    assert done == ["solved"]


def test_observers_may_be_nested():
    told = []
    with ga.observed(lambda event, _: told.append(f"outer {event}")):
        with ga.observed(lambda event, _: told.append(f"inner {event}")):
            observers.report("a")
        observers.report("b")
    observers.report("c")
    assert told == ["inner a", "outer b"]
    assert not observers.is_observed()


def test_event_log_is_for_rank_0(tmp_path):
    class Second:
        rank = 1

    EventLog(Second(), tmp_path / "events.jsonl").write("begin", "run")
    assert os.listdir(tmp_path) == []


def test_a_long_log_is_not_read_to_go_on_with_it(tmp_path, comm):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x")
    os.truncate(path, 10_000_000)
    tracemalloc.start()
    try:
        EventLog(comm, path).close()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == 10_000_001  # what comes next begins a line

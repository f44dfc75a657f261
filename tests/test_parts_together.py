"""What one command leaves is right for another: codes in events, kept runs, damaged checkpoints."""

import json
import signal
import sys

import pytest
from resumable_studies import stop_at
from searches import SEARCH, search_folder
from study_files import DOUBLE, MODEL, PYTHON, result, study_folder
from sweeps import ONE, statuses, sweep_folder
from test_events import events_of

from geneig_adjoint import exit_codes
from geneig_adjoint.cli import main
from geneig_adjoint.study import sweep

FREQUENCIES = PYTHON.replace('"eigenvalue"\npair = 1', '"frequency"\npair = 1')
# The chain is free at its ends, and one spring pulls the wrong way: one value is negative.
NEGATIVE = (
    MODEL
    + """

def negative(comm, options):
    model, p = build(comm, options)
    p["m"][:] = -1.0
    return model, p
"""
)


@pytest.mark.failure("rigid bodies", through="command")
def test_value_that_does_not_exist_leaves_the_others(tmp_path):
    text = FREQUENCIES.replace("model.py:build", "model.py:negative")
    text += '[[objective]]\nname = "lam"\nkind = "eigenvalue"\n'
    assert main(["run", str(study_folder(tmp_path, text, model=NEGATIVE))]) == 6
    content = result(tmp_path / "out")
    assert list(content["failures"]) == ["f1", "second"]
    assert content["failures"]["f1"].startswith(
        "UndefinedObjectiveError: a frequency needs a positive real eigenvalue, got -"
    )
    assert list(content["objectives"]) == list(content["gradients"]) == ["motion", "lam"]


def test_events_end_with_the_exit_code(tmp_path):
    text = ONE.replace('"frequency"', '"eigenvalue"\npair = 1')
    assert main(["run", str(study_folder(tmp_path, text, model=DOUBLE))]) == 6
    assert events_of(tmp_path / "out", event="end", step="run")[0]["code"] == 6


def test_search_tells_events_of_its_iterations(tmp_path):
    path = search_folder(tmp_path, ONE + SEARCH + BELOW_ALL)
    assert main(["optimize", str(path), "--set", "optimize.max_iterations=3"]) == 4
    ends = events_of(tmp_path / "out", event="end")
    assert [item["step"] for item in ends][:6] == [
        "build model",
        "assemble",
        *(f"iteration {j}" for j in (1, 2, 3)),
        "run",
    ]
    assert [item["code"] for item in ends if item["step"] == "run"] == [4, 0]
    of_solves = events_of(tmp_path / "out", event="progress", of="eigensolve", step="iteration 2")
    assert of_solves[-1]["converged"] >= 2


BELOW_ALL = '[[optimize.constraints]]\nobjective = "second"\nmax = 0.001\n'


@pytest.mark.parametrize(
    ("key", "value"), [("solver.which", "foo"), ("solver.count", 99), ("adjoint.rtol", 2.0)]
)
def test_wrong_arguments_of_a_search_are_those_of_a_run(tmp_path, capsys, key, value):
    path, change = str(search_folder(tmp_path)), ["--set", f"{key}={value}"]
    assert main(["run", path, *change]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert main(["optimize", path, *change]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_search_does_not_replace_an_unfinished_run(tmp_path, capsys, monkeypatch):
    path = str(search_folder(tmp_path))
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert main(["run", path]) == 75
    assert main(["optimize", path]) == 2
    assert "/checkpoint.h5 of an earlier job; give --resume" in capsys.readouterr().err
    assert main(["run", path, "--resume"]) == 0


def test_missing_method_is_said_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "nlopt", None)  # what Python notes of modules it must not find
    path = search_folder(tmp_path)
    assert main(["optimize", str(path)]) == 2
    assert "pip install 'geneig-adjoint[optimize]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["history.jsonl", "design.h5", "optimize.json"])
def test_folder_in_the_way_of_a_search_is_an_error_of_the_study(tmp_path, capsys, name):
    path = search_folder(tmp_path)
    (tmp_path / "out" / name).mkdir(parents=True)
    assert main(["optimize", str(path), "--overwrite"]) == 2
    said = capsys.readouterr().err
    assert f"the output folder must be writable, got Is a directory for {tmp_path}" in said


@pytest.mark.parametrize("text", ["", "{}\n", "[]\n"])
def test_history_that_is_not_whole_is_refused(tmp_path, capsys, text):
    path = search_folder(tmp_path)
    assert main(["optimize", str(path), "--set", "optimize.max_iterations=3"]) == 0
    (tmp_path / "out" / "history.jsonl").write_text(text)
    assert main(["optimize", str(path), "--resume"]) == 2
    assert "must be a checkpoint of a search" in capsys.readouterr().err


def test_sample_with_a_damaged_checkpoint_can_begin_anew(tmp_path, capsys):
    path = str(sweep_folder(tmp_path))
    assert main(["sweep", path, "--only", "1"]) == 0
    folder = tmp_path / "out" / "sample_0001"
    record = json.loads((folder / "sample.json").read_text())
    (folder / "sample.json").write_text(json.dumps(record | {"status": "running"}))
    (folder / "checkpoint.h5").write_bytes(b"half of it")
    assert main(["sweep", path, "--only", "1"]) == 3
    assert "start over with --overwrite" in capsys.readouterr().err
    assert main(["sweep", path, "--only", "1", "--retry", "--overwrite"]) == 0
    assert statuses(tmp_path) == [("done", 0)]


@pytest.mark.parametrize("words", ["3-1", "0,2-1"])
def test_range_without_samples_is_refused(tmp_path, capsys, words):
    assert main(["sweep", str(sweep_folder(tmp_path)), "--only", words]) == 2
    assert "must be numbers of samples such as" in capsys.readouterr().err


def test_interrupt_from_the_keyboard_is_no_internal_error(tmp_path, capsys):
    model = MODEL.replace("    n =", "    signal.raise_signal(signal.SIGINT)\n    n =")
    path = study_folder(tmp_path, PYTHON, model=f"import signal\n{model}")
    assert main(["run", str(path)]) == 128 + signal.SIGINT == exit_codes.INTERRUPTED
    said = capsys.readouterr().err
    assert "geneig-adjoint: interrupted from the keyboard\n" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("text", ['{"a": 1}', "[1]", "{", ""])
def test_result_of_something_else_is_unreadable(tmp_path, capsys, text):
    (tmp_path / "result.json").write_text(text)
    assert main(["collect", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split(",")[2:] == [
        "unreadable",
        "",
        "result.json is not one of a run",
        "",
    ]


@pytest.mark.parametrize("text", ['{"samples": 5}', '{"x": 5}', '{"samples": [5]}', "{"])
def test_sweep_of_something_else_has_no_samples(tmp_path, capsys, text):
    (tmp_path / "sweep.json").write_text(text)
    assert main(["collect", str(tmp_path)]) == 2
    assert "collect needs folders of results, got none" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["done", "running"])
def test_two_jobs_may_run_one_sweep(tmp_path, capsys, monkeypatch, left):
    """A second job begins and ends when the first one is about to begin its second sample."""
    path = str(sweep_folder(tmp_path))
    before, records = sweep.state.begun, tmp_path / "out" / "sample_0002" / "sample.json"

    def begun(record, ranks):
        if record["number"] == 1:
            monkeypatch.undo()
            assert main(["sweep", path, "--only", "2"]) == 0
            content = json.loads(records.read_text())
            records.write_text(json.dumps(content | {"status": left}))
        return before(record, ranks)

    monkeypatch.setattr(sweep.state, "begun", begun)
    assert main(["sweep", path]) == 0
    assert statuses(tmp_path) == [("done", 0)] * 4
    shown = capsys.readouterr()
    assert ("sample_0002: done by another job" in shown.err) == (left == "done")
    assert "samples: 4 done" in shown.out
    assert json.loads(records.read_text())["attempts"] == 1

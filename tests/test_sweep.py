"""Sweeps as they are run: each sample for itself, what is done stays done, a table at any time."""

import errno
import json
import shutil

import numpy as np
import pytest
from study_files import DOUBLE, P, chain_derivatives, study_folder
from sweeps import FILE, MODES, ONE, frequencies, statuses, sweep_folder

from geneig_adjoint.cli import main
from geneig_adjoint.study import sweep_state

DONE = ("done", 0)


def sweep(path, *words):
    return main(["sweep", str(path), *words])


def frequency(p):
    return np.sqrt(chain_derivatives(p, 0)[0]) / (2 * np.pi)


def touched(folder):
    """Return when each result was written."""
    return [path.stat().st_mtime_ns for path in sorted((folder / "out").glob("*/result.json"))]


def test_samples_are_what_single_runs_would_be(tmp_path, capsys):
    path = sweep_folder(tmp_path)
    assert sweep(path) == 0
    expected = [frequency({"k": np.full(9, k), "m": P["m"]}) for k in (1.0, 2.0, 4.0, 8.0)]
    assert frequencies(tmp_path) == pytest.approx(expected, rel=1e-12)
    assert statuses(tmp_path) == [DONE] * 4
    shown = capsys.readouterr()
    assert "sample_0002 (3 of 4): parameters.k = 4.0" in shown.err
    assert "sample_0002: done (" in shown.err
    assert "samples: 4 done" in shown.out
    record = json.loads((tmp_path / "out" / "sample_0002" / "sample.json").read_text())
    assert record["entries"] == {"parameters.k": 4.0}
    assert record["number"] == 2
    assert record["attempts"] == 1
    assert record["ranks"] == 1
    assert record["seconds"] > 0


def test_what_is_done_is_not_run_again(tmp_path):
    path = sweep_folder(tmp_path)
    assert sweep(path, "--only", "1,3") == 0
    assert statuses(tmp_path) == [DONE] * 2
    first = touched(tmp_path)
    assert sweep(path) == 0
    assert statuses(tmp_path) == [DONE] * 4
    assert touched(tmp_path)[1::2] == first


BAD = {
    "user code": (MODES.format("raise"), 70, "KeyError: 'mine'"),
    "sys.exit": (MODES.format("exit"), 70, "SystemExit: 0"),
    "argument": ('[sweep.grid]\n"solver.count" = [2, 99, 3, 4]\n', 2, "StudyError: count"),
}


@pytest.mark.parametrize(("text", "code", "reason"), BAD.values(), ids=BAD)
def test_sample_that_fails_is_recorded_and_the_next_goes_on(tmp_path, capsys, text, code, reason):
    path = sweep_folder(tmp_path, text)
    assert sweep(path) == code
    assert statuses(tmp_path) == [DONE, ("failed", code), DONE, DONE]
    record = json.loads((tmp_path / "out" / "sample_0001" / "sample.json").read_text())
    assert record["reason"].startswith(reason)
    assert ("Traceback" in record["reason"]) == (code == 70)
    assert "samples: 3 done, 1 failed" in capsys.readouterr().out


def test_failed_samples_are_run_again_on_request_only(tmp_path, capsys):
    path = sweep_folder(tmp_path, FILE, text=ONE.replace('python = "model.py:build"', ""))
    (tmp_path / "study.toml").write_text(
        path.read_text().replace("[model]", '[model]\nelements = "elements.h5"')
    )
    assert sweep(path) == 3
    assert statuses(tmp_path) == [DONE, ("failed", 3), DONE]
    done = touched(tmp_path)
    capsys.readouterr()
    assert sweep(path) == 3
    assert "sample_0001" not in capsys.readouterr().err
    assert sweep(path, "--retry") == 3
    assert "sample_0001: failed: InputError" in capsys.readouterr().err
    assert touched(tmp_path) == done
    # A file that has come is another study: that sample alone is run, without being told.
    (tmp_path / "none.h5").write_bytes((tmp_path / "elements.h5").read_bytes())
    assert sweep(path) == 0
    assert statuses(tmp_path) == [DONE] * 3
    assert touched(tmp_path)[::2] == done


def test_missing_gradient_is_done_with_its_reason(tmp_path):
    text = ONE.replace('"frequency"', '"eigenvalue"\npair = 1')
    models = '[sweep.grid]\n"model.python" = ["model.py:build", "double.py:build"]\n'
    path = sweep_folder(tmp_path, models, text, double=DOUBLE)
    assert sweep(path) == 6
    assert statuses(tmp_path) == [DONE, ("done", 6)]
    record = json.loads((tmp_path / "out" / "sample_0001" / "sample.json").read_text())
    assert record["reason"].startswith("f1: DegenerateEigenvalueError")
    assert sweep(path, "--only", "0") == 0


@pytest.mark.parametrize("change", ['= [1.0, 2.0, 4.0, 9.0]"', "= [1.0, 2.0]"])
def test_changed_sweep_is_refused_unless_told(tmp_path, capsys, change):
    path = sweep_folder(tmp_path)
    assert sweep(path) == 0
    before = touched(tmp_path)
    text = path.read_text().replace("= [1.0, 2.0, 4.0, 8.0]", change.removesuffix('"'))
    path.write_text(text)
    assert sweep(path) == 2
    assert "a sweep must not change once it has begun" in capsys.readouterr().err
    assert touched(tmp_path) == before
    assert sweep(path, "--overwrite") == 0
    count = text.count(".0", text.index("= [1.0"))
    assert statuses(tmp_path) == [DONE] * count
    assert touched(tmp_path)[:2] == before[:2]
    assert len(touched(tmp_path)) == count


def test_changed_file_is_refused_unless_told(tmp_path, capsys):
    path = sweep_folder(tmp_path)
    assert sweep(path) == 0
    before = touched(tmp_path)
    with (tmp_path / "model.py").open("a") as stream:
        stream.write("# another model\n")
    assert sweep(path) == 2
    assert "sample_0000 of another one, or of files that have changed" in capsys.readouterr().err
    assert sweep(path, "--only", "1", "--overwrite") == 0
    assert [new == old for new, old in zip(touched(tmp_path), before, strict=True)] == [
        True,
        False,
        True,
        True,
    ]


def test_unfinished_sample_of_changed_files_begins_anew(tmp_path):
    path = sweep_folder(tmp_path)
    assert sweep(path, "--only", "0") == 0
    record = tmp_path / "out" / "sample_0000" / "sample.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"status": "failed", "attempts": 2, "exit_code": 4}))
    with (tmp_path / "model.py").open("a") as stream:
        stream.write("# another model\n")
    assert sweep(path, "--only", "0") == 0
    assert json.loads(record.read_text())["attempts"] == 1


def test_solver_entry_of_the_study_is_part_of_the_sweep(tmp_path, capsys):
    path = sweep_folder(tmp_path)
    assert sweep(path, "--only", "0") == 0
    assert sweep(path, "--only", "1", "--set", "solver.count=3") == 2
    assert "another definition" in capsys.readouterr().err


def test_results_that_are_no_samples_are_kept(tmp_path):
    path = sweep_folder(tmp_path)
    foreign = tmp_path / "out" / "sample_0001"
    foreign.mkdir(parents=True)
    (foreign / "result.json").write_text("mine")
    assert sweep(path) == 2
    assert statuses(tmp_path) == [DONE, ("failed", 2), DONE, DONE]
    assert (foreign / "result.json").read_text() == "mine"


def interrupted(folder, number, attempts):
    """Leave what a killed job leaves."""
    path = folder / "out" / f"sample_{number:04d}" / "sample.json"
    record = json.loads(path.read_text())
    (path.parent / "result.json").unlink()
    record |= {"status": "running", "exit_code": None, "attempts": attempts}
    path.write_text(json.dumps(record))


def test_interrupted_samples_come_last_and_not_for_ever(tmp_path, capsys):
    path = sweep_folder(tmp_path)
    assert sweep(path, "--only", "0-2") == 0
    interrupted(tmp_path, 0, 1)
    interrupted(tmp_path, 1, 2)
    capsys.readouterr()
    assert sweep(path) == 70
    shown = capsys.readouterr()
    headings = [line for line in shown.err.splitlines() if " of 2): " in line]
    assert [line.split()[0] for line in headings] == ["sample_0003", "sample_0000"]
    assert "the job ended 2 times in samples 1: they are not tried again without" in shown.out
    assert statuses(tmp_path) == [DONE, ("running", None), DONE, DONE]
    assert sweep(path, "--retry") == 0
    assert statuses(tmp_path) == [DONE] * 4


def test_request_to_stop_is_honoured_between_samples(tmp_path, capsys):
    path = sweep_folder(tmp_path, MODES.format("stop"))
    assert sweep(path) == 75
    assert next(status for status, _ in statuses(tmp_path)) == "done"
    assert len(statuses(tmp_path)) == 2
    assert "waiting" in capsys.readouterr().out
    assert sweep(path) == 0
    assert statuses(tmp_path) == [DONE] * 4


def test_list_shows_samples_and_runs_none(tmp_path, capsys):
    path = sweep_folder(tmp_path, MODES.format("raise"))
    assert sweep(path, "--list") == 0
    assert not (tmp_path / "out").exists()
    assert sweep(path, "--only", "0-1") == 70
    capsys.readouterr()
    assert sweep(path, "--list") == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["sample", "model.options.mode", "status"],
        ["0", "good", "done"],
        ["1", "raise", "failed: KeyError: 'mine'"],
        ["2", "good", "waiting"],
        ["3", "good", "waiting"],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "4"], "--only must name samples among 0 ... 3, got 4"),
        (["--only", "x"], "must be numbers of samples such as"),
        (["--only", "1-"], "must be numbers of samples such as"),
    ],
)
def test_samples_that_do_not_exist_are_refused(tmp_path, capsys, words, message):
    assert sweep(sweep_folder(tmp_path), *words) == 2
    assert message in capsys.readouterr().err
    assert statuses(tmp_path) == []


def test_study_without_a_sweep_is_refused(tmp_path, capsys):
    assert sweep(study_folder(tmp_path, ONE)) == 2
    assert "must have exactly one of grid, list, csv, latin_hypercube" in capsys.readouterr().err


def test_folder_that_is_a_file_is_refused(tmp_path, capsys):
    path = sweep_folder(tmp_path)
    (tmp_path / "out").write_text("mine")
    assert sweep(path) == 2
    assert "the folder of a sweep must be writable" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_folder_of_a_sample_that_is_a_file_is_refused(tmp_path, capsys):
    path = sweep_folder(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sample_0001").write_text("mine")
    assert sweep(path) == 2
    assert "sample_0001/sample.json; choose another" in capsys.readouterr().err


def test_full_disk_ends_the_sweep_with_a_remedy(tmp_path, capsys, monkeypatch):
    path = sweep_folder(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sweep_state, "write_record", full)
    assert sweep(path) == 2
    assert "must be writable, got No space left on device" in capsys.readouterr().err


def test_broken_definition_is_refused(tmp_path, capsys):
    path = sweep_folder(tmp_path)
    assert sweep(path) == 0
    (tmp_path / "out" / "sweep.json").write_text('{"samp')
    assert sweep(path) == 2
    assert "got another definition" in capsys.readouterr().err
    assert sweep(path, "--overwrite") == 0


@pytest.mark.parametrize("content", ["[]", '{"status": "running", "attempts": "1"}'])
def test_broken_record_is_run_again(tmp_path, content):
    path = sweep_folder(tmp_path)
    assert sweep(path) == 0
    (tmp_path / "out" / "sample_0002" / "sample.json").write_text(content)
    before = touched(tmp_path)
    assert sweep(path, "--overwrite") == 0
    assert [new == old for new, old in zip(touched(tmp_path), before, strict=True)].count(
        False
    ) == 1


def test_sample_whose_folder_is_removed_is_run_again(tmp_path):
    path = sweep_folder(tmp_path)
    assert sweep(path) == 0
    shutil.rmtree(tmp_path / "out" / "sample_0002")
    assert sweep(path) == 0
    assert statuses(tmp_path) == [DONE] * 4

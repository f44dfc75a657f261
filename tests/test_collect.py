"""Tables of many results: every sample has a row, whatever became of it."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
from study_files import DAMPED, DAMPED_MODEL, PYTHON, result, study_folder
from sweeps import MODES, sweep_folder
from test_import import WITHOUT_STACK, python

from geneig_adjoint.cli import main
from geneig_adjoint.study import collect
from geneig_adjoint.study.collect import collected


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep with a failed sample, one that was interrupted, and one that has not begun."""
    folder = tmp_path_factory.mktemp("swept")
    path = sweep_folder(folder, MODES.format("raise"), text=PYTHON)
    assert main(["sweep", str(path), "--only", "0-2"]) == 70
    record = folder / "out" / "sample_0002" / "sample.json"
    content = json.loads(record.read_text()) | {"status": "running", "results": False}
    record.write_text(json.dumps(content))
    return folder


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_table_has_a_row_per_sample(swept, tmp_path, capsys):
    table = tmp_path / "table.csv"
    folders = sorted(map(str, (swept / "out").glob("*/")))[::-1]
    assert main(["collect", *folders, "-o", str(table)]) == 0
    assert capsys.readouterr().out == f"{table}: 4 rows, 1 done\n"
    found = rows(table)
    assert [row["sample"] for row in found] == ["0", "1", "2", "3"]
    assert [row["status"] for row in found] == ["done", "failed", "running", "waiting"]
    assert [row["exit_code"] for row in found] == ["0", "70", "0", ""]
    assert [row["model.options.mode"] for row in found] == ["good", "raise", "good", "good"]
    assert [row["reason"] for row in found] == ["", "KeyError: 'mine'", "", "not begun"]
    single = result(swept / "out" / "sample_0000")
    objectives = {name: float(found[0][f"objective.{name}"]) for name in single["objectives"]}
    assert objectives == single["objectives"]
    assert [float(found[0][f"value.{j}"]) for j in (0, 1)] == [v for v, _ in single["values"]]
    assert {row["objective.f1"] for row in found[1:]} == {""}
    assert "norm.f1.k" not in found[0]


def test_folder_of_a_sweep_stands_for_its_samples(swept):
    samples = sorted((swept / "out").glob("sample*"))
    assert collected([swept / "out"]) == collected(samples)


def test_norms_of_gradients_on_request(swept, tmp_path):
    table = tmp_path / "table.json"
    assert main(["collect", str(swept / "out"), "-o", str(table), "--gradients"]) == 0
    first, *others = json.loads(table.read_text())
    entries = result(swept / "out" / "sample_0000")["gradients"]["motion"]["m"]["entries"]
    assert first["norm.motion.m"] == pytest.approx(np.linalg.norm(entries), rel=1e-15)
    assert [row["status"] for row in others] == ["failed", "running", "waiting"]
    assert "norm.motion.m" not in others[0]


def test_hdf5_holds_the_gradients(swept, tmp_path):
    table = tmp_path / "table.h5"
    assert main(["collect", str(swept / "out"), "-o", str(table)]) == 0
    with h5py.File(table) as file, h5py.File(swept / "out/sample_0000/result.h5") as single:
        assert list(file["gradients"]) == ["0"]
        np.testing.assert_array_equal(
            file["gradients/0/second/k"], single["gradients/second/k"][()]
        )
        assert file["table/status"].asstr()[()].tolist() == ["done", "failed", "running", "waiting"]
        column = file["table/objective.f1"][()]
    assert np.isnan(column).tolist() == [False, True, True, True]


def test_table_goes_to_the_terminal_without_a_name(swept, capsys):
    assert main(["collect", str(swept / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("sample,folder,model.options.mode,status,exit_code,reason,seconds,")


def test_single_runs_make_a_table_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = study_folder(tmp_path, DAMPED, model=DAMPED_MODEL)
    for name in ("run_10", "run_9"):
        assert main(["run", str(path), "--set", f"output.directory={name}"]) == 0
    (tmp_path / "run_11").mkdir()
    found = collected(["run_10", "run_11", "run_9"])
    assert [row["folder"] for row in found] == ["run_9", "run_10", "run_11"]
    assert [row["status"] for row in found] == ["done", "done", "waiting"]
    assert found[2]["reason"] == "no sample.json and no result.json"
    real, imag = result(tmp_path / "run_9")["values"][1]
    assert (found[0]["value.1"], found[0]["value.1.imag"]) == (real, imag)


def test_failures_of_a_single_run_are_its_reason(tmp_path):
    (tmp_path / "result.json").write_text(
        json.dumps({"values": [], "objectives": {"f": 1.0}, "failures": {"f": "none"}})
    )
    row = collected([tmp_path])[0]
    assert (row["exit_code"], row["reason"], row["objective.f"]) == (6, "f: none", 1.0)


def test_columns_with_slashes_and_points_are_kept_apart(tmp_path):
    twins = {"folder": "x", "status": "waiting", "a/b": 1.0, "a.b": 2.0, "a%2Fb": 3.0}
    collect.write_table(tmp_path / "table.h5", [twins])
    with h5py.File(tmp_path / "table.h5") as file:
        found = {name: column[0] for name, column in file["table"].items() if name[0] == "a"}
    assert found == {"a%2Fb": 1.0, "a.b": 2.0, "a%252Fb": 3.0}
    collect.write_table(tmp_path / "other.h5", [{"folder": "x", "status": "waiting", "a/b": 1.0}])
    with h5py.File(tmp_path / "other.h5") as file:
        assert file["table/a.b"][()].tolist() == [1.0]


def test_norms_of_twins_are_kept_apart(tmp_path):
    numbers = {"values": [], "objectives": {}, "run": "1"}
    (tmp_path / "result.json").write_text(json.dumps(numbers))
    with h5py.File(tmp_path / "result.h5", "w") as file:
        file.attrs["run"] = "1"
        file["gradients/f.a/b"], file["gradients/f/a.b"] = [3.0, 4.0], [1.0]
    found = collected([tmp_path], norms=True)[0]
    assert (found["norm.f.a%2Fb"], found["norm.f%2Fa.b"]) == (5.0, 1.0)


def test_broken_files_are_rows(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "sample.json").write_text("{")
    (tmp_path / "b" / "result.json").write_text("{")
    assert [row["status"] for row in collected([tmp_path / "a", tmp_path / "b"])] == [
        "unreadable",
        "unreadable",
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("sample.json", '{"status": "done", "entries": [1]}', "sample.json is not one of a sample"),
        ("sample.json", '{"status": ["done"]}', "sample.json is not one of a sample"),
        ("result.json", "", "result.json is not one of a run"),
        ("result.json", '{"objectives": [], "values": []}', "result.json is not one of a run"),
        ("result.json", '{"objectives": {}, "values": [1]}', "result.json is not one of a run"),
        ("result.json", None, "result.json is missing"),
    ],
)
def test_what_somebody_changed_is_not_a_result(swept, tmp_path, name, content, reason):
    shutil.copytree(swept / "out", tmp_path / "out")
    path = tmp_path / "out" / "sample_0000" / name
    path.unlink() if content is None else path.write_text(content)
    first, second = collected([tmp_path / "out"], norms=True)[:2]
    assert (first["status"], first["reason"]) == ("unreadable", reason)
    assert second["status"] == "failed"


def test_gradients_that_are_just_being_replaced_are_left_out(swept, tmp_path, monkeypatch):
    def missing(*_):
        raise OSError("not now")

    monkeypatch.setattr(collect.h5py, "File", missing)
    first = collected([swept / "out"], norms=True)[0]
    assert "objective.f1" in first
    assert "norm.f1.k" not in first


def test_gradients_of_another_run_are_left_out(swept, tmp_path):
    shutil.copytree(swept / "out", tmp_path / "out")
    path = tmp_path / "out" / "sample_0000" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run": "another"}))
    first = collected([tmp_path / "out"], norms=True)[0]
    assert "objective.f1" in first
    assert "norm.f1.k" not in first


def test_table_is_not_overwritten_by_accident(swept, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text("mine")
    assert main(["collect", str(swept / "out"), "-o", str(table)]) == 2
    assert "a table must have a name that is free, got " in capsys.readouterr().err
    assert table.read_text() == "mine"
    assert main(["collect", str(swept / "out"), "-o", str(table), "--overwrite"]) == 0
    assert len(rows(table)) == 4


REFUSED = {
    "suffix": (["-o", "table.txt"], "must end in .csv, .json, .h5, got table.txt"),
    "no folder": (["nowhere"], "got nowhere, which is none"),
    "unwritable": (["-o", "no/table.csv"], "a table must be writable, got No such file"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_table_that_cannot_be_made_is_refused(swept, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["collect", str(swept / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_empty_sweep_has_no_table(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text('{"samples": []}')
    assert main(["collect", str(tmp_path)]) == 2
    assert "collect needs folders of results, got none" in capsys.readouterr().err


def test_table_needs_no_petsc(swept):
    start = (
        "import sys; from geneig_adjoint.cli import main; "
        f"sys.exit(main(['collect', {str(swept / 'out')!r}]))"
    )
    finished = python(WITHOUT_STACK, start)
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.splitlines()) == 5


def test_folders_beside_the_samples_are_no_samples(swept, tmp_path):
    """The shell's out/*/ names the pictures of a sweep, too."""
    out = shutil.copytree(swept / "out", tmp_path / "out")
    (out / "pictures").mkdir()
    assert len(collected(sorted(out.glob("*/")))) == 4
    assert [row["status"] for row in collected([out / "pictures", out])] == [
        row["status"] for row in collected([out])
    ]


def test_the_definition_of_a_sweep_is_read_once_for_all_its_samples(swept, monkeypatch):
    read = []
    samples_of = collect._samples
    monkeypatch.setattr(collect, "_samples", lambda path: [read.append(path), samples_of(path)][1])
    assert len(collected(sorted((swept / "out").glob("*/")))) == 4
    assert len(read) == 1

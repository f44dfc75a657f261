"""--overwrite: old results stand, whole, until what replaces them is complete."""

import json

import pytest
from hostile_disks import contents
from resumable_studies import stop_at
from searches import OWN, history, search_folder, stopping
from study_files import PYTHON, study_folder
from sweeps import sweep_folder

from geneig_adjoint.cli import main
from geneig_adjoint.study.set_aside import set_aside

ONE_STEP = ["--set", "optimize.max_iterations=1"]
OTHER = ["--set", "optimize.bounds.k=[0.2, 3.0]"]
RAISING = stopping('raise KeyError("mine")')
"""Fails in the third evaluation, once."""


def results(folder):
    return {name: data for name, data in contents(folder).items() if "events" not in name}


def test_a_checkpoint_of_another_study_stands_until_there_is_a_new_one(tmp_path, monkeypatch):
    path = str(study_folder(tmp_path, PYTHON))
    stop_at(monkeypatch, 2)
    assert main(["run", path]) == 75
    kept = tmp_path / "out" / "checkpoint.h5"
    old = kept.read_bytes()
    other = [path, "--set", "solver.count=3", "--overwrite"]
    stop_at(monkeypatch, 1)
    assert main(["run", *other]) == 75
    assert kept.read_bytes() == old
    stop_at(monkeypatch, 2)
    assert main(["run", *other]) == 75
    assert kept.read_bytes() != old
    stop_at(monkeypatch, None)
    assert main(["run", *other, "--resume"]) == 0


@pytest.fixture
def searched(tmp_path):
    """Make a finished search whose next one fails in its third evaluation."""
    path = str(search_folder(tmp_path, OWN, model=RAISING))
    assert main(["optimize", path, *ONE_STEP]) == 4  # the first design breaks a bound
    return path


def test_results_of_an_earlier_search_are_kept_apart_as_a_whole(searched, tmp_path, capsys):
    out = tmp_path / "out"
    old = results(out)
    assert main(["optimize", searched, "--overwrite", *OTHER]) == 70
    assert f"earlier results are kept in {out / '.earlier'}" in capsys.readouterr().err
    assert results(out / ".earlier") == old
    found = {path.name for path in out.iterdir()}
    assert found == {".earlier", "design.h5", "history.jsonl", "events.jsonl"}
    assert main(["optimize", searched, "--resume", *OTHER]) == 0
    assert not (out / ".earlier").exists()


def test_an_unfinished_search_is_not_lost_by_accident(searched, tmp_path, capsys):
    assert main(["optimize", searched, "--resume"]) == 70
    old = results(tmp_path / "out")
    assert main(["run", searched, "--overwrite"]) == 2
    assert "of a run must not be that of a search, got" in capsys.readouterr().err
    assert main(["optimize", searched, "--overwrite"]) == 2
    assert "of this study; go on with --resume, or remove" in capsys.readouterr().err
    assert results(tmp_path / "out") == old


def test_results_of_fewer_iterations_do_not_stay_beside_more(searched, tmp_path):
    out = tmp_path / "out"
    first = (out / "result.json").read_bytes()
    assert main(["optimize", searched, "--resume"]) == 70
    assert len(history(tmp_path)) > 1
    assert not (out / "result.json").exists()
    assert (out / ".earlier" / "result.json").read_bytes() == first


def test_final_run_of_a_search_goes_on_from_its_checkpoint(searched, tmp_path, monkeypatch):
    path = str(search_folder(tmp_path, OWN))
    stop_at(monkeypatch, 5)
    assert main(["optimize", path, "--overwrite", *ONE_STEP]) == 75
    stop_at(monkeypatch, None)
    assert (tmp_path / "out" / "checkpoint.h5").exists()
    assert main(["optimize", path, "--resume", *ONE_STEP]) == 4
    notes = json.loads((tmp_path / "out" / "result.json").read_text())["notes"]
    assert any("resumed from 1 rank" in note for note in notes)


def test_files_are_set_aside_all_or_none(tmp_path):
    (tmp_path / ".earlier.part").mkdir()  # a job was killed between two of them
    (tmp_path / ".earlier.part" / "first").write_text("old")
    (tmp_path / "second").write_text("old")
    assert set_aside(tmp_path, ("first", "second"))
    assert contents(tmp_path) == {".earlier/first": b"old", ".earlier/second": b"old"}
    (tmp_path / "second").write_text("unfinished")
    assert not set_aside(tmp_path, ("first", "second"))
    (tmp_path / "first").write_text("new")
    assert set_aside(tmp_path, ("first", "second"))
    assert contents(tmp_path / ".earlier") == {"first": b"new", "second": b"unfinished"}


@pytest.mark.parametrize("changed", ["model.py", "study.toml"])
def test_samples_are_kept_until_they_are_run_again(tmp_path, monkeypatch, capsys, changed):
    path = sweep_folder(tmp_path)
    out, words = tmp_path / "out", ["sweep", str(path)]
    assert main(words) == 0
    old = results(out / "sample_0001")
    path.write_text(path.read_text().replace("4.0, 8.0", "4.0"))
    with (tmp_path / changed).open("a") as stream:
        stream.write(
            {"model.py": "# other\n", "study.toml": "[solver.options]\neps_ncv = 9\n"}[changed]
        )
    stop_at(monkeypatch, 1)  # in the first sample
    assert main([*words, "--overwrite"]) == 75
    assert results(out / ".earlier" / "sample_0001") == old
    assert (out / ".earlier" / "sample_0003").exists()
    capsys.readouterr()
    assert main(["collect", str(out)]) == 0
    assert "done" not in capsys.readouterr().out
    stop_at(monkeypatch, None)
    assert main(words) == 0
    assert not (out / ".earlier").exists()


REMOVING = stopping("import shutil; shutil.rmtree(marker.with_name('out'))")
"""Removes the folder of the results in the third evaluation, once."""


def test_folder_that_is_removed_while_a_search_runs_is_made_again(tmp_path):
    path = str(search_folder(tmp_path, OWN, model=REMOVING))
    assert main(["optimize", path, "--set", "optimize.max_iterations=5"]) in {0, 4}
    assert (tmp_path / "marker").exists()
    assert [row["iteration"] for row in history(tmp_path)] == [1, 2, 3, 4, 5]
    assert {"design.h5", "result.json"} <= {found.name for found in (tmp_path / "out").iterdir()}


REMOVED = """
import shutil, pathlib

def removing(model):
    def objective(pairs):
        shutil.rmtree(pathlib.Path(__file__).with_name("out"))
        return ga.objectives.Eigenvalue(0)(pairs)
    return objective
"""


def test_results_outlive_their_folder(tmp_path):
    text = PYTHON + '[[objective]]\nname = "own"\npython = "own.py:removing"\n'
    own = "import geneig_adjoint as ga\n" + REMOVED
    assert main(["run", str(study_folder(tmp_path, text, own=own))]) == 0
    assert {"result.json", "result.h5"} <= {found.name for found in (tmp_path / "out").iterdir()}

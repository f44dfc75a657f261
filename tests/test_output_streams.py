"""What is printed: nobody who reads it, a full disk, a terminal without the letters."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from mpi4py import MPI
from study_files import ELEMENTS, result, study_folder
from sweeps import ONE, STIFFNESS, statuses, sweep_folder

from geneig_adjoint import cli, errors
from geneig_adjoint.study import progress

HERE = str(Path(__file__).parent)
COMMAND = [sys.executable, "-m", "geneig_adjoint"]


def started(words, monkeypatch, unbuffered="1", command=COMMAND, **streams):
    """Run the command line in a process of its own; unbuffered: every line meets its stream."""
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run([*command, *map(str, words)], timeout=40, check=False, **streams)


@pytest.fixture
def closed():
    """The end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.any_scalars
def test_run_ends_well_when_nobody_reads_its_table(tmp_path, closed, monkeypatch):
    finished = started(["run", study_folder(tmp_path)], monkeypatch, stdout=closed)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count(b"\n") == 5  # its steps
    assert sorted(os.listdir(tmp_path / "out")) == ["events.jsonl", "result.h5", "result.json"]


@pytest.mark.any_scalars
def test_sweep_goes_on_when_nobody_reads_on(tmp_path, closed, monkeypatch):
    path = sweep_folder(tmp_path)
    finished = started(["sweep", path], monkeypatch, stdout=closed, stderr=closed)
    assert finished.returncode == 0
    assert statuses(tmp_path) == [("done", 0)] * 4
    for words in (["sweep", path, "--list"], ["collect", tmp_path / "out"]):
        finished = started(words, monkeypatch, stdout=closed)
        assert (finished.returncode, finished.stderr) == (0, b"")


@pytest.mark.any_scalars
@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_full_disk_behind_the_output_is_said(tmp_path, monkeypatch, unbuffered):
    """It is no failure of a run, whose results are in files."""
    path = study_folder(tmp_path)
    for code, words in ((0, ["run", path]), (2, ["collect", tmp_path / "out"])):
        with Path("/dev/full").open("w") as full:
            finished = started(words, monkeypatch, unbuffered, stdout=full)
        assert finished.returncode == code
        assert finished.stderr.count(b"note: standard output ends here: No space left on dev") == 1
        assert b"Traceback" not in finished.stderr
        assert b"Exception ignored" not in finished.stderr
    assert not (tmp_path / "out" / "checkpoint.h5").exists()


# Three commands, one after the other.
THREE = """
import sys
from geneig_adjoint.cli import main
words = sys.argv[1:]
sys.exit([main(words[k : k + 2]) for k in (0, 2, 4)] != [3, 0, 0])
"""


# The second is no UTF-8: Python reads its last byte as half of a letter.
@pytest.mark.any_scalars
@pytest.mark.parametrize("name", ["Grüße", os.fsdecode(b"x\xff")], ids=["letters", "bytes"])
def test_folder_with_other_letters_is_as_good(tmp_path, monkeypatch, name):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    folder = tmp_path / name
    folder.mkdir()
    bad = STIFFNESS + '"model.elements" = ["none.h5", "elements.h5"]\n'
    text = ONE.replace('python = "model.py:build"', 'elements = "elements.h5"')
    path = study_folder(folder, text + bad.replace("[1.0, 2.0, 4.0, 8.0]", "[1.0]"))
    (folder / "run.toml").write_text(ELEMENTS)
    words = ["sweep", path, "run", folder / "run.toml", "collect", folder / "out"]
    finished = started(words, monkeypatch, command=[sys.executable, "-c", THREE])
    assert finished.returncode == 0, finished.stderr
    assert statuses(folder) == [("failed", 3), ("done", 0)]
    assert finished.stdout.decode().isascii()
    assert set(result(folder / "out")["objectives"]) == {"f1", "second", "motion"}


@pytest.mark.parametrize("kind", cli.OWN_WARNINGS)
def test_warnings_that_all_ranks_have_are_one_note(capsys, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with cli._own_warnings_once(MPI.COMM_WORLD):
            warnings.warn("what all ranks see", kind, stacklevel=1)
    assert capsys.readouterr().err == "note: what all ranks see\n"


def test_warnings_of_others_are_shown_as_they_were(recwarn):
    with cli._own_warnings_once(MPI.COMM_WORLD):
        warnings.warn("somebody else's", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["somebody else's"]


def test_every_warning_of_the_package_is_a_note():
    own = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {kind for kind in own if issubclass(kind, Warning)} == set(cli.OWN_WARNINGS)


@pytest.mark.any_scalars
def test_streams_that_a_daemon_has_closed_are_opened(tmp_path):
    """Else a file of results would get the number of one, and what is printed."""
    words = f"exec '{sys.executable}' -m geneig_adjoint plot '{tmp_path}' <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", words], timeout=40, check=False).returncode == 2


def test_folder_that_is_gone_is_said(tmp_path, monkeypatch, capsys):
    """PETSc ends the process where there is no current folder."""
    path = study_folder(tmp_path)
    monkeypatch.setattr(os, "getcwd", lambda: os.stat(tmp_path / "gone"))
    assert cli.main(["run", str(path)]) == 2
    assert "the current folder must exist, got No such file" in capsys.readouterr().err


def test_output_that_code_of_the_user_has_closed_ends_nothing(tmp_path, comm, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    sys.stdout.close()
    progress.show(comm, "results in out")
    assert cli._flushed(6) == 6

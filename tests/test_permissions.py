"""Folders in which nothing may be written: said, with exit code 2, and all is as it was."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hostile_disks import WRITERS, as_nobody, contents, protect

from geneig_adjoint.cli import main

# A sweep that is done has nothing to write.
OTHER = {"sweep": ["--set", "solver.count=3"]}


@pytest.fixture
def place():
    """Make a folder that any user can reach, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (folder / "disk").mkdir()
    folder.chmod(0o755)
    yield folder
    protect(folder, writable=True)
    shutil.rmtree(folder)


@pytest.mark.failure("unwritable output", through="command")
@pytest.mark.parametrize("name", WRITERS)
def test_folder_that_must_not_be_written_is_named(place, capsys, name):
    make, replacing = WRITERS[name]
    words = make(place / "study", place / "disk")
    assert main(words) == 0
    old = contents(place / "disk")
    protect(place / "disk", writable=False)
    with as_nobody():
        refused = main([*words, *replacing, *OTHER.get(name, [])])
    said = capsys.readouterr().err
    assert refused == 2
    assert "must be writable, got Permission denied" in said
    assert str(place / "disk") in said
    assert "Traceback" not in said
    assert contents(place / "disk") == old

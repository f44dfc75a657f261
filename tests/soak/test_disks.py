"""Every command that writes files, on a disk that is full after any number of pages."""

import io
import shutil
import subprocess

import h5py
import pytest
from hostile_disks import PAGE, WRITERS, Disk, all_pictures, contents

from geneig_adjoint.cli import main
from geneig_adjoint.study.set_aside import EARLIER

ROOM = 4000
STEPS = {"all pictures": 12}
EVERYTHING = {**WRITERS, "all pictures": (all_pictures, [])}
WHOLE = {"result.json", "result.h5", "modes.vtu", "table.csv", "table.json", "table.h5"}
"""Files of which the old one or the new one must stand; pictures, too."""
ENDS = {"json": (b"}\n", b"]\n"), "vtu": b"</VTKFile>\n", "csv": b"\n", "png": b"IEND\xaeB`\x82"}


@pytest.fixture
def disk(tmp_path):
    """Mount a disk."""
    found = Disk(tmp_path / "disk")
    try:
        found.mount("-o", f"size={ROOM * PAGE}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk can be mounted: {error.stderr}")
    yield found
    found.close()


def whole(found):
    """Return the files among some that must be whole."""
    return {n: data for n, data in found.items() if n.split("/")[-1] in WHOLE or ".png" in n}


def is_complete(name, content):
    """Tell whether a file has its end."""
    if name.endswith(".h5"):
        with h5py.File(io.BytesIO(content)) as file:  # refuses what is shorter than it says
            return len(file) > 0
    return content.endswith(ENDS[name.rpartition(".")[2]])


def aside(name):
    """Return where a file of an earlier search is while there is no new one."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{EARLIER}/{last}"


def fill_up(disk, words, capsys, *, step, before_each):
    """Do what the words say with ever more room until there is enough; return how much was."""
    for pages in range(1, 400, step):
        before_each()
        old = contents(disk.folder)
        disk.leave(pages)
        code = main(words)
        said = capsys.readouterr().err
        if code == 0:
            return pages
        found = contents(disk.folder)
        assert code == 2
        assert "No space left on device" in said
        assert "Traceback" not in said
        kept = whole(old)
        assert {name: found.get(name, found.get(aside(name))) for name in kept} == kept
        assert not [name for name in found if name.split("/")[-1].startswith(".")]
        assert all(is_complete(*item) for item in whole(found).items())
    raise AssertionError("never enough room")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", EVERYTHING)
def test_disk_that_is_full_at_any_page(tmp_path, disk, capsys, report, name):
    make, replacing = EVERYTHING[name]
    words, step = make(tmp_path / "study", disk.folder), STEPS.get(name, 1)

    def empty():
        disk.leave(ROOM)
        for path in disk.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def complete():
        empty()
        shutil.copytree(tmp_path / "complete", disk.folder, dirs_exist_ok=True)

    fresh = fill_up(disk, words, capsys, step=step, before_each=empty)
    shutil.copytree(disk.folder, tmp_path / "complete")
    again = fill_up(disk, words + replacing, capsys, step=step, before_each=complete)
    report(f"{name}: needs {fresh} pages on an empty disk, {again} beside its old files")


def first_attempt(disk, words, pages):
    """Do what the words say with little room, then make much; return the exit code."""
    disk.leave(pages)
    code = main(words)
    disk.leave(ROOM)
    return code


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["run", "optimize", "sweep"])
def test_work_goes_on_when_there_is_room_again(tmp_path, disk, capsys, name):
    words = WRITERS[name][0](tmp_path / "study", disk.folder)
    resuming = {"sweep": ["--retry"]}.get(name, ["--resume"])
    pages = 1
    while first_attempt(disk, words, pages) != 0:
        assert main(words + resuming) == 0, capsys.readouterr().err
        shutil.rmtree(disk.folder / "out")
        pages += 1
    assert pages > 1

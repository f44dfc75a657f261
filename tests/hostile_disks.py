"""Disks that are full or must not be written, and every command that writes files."""

import contextlib
import os
import subprocess

from searches import SEARCH, search_folder
from study_files import ELEMENTS, chain_mesh, study_folder, write_chain
from sweeps import ONE, sweep_folder

from geneig_adjoint.cli import main

PAGE = 4096
NOBODY = 65534


def run_folder(folder):
    path = study_folder(folder, ELEMENTS)
    write_chain(folder / "elements.h5", chain_mesh())
    return path


def runs(folder, disk):
    return ["run", str(run_folder(folder)), "--set", f"output.directory={disk / 'out'}"]


def optimizations(folder, disk):
    path = search_folder(folder, ONE + SEARCH)
    few = ["--set", "optimize.max_iterations=3", "--set", "optimize.tolerance=1e-15"]
    return ["optimize", str(path), *few, "--set", f"output.directory={disk / 'out'}"]


def sweeps(folder, disk):
    return ["sweep", str(sweep_folder(folder)), "--set", f"output.directory={disk / 'out'}"]


def tables(suffix):
    def words(folder, disk):
        path = sweep_folder(folder)
        out = folder / "out"
        if not out.exists():
            assert main(["sweep", str(path)]) == 0
        return ["collect", str(out), "-o", str(disk / f"table{suffix}")]

    return words


def picture(folder, disk):
    table = folder / "table.csv"
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        table.write_text(
            "sample,folder,parameters.k,status,objective.f1\n0,a,1,done,2\n1,b,2,done,3\n"
        )
    return ["plot", str(table), "-o", str(disk / "pictures")]


def all_pictures(folder, disk):
    if not (folder / "out").exists():
        assert main(["run", str(run_folder(folder))]) == 0
    return ["plot", str(folder / "out"), "-o", str(disk / "pictures")]


WRITERS = {
    "run": (runs, ["--overwrite"]),
    "optimize": (optimizations, ["--overwrite"]),
    "sweep": (sweeps, ["--overwrite"]),
    "table.csv": (tables(".csv"), ["--overwrite"]),
    "table.json": (tables(".json"), ["--overwrite"]),
    "table.h5": (tables(".h5"), ["--overwrite"]),
    "picture": (picture, []),
}
"""Command -> words for (folder of the study, disk), and what lets it replace its files."""


class Disk:
    """A small disk of its own; needs the rights of root."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def mount(self, *options):
        """Mount it, or raise CalledProcessError."""
        words = ["mount", "-t", "tmpfs", *options, "tmpfs", str(self.folder)]
        subprocess.run(words, capture_output=True, check=True)

    def leave(self, pages):
        """Leave so many pages free."""
        found = os.statvfs(self.folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        size = f"remount,size={used + pages * PAGE}"
        subprocess.run(["mount", "-o", size, str(self.folder)], capture_output=True, check=True)

    def close(self):
        subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)


def contents(folder):
    """Return the bytes of all files below a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextlib.contextmanager
def as_nobody():
    """Have the rights of an ordinary user, whom permissions stop."""
    with contextlib.ExitStack() as back:
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
            back.callback(os.seteuid, 0)
        yield


def protect(folder, *, writable):
    """Let nobody, or the owner again, change what is in a folder."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod((0o755 if writable else 0o555) if path.is_dir() else 0o644)

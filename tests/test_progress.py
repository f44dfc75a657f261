"""The live line of a run on a terminal.  (Plain lines: tests/test_cli.py.)"""

import errno
import io
import os
import pty
import re
import subprocess
import sys

import pytest
from conftest import environment_outside_mpi
from study_files import ELEMENTS, STEP, study_folder

from geneig_adjoint.study.progress import Progress

pytestmark = pytest.mark.any_scalars


def on_terminal(*words):
    """Run on one rank with stderr on a terminal; return code and what the terminal got."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "geneig_adjoint", *map(str, words)],
        env=environment_outside_mpi(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b"".join(iter(lambda: read_some(leader), b""))
    os.close(leader)
    return process.wait(timeout=30), shown.decode()


def read_some(descriptor):
    try:
        return os.read(descriptor, 1000)
    except OSError:  # how Linux says that nobody writes any more
        return b""


def test_progress_is_live_on_a_terminal(tmp_path):
    code, shown = on_terminal("run", study_folder(tmp_path))
    assert code == 0
    assert re.search(r"\r\x1b\[K\[ +\d\.\d s\] solve eigenproblem \.\.\.", shown)
    assert re.search(rf"\r\x1b\[K{STEP}\r\n", shown)


def test_message_starts_on_a_line_of_its_own_on_a_terminal(tmp_path):
    code, shown = on_terminal("run", study_folder(tmp_path, ELEMENTS.replace("ts.h5", ".h5")))
    assert code == 3
    assert re.search(r"build model \.\.\.\r\ngeneig-adjoint: ", shown)


class FullDisk(io.StringIO):
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_ends_no_run(comm):
    progress = Progress(comm, FullDisk())
    with progress.step("solve"):
        progress.say("half way")
    assert list(progress.timings) == ["solve"]

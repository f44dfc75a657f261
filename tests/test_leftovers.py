"""Temporary files of processes that are no more: removed; of those that may live: not."""

import os
import socket
import subprocess
import time

from study_files import PYTHON, study_folder

from geneig_adjoint.cli import main
from geneig_adjoint.io import write_json

HOST = socket.gethostname()
# Process 1 always lives; what another machine may be writing now is left alone.
KEPT = {".result.1.json", f".result.{HOST}.1.h5", ".mine.h5", ".result.away.1.h5", ".notes.1.txt"}
GONE = {
    ".result.999999999.h5",
    ".checkpoint.999999999.h5",
    f".modes.{HOST}.999999999.vtu",
    f".checkpoint.{HOST}.999999999.h5",
    ".modes.away.1.vtu",
}


def test_files_of_killed_runs_are_removed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in KEPT | GONE:
        (out / name).touch()
    os.utime(out / ".modes.away.1.vtu", (0, 0))
    assert main(["run", str(study_folder(tmp_path, PYTHON))]) == 0
    assert {path.name for path in out.glob(".*")} == KEPT


def test_file_of_a_process_that_nobody_has_waited_for_is_removed(tmp_path):
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as ended:
        ended.stdout.read()  # which ends a moment before the process does
        left, deadline = tmp_path / f".x.{HOST}.{ended.pid}.json", time.monotonic() + 10
        left.touch()
        while left.exists() and time.monotonic() < deadline:
            write_json(tmp_path / "x.json", {})
        assert os.listdir(tmp_path) == ["x.json"]

"""Processes that read element tables: one that crashes or hangs is noticed."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

REFUSED = "refused"


class TableReaders:
    """Processes that read element tables, so that one that crashes or hangs is noticed.

    ``forked``: what looks at files first is a fork in place of a new process, 50 times faster.
    """

    def __init__(self, seconds=30.0, *, forked=False):
        self.seconds = seconds
        self.forked = forked
        self.crashes = []
        self._process = None

    def read(self, path):
        """Return the digest of a table, REFUSED, or what went wrong."""
        process = self._running()
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], self.seconds)
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        process.kill()
        verdict = f"hung for {self.seconds} s" if not ready else f"ended with {process.wait()}"
        self.close()
        return f"process {verdict}"

    def _running(self):
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("table_reader.py")]
                + ["forked"] * self.forked,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"},
            )
        return self._process

    def close(self):
        process, self._process = self._process, None
        if process is not None:
            process.stdin.close()
            process.stdout.close()
            process.kill()
            process.wait()

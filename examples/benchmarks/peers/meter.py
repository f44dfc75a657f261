"""Wall time, CPU time and memory of phases of one process; standard library only."""

import gc
import time
from contextlib import contextmanager


def _status(field):
    with open("/proc/self/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def resident():
    """Return the memory this process holds now, in bytes."""
    return _status("VmRSS")


def peak():
    """Return the most memory it ever held, in bytes.

    Not ru_maxrss: a new program inherits that of the process that started it.
    """
    return _status("VmHWM")


def forget_peak():
    """Let the peak begin anew at what is held now, where the system allows it."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass


class Meter:
    """Seconds of named phases, and memory above a baseline."""

    def __init__(self):
        gc.collect()
        self.baseline = resident()
        self.wall, self.cpu = {}, {}

    @contextmanager
    def phase(self, name):
        """Add the time of a block to a phase."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu

    def report(self):
        """Return everything as numbers for JSON."""
        return {"wall": self.wall, "cpu": self.cpu, "memory": max(0, peak() - self.baseline)}

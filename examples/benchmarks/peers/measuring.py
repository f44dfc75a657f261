"""Starting workers in their environments, one at a time, and keeping what they measured."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peers import environments

BENCHMARKS = Path(__file__).parents[1]
MEMORY_SHARE = 0.75
"""Of the machine's memory: a peer that wants more is stopped."""


@dataclass(frozen=True)
class Peer:
    """A column of the tables: a worker in an environment, on some ranks."""

    title: str
    worker: str
    environment: str | None = None
    ranks: int = 1

    @property
    def ours(self):
        """Whether it runs in the environment of this process."""
        return self.environment is None

    def can(self, problem):
        """Tell whether the peer has a method for a problem."""
        return problem != "diffusion" or self.ours or self.environment == "scipy"


PEERS = {
    "ours-1": Peer("ours", "ours"),
    "ours-1-unchecked": Peer("ours, no inertia count", "ours-unchecked"),
    "ours-2": Peer("ours, 2 ranks", "ours", ranks=2),
    "ours-2-unchecked": Peer("ours, 2 ranks, no inertia count", "ours-unchecked", ranks=2),
    "eigd": Peer("eigd", "eigd", "eigd"),
    "eigd-cholmod": Peer("eigd with CHOLMOD", "eigd-cholmod", "eigd-cholmod"),
    "pymoto": Peer("pyMOTO", "pymoto", "pymoto"),
    "pymoto-pardiso": Peer("pyMOTO with Pardiso", "pymoto-pardiso", "pymoto-pardiso"),
    "scipy": Peer("SciPy, by hand", "scipy", "scipy"),
}


def memory_of_the_machine():
    """Return its bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine():
    """Return what a reader must know about the numbers."""
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory": round(memory_of_the_machine() / 2**30),
        "system": platform.platform(terse=True),
    }


def run_worker(peer, python, arguments, *, timeout):
    """Run one worker; return its report and its gradients, or a report of its failure.

    Parameters
    ----------
    peer : Peer
    python : path
        Interpreter of its environment.
    arguments : list of str
        Problem and size, and options of `worker`.
    timeout : float
        Seconds, for everything.

    Returns
    -------
    tuple of dict and dict

    """
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "result")
        launcher = ["mpirun", "-n", str(peer.ranks)] if peer.ranks > 1 else []
        command = [*launcher, str(python), "-W", "ignore", "-m", "peers.worker"]
        command += [peer.worker, *arguments[:2], out, *arguments[2:]]
        command += ["--memory", str(int(MEMORY_SHARE * memory_of_the_machine()))]
        code, output = _finished(command, _variables(peer), timeout)
        if code is None:
            return {"failed": f"> {timeout:.0f} s"}, {}
        if code or not os.path.exists(f"{out}.json"):
            return {"failed": _reason(code, output)}, {}
        with open(f"{out}.json", encoding="utf-8") as file:
            report = json.load(file)
        with np.load(f"{out}.npz") as arrays:
            return report, dict(arrays)


def _variables(peer):
    paths = [str(BENCHMARKS)]
    if peer.ours and os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return os.environ | threads | {"PYTHONPATH": os.pathsep.join(paths)}


def _finished(command, variables, timeout):
    """Return exit code and output; None for a process that was stopped."""
    process = subprocess.Popen(
        command,
        env=variables,
        cwd=BENCHMARKS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _stop(process)
        return None, ""
    except BaseException:
        _stop(process)
        raise
    return process.returncode, output


def _stop(process):
    """End a process and, first by asking mpirun, the ranks that it has started."""
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.communicate(timeout=patience)
            return


def _reason(code, output):
    short = ("MemoryError", "not enough memory", "Cannot allocate memory", "Can't expand MemType")
    if code == -signal.SIGKILL or any(words in output for words in short):
        return f"> {MEMORY_SHARE * memory_of_the_machine() / 1e9:.0f} GB"
    last = [line.strip() for line in output.splitlines() if line.strip()][-1:]
    return f"failed: {''.join(last)[:200]}"


class Store:
    """All raw numbers, in one JSON file that is written after every case.

    ``cases`` has keys problem/size/peer/repeat, ``references`` problem/size.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "results.json"
        self.content = {"machine": machine(), "cases": {}, "references": {}}
        if self.path.exists():
            self.content |= json.loads(self.path.read_text())

    def save(self):
        """Write everything, whole or not at all."""
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1, sort_keys=True))
        partial.replace(self.path)

    def cases(self, problem, size, peer):
        """Return the reports of a peer, in the order of repeats."""
        start = f"{problem}/{size}/{peer}/"
        return [
            case for key, case in sorted(self.content["cases"].items()) if key.startswith(start)
        ]

    def forget(self, peers):
        """Drop what was measured of some peers."""
        gone = set(peers)
        cases = self.content["cases"]
        self.content["cases"] = {k: v for k, v in cases.items() if k.split("/")[2] not in gone}
        if "reference" in gone:
            self.content["references"] = {}

    def reference(self, problem, size, timeout):
        """Return the reference gradients, computed where they are missing; None if that failed."""
        key, path = f"{problem}/{size}", self.folder / f"reference-{problem}-{size}.npz"
        if key in self.content["references"] and path.exists():
            with np.load(path) as arrays:
                return dict(arrays)
        say(f"{problem} {size}: reference")
        peer = Peer("reference", "reference")
        report, found = run_worker(peer, sys.executable, [problem, size], timeout=timeout)
        if found:
            for name in ("eigenvalue", "vectors"):
                report[f"check {name}"] = float(found.pop(f"check {name}"))
            np.savez(path, **found)
        self.content["references"][key] = report
        self.save()
        return found or None

    def measure(self, key, timeout, folder):
        """Run one case, problem/size/peer/repeat, and keep its report."""
        problem, size, name, _ = key.split("/")
        peer, python, remedy = PEERS[name], sys.executable, ""
        if not peer.ours:
            python, remedy = environments.interpreter(folder, peer.environment)
        if python is None:
            report, found = {"failed": f"failed: {remedy}"}, {}
        else:
            report, found = run_worker(peer, python, [problem, size], timeout=timeout)
        reference = self.reference(problem, size, 10 * timeout)
        if found and reference:
            report["error"] = errors(found, reference)
        report["when"] = time.strftime("%Y-%m-%d %H:%M")
        self.content["cases"][key] = report
        self.save()
        say(f"{key}: {_short(report)}")


def errors(found, reference):
    """Return the relative error of every objective's gradient, that of its worst parameter."""
    result = {"eigenvalue": 0.0, "vectors": 0.0}
    for key, array in reference.items():
        objective = key.split()[0]
        error = np.linalg.norm(found[key] - array) / np.linalg.norm(array)
        result[objective] = max(result[objective], float(error))
    return result


def _short(report):
    if "failed" in report:
        return report["failed"]
    error = report.get("error", {}).get("vectors", float("nan"))
    seconds = sum(report["wall"][name] for name in ("eigensolve", "vectors"))
    return f"{seconds:.2f} s, {report['memory'] / 1e9:.2f} GB, error {error:.0e}"


def say(text):
    """Print a line at once."""
    print(text, flush=True)

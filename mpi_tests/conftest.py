"""One pytest session per rank, kept in step: a test passes on all ranks or fails on all of them.

Rank 0 reports, the others are silent.  After each phase of a test (set-up, call, tear-down) the
ranks exchange its outcome over a communicator of their own:

- the same everywhere: the session goes on;
- failed on some ranks only: rank 0 reports the failure with the tracebacks of the others, and the
  session stops, because ranks that went different ways may meet in the wrong collective call next;
- a failed rank whose outcome the others do not come to hear, because they wait for it in a
  collective call: its traceback is printed and the job is aborted;
- a rank that hangs: after the timeout every rank prints where it is and the job ends.

A single rank needs no mpirun: tests/run.sh then spreads the files over several processes.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Generator
from typing import NoReturn, Protocol

import numpy as np
import pytest
from compiled_before import keep_apart
from left_out import pytest_deselected, pytest_testnodedown
from mpi4py import MPI

from geneig_adjoint.endings import crowding

__all__ = ["pytest_deselected", "pytest_testnodedown"]  # hooks
JOIN_SECONDS = 5.0  # how long a failed rank waits for the others
COLLECT_SECONDS = 60.0
END_SECONDS = 60.0  # nobody fails any more: only a busy machine makes a rank late
DUMP_SECONDS = 0.2  # between the stacks of two ranks, so that they do not mix
POLL_SECONDS = 0.0005


class TimeoutSettings(Protocol):
    """What pytest-timeout hands over."""

    timeout: float


class Ranks:
    """What the ranks of this session tell each other, and the way to the real stderr."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm = comm.Dup()
        self.name = f"rank {comm.rank} of {comm.size}"
        self.stderr = os.dup(2)  # pytest captures descriptor 2 while a test runs
        self.waiting = False
        self.diverged = False
        self.timer: threading.Timer | None = None
        self.collection_errors: list[str] = []

    def say(self, text: str) -> None:
        os.write(self.stderr, f"\n[{self.name}] {text}\n".encode())

    def abort(self, text: str) -> NoReturn:
        self.say(text)
        MPI.COMM_WORLD.Abort(1)
        raise AssertionError("not reached")

    def wait(self, request: MPI.Request, seconds: float, complaint: str) -> None:
        """Poll, so that a rank that waits here can still give up."""
        deadline = time.monotonic() + seconds
        self.waiting = True
        while not request.Test():
            if time.monotonic() > deadline:
                self.abort(complaint)
            time.sleep(POLL_SECONDS)
        self.waiting = False

    def differ(self, subject: str, verdict: object, seconds: float, complaint: str) -> bool:
        """Tell whether the ranks disagree about a subject. Collective."""
        mine = np.array(
            [zlib.crc32(subject.encode()), zlib.crc32(str(verdict).encode())], dtype="i8"
        )
        everyone = np.empty((self.comm.size, 2), dtype="i8")
        self.wait(self.comm.Iallgather(mine, everyone), seconds, complaint)
        return bool((everyone != everyone[0]).any())

    def together(self, text: str) -> str:
        """Join what every rank has to say. Collective, once the ranks are known to be here."""
        named = self.comm.allgather((self.name, text))
        return "\n".join(f"----- {name} -----\n{said}" for name, said in named if said)


RANKS = pytest.StashKey[Ranks]()


@pytest.fixture(scope="session")
def comm() -> MPI.Intracomm:
    """All ranks of this run."""
    return MPI.COMM_WORLD


@pytest.fixture(scope="session")
def scalar_build() -> str:
    """The PETSc build in use, real or complex."""
    from petsc4py import PETSc

    return "complex" if issubclass(PETSc.ScalarType, complex) else "real"


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    ranks = config.stash[RANKS] = Ranks(MPI.COMM_WORLD)
    keep_apart(os.environ.get("PYTEST_XDIST_WORKER", f"rank{MPI.COMM_WORLD.rank}"))
    config.pluginmanager.register(CollectionErrors(ranks))
    if MPI.COMM_WORLD.rank > 0:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        config.pluginmanager.unregister(reporter)
        silent = open(os.devnull, "w")  # noqa: SIM115  # lives as long as the session
        config.add_cleanup(silent.close)
        config.pluginmanager.register(type(reporter)(config, silent), "terminalreporter")


class CollectionErrors:
    """Keeps what went wrong while collecting: only rank 0 prints its own."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.ranks.collection_errors.append(report.longreprtext)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    ranks = session.config.stash[RANKS]
    tests = "\n".join(item.nodeid for item in session.items)
    errors = "\n".join(ranks.collection_errors)
    complaint = f"the other ranks did not finish collecting\n{errors}"
    if ranks.differ(tests, bool(errors), COLLECT_SECONDS, complaint):
        found = ranks.together(f"{len(session.items)} tests\n{errors}")
        pytest.exit(f"the ranks collected different tests\n{found}", returncode=1)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    ranks = item.config.stash[RANKS]
    mine = report.longreprtext if report.failed else ""
    seconds = JOIN_SECONDS * crowding() if report.failed else float("inf")
    complaint = f"FAILED {item.nodeid}: {report.when} failed while other ranks went on\n{mine}"
    if ranks.differ(f"{item.nodeid} {report.when}", report.outcome, seconds, complaint):
        outcomes = ranks.together(f"{report.outcome} {item.nodeid} ({report.when})\n{mine}")
        report.outcome = "failed"
        report.longrepr = f"the outcome must be the same on all ranks\n{outcomes}"
        item.session.shouldfail = "the ranks went different ways"
        ranks.diverged = True
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: TimeoutSettings) -> bool:
    ranks = item.config.stash[RANKS]
    seconds = settings.timeout

    def announce() -> None:
        if ranks.waiting:
            faulthandler.cancel_dump_traceback_later()  # nothing to see on this rank
        state = "done here, waits for the other ranks" if ranks.waiting else "still running here"
        ranks.say(f"TIMEOUT {item.nodeid} after {seconds:g} s: {state}")

    ranks.timer = threading.Timer(seconds, announce)
    ranks.timer.daemon = True
    ranks.timer.start()
    # Neither the dump nor the alarm needs the interpreter lock, which petsc4py keeps while it is
    # blocked in a collective call.  One rank after the other prints where it is, then all end.
    faulthandler.dump_traceback_later(
        seconds + 1 + DUMP_SECONDS * ranks.comm.rank, file=ranks.stderr
    )
    signal.setitimer(signal.ITIMER_REAL, seconds + 2 + DUMP_SECONDS * ranks.comm.size)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    timer = item.config.stash[RANKS].timer
    if timer is not None:
        timer.cancel()
    return True


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    # mpirun kills the other ranks as soon as one exits with an error: rank 0 must have written its
    # report by then.
    ranks = config.stash[RANKS]
    sys.stdout.flush()
    ranks.wait(ranks.comm.Ibarrier(), END_SECONDS, "other ranks did not end their session")
    if ranks.diverged:
        os._exit(1)  # MPI_Finalize would wait for messages that nobody sends

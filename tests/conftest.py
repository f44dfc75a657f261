"""Fixtures of the serial tests, and a timeout that also ends a test blocked inside PETSc."""

import faulthandler
import os
import subprocess
import time
from collections.abc import Callable
from typing import Protocol

import pytest
from compiled_before import FOLDER, keep_apart
from left_out import pytest_deselected, pytest_testnodedown

__all__ = ["pytest_deselected", "pytest_testnodedown"]  # hooks
STDERR = pytest.StashKey[int]()

# What docker/env.sh sets for mpirun.  Other OMPI_*, PMIX_*, ORTE_* variables belong to the MPI
# process that pytest itself has become, and would make a nested mpirun fail.
MPIRUN_SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "OMPI_MCA_btl_vader_single_copy_mechanism",
    "OMPI_MCA_hwloc_base_binding_policy",
    "OMPI_MCA_mpi_yield_when_idle",
    "OMPI_MCA_rmaps_base_oversubscribe",
}


class TimeoutSettings(Protocol):
    """What pytest-timeout hands over."""

    timeout: float


@pytest.fixture(scope="session")
def comm():
    """The one rank of this run."""
    from mpi4py import MPI

    return MPI.COMM_WORLD


@pytest.fixture(scope="session")
def scalar_build() -> str:
    """The PETSc build in use, real or complex."""
    from petsc4py import PETSc

    return "complex" if issubclass(PETSc.ScalarType, complex) else "real"


@pytest.fixture
def forgetful():
    """Look at imports anew, which doctor does once in a process."""
    from findings_of_tests import forget

    forget()
    yield
    forget()


@pytest.fixture(scope="session")
def mpirun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command on several ranks: ``mpirun(2, "python", "x.py", timeout=30)``.

    A command that does not end in time fails the test.  Lines that ranks print at the same moment
    may run into each other.
    """

    def run(
        ranks: int, *command: str, timeout: float = 60, **options: object
    ) -> subprocess.CompletedProcess[str]:
        # timeout(1) ends mpirun by a signal on which mpirun ends its ranks; subprocess would kill
        # mpirun alone and leave them.
        killer = ["timeout", "--kill-after=5", str(timeout)]
        start = time.monotonic()
        result = subprocess.run(
            [*killer, "mpirun", "-n", str(ranks), *command],
            env=environment_outside_mpi(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
        if time.monotonic() - start >= timeout:
            pytest.fail(
                f"{command} on {ranks} ranks must end within {timeout} s, got no end\n"
                f"{result.stdout}\n{result.stderr}"
            )
        return result

    return run


def environment_outside_mpi() -> dict[str, str]:
    inside = ("OMPI_", "PMIX_", "ORTE_", FOLDER)  # that is for one process
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(inside) or name in MPIRUN_SETTINGS
    }


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)  # pytest captures descriptor 2 while a test runs
    keep_apart(os.environ.get("PYTEST_XDIST_WORKER", "alone"))


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: TimeoutSettings) -> None:
    # petsc4py keeps the interpreter lock during a solve: no Python thread runs until it returns.
    # This one needs no lock; pytest-timeout comes first where it can.
    stderr = item.config.stash[STDERR]
    faulthandler.dump_traceback_later(settings.timeout + 5, exit=True, file=stderr)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer() -> None:
    faulthandler.cancel_dump_traceback_later()

"""`abort_on_failure`: an uncaught exception on one rank ends the whole job within seconds."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

import geneig_adjoint as ga
from geneig_adjoint import endings

SCRIPT = """
import sys
from mpi4py import MPI
from petsc4py import PETSc  # its exit clean-up is collective: without an abort all would wait
import geneig_adjoint as ga

comm = MPI.COMM_WORLD
with ga.abort_on_failure():
    if comm.rank == comm.size - 1:
        {action}
    comm.allreduce(1.0)
print("reached the end")
"""
# The others do not come: what is the same after a short wait as after a long one.
IMPATIENT = SCRIPT.replace(
    "comm = MPI", "from geneig_adjoint import endings\nendings.WAIT_SECONDS = 0.2\ncomm = MPI"
)
ACTIONS = {
    "exception": ('raise ValueError("no tip found")', 1),
    "exit code": ("sys.exit(3)", 3),
}
SECONDS = 20  # to start Python on every rank of a busy machine; a hang has no end


@pytest.mark.any_scalars
@pytest.mark.failure("exception on one rank", through="api")
@pytest.mark.parametrize("runner", [(), ("-m", "mpi4py")], ids=["python", "mpi4py"])
@pytest.mark.parametrize("case", ACTIONS)
def test_failure_on_one_rank_ends_the_job(mpirun, tmp_path, case, runner):
    action, code = ACTIONS[case]
    script = tmp_path / "script.py"
    script.write_text(IMPATIENT.format(action=action))
    start = time.monotonic()
    result = mpirun(2, sys.executable, *runner, str(script), timeout=60)
    assert time.monotonic() - start < SECONDS
    assert result.returncode == code, result.stderr
    assert "reached the end" not in result.stdout


@pytest.mark.any_scalars
def test_one_traceback_names_the_rank(mpirun, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(action='raise ValueError("no tip found")'))
    result = mpirun(3, sys.executable, str(script), timeout=60)
    assert "rank 2 of 3 failed" in result.stderr
    assert result.stderr.count("ValueError: no tip found") == 1
    assert result.stderr.count("Traceback") == 1


LATE = """
import atexit, gc, sys, threading
def look():
    print([item for item in gc.get_objects() if isinstance(item, BaseException)])
    print(sys.exc_info(), hasattr(sys, "last_value"))
atexit.register(look)
threading._register_atexit(look)
sys.excepthook = sys.unraisablehook = print
raise SystemExit(3)
"""


def test_nothing_is_left_of_a_plain_system_exit_when_the_process_ends():
    """Why `raise SystemExit(code)` needs `abort_on_failure`; else this could be mended."""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LATE], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert ended.stdout == 2 * "[]\n(None, None, None) False\n"


@pytest.mark.any_scalars
def test_plain_exit_is_not_a_failure(mpirun, tmp_path):
    script = tmp_path / "script.py"
    # all ranks leave; code 0 must not become an abort
    script.write_text(SCRIPT.format(action="pass").replace("comm.allreduce(1.0)", "sys.exit(0)"))
    result = mpirun(2, sys.executable, str(script), timeout=60)
    assert result.returncode == 0, result.stderr


# -- on one rank nothing is aborted --


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_one_rank_lets_the_exception_pass(comm, error):
    with pytest.raises(type(error)) as caught, ga.abort_on_failure(comm):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError(), 1),
        (SystemExit(), 0),
        (SystemExit(0), 0),
        (SystemExit(75), 75),
        (SystemExit("text"), 1),
        (KeyboardInterrupt(), 1),
    ],
    ids=repr,
)
def test_exit_codes(error, code):
    assert endings.exit_code(error) == code


def test_exit_that_was_caught_and_kept_has_not_ended_the_process():
    """The frame of a block that has ended has no caller, like that of a program."""
    kept = []

    @contextmanager
    def keeping():
        try:
            yield
        except SystemExit as error:
            kept.append(error)

    with keeping():
        endings._leave(3)
    assert not endings._reached_the_top(kept[0])

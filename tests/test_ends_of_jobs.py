"""How jobs end when one rank fails alone: one traceback, the exit code, nobody left waiting."""

import os
import sys
import time

import pytest
from petsc4py import PETSc

pytestmark = pytest.mark.failure("exception on one rank", through="api")

PREAMBLE = """
import os, signal, sys, time
import numpy as np
from mpi4py import MPI
from petsc4py import PETSc  # its exit clean-up is collective
import geneig_adjoint as ga
from builders import chain, chain_parameters, matrix, stiffness

from geneig_adjoint import collective, endings

# The others do not come in these tests: there is no need to wait for them.
collective.WAIT_SECONDS = endings.WAIT_SECONDS = 0.3
endings.crowding = lambda: 1.0
comm = MPI.COMM_WORLD
alone = comm.rank == {rank}
model, p = chain(11, comm), chain_parameters(11)
"""
AFTER = "\ncomm.allreduce(1.0)\nprint('reached the end')\n"
INSIDE = """
with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
    if alone:
        raise ArithmeticError("no tip found")
    comm.allreduce(1.0)
"""
MONITOR = """
from slepc4py import SLEPc

def monitor(*_):
    if alone:
        raise ArithmeticError("no tip found")

pencil = model.assemble(p)
eps = SLEPc.EPS().create(comm)
eps.setOperators(pencil.A, pencil.B)
eps.setProblemType(SLEPc.EPS.ProblemType.GHEP)
eps.setMonitor(monitor)
eps.solve()
"""
SHELL = """
class Broken:
    def mult(self, mat, x, y):
        if alone:
            raise ArithmeticError("no tip found")
        y.set(x.sum())

A = PETSc.Mat().createPython((11, 11), Broken(), comm=comm)
A.setUp()
y, x = A.createVecs()
ga.Pencil(matrix(stiffness(11), comm)).close()
A.mult(x, y)
"""
PRECONDITIONER = """
class Broken:
    def apply(self, pc, x, y):
        if alone:
            raise ArithmeticError("no tip found")
        x.copy(y)

pencil = model.assemble(p)
ksp = PETSc.KSP().create(comm)
ksp.setOperators(pencil.A)
ksp.getPC().setType("python")
ksp.getPC().setPythonContext(Broken())
y, x = pencil.A.createVecs()
x.set(1.0)
ksp.solve(x, y)
"""
# Newer bindings raise an error of their own from what a callback raised: in the same traceback.
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\nTraceback"
CAUSES = [1, 0][PETSc.Sys.getVersion() < (3, 19)]
CAUGHT = """
try:
    sys.exit(3 * alone)
except SystemExit:
    pass
time.sleep(1.0 * (not alone))  # longer than a rank that has failed would wait
"""
TRACED = ("ArithmeticError: no tip found", 1)
WAYS = {
    "exception": ("if alone:\n    raise ArithmeticError('no tip found')", *TRACED),
    "open contexts": (INSIDE, *TRACED),
    "exit": ("if alone:\n    sys.exit(3)", "", 3),
    "interrupt": ("if alone:\n    signal.raise_signal(signal.SIGINT)", "KeyboardInterrupt", 1),
    "monitor": (MONITOR, *TRACED),
    "shell matrix": (SHELL, *TRACED),
    "preconditioner": (PRECONDITIONER, *TRACED),
}
PLAIN = ("exception", "exit", "interrupt")
"""Ways in which PETSc takes no part: its scalars do not matter."""


@pytest.fixture
def run(mpirun, tmp_path, request, monkeypatch):
    """Run a script on three ranks of which one fails; return result and seconds after that."""
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent), prepend=os.pathsep)

    def run(text, *runner, rank=1):
        script = tmp_path / "script.py"
        script.write_text(PREAMBLE.format(rank=rank) + text + AFTER)
        start = time.monotonic()
        result = mpirun(3, sys.executable, *runner, str(script), timeout=60)
        # to start Python on every rank of a busy machine; a hang has no end
        assert time.monotonic() - start < 40
        return result

    return run


def assert_ended(result, error, code):
    assert result.returncode == code, result.stderr
    assert "reached the end" not in result.stdout
    caused = result.stderr.count(CAUSE)
    assert caused <= CAUSES
    assert result.stderr.count("Traceback") - caused == bool(error)
    assert error in result.stderr
    assert "rank 1 of 3 failed, the others did not" in result.stderr


@pytest.mark.parametrize(
    "way",
    [
        *(pytest.param(way, marks=pytest.mark.any_scalars) for way in PLAIN),
        *(way for way in WAYS if way not in PLAIN),
    ],
)
def test_plain_script_ends_after_one_rank_failed(run, way):
    text, error, code = WAYS[way]
    assert_ended(run(text), error, code)


@pytest.mark.any_scalars
@pytest.mark.parametrize("way", ["exception", "exit"])
def test_runner_of_mpi4py_ends_it_too(run, way):
    text, error, code = WAYS[way]
    assert_ended(run(text, "-m", "mpi4py"), error, code)


@pytest.mark.parametrize("way", ["interrupt", "monitor"])
def test_guarded_script_ends_after_one_rank_failed(run, way):
    text, error, code = WAYS[way]
    inside = "with ga.abort_on_failure():\n    " + text.strip().replace("\n", "\n    ")
    assert_ended(run(inside), error, code)


@pytest.mark.any_scalars
def test_exit_that_somebody_catches_ends_nothing(run):
    result = run(CAUGHT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("reached the end") == 3


@pytest.mark.any_scalars
def test_exit_of_all_ranks_keeps_its_code(run):
    result = run("sys.exit(5)")
    assert result.returncode == 5
    assert "failed" not in result.stderr

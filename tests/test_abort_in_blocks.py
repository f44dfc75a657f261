"""Scripts that end: a rank that fails alone inside blocks, and products that raised before."""

import os
import sys
import time
from pathlib import Path

import pytest

PREAMBLE = """
import numpy as np
from mpi4py import MPI
import geneig_adjoint as ga
from builders import chain, chain_parameters
from distributed_operators import POINT, operator
from geneig_adjoint import collective, endings

# A rank that fails alone waits for the others, which do not come here.
collective.WAIT_SECONDS = endings.WAIT_SECONDS = 0.2
comm = MPI.COMM_WORLD
"""
ALONE = """
model, p = chain(11, comm), chain_parameters(11)
with (
    ga.abort_on_failure(),
    model.assemble(p) as pencil,
    ga.solve_eigenproblem(pencil, count=1) as pairs,
):
    if comm.rank == 1:
        raise ArithmeticError("no tip found")
    comm.allreduce(1.0)
print("reached the end")
"""
UNGUARDED = """
model, p = chain(11, comm), chain_parameters(11)
pencil = model.assemble(p)
if comm.rank in {failing}:
    raise ArithmeticError("no tip found")
comm.allreduce(1.0)
print("reached the end")
"""
# One product raises at its n-th call on every rank; the process goes on and ends by itself.
CAUGHT = """
good = operator("nonsymmetric B", comm)
count = 0

def apply_a(p, block):
    global count
    count += 1
    if count == {call}:
        raise ArithmeticError("worn out")
    return good._a[0](p, block)

def solved(model):
    with (
        model.assemble(POINT) as pencil,
        ga.solve_eigenproblem(pencil, 1, which="largest_real") as pairs,
    ):
        return ga.gradient(model, POINT, pairs, ga.objectives.Eigenvalue(0))

try:
    solved(operator("nonsymmetric B", comm, apply_a=apply_a))
except ArithmeticError as error:
    print(error)
"""
AND_GO_ON = """
assert np.isfinite(solved(good)["a"]).all()
"""


@pytest.fixture
def run(mpirun, tmp_path, request, monkeypatch):
    """Run a script that imports this folder's helpers on several ranks."""
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent), prepend=os.pathsep)

    def run(ranks, text):
        script = tmp_path / "script.py"
        script.write_text(PREAMBLE + text)
        start = time.monotonic()
        result = mpirun(ranks, sys.executable, str(script), timeout=40)
        # to start Python on every rank of a busy machine; a hang has no end
        assert time.monotonic() - start < 25
        return result

    return run


def test_rank_that_fails_alone_ends_the_job(run):
    result = run(2, ALONE)
    assert result.returncode == 1, result.stderr
    assert "reached the end" not in result.stdout
    assert result.stderr.count("ArithmeticError: no tip found") == 1
    assert result.stderr.count("Traceback") == 1
    assert "rank 1 of 2 failed" in result.stderr


@pytest.mark.parametrize("failing", [{1}, {0, 1}], ids=["one rank", "all ranks"])
def test_plain_script_ends_with_one_traceback(run, failing):
    result = run(2, UNGUARDED.format(failing=failing))
    assert result.returncode == 1, result.stderr
    assert "reached the end" not in result.stdout
    assert result.stderr.count("ArithmeticError: no tip found") == 1
    assert result.stderr.count("Traceback") == 1


@pytest.mark.parametrize(
    ("ranks", "call", "then"), [(1, 3, ""), (2, 3, ""), (2, 20, ""), (2, 8, AND_GO_ON)]
)
def test_caught_exception_of_a_product_leaves_a_process_that_ends(run, ranks, call, then):
    # What the traceback holds must be freed before Python is gone: PETSc would call into it.
    result = run(ranks, CAUGHT.format(call=call) + then)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("worn") == ranks  # lines may run into each other


def test_wrong_operators_leave_a_process_that_ends(run):
    text = """
for name in ("apply_a_hermitian", "apply_b_hermitian"):
    try:
        operator("nonsymmetric B", comm, **{name: None}).assemble(POINT)
    except ga.InputError as error:
        print(name[6:])
"""
    result = run(2, text)
    assert result.returncode == 0, result.stderr
    # lines of two ranks may run into each other
    assert result.stdout.count("a_hermitian") == result.stdout.count("b_hermitian") == 2


def test_a_job_ends_after_an_error_of_one_rank_in_the_making(mpirun, tmp_path):
    """What Python's garbage collector has left on one rank is no reason to wait at exit."""
    script = tmp_path / "script.py"
    script.write_text(
        "import gc\n"
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from builders import matrix, mass\n"
        "from mpi4py import MPI\n"
        "import geneig_adjoint as ga\n"
        "comm = MPI.COMM_WORLD\n"
        "with ga.Pencil(matrix(mass(12), comm), owned=True):\n"
        "    left = matrix(mass(12), comm)\n"
        "if comm.rank == comm.size - 1:\n"
        "    del left\n"
        "    gc.collect()\n"
        "else:\n"
        "    left.destroy()\n"
        "print('done', flush=True)\n"
    )
    finished = mpirun(3, "python", str(script), timeout=30)
    assert finished.returncode == 0
    assert finished.stdout.count("done") == 3

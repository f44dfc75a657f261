"""The model of messages and reductions against what is counted, on 1, 2, 3 ranks."""

import importlib
from pathlib import Path

import pytest
from mpi4py import MPI
from petsc4py import PETSc

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import modules of the benchmarks, which are scripts beside a folder `peers`."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


# Strips cut within a layer of the grid need one row of nodes more than the model has; SLEPc
# refines Gram-Schmidt nearly always; MUMPS has part of a solution in its place already.
BOUNDS = {
    "messages of products": (0.95, 1.15),
    "words of products": (0.95, 1.45),
    "reductions by SLEPc": (0.8, 1.05),
    "messages around solves": (0.3, 1.6),
    "words around solves": (0.1, 1.2),
    "own reductions": (0.9, 1.1),
    "words of own reductions": (0.9, 1.1),
}


def test_counts_are_those_of_the_model(load, comm):
    messages, problems = load("messages"), load("peers.sizes")
    PETSc.Log.begin()
    problem = problems.make("elasticity3d", "tiny")
    messages.run(problem, MPI.COMM_SELF)  # what is imported on the way is not counted right
    alone, together = messages.run(problem, MPI.COMM_SELF), messages.run(problem, comm)
    rows = messages.comparison(problem, alone, together, comm.size)
    assert len(rows) == 13
    for name, counted, model in rows:
        low, high = BOUNDS[name.split(": ")[1]]
        assert low * model <= counted <= high * model, name
    assert all(found.own_reductions > 0 for found in together.values())


def test_gradients_of_the_benchmark_do_not_depend_on_ranks(load, comm):
    ours, meter = load("peers.ours"), load("peers.meter").Meter()
    problem = load("peers.sizes").make("elasticity2d", "tiny")
    both = [
        ours.gradients(problem, ours.prepare(problem, ranks), meter)
        for ranks in (comm, MPI.COMM_SELF)
    ]
    for goal in ("eigenvalue", "vectors"):
        one, other = (found[goal]["density"] for found in both)
        # Ten times the tolerance of the adjoint solves.
        assert one == pytest.approx(other, rel=0, abs=1e-9 * abs(other).max())

"""The block of hexahedra of the benchmark, solved with and without a factor."""

import importlib
import sys
from pathlib import Path
from unittest import mock

import numpy as np
from mpi4py import MPI

import geneig_adjoint as ga

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"
CELLS, COUNT = (8, 7, 6), 5


def benchmark():
    with mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        return importlib.import_module("elasticity3d")


def block(comm=MPI.COMM_WORLD, cells=CELLS, **how):
    """Return model, parameters and rigid body modes: 1344 dofs."""
    return benchmark().block(cells, comm, **how)


def solved(pencil, modes, count=COUNT, **changes):
    settings = {"target": 0.0, "near_null_space": modes, **changes}
    return ga.solve_eigenproblem(pencil, count, **settings)


def motion(pairs, chosen=None):
    weight = np.cos(0.1 * np.arange(*pairs.rows)) ** 2
    return ga.objectives.QuadraticForm(weight, chosen or tuple(range(pairs.count)))


def far(found, expected):
    """Return the relative distance of two arrays."""
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)

"""Rigid bodies, indefinite and singular B on several ranks: the same pairs on any number."""

import numpy as np
import pytest
from lattices import ZEROS, Lattice
from mpi4py import MPI
from pencils import petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj
from geneig_adjoint.symmetry import is_positive


@pytest.mark.parametrize("scale", [1e-6, 1e12])
@pytest.mark.parametrize("dimension", [2, 3])
def test_zeros_form_one_cluster(comm, dimension, scale):
    lattice, mats, zeros = Lattice(dimension, scale), [], ZEROS[dimension]
    with (
        lattice.model(comm, mats) as model,
        model.assemble(lattice.p) as pencil,
        ga.solve_eigenproblem(pencil, 2) as cut,
        ga.solve_eigenproblem(pencil, zeros + 1) as pairs,
    ):
        assert cut.clusters == (tuple(range(zeros)),)
        assert pairs.clusters == (tuple(range(zeros)), (zeros,))
        found = ga.gradient(model, lattice.p, pairs, obj.Eigenvalue(zeros))["stiffness"]
        with pytest.raises(ga.DegenerateEigenvalueError, match="cluster"):
            ga.gradient(model, lattice.p, pairs, obj.Eigenvalue(0))
    exact = lattice.exact_gradient(zeros)
    # far from the zeros and the next value
    assert np.abs(found - exact).max() < 1e-9 * np.abs(exact).max()
    for mat in reversed(mats):
        mat.destroy()


LONG = 300
LINE = 2 * np.eye(LONG) - np.eye(LONG, k=1) - np.eye(LONG, k=-1)
SMALLEST = 2 - 2 * np.cos(np.array([1, 2]) * np.pi / (LONG + 1))
HIDDEN = LINE - SMALLEST.mean() * np.eye(LONG)
PLUS_MINUS = np.diag(np.where(np.arange(LONG) % 3, 1.0, -1.0))


def test_a_hidden_negative_direction_is_noted_on_all_ranks(comm):
    mats = [petsc_matrix(comm, M) for M in (HIDDEN, PLUS_MINUS)]
    with ga.Pencil(*mats) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
        told = "A looked definite and is not" in " ".join(pairs.info.notes)
        classes = comm.allgather((told, pencil.problem_type))
    assert set(classes) == {(True, "ghiep")}
    for mat in reversed(mats):
        mat.destroy()


ONES = np.ones(7)
SIGNS = {
    "diagonal": (np.diag(np.where(np.arange(7) == 6, -1e-6, 1.0)), False),
    "lumped": (np.diag(np.where(np.arange(7) == 6, 0.0, 1.0)), True),
    "minor": (np.eye(7) + 1.001 * (np.eye(7, k=6) + np.eye(7, k=-6)), False),
    "measured": (np.outer(ONES, ONES) + np.eye(7), True),
    "measured_indefinite": (np.outer(ONES, ONES) - 0.1 * np.eye(7), False),
    "zero": (np.zeros((7, 7)), True),
}


@pytest.mark.parametrize("name", list(SIGNS))
def test_signs_are_the_same_on_all_ranks(comm, name):
    M, positive = SIGNS[name]
    mat = petsc_matrix(comm, M)
    assert comm.allreduce(is_positive(mat), op=MPI.LAND) == positive
    assert comm.allreduce(is_positive(mat), op=MPI.LOR) == positive
    mat.destroy()


def test_zero_is_refused_on_all_ranks(comm):
    mats = [petsc_matrix(comm, M) for M in (np.eye(5), np.zeros((5, 5)))]
    with pytest.raises(ga.InputError, match="B must have entries, got zeros only"):
        ga.Pencil(*mats)
    for mat in reversed(mats):
        mat.destroy()

"""Refilled pencils hold the matrices of the model, or are refused."""

import numpy as np
import pytest
from builders import dense, matrix, shares
from petsc4py import PETSc

import geneig_adjoint as ga

N = 8
P = {"r": np.linspace(1.0, 2.0, N)}


def model_of(dofs, comm):
    """Return a model with the same element matrix everywhere."""
    own, nd = shares(N, comm), dofs.shape[1]
    kernel = ga.ScaledKernel(np.eye(nd) + 1.0)
    return ga.ElementModel(N, [ga.ElementBlock("A", dofs[own], kernel, {"r": own})], comm=comm)


def dofs_with(*steps):
    return np.stack([(np.arange(N) + step) % N for step in steps], axis=1)


# As many entries of the same rows, in other columns, too.
OTHERS = {"fewer": (0,), "more": (0, 1, 3), "elsewhere": (0, 2)}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_pencil_of_another_model_is_not_refilled(comm, kind):
    """Entries beside the pattern of the model would stay."""
    model = model_of(dofs_with(0, 3), comm)
    with (
        model_of(dofs_with(*OTHERS[kind]), comm).assemble(P) as pencil,
        pytest.raises(ga.InputError, match="out must have the nonzero pattern of the model"),
    ):
        model.assemble(P, out=pencil)


def test_a_pencil_of_an_equal_model_is_refilled(comm):
    first, second = (model_of(dofs_with(0, 3), comm) for _ in range(2))
    with first.assemble(P) as pencil, second.assemble({"r": 2 * P["r"]}) as fresh:
        second.assemble({"r": 2 * P["r"]}, out=pencil)
        assert np.array_equal(dense(pencil.A), dense(fresh.A))


def test_a_pencil_with_an_entry_more_is_not_refilled(comm):
    model, extra = model_of(dofs_with(0, 3), comm), np.zeros((N, N))
    extra[0, 1] = extra[1, 0] = 5.0
    change = matrix(extra, comm)
    with model.assemble(P) as pencil:
        pencil.A.axpy(1.0, change, structure=PETSc.Mat.Structure.DIFFERENT_NONZERO_PATTERN)
        pencil.entries_changed()
        with pytest.raises(ga.InputError, match="or changed since; assemble without out"):
            model.assemble(P, out=pencil)
    change.destroy()

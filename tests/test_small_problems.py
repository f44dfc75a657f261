"""The smallest problems there are, and parameters without any effect."""

import numpy as np
import pytest
from builders import K0, M0, matrix

import geneig_adjoint as ga

pytestmark = pytest.mark.failure("small problems", through="api")


def bar(comm, dofs, n):
    """Return elements of stiffness k and mass m, the parameter "idle" in none of them."""
    ids = np.arange(len(dofs))
    blocks = [
        ga.ElementBlock("A", dofs, ga.ScaledKernel(K0), {"k": ids}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(M0), {"m": ids}),
    ]
    return ga.ElementModel(n, blocks, comm=comm)


def solved(comm, dofs, n, count):
    model, m = bar(comm, dofs, n), len(dofs)
    p = {"k": np.full(m + 1, 2.0), "m": np.full(m, 3.0)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count) as pairs:
        return pairs.values, ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(count - 1))


def test_one_element_of_one_row(comm):
    # lam = k / (m / 3), of the last entry of k nothing depends
    values, slopes = solved(comm, np.array([[-1, 0]]), 1, 1)
    np.testing.assert_allclose(values, [2.0], rtol=1e-13)
    np.testing.assert_allclose(slopes["k"], [1.0, 0.0], rtol=1e-13)
    np.testing.assert_allclose(slopes["m"], [-2.0 / 3.0], rtol=1e-13)
    assert slopes["k"][1] == 0


def test_one_free_element(comm):
    # 0 and 12 k / m
    values, slopes = solved(comm, np.array([[0, 1]]), 2, 2)
    np.testing.assert_allclose(values, [0.0, 8.0], atol=1e-7)
    np.testing.assert_allclose(slopes["k"], [4.0, 0.0], rtol=1e-9)
    assert slopes["k"][1] == 0


@pytest.mark.parametrize("target", [0.0, 3.0, -1.0])
def test_one_row_without_b(comm, target):
    pencil = ga.Pencil(matrix(np.array([[3.5]]), comm), owned=True)
    with pencil, ga.solve_eigenproblem(pencil, 1, target=target) as pairs:
        np.testing.assert_allclose(pairs.values, [3.5], rtol=1e-13)


@pytest.mark.parametrize("count", [0, -1, 3])
def test_count_that_is_not_possible(comm, count):
    with pytest.raises(ga.InputError, match=r"count must .*got"):
        solved(comm, np.array([[0, 1]]), 2, count)

"""Double eigenvalues at the cut of the spectrum, and single ones of stiff problems."""

import numpy as np
import pytest
from builders import matrix, stiffness

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

SIDE = 7
N = SIDE * SIDE


def square_grid():
    """Return the five-point Laplacian: symmetric in both directions, hence double values."""
    one, identity = stiffness(SIDE), np.eye(SIDE)
    return np.kron(one, identity) + np.kron(identity, one)


def dofs_stiffened(A, comm):
    """Return A + diag(p): one parameter per dof."""
    units = [np.diag(row) for row in np.eye(len(A))]
    model = ga.MatrixModel(
        matrix(A, comm), None, {"p": [(matrix(unit, comm), None) for unit in units]}
    )
    return model, {"p": np.zeros(len(A))}


def both(pairs):
    return pairs.values[1:3].real.sum(), ga.EigenCotangent(values=np.array([0.0, 1.0, 1.0]))


def test_both_copies_count_or_none(comm):
    model, p = dofs_stiffened(square_grid(), comm)
    values, X = np.linalg.eigh(square_grid())
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
        assert pairs.count == 3
        assert pairs.clusters == ((0,), (1, 2))
        assert np.allclose(pairs.values, values[:3], rtol=1e-12)
        single = ga.gradient(model, p, pairs, obj.Eigenvalue(0))["p"]
        found = ga.gradient(model, p, pairs, both)["p"]
        for member in (1, 2):
            with pytest.raises(ga.DegenerateEigenvalueError, match=r"cluster") as caught:
                ga.gradient(model, p, pairs, obj.Eigenvalue(member))
            assert set(caught.value.members) == {1, 2}
        with pytest.raises(ga.DegenerateEigenvalueError, match=r"cluster"):
            ga.gradient(model, p, pairs, obj.QuadraticForm(np.arange(N) + 1.0, (1,)))
    # d lam = x_i^2; d(sum of a cluster) = trace of the derivative on its space
    assert np.allclose(single, X[:, 0] ** 2, atol=1e-10)
    assert np.allclose(found, X[:, 1] ** 2 + X[:, 2] ** 2, atol=1e-10)


def test_one_pair_of_a_double_value(comm):
    model, p = dofs_stiffened(np.diag([2.0, 2.0, 3.0]), comm)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        assert pairs.clusters == ((0, 1),)
        with pytest.raises(ga.DegenerateEigenvalueError, match=r"cluster"):
            ga.gradient(model, p, pairs, obj.Eigenvalue(0))


# -- stiff, but simple --


def stiff_chain(n=12, ratio=1e11):
    """Return a chain of springs, soft at its free end: lowest values well apart."""
    springs = np.logspace(np.log10(ratio), 0, n)
    K = np.diag(springs) + np.diag(np.r_[springs[1:], 0.0])
    return K - np.diag(springs[1:], 1) - np.diag(springs[1:], -1)


def two_soft_ends(n=12, ratio=1e9):
    """Return a stiff middle with soft springs at both sides: values 0.9 and 2 of soft modes."""
    springs = np.r_[1.0, 1.5, np.full(n - 3, ratio), 2.5, 1.2]
    return np.diag(springs[:-1] + springs[1:]) - np.diag(springs[1:-1], 1) - np.diag(
        springs[1:-1], -1
    )  # fmt: skip


STIFF = {"chain": stiff_chain, "two ends": two_soft_ends}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", STIFF)
def test_lowest_value_of_a_stiff_chain(comm, name, count):
    K = STIFF[name]()
    model, p = dofs_stiffened(K, comm)
    x = soft_mode(K)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count) as pairs:
        assert pairs.clusters == tuple((j,) for j in range(count))
        found = ga.gradient(model, p, pairs, obj.Eigenvalue(0))["p"]
    # A few roundings of the factor: the soft mode is well conditioned though ||K|| is 1e11.
    assert np.allclose(found, x**2, rtol=1e-6, atol=1e-9)


def soft_mode(K):
    """Return the lowest mode by inverse iteration with the exact factors of a chain in extended
    precision, where LAPACK's values carry rounding of ||K||."""
    K = K.astype(np.longdouble)
    x = np.ones(len(K), dtype=np.longdouble)
    for _ in range(400):
        x = tridiagonal_solve(K, x)
        x /= np.sqrt(x @ x)
    return x.astype(float)


def tridiagonal_solve(K, rhs):
    diagonal, b = K.diagonal().copy(), rhs.copy()
    upper = K.diagonal(1)
    for i in range(1, len(b)):
        factor = upper[i - 1] / diagonal[i - 1]
        diagonal[i] -= factor * upper[i - 1]
        b[i] -= factor * b[i - 1]
    x = b / diagonal
    for i in reversed(range(len(b) - 1)):
        x[i] = (b[i] - upper[i] * x[i + 1]) / diagonal[i]
    return x


def test_left_false_on_a_nonsymmetric_chain(comm):
    A = stiffness(8) + 0.3 * np.eye(8, k=1)
    model, p = dofs_stiffened(A, comm)
    found = {}
    for left in (True, False):
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, 2, left=left) as pairs,
        ):
            found[left] = ga.gradient(model, p, pairs, obj.Eigenvalue(1))["p"]
            assert np.array_equal(np.isnan(pairs.condition), [not left] * 2)
    # rtol 1e-10 of the bordered system
    assert np.allclose(found[True], found[False], rtol=1e-8, atol=1e-10)

"""Symmetry is measured row by row: large entries elsewhere neither hide nor feign an asymmetry."""

import numpy as np
import pytest
import scipy.linalg
from builders import dense, matrix

import geneig_adjoint as ga

N, ROW = 12, 5
PENALTY = 1e13


def held_chain(n=N):
    """Return a nonsymmetric chain with one dof held by a penalty."""
    A = 2 * np.eye(n) - np.eye(n, k=1) - 1.3 * np.eye(n, k=-1)
    A[ROW, ROW] = PENALTY
    return A


def free_part(A):
    return np.delete(np.delete(A, ROW, axis=0), ROW, axis=1)


def scaled_rows(A, exponent):
    """Return D A D with D from 10^-exponent to 10^exponent, symmetric to the last bit if A is."""
    size = 10.0 ** np.linspace(-exponent, exponent, len(A))
    return A * np.outer(size, size)


def symmetric(n=N):
    G = np.random.default_rng(3).standard_normal((n, n))
    return G @ G.T + n * np.eye(n)


def test_penalty_does_not_hide_an_asymmetry(comm):
    A = held_chain()
    with ga.Pencil(matrix(A, comm), owned=True) as pencil:
        assert not pencil.hermitian
        assert pencil.problem_type == "nhep"
        with ga.solve_eigenproblem(pencil, 3) as pairs:
            values = np.linalg.eigvals(free_part(A)).real
            expected = values[np.argsort(np.abs(values))][:3]
            # The held dof moves by 1 / PENALTY; rounding is 1e-16 times conditions below 100.
            assert np.allclose(pairs.values, expected, rtol=1e-11)
            assert not np.allclose(pairs.left, pairs.right, atol=0.01)


def test_gradient_of_a_held_chain(comm):
    A, dA = held_chain(), np.zeros((N, N))
    dA[1, 2], dA[3, 2], dA[8, 8] = 1.0, 0.4, 0.7
    model = ga.MatrixModel(matrix(A, comm), None, {"p": [(matrix(dA, comm), None)]})
    p = {"p": np.zeros(1)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        found = [
            ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(j))["p"][0] for j in range(2)
        ]
    values, left, right = scipy.linalg.eig(free_part(A), left=True)
    slopes = np.diag(left.conj().T @ free_part(dA) @ right) / np.diag(left.conj().T @ right)
    order = np.argsort(np.abs(values))[:2]
    # eps_tol 1e-12 times conditions below 100
    assert np.allclose(found, slopes[order].real, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["A", "B"])
def test_declaring_it_symmetric_is_refused(comm, name):
    mats = {"A": [held_chain()], "B": [np.eye(N), held_chain()]}[name]
    kind = {"A": "hep", "B": "ghep"}[name]
    with pytest.raises(ga.InputError, match=rf"problem_type='{kind}' needs {name} Hermitian"):
        ga.Pencil(*(matrix(A, comm) for A in mats), problem_type=kind)


@pytest.mark.parametrize("exponent", [0, 3, 6])
def test_scaled_rows_do_not_feign_an_asymmetry(comm, exponent):
    A = scaled_rows(symmetric(), exponent)
    with ga.Pencil(matrix(A, comm), problem_type="hep", owned=True) as pencil:
        assert np.array_equal(dense(pencil.A), A)
        assert pencil.hermitian
        assert pencil.problem_type == "hep"


def test_scaled_rows_do_not_hide_an_asymmetry(comm):
    A = symmetric()
    A[0, 1] *= 1.1  # the two smallest rows
    with ga.Pencil(matrix(scaled_rows(A, 3), comm), owned=True) as pencil:
        assert not pencil.hermitian

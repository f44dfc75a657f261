"""Repeated eigenvalues of any multiplicity: all copies, each once, with independent vectors."""

import numpy as np
import pytest
from builders import matrix, whole
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga
from geneig_adjoint import completeness as module
from geneig_adjoint.eigenspaces import orthonormal

M = 14
"""Distinct values of a line."""


def line(lower, upper):
    """Return a tridiagonal matrix with simple real eigenvalues."""
    return np.diag(2.0 + 0.01 * np.arange(M)) + lower * np.eye(M, k=-1) + upper * np.eye(M, k=1)


def copied(one, copies, seed=0):
    """Return a matrix, similar to that many copies of ``one``, which mixes the copies."""
    rng = np.random.default_rng(seed)
    S = np.eye(copies) + 0.3 * rng.standard_normal((copies, copies)) / copies
    T = np.kron(S, np.eye(M))
    return T @ np.kron(np.eye(copies), one) @ np.linalg.inv(T)


def hermitian(one, copies):
    """Return copies of ``one``, turned to a complex Hermitian matrix where the build has them."""
    turn = np.exp(1j * np.arange(copies * M) * COMPLEX_BUILD)
    return turn[:, None] * np.kron(np.eye(copies), one) * turn.conj()


def real_where_possible(A):
    return A if COMPLEX_BUILD else A.real


def multiplicities(values, exact):
    return [int(np.sum(np.abs(values - value) < 1e-7)) for value in exact]


def lowest(one):
    return np.sort(np.linalg.eigvals(one).real)


@pytest.mark.parametrize("left", ["auto", False])
@pytest.mark.parametrize(("copies", "count"), [(2, 1), (3, 3), (3, 4), (5, 1), (6, 6), (9, 1)])
def test_nonsymmetric_pencils(comm, copies, count, left):
    one = line(-0.7, -1.3)
    A = matrix(copied(one, copies), comm)
    with ga.Pencil(A) as pencil, ga.solve_eigenproblem(pencil, count, left=left) as pairs:
        found = multiplicities(pairs.values, lowest(one))
        levels = -(-count // copies)
        assert found == [copies] * levels + [0] * (M - levels)
        for members in pairs.clusters:
            vectors = whole(pairs, pairs.right[:, list(members)])
            # Independent: an orthonormal basis where the values agree to the last digits.
            assert np.linalg.cond(vectors) < 10
        # The mixing and the line together: far below the inverse of rounding.
        assert np.isnan(pairs.condition).all() or pairs.condition.max() < 1e3


def test_copies_that_come_as_halves_of_one_complex_vector_are_all_found(comm, monkeypatch):
    """Rounding may part two copies of a real value into conjugates, of which one is left out."""
    one, copies = line(-0.7, -1.3), 5
    A = copied(one, copies)
    lam = lowest(one)[0]
    basis = np.linalg.svd(A - lam * np.eye(len(A)))[2][-copies:].T
    rng = np.random.default_rng(4)

    def mixed(*_):
        turn = rng.standard_normal((copies, 1)) + 1j * rng.standard_normal((copies, 1))
        return np.array([lam + 0j]), basis @ turn

    monkeypatch.setattr(module, "_eigenvectors", mixed)
    with ga.Pencil(matrix(A, comm)) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        assert multiplicities(pairs.values, lowest(one))[:2] == [copies, 0]


@pytest.mark.parametrize(("copies", "count"), [(12, 4), (20, 1)])
def test_hermitian_pencils(comm, copies, count):
    one = line(-1.0, -1.0)
    A = matrix(real_where_possible(hermitian(one, copies)), comm)
    with ga.Pencil(A) as pencil, ga.solve_eigenproblem(pencil, count) as pairs:
        assert multiplicities(pairs.values, lowest(one))[:2] == [copies, 0]
        assert pairs.info.completeness.found == copies


def test_complex_pairs(comm):
    one = line(-0.9, 1.1)
    exact = np.linalg.eigvals(one)
    nearest = exact[np.argmin(np.abs(exact))]
    A = matrix(copied(one, 3), comm)
    with ga.Pencil(A) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        upper = multiplicities(pairs.values, [nearest, nearest.conjugate()])
        # Conjugates are completed where the pencil is known to be real.
        assert sorted(upper) in ([[3, 3]], [[0, 3], [3, 3]])[COMPLEX_BUILD]
        assert (np.abs(np.abs(pairs.values) - abs(nearest)) < 1e-7).all()


def test_directional_derivatives_of_all_copies(comm):
    one, copies = line(-1.0, -1.0), 11
    slopes = np.arange(1.0, copies + 1)
    mats = [
        matrix(real_where_possible(array), comm)
        for array in (hermitian(one, copies), np.kron(np.diag(slopes), np.eye(M)))
    ]
    with ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}) as model:
        p = {"p": np.zeros(1)}
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            found = ga.directional_derivatives(model, p, pairs, 0, {"p": np.ones(1)})
    np.testing.assert_allclose(np.sort(found.real), slopes, rtol=1e-9)


def test_search_that_never_ends_is_an_error(comm, monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 2)
    A = matrix(copied(line(-0.7, -1.3), 9), comm)
    with (
        ga.Pencil(A) as pencil,
        pytest.raises(ga.MissingEigenvaluesError, match="still show more") as caught,
    ):
        ga.solve_eigenproblem(pencil, 1)
    assert caught.value.expected > caught.value.found


@pytest.mark.parametrize("seed", range(6))
def test_simple_values_of_non_normal_matrices_come_once(comm, seed):
    # Conditions of 1e4 ... 1e9: vectors of different values are nearly parallel.
    rng = np.random.default_rng(seed)
    n = 80
    A = np.diag(rng.uniform(-1, 1, n)) + 0.5 * np.triu(rng.standard_normal((n, n)), 1) / np.sqrt(n)
    exact = np.sort(np.abs(np.diag(A) - 0.3))
    with (
        ga.Pencil(matrix(A, comm)) as pencil,
        ga.solve_eigenproblem(pencil, 20, target=0.3, left=False) as pairs,
    ):
        # Rounding of the entries times the condition.
        np.testing.assert_allclose(
            np.abs(pairs.values - 0.3), exact[: pairs.count], atol=1e-5, rtol=0
        )


def test_basis_of_nearly_dependent_vectors_is_whole(comm):
    Q = np.eye(12)[:, :3]
    block = Q @ np.array([[1.0, 1.0, 1.0], [0.0, 1e-8, 0.0], [0.0, 0.0, 1e-12]])
    basis = orthonormal(comm, block)
    # A direction of 1e-8 is one (a Gram matrix cannot tell), 1e-12 is rounding.
    np.testing.assert_allclose(np.abs(basis), Q[:, :2], atol=1e-7, rtol=0)

"""Nearly singular mass matrices stay definite; singular ones give no infinite values."""

import numpy as np
import pytest
import scipy.linalg
from pencils import COMPLEX_BUILD, petsc_matrix

import geneig_adjoint as ga

LEFT = ["auto", False]


def unitary(rng, n):
    turned = rng.standard_normal((n, n)) + 1j * COMPLEX_BUILD * rng.standard_normal((n, n))
    Q = np.linalg.qr(turned)[0]
    return Q if COMPLEX_BUILD else Q.real


def repeated_pencil(seed, n, condition):
    """Return a Hermitian pencil with eigenvalues 1, 1, 2 ... 5 and a mass of that condition."""
    rng = np.random.default_rng(seed)
    F = unitary(rng, n) @ np.diag(np.sqrt(np.geomspace(1, condition, n))) @ unitary(rng, n)
    values = np.r_[1.0, 1.0, np.linspace(2, 5, n - 2)]
    G = F @ unitary(rng, n)
    A, B = G @ np.diag(values) @ G.conj().T, F @ F.conj().T
    return (A + A.conj().T) / 2, (B + B.conj().T) / 2


@pytest.mark.parametrize("n", [6, 30])
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("seed", range(3))
def test_definite_mass_counts_as_definite(comm, seed, condition, n):
    A, B = repeated_pencil(seed, n, condition)
    with (
        ga.Pencil(petsc_matrix(comm, A), petsc_matrix(comm, B)) as pencil,
        ga.solve_eigenproblem(pencil, 3) as pairs,
    ):
        assert pencil.problem_type == "ghep"
        assert not any("looked definite" in note for note in pairs.info.notes)
        # Rounding of B moves the values by its condition.
        np.testing.assert_allclose(pairs.values, [1.0, 1.0, 2.0], rtol=1e-13 * condition)
        gram = pairs.inner(pairs.right, pencil.multiply_b(pairs.right))
        np.testing.assert_allclose(gram, np.eye(3), atol=1e-12 * condition, rtol=0)


def total(pairs):
    return float(pairs.values.real.sum()), ga.EigenCotangent(values=np.ones(pairs.count))


def test_gradient_of_a_repeated_pair_with_such_a_mass(comm):
    # d(lam_1 + lam_2) = tr X^H dA X: mixing inside the pair must not matter.
    A, B = repeated_pencil(0, 8, 1e4)
    direction = np.diag(np.arange(1.0, 9.0))
    X = scipy.linalg.eigh(A, B)[1]
    expected = np.trace(X[:, :2].conj().T @ direction @ X[:, :2]).real
    mats = [petsc_matrix(comm, array) for array in (A, B, direction)]
    with ga.MatrixModel(mats[0], mats[1], {"p": [(mats[2], None)]}) as model:
        p = {"p": np.zeros(1)}
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            found = ga.gradient(model, p, pairs, total)
    assert found["p"][0] == pytest.approx(expected, rel=1e-8)


def saddle():
    """Return a nonsymmetric saddle point: 8 velocities, 4 pressures, 4 finite eigenvalues."""
    rng = np.random.default_rng(3)
    A, B = np.zeros((12, 12)), np.zeros((12, 12))
    C = rng.standard_normal((8, 4))
    A[:8, :8] = np.diag(np.linspace(0.5, 5.0, 8)) + 0.3 * rng.standard_normal((8, 8))
    A[:8, 8:], A[8:, :8] = C, C.T
    B[:8, :8] = np.diag(1.0 + 0.1 * np.arange(8.0))
    # On the null space of C^T.
    Z = scipy.linalg.null_space(C.T)
    return A, B, scipy.linalg.eigvals(Z.T @ A[:8, :8] @ Z, Z.T @ B[:8, :8] @ Z)


@pytest.mark.parametrize("left", LEFT)
def test_infinite_values_never_come_back(comm, left):
    A, B, exact = saddle()
    with ga.Pencil(petsc_matrix(comm, A), petsc_matrix(comm, B)) as pencil:
        with ga.solve_eigenproblem(pencil, 4, target=0.0, left=left) as pairs:
            assert pairs.count == 4
            distance = np.abs(pairs.values[:, None] - exact[None, :])
            assert (distance.min(axis=0) < 1e-8).all()
        for count in (5, 12):
            with pytest.raises(ga.ConvergenceError, match=r"infinite to working acc|must give"):
                ga.solve_eigenproblem(pencil, count, target=0.0, left=left)

"""Pencils with A definite and B not: linear buckling, solved in 1 / lam."""

from contextlib import nullcontext

import numpy as np
import pytest
import scipy.linalg
from pencils import COMPLEX_BUILD, petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 24
rng = np.random.default_rng(0)
L = np.eye(N) + 0.1 * rng.standard_normal((N, N))
K = L @ np.diag(np.linspace(1, 20, N)) @ L.T
G = rng.standard_normal((N, N))
K, G = (K + K.T) / 2, (G + G.T) / 2
EXACT = 1 / scipy.linalg.eigh(G, K)[0]


@pytest.fixture
def pencil(comm):
    mats = [petsc_matrix(comm, M) for M in (K, G)]
    with ga.Pencil(*mats) as made:
        yield made
    for mat in mats:
        mat.destroy()


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("target", [0.0, 0.5, -0.3, 1e-3])
def test_values_of_both_signs_are_real_and_complete(pencil, target, count):
    nearest = EXACT[np.argsort(np.abs(EXACT - target))][:count]
    with ga.solve_eigenproblem(pencil, count, target=target) as pairs:
        assert np.allclose(pairs.values, nearest, rtol=1e-10)
        assert not np.any(pairs.values.imag)
        gram = pairs.inner(pairs.left, pencil.multiply_b(pairs.right))
        squares = pairs.inner(pairs.right, pencil.multiply_b(pairs.right))
        assert np.allclose(np.diag(squares), np.sign(nearest), atol=1e-10)
        # Sylvester's law counts values of both signs.
        assert pairs.info.completeness.found == count
        assert pairs.info.completeness.expected in {count, None}
    assert np.allclose(gram, np.eye(count), atol=1e-8)


def test_both_copies_of_a_double_load_factor(comm):
    """A square grid compressed in every direction, K = Lap^2 and K_g = Lap - c: values twice."""
    n = 8
    line = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    lap = np.kron(line, np.eye(n)) + np.kron(np.eye(n), line)
    B = lap - 1.7 * np.eye(n * n)
    mats = [petsc_matrix(comm, M) for M in (lap @ lap, B)]
    w = np.linalg.eigvalsh(lap)
    exact = w**2 / (w - 1.7)
    exact = exact[np.argsort(np.abs(exact), kind="stable")]
    with ga.Pencil(*mats) as pencil, ga.solve_eigenproblem(pencil, 4) as pairs:
        assert pencil.definite_by_a
        assert np.allclose(pairs.values, exact[: pairs.count], rtol=1e-9)
        assert (0,) in pairs.clusters
        assert max(len(group) for group in pairs.clusters) == 2
    for mat in mats:
        mat.destroy()


def test_spectral_functions_need_a_positive_b(pencil):
    model = ga.MatrixModel(pencil.A, pencil.B, {"p": [(pencil.A, None)]})
    with ga.solve_eigenproblem(pencil, 2) as pairs:
        weight = np.ones(pencil.n_local)
        with pytest.raises(ga.InputError, match="definite B"):
            ga.gradient(model, {"p": np.zeros(1)}, pairs, obj.SpectralFunction(weight))


REFUSED = pytest.raises(ga.InputError, match=r"x\^T B x > 0 for real vectors")


@pytest.mark.parametrize("outcome", [[REFUSED, nullcontext()][COMPLEX_BUILD]])
def test_real_bilinear_vectors_need_a_positive_square(pencil, outcome):
    with outcome:
        ga.solve_eigenproblem(pencil, 6, normalization="bilinear").close()


def test_a_derivative_with_respect_to_the_prestress(comm, pencil):
    """K x = lam (1 + p) G x: lam = lam_0 / (1 + p)."""
    model = ga.MatrixModel(pencil.A, pencil.B, {"p": [(None, pencil.B)]})
    p = {"p": np.zeros(1)}
    with model.assemble(p) as made, ga.solve_eigenproblem(made, 2) as pairs:
        found = ga.gradient(model, p, pairs, obj.Eigenvalue(1))["p"][0]
        assert abs(found + pairs.values[1].real) < 1e-10

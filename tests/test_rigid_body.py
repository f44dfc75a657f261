"""Free structures at target 0: all zeros are found, one cluster, and never split."""

import numpy as np
import pytest
from lattices import ZEROS, Lattice

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

SCALES = [1e-6, 1.0, 1e6, 1e12]


@pytest.fixture(params=SCALES, ids=str)
def scale(request):
    return request.param


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def free(request, comm, scale):
    mats = []
    lattice = Lattice(request.param, scale)
    with lattice.model(comm, mats) as model:
        yield lattice, model, ZEROS[request.param]
    for mat in mats:
        mat.destroy()


def size_of(lattice):
    return np.abs(lattice.K).max() / np.abs(lattice.M).max()


@pytest.mark.failure("rigid bodies", through="api")
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_zeros_come_all_or_none(free, count):
    lattice, model, zeros = free
    with model.assemble(lattice.p) as pencil, ga.solve_eigenproblem(pencil, count) as pairs:
        assert pairs.count == max(count, zeros)
        # rounding of K, 50 times the last bit
        assert np.abs(pairs.values[:zeros]).max() < 1e-14 * size_of(lattice)
        exact = lattice.exact()[0][zeros : pairs.count]
        assert np.allclose(pairs.values[zeros:], exact, rtol=1e-10)
        assert pairs.clusters[0] == tuple(range(zeros))
        assert all(len(group) == 1 for group in pairs.clusters[1:])
        assert pairs.info.completeness.expected in {pairs.count, None}
        assert "the shift was moved from 0" in " ".join(pairs.info.notes)
        gram = pairs.inner(pairs.right, pencil.multiply_b(pairs.right))
    assert np.allclose(gram, np.eye(len(gram)), atol=1e-10)


def test_derivatives_beside_the_zeros(free):
    lattice, model, zeros = free
    with model.assemble(lattice.p) as pencil, ga.solve_eigenproblem(pencil, zeros + 2) as pairs:
        found = ga.gradient(model, lattice.p, pairs, obj.Eigenvalue(zeros))["stiffness"]
        exact = lattice.exact_gradient(zeros)
        # the gap to the zeros and the next value is above a hundredth of the spectrum
        assert np.abs(found - exact).max() < 1e-9 * np.abs(exact).max()
        with pytest.raises(ga.DegenerateEigenvalueError, match="cluster") as caught:
            ga.gradient(model, lattice.p, pairs, obj.Eigenvalue(1))
        assert set(caught.value.members) <= set(range(zeros))
        with pytest.raises(ga.DegenerateEigenvalueError, match="cluster"):
            ga.gradient(model, lattice.p, pairs, obj.QuadraticForm(np.ones(pencil.n_local), (0,)))
        moved = ga.gradient(model, lattice.p, pairs, sum_of(range(zeros)))["stiffness"]
        shape = obj.QuadraticForm(np.arange(*pairs.rows) + 1.0, (zeros,))
        vector = ga.gradient(model, lattice.p, pairs, shape)["stiffness"]
    # no spring can move a zero
    assert np.abs(moved).max() < 1e-12 * lattice.scale
    expected = vector_derivative(lattice, zeros)
    assert np.abs(vector - expected).max() < 1e-8 * np.abs(expected).max()


def sum_of(members):
    def objective(pairs):
        weights = np.isin(np.arange(pairs.count), list(members)).astype(float)
        return float(weights @ pairs.values.real), ga.EigenCotangent(values=weights)

    return objective


def vector_derivative(lattice, j):
    """Return d(x^T D x), D = diag(1 ... n), by the expansion in all eigenvectors."""
    lam, X = lattice.exact()
    x, D = X[:, j], np.arange(len(lam)) + 1.0
    inverse = np.array([0.0 if k == j else 1 / (lam[j] - lam[k]) for k in range(len(lam))])
    response = X @ (inverse * (X.T @ (D * x)))
    return np.array([2 * response @ unit @ x for unit in lattice.units])


@pytest.mark.failure("rigid bodies", through="api")
def test_a_frequency_of_a_rigid_body_is_refused(free):
    lattice, model, zeros = free
    with model.assemble(lattice.p) as pencil, ga.solve_eigenproblem(pencil, zeros) as pairs:
        below = int(np.argmin(pairs.values.real))
        with pytest.raises(
            (ga.InputError, ga.DegenerateEigenvalueError), match=r"positive|cluster"
        ):
            ga.gradient(model, lattice.p, pairs, obj.Frequency(below))


def test_a_loop_keeps_the_number_of_zeros(free):
    """Without the count too: what has converged to the same value is never cut."""
    lattice, model, zeros = free
    counts = []

    def objective(pairs):
        counts.append(pairs.count)
        return float(pairs.values[zeros].real), ga.EigenCotangent(values=np.eye(pairs.count)[zeros])

    with ga.value_and_gradient(model, objective, count=zeros + 1, target=0.0) as f:
        for factor in (1.0, 1.1, 1.2):
            value, gradient = f({"stiffness": factor * lattice.p["stiffness"]})
            # lam is homogeneous of degree 1 in the stiffnesses
            total = factor * gradient["stiffness"] @ lattice.p["stiffness"]
            assert abs(total - value) < 1e-9 * value
    assert set(counts) == {zeros + 1}

"""Objectives of clusters whose derivative vanishes outside of the span, or inside of it."""

import numpy as np
import pytest
from pencils import petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

SIDE = 4
N = SIDE**2
MASS = 3e-3


class Grid:
    """The Laplacian on a square, with B = MASS I where asked for; pairs 1 and 2 are equal."""

    def __init__(self, comm, *, with_b):
        rng = np.random.default_rng(2)
        line = 2 * np.eye(SIDE) - np.eye(SIDE, k=1) - np.eye(SIDE, k=-1)
        A = np.kron(line, np.eye(SIDE)) + np.kron(np.eye(SIDE), line)
        self.dA, self.dB = rng.uniform(0, 1, N), rng.uniform(0, 1e-2, N)
        given = [A, np.diag(self.dA), MASS * np.eye(N), np.diag(self.dB)]
        self.mats = [petsc_matrix(comm, M) for M in given[: 2 + 2 * with_b]]
        A, dA, B, dB = [*self.mats, None, None][:4]
        self.model, self.p = ga.MatrixModel(A, B, {"p": [(dA, dB)]}), {"p": np.zeros(1)}
        values, self.X = np.linalg.eigh(given[0])
        self.X = self.X / np.sqrt([1.0, MASS][with_b])
        self.lam = values / [1.0, MASS][with_b]
        self.dB = self.dB * with_b

    def close(self):
        self.model.close()
        for mat in self.mats:
            mat.destroy()

    def gradient(self, make):
        """Return the gradient of make(pairs) with three pairs."""
        with (
            self.model.assemble(self.p) as pencil,
            ga.solve_eigenproblem(pencil, 3, target=0.0) as pairs,
        ):
            assert pairs.clusters == ((0,), (1, 2))
            return ga.gradient(self.model, self.p, pairs, make(pairs))["p"][0]

    def inside(self, members, D):
        """Return -sum_ij D_ij x_j^H dB x_i: the derivative of tr(D X X^H) inside the span."""
        X = self.X[:, members]
        return -float(np.sum((X.T @ (D[:, None] * X)) * (X.T @ (self.dB[:, None] * X))))


@pytest.fixture(params=[False, True], ids=["standard", "generalized"])
def grid(comm, request):
    made = Grid(comm, with_b=request.param)
    yield made
    made.close()


@pytest.fixture
def heavy(comm):
    made = Grid(comm, with_b=True)
    yield made
    made.close()


@pytest.mark.parametrize("members", [(1, 2), (0, 1, 2)])
def test_squared_lengths_of_a_cluster(grid, members):
    found = grid.gradient(lambda pairs: obj.QuadraticForm(np.ones(pairs.pencil.n_local), members))
    exact = grid.inside(list(members), np.ones(N))
    assert abs(found - exact) < 1e-10 * abs(exact) + 1e-14  # closed form; zero without B


def test_squared_lengths_by_a_spectral_function(grid):
    found = grid.gradient(lambda pairs: obj.SpectralFunction(np.ones(pairs.pencil.n_local)))
    exact = grid.inside([0, 1, 2], np.ones(N))
    assert abs(found - exact) < 1e-10 * abs(exact) + 1e-14


def test_the_squared_length_of_one_member_depends_on_the_basis(heavy):
    with pytest.raises(ga.DegenerateEigenvalueError, match="different weights"):
        heavy.gradient(lambda pairs: obj.QuadraticForm(np.ones(pairs.pencil.n_local), (1,)))


def rayleigh(weight, members, *, explicit):
    """sum x^H D x / (x^H B x) over members, with its dependence on B or without."""

    def objective(pairs):
        columns = list(members)
        X = pairs.right[:, columns]
        BX = pairs.pencil.multiply_b(X)
        over = np.array([pairs.comm.allreduce(weight @ np.abs(x) ** 2) for x in X.T])
        x_bar, left_b = np.zeros_like(pairs.right), -over * X
        x_bar[:, columns] = 2 * (weight[:, None] * X - over * BX)
        matrices = (np.zeros_like(X), left_b, X) if explicit else None
        return float(over.sum()), ga.EigenCotangent(right=x_bar, matrices=matrices)

    return objective


def test_quotients_by_the_modal_mass(heavy):
    D = np.random.default_rng(0).uniform(0.5, 2.0, N)
    results = [
        heavy.gradient(lambda pairs: obj.QuadraticForm(D[slice(*pairs.rows)], (1, 2))),
        heavy.gradient(lambda pairs: rayleigh(D[slice(*pairs.rows)], (1, 2), explicit=True)),
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-9)  # x^H B x = 1: the same function


def test_a_forgotten_dependence_on_the_mass_is_noticed(heavy):
    D = np.random.default_rng(0).uniform(0.5, 2.0, N)
    with pytest.raises(ga.DegenerateEigenvalueError, match="different weights"):
        heavy.gradient(lambda pairs: rayleigh(D[slice(*pairs.rows)], (1, 2), explicit=False))


def test_rayleigh_quotients_of_a_cluster(heavy):
    """What is left of x_bar is rounding; all of the derivative is explicit."""

    def make(pairs):
        X, lam = pairs.right, pairs.values.real
        x_bar = 2 * (pairs.pencil.multiply_a(X) - lam * pairs.pencil.multiply_b(X))
        cotangent = ga.EigenCotangent(right=x_bar, matrices=(X, -lam * X, X))
        return lambda _: (float(lam.sum()), cotangent)

    X, lam = heavy.X[:, :3], heavy.lam[:3]
    exact = np.sum(X**2 * (heavy.dA[:, None] - lam * heavy.dB[:, None]))
    assert heavy.gradient(make) == pytest.approx(exact, rel=1e-10)


def test_a_cluster_that_is_the_whole_space(comm):
    n, rng = 3, np.random.default_rng(4)
    D, dA, dB = rng.uniform(0.5, 2.0, n), rng.standard_normal((n, n)), rng.standard_normal((n, n))
    L = np.eye(n) + 0.2 * rng.standard_normal((n, n))
    B, dA, dB = L @ L.T, dA + dA.T, dB + dB.T
    mats = [petsc_matrix(comm, M) for M in (2.0 * B, B, dA, dB)]
    p = {"p": np.zeros(1)}
    with (
        ga.MatrixModel(mats[0], mats[1], {"p": [(mats[2], mats[3])]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, n, target=0.0) as pairs,
    ):
        assert pairs.clusters == ((0, 1, 2),)
        weight = D[slice(*pairs.rows)]
        found = ga.gradient(model, p, pairs, obj.QuadraticForm(weight, (0, 1, 2)))["p"][0]
        with pytest.raises(ga.DegenerateEigenvalueError, match="different weights"):
            ga.gradient(model, p, pairs, obj.QuadraticForm(weight, (1,)))
    inverse = np.linalg.inv(B)  # X X^H = B^-1
    exact = -np.trace(np.diag(D) @ inverse @ dB @ inverse)
    assert found == pytest.approx(exact, rel=1e-11)
    for mat in mats:
        mat.destroy()

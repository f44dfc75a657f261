"""Second derivatives where a cotangent vanishes, or nearly does beside a large one."""

import numpy as np
import pytest
from builders import matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 9
P, P_DOT = {"p": np.zeros(2)}, {"p": np.array([1.0, -0.4])}
WEIGHT = np.arange(N) * 1.0
# A matrix without equal entries on its diagonal, all rows coupled; skew makes it nonsymmetric.
BASE = np.diag(np.arange(1.0, N + 1)) + 0.1
SKEW = np.triu(0.2 * np.ones((N, N)), 1)
SLOPES = [np.diag(np.random.default_rng(seed).random(N)) for seed in (0, 1)]


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["symmetric", "nonsymmetric"])
def solved(request, comm):
    mats = [matrix(M, comm) for M in (BASE + request.param * SKEW, *SLOPES)]
    model = ga.MatrixModel(mats[0], None, {"p": [(slope, None) for slope in mats[1:]]})
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, count=3) as pairs:
        yield model, pairs


def slope_of(model, pairs, objective):
    return ga.gradient(model, P, pairs, objective)["p"]


def product(model, pairs, objective):
    return ga.hessian_vector_product(model, P, pairs, objective, P_DOT)["p"]


def squared_misfit(objective, best):
    """Return (g - best)^2 for an objective g."""

    def fit(pairs):
        value, inner = objective(pairs)
        rest = value - best
        parts = {
            name: None if part is None else 2 * rest * np.asarray(part)
            for name, part in vars(inner).items()
        }
        return rest**2, ga.EigenCotangent(**parts)

    return fit


# Each looks at one kind of thing only: a right vector, a left one, an eigenvalue.
INNER = {
    "right": obj.QuadraticForm(WEIGHT, (1,)),
    "linear": obj.LinearOutput(WEIGHT, 1),
    "value": obj.Eigenvalue(1),
    "left": lambda pairs: left_energy(pairs, 1),
}


def left_energy(pairs, j):
    """y_j^H D y_j."""
    y = pairs.left[:, j]
    bar = np.zeros_like(pairs.left)
    bar[:, j] = 2 * WEIGHT * y
    return float(WEIGHT @ np.abs(y) ** 2), ga.EigenCotangent(left=bar)


@pytest.mark.parametrize("kind", INNER)
def test_a_fit_at_its_best(solved, kind):
    # H = 2 (dg)(dg)^T where g is at its best: x_bar = 0 here and moves with x.
    model, pairs = solved
    best = INNER[kind](pairs)[0]
    slope = slope_of(model, pairs, INNER[kind])
    found = product(model, pairs, squared_misfit(INNER[kind], best))
    expected = 2 * slope * (slope @ P_DOT["p"])
    # Differences of the cotangent, and slopes that are right to rtol 1e-10
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(slope).max() ** 2)
    assert np.abs(expected).max() > 1e-3 * np.abs(slope).max() ** 2


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-7])
def test_a_small_fit_beside_a_large_term(solved, size):
    # lam_0 + size (lam_1 - l1)^2: the second cotangent is 0 here and moves by little.
    model, pairs = solved
    best = pairs.values[1].real

    def mixed(pairs):
        bar, rest = np.zeros(pairs.count), pairs.values[1].real - best
        bar[0], bar[1] = 1.0, 2 * size * rest
        return pairs.values[0].real + size * rest**2, ga.EigenCotangent(values=bar)

    slope = slope_of(model, pairs, obj.Eigenvalue(1))
    rest = product(model, pairs, mixed) - product(model, pairs, obj.Eigenvalue(0))
    expected = 2 * size * slope * (slope @ P_DOT["p"])
    # The first term's own second derivative, about 1e-1, is right to some 1e-11.
    np.testing.assert_allclose(rest, expected, rtol=1e-6, atol=1e-10)

"""Objectives that depend on a free phase by little are refused like those that do by much."""

import numpy as np
import pytest
from builders import matrix

import geneig_adjoint as ga

N = 6
RNG = np.random.default_rng(8)
# A flow with complex pairs in both builds.
A = np.diag(np.repeat([1.0, 3.0, 5.5], 2)) + np.kron(np.eye(3), [[0.0, 1.0], [-1.2, 0.0]])
A = A + 0.1 * RNG.standard_normal((N, N))
P = {"p": np.zeros(2)}
C = RNG.uniform(0.5, 1.5, N)
WEIGHT = RNG.uniform(0.5, 1.5, N)


@pytest.fixture(scope="module", params=["2", None], ids=["2", "default"])
def solved(request, comm):
    """Pairs of the first complex pair, with a phase that nobody fixed."""
    mats = [matrix(M, comm) for M in (A, *RNG.standard_normal((2, N, N)))]
    model = ga.MatrixModel(mats[0], None, {"p": [(slope, None) for slope in mats[1:]]})
    settings = {"count": 2, "target": 0.9, "normalization": request.param, "phase": None}
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, **settings) as pairs:
        assert np.abs(pairs.values[0].imag) > 0.5
        yield model, pairs


def mostly_energy(size):
    """x^H D x + size Re(c^H x): the first term does not know the phase, the second one does."""

    def objective(pairs):
        x = pairs.right[:, 0]
        x_bar = np.zeros_like(pairs.right)
        x_bar[:, 0] = 2 * WEIGHT * x + size * C
        value = float(WEIGHT @ np.abs(x) ** 2 + size * (C @ x).real)
        return value, ga.EigenCotangent(right=x_bar)

    return objective


def defect_of(pairs, size):
    """Return |Im x_bar^H x| / (|x_bar| |x|), what the error says."""
    x_bar = mostly_energy(size)(pairs)[1].right[:, 0]
    x = pairs.right[:, 0]
    return abs(np.vdot(x_bar, x).imag) / (np.linalg.norm(x_bar) * np.linalg.norm(x))


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4, 1e-6])
def test_a_small_dependence_on_the_phase_is_refused(solved, size):
    model, pairs = solved
    defect = defect_of(pairs, size)
    assert defect > 1e-2 * size  # this phase does not happen to hide it
    with pytest.raises(
        ga.GaugeError, match=r"must not depend on the phase .*phase='largest'"
    ) as caught:
        ga.gradient(model, P, pairs, mostly_energy(size))
    assert caught.value.defect == pytest.approx(defect, rel=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-11])
def test_rounding_is_no_dependence(solved, size):
    model, pairs = solved
    found = ga.gradient(model, P, pairs, mostly_energy(size))["p"]
    expected = ga.gradient(model, P, pairs, ga.objectives.QuadraticForm(WEIGHT, (0,)))["p"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())

"""Verdicts where values are rounding: zeros, and derivatives that are small beside the value."""

import numpy as np
import pytest
from pencils import petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj
from geneig_adjoint.noise import MARGIN, terms_and_noise

N = 12


class Weighted:
    """A model whose gradient is multiplied by a factor: 1 is right."""

    def __init__(self, inner, factor):
        self.inner, self.factor = inner, factor

    def assemble(self, p, *, out=None):
        return self.inner.assemble(p, out=out)

    def contract(self, p, left_a, left_b, right):
        found = self.inner.contract(p, left_a, left_b, right)
        return {name: self.factor * entries for name, entries in found.items()}


def problem(comm, *, slope=1.0, factor=1.0, seed=3):
    """Real eigenvalues 1.5 ... that all parameters move, in a skew basis."""
    rng = np.random.default_rng(seed)
    X = np.eye(N) + 0.2 * rng.standard_normal((N, N))
    A = X @ np.diag(np.arange(N) + 1.5) @ np.linalg.inv(X)
    D = slope * rng.standard_normal((N, N))
    model = ga.MatrixModel(petsc_matrix(comm, A), None, {"p": [(petsc_matrix(comm, D), None)]})
    return Weighted(model, factor), {"p": np.array([0.1])}


def rows(comm, block):
    return np.array_split(block, comm.size)[comm.rank]


ZEROS = {
    "value": lambda comm: obj.Eigenvalue(0, part="imag"),
    "vector": lambda comm: obj.LinearOutput(rows(comm, np.arange(1.0, N + 1)), 0, part="imag"),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("objective", ZEROS.values(), ids=ZEROS)
def test_an_objective_that_vanishes_up_to_rounding_passes(comm, objective, seed):
    model, p = problem(comm, slope=0.05, seed=seed)
    report = ga.verify_gradient(model, p, objective(comm), count=2)
    assert abs(report.value) < 1e-12
    assert report.passed, str(report)
    assert np.isnan(report.orders).all()


def test_a_derivative_below_the_noise_of_differences_passes(comm):
    # 1e-10 of a value of 1.5: differences with 2e-3 know no digit of it beyond the third.
    model, p = problem(comm, slope=1e-10)
    report = ga.verify_gradient(model, p, obj.Eigenvalue(0), count=2)
    assert report.passed, str(report)
    [item] = report.comparisons
    assert item.noise > 1e-6
    assert item.relative_error > 1e-6
    assert f"{item.relative_error:.1e} (below noise: {item.noise:.1e})" in str(report)


def test_a_wrong_small_derivative_is_found(comm):
    model, p = problem(comm, slope=1e-5, factor=1.02)
    report = ga.verify_gradient(model, p, obj.Eigenvalue(0), count=2)
    assert not report.passed
    assert "the derivative in 'p' must agree with differences" in report.failures[-1]
    assert "below noise" not in str(report)


def test_noise_hides_nothing_of_an_ordinary_derivative(comm):
    model, p = problem(comm, factor=1 + 3e-6)
    report = ga.verify_gradient(model, p, obj.Eigenvalue(0), count=2)
    [item] = report.comparisons
    assert item.noise < 1e-7
    assert report.failures


def test_terms_and_noise_of_a_hand_made_cotangent(comm):
    model, p = problem(comm)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        lam, x, y = pairs.values[0], pairs.right[:, 0], pairs.left[:, 0]
        bars = [np.zeros_like(pairs.right) for _ in range(2)]
        bars[0][:, 0], bars[1][:, 0] = 2.0, 3.0
        cotangent = ga.EigenCotangent(np.array([2j, 0.0]), bars[0], bars[1])
        terms, noise = terms_and_noise(pairs, -0.5, cotangent)
        sums = comm.allreduce(np.array([np.abs(x).sum(), np.abs(y).sum()]))
        lengths = np.sqrt(comm.allreduce(np.array([np.vdot(x, x).real, np.vdot(y, y).real])))
        eps = np.finfo(float).eps
        shift = max(pairs.errors[0], eps * abs(lam))
        assert terms == pytest.approx(0.5 + 2 * abs(lam) + 2 * sums[0] + 3 * sums[1], rel=1e-12)
        vectors = np.sqrt(N) * (2 * lengths[0] + 3 * lengths[1]) * (eps + shift / pairs.gaps[0])
        # two times rounding of the value
        assert noise == pytest.approx(MARGIN * (0.5 * eps + 2 * shift + vectors), rel=1e-12)

"""Divided differences of spectral functions: sharp functions, zeros that are rounding, energies."""

import numpy as np
import pytest
from pencils import COMPLEX_BUILD, petsc_matrix

import geneig_adjoint as ga

N = 8


def hermitian(rng, n=N):
    draws = [rng.standard_normal((n, n)), 1j * rng.standard_normal((n, n))]
    made = sum(draws[1 : 1 + COMPLEX_BUILD], draws[0])
    return (made + made.conj().T) / 2


class Spectrum:
    """A = L Q diag Q^H L^H, B = L L^H with known vectors, and one direction of A and B."""

    def __init__(self, comm, lam, scale=1.0):
        rng = np.random.default_rng(5)
        self.lam, n = scale * np.array(lam), len(lam)
        L, Q = np.eye(n) + 0.1 * hermitian(rng, n), np.linalg.qr(hermitian(rng, n))[0]
        self.V = np.linalg.solve(L.conj().T, Q)
        A, self.B = (L @ Q) * self.lam @ (L @ Q).conj().T, L @ L.conj().T
        self.A = (A + A.conj().T) / 2
        self.direction = scale * hermitian(rng, n), hermitian(rng, n)
        self.weight = rng.uniform(0.5, 2.0, n)
        mats = [petsc_matrix(comm, M) for M in (self.A, self.B, *self.direction)]
        self.model = ga.MatrixModel(mats[0], mats[1], {"p": [(mats[2], mats[3])]})
        self.mats, self.p = mats, {"p": np.zeros(1)}

    def gradient(self, count, *function):
        with (
            self.model.assemble(self.p) as pencil,
            ga.solve_eigenproblem(pencil, count, target=0.0) as pairs,
        ):
            assert pairs.count == count
            own = self.weight[slice(*pairs.rows)]
            objective = ga.objectives.SpectralFunction(own, *function)
            found = ga.gradient(self.model, self.p, pairs, objective)
        return found["p"][0], found.relative_error

    def exact(self, f, differences):
        """Return the derivative from exact values; differences(i, j) = f[i, j]."""
        V, lam, n = self.V, self.lam, len(self.lam)
        D = V.conj().T @ (self.weight[:, None] * V)
        first = np.array([[differences(i, j) for j in range(n)] for i in range(n)])
        second = 0.5 * ((lam[:, None] + lam) * first + f[:, None] + f)
        dA, dB = (V.conj().T @ M @ V for M in self.direction)
        return float(np.sum(D.T * (first * dA - second * dB)).real)

    def close(self):
        self.model.close()
        for mat in self.mats:
            mat.destroy()


@pytest.fixture
def spectrum(comm):
    made = []

    def make(*args, **settings):
        made.append(Spectrum(comm, *args, **settings))
        return made[-1]

    yield make
    for item in made:
        item.close()


MIDDLE = 1000.002


@pytest.mark.parametrize("width", [10.0, 1.0, 0.1, 0.02, 0.005, 0.002, 0.0005])
@pytest.mark.parametrize("gap", [0.005, 0.0008])  # the second one is a cluster, 8e-7
def test_functions_that_vary_within_a_small_gap(spectrum, width, gap):
    case = spectrum([1000.0, 1000.0 + gap, 1500, 1700, 2000, 2500, 3000, 4000.0])
    half = 0.5 / width

    def fermi(x):
        return 0.5 - 0.5 * np.tanh(half * (x - MIDDLE))

    def slope(x):
        return -0.5 * half * (1 - np.tanh(half * (x - MIDDLE)) ** 2)

    f = np.where(np.arange(N) < 3, fermi(case.lam), 0.0)

    def differences(i, j):
        if i > 2 and j > 2:
            return 0.0
        if i == j:
            return slope(case.lam[i])
        if {i, j} <= {0, 1, 2}:  # tanh a - tanh b = sinh(a - b) / (cosh a cosh b): no cancellation
            a, b = half * (case.lam[[i, j]] - MIDDLE)
            step = np.tanh(a - b) * (1 - np.tanh(a) * np.tanh(b))
            return -0.5 * step / (case.lam[i] - case.lam[j])
        return (f[i] - f[j]) / (case.lam[i] - case.lam[j])

    found, _ = case.gradient(3, fermi, slope)
    exact = case.exact(f, differences)
    # rounding of A moves the values by eps 4000 and, with this B, some times more: by 2e-12 on one
    # processor, less on another; the function changes by that, relative to its width
    assert abs(found - exact) < (1e-11 + 1e-11 / width) * abs(exact)


ZEROS = [0.0, 0.0, 0.0, 0.3, 0.8, 1.2, 1.7, 2.9]
SMOOTH = {
    "exponential": (lambda x: np.exp(-x), lambda x: -np.exp(-x)),
    "compliance": (lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2),
    "energy": (lambda x: x, np.ones_like),
}


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("count", [3, 4])
def test_functions_of_zeros_that_are_rounding(spectrum, name, scale, count):
    case = spectrum(ZEROS, scale)
    f, slope = SMOOTH[name]
    lam = case.lam / scale
    values = np.where(np.arange(N) < count, f(lam), 0.0)

    def differences(i, j):
        if i >= count and j >= count:
            return 0.0
        close = i < count and j < count and abs(lam[i] - lam[j]) < 1e-3
        if close:
            return slope(lam[i]) / scale
        return (values[i] - values[j]) / (case.lam[i] - case.lam[j])

    found, estimate = case.gradient(count, lambda x: f(x / scale))
    exact = case.exact(values, differences)
    assert abs(found - exact) < 1e-11 * abs(exact)  # vectors right to 1e-13, times the terms
    assert estimate < 1e-9


def test_a_slope_that_is_not_finite_is_refused(spectrum):
    case = spectrum(ZEROS)
    with pytest.raises(ga.InputError, match="must be finite"):
        case.gradient(3, np.ones_like, lambda x: np.full(x.shape, np.nan))

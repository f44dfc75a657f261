"""Element kernels: laws, complex steps, contractions, and kernels that misbehave."""

import warnings

import numpy as np
import pytest
from numpy.exceptions import ComplexWarning

import geneig_adjoint as ga
from geneig_adjoint.differentiation import complex_step

COUNT, ND, K = 5, 3, 2
RNG = np.random.default_rng(7)
BASE = RNG.normal(size=(ND, ND))  # not symmetric
OWN_BASES = RNG.normal(size=(COUNT, ND, ND))
RHO = RNG.uniform(0.2, 1.0, size=COUNT)
ROWS = slice(0, COUNT)


def law(rho):
    return np.exp(-rho) / (1 + rho**2)


def truss(area, length, angle):
    """Element matrices from one parameter of (batch, 2), one of (batch,) and data."""
    stiff = area[:, 0] ** 2 * area[:, 1] / length
    direction = np.stack([np.cos(angle), np.sin(angle), -np.cos(angle)], axis=1)
    return stiff[:, None, None] * direction[:, :, None] * direction[:, None, :]


TRUSS = ga.NumpyKernel(truss, {"angle": RNG.uniform(0, 3, COUNT)})
VALUES = {"area": RNG.uniform(0.5, 1, (COUNT, 2)), "length": RNG.uniform(1, 2, COUNT)}
KERNELS = {
    "linear": (ga.ScaledKernel(BASE), {"rho": RHO}),
    "power": (ga.ScaledKernel(BASE, ga.PowerLaw(3.0, 1e-3)), {"rho": RHO}),
    "own bases": (ga.ScaledKernel(OWN_BASES, law), {"rho": RHO}),
    "function": (TRUSS, VALUES),
}


def directions(values):
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=value.shape) for name, value in values.items()}


def moved(values, dots, h):
    return {name: values[name] + h * dots[name] for name in values}


@pytest.mark.parametrize("name", KERNELS)
def test_derivative_is_that_of_the_matrices(name):
    kernel, values = KERNELS[name]
    dots, h = directions(values), 1e-4

    def at(step):
        return kernel.matrices(moved(values, dots, step), ROWS)

    # fourth-order differences: error about h^4 + eps / h, 1e-12 relative to size 10
    expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    assert np.allclose(kernel.derivative(values, dots, ROWS), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("complex_vectors", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("name", KERNELS)
def test_vjp_is_the_transpose_of_the_derivative(name, complex_vectors):
    kernel, values = KERNELS[name]
    rng = np.random.default_rng(2)
    imaginary = 1j * complex_vectors
    left, right = (
        rng.normal(size=(COUNT, ND, K)) + imaginary * rng.normal(size=(COUNT, ND, K))
        for _ in range(2)
    )
    dots = directions(values)
    bars = kernel.vjp(values, left, right, ROWS)
    derivative = kernel.derivative(values, dots, ROWS)
    forward = np.einsum("edk,edf,efk->", left.conj(), derivative, right).real
    backward = sum(np.sum(bars[name] * dots[name]) for name in values)
    assert bars.keys() == values.keys()
    assert all(bars[name].shape == values[name].shape for name in values)
    # one rounding per product
    assert np.isclose(forward, backward, rtol=1e-13)


@pytest.mark.parametrize("name", KERNELS)
def test_batches_are_cut_from_bases_and_data(name):
    kernel, values = KERNELS[name]
    rows = slice(2, 4)
    cut = {name: value[rows] for name, value in values.items()}
    assert np.array_equal(kernel.matrices(cut, rows), kernel.matrices(values, ROWS)[rows])
    dots = directions(values)
    dots_cut = {name: value[rows] for name, value in dots.items()}
    whole = kernel.derivative(values, dots, ROWS)
    assert np.array_equal(kernel.derivative(cut, dots_cut, rows), whole[rows])


def test_power_law():
    assert np.allclose(ga.PowerLaw(3.0, 0.5)(np.array([0.0, 2.0])), [0.5, 8.5], rtol=1e-15)
    slope = complex_step(ga.PowerLaw(3.0, 0.5), np.array([2.0]), np.ones(1))
    assert np.allclose(slope, 12.0, rtol=1e-15)
    assert np.array_equal(ga.Linear()(RHO), RHO)


def test_function_of_complex_value_is_refused():
    kernel = ga.NumpyKernel(lambda a: 1j * np.ones((COUNT, 2, 2)) * a[:, None, None])
    message = r"must return real numbers.*dtype complex128.*pair.*or give the kernel tangent="
    with pytest.raises(ga.InputError, match=message):
        kernel.matrices({"a": RHO}, ROWS)


def test_law_of_complex_value_is_refused():
    kernel = ga.ScaledKernel(BASE, lambda rho: (1 + 0.05j) * rho)
    with pytest.raises(ga.InputError, match=r"law must return real.*dtype complex128.*into K0"):
        kernel.matrices({"rho": RHO}, ROWS)


def test_function_without_effect_has_derivative_zero():
    kernel = ga.NumpyKernel(lambda a: np.ones((a.shape[0], 2, 2)))
    derivative = kernel.derivative({"a": RHO}, {"a": np.ones(COUNT)}, ROWS)
    assert np.array_equal(derivative, np.zeros((COUNT, 2, 2)))


def cast(a):
    out = np.zeros((a.shape[0], 1, 1))
    out[:, 0, 0] = a
    return out


def test_function_that_drops_the_imaginary_part_is_an_error_not_a_zero():
    # NumPy only warns, and shows the warning once: the gradient would be a silent zero.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ga.InputError, ComplexWarning)):
            ga.NumpyKernel(cast).derivative({"a": RHO}, {"a": np.ones(COUNT)}, ROWS)


def test_names_that_are_alike_as_keywords():
    kernel = ga.NumpyKernel(lambda a_b: a_b[:, None, None] * BASE)
    with pytest.raises(ga.InputError, match=r"differ as keywords, got \['a/b', 'a_b'\]"):
        kernel.matrices({"a/b": RHO, "a_b": RHO}, ROWS)


def test_only_the_first_derivative_of_its_kind_is_compared_with_differences():
    calls = []

    def function(rho):
        calls.append(rho.dtype)
        return (rho**2)[:, None, None] * BASE

    kernel, counts = ga.NumpyKernel(function), []
    for _ in range(2):
        calls.clear()
        kernel.derivative({"rho": RHO}, {"rho": RHO}, ROWS)
        counts.append(len(calls))
    assert counts[0] > counts[1] == 1

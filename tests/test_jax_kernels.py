"""`JaxKernel`: against closed forms and complex steps, in float64, in bounded memory."""

import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_elements import ND, complex_truss, jax_truss, truss_elements, truss_kernels

import geneig_adjoint as ga
from geneig_adjoint.jax_kernels import _float64

COUNT = 11
VALUES, ANGLE = truss_elements(COUNT)
KERNELS = truss_kernels(ANGLE)
ROWS = slice(0, COUNT)
EYE = np.eye(2)


def vectors(columns, *, imaginary, count=COUNT):
    rng = np.random.default_rng(columns)
    parts = rng.normal(size=(4, count, ND, columns))
    return parts[0] + 1j * imaginary * parts[1], parts[2] + 1j * imaginary * parts[3]


def directions():
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=value.shape) for name, value in VALUES.items()}


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("source", ["closed form", "complex step"])
def test_matrices_and_derivatives_are_those_of_other_sources(source):
    for name in ("matrices", "derivative"):
        arguments = (VALUES, ROWS) if name == "matrices" else (VALUES, directions(), ROWS)
        found, expected = (getattr(KERNELS[key], name)(*arguments) for key in ("jax", source))
        # a dozen roundings per entry
        assert relative(found, expected) <= 1e-14, name


@pytest.mark.parametrize("imaginary", [0, 1], ids=["real", "complex"])
@pytest.mark.parametrize("columns", [1, 4])
@pytest.mark.parametrize("source", ["closed form", "complex step"])
def test_vjp_is_that_of_other_sources(source, columns, imaginary):
    left, right = vectors(columns, imaginary=imaginary)
    found, expected = (KERNELS[key].vjp(VALUES, left, right, ROWS) for key in ("jax", source))
    assert found.keys() == expected.keys()
    for name, bars in expected.items():
        assert found[name].dtype == float
        assert found[name].shape == VALUES[name].shape
        assert relative(found[name], bars) <= 1e-13  # sums of some 40 products


def test_vjp_of_real_and_complex_vectors_together():
    left, right = vectors(2, imaginary=1)
    for sides in ((left.real, right), (left, right.real)):
        found = KERNELS["jax"].vjp(VALUES, *sides, ROWS)
        expected = KERNELS["closed form"].vjp(VALUES, *sides, ROWS)
        assert relative(found["area"], expected["area"]) <= 1e-13


def test_second_derivatives_are_those_of_the_closed_form():
    sides = vectors(3, imaginary=1)
    found, expected = (
        KERNELS[key].vjp_tangent(VALUES, directions(), *sides, ROWS)
        for key in ("jax", "closed form")
    )
    for name, bars in expected.items():
        assert relative(found[name], bars) <= 1e-12


def test_all_sources_agree_at_every_element():
    for source in ("closed form", "complex step"):
        report = ga.check_kernels(KERNELS["jax"], KERNELS[source], VALUES)
        first_order = [one for one in report.comparisons if "tangent" not in one.quantity]
        # One source against the other at the level of an element.
        assert max(one.relative_error for one in first_order) <= 1e-12
        assert report.passed


def test_complex_matrices():
    closed, lossy = complex_truss(ANGLE)
    assert lossy.matrices(VALUES, ROWS).dtype == complex
    report = ga.check_kernels(lossy, closed, VALUES, rtol=1e-12)
    assert report.passed, str(report)


def test_taylor_remainder_of_the_products_is_of_second_order():
    sides, dots, kernel = vectors(2, imaginary=1), directions(), KERNELS["jax"]
    base = KERNELS["closed form"].matrices(VALUES, ROWS)
    bars = kernel.vjp(VALUES, *sides, ROWS)
    slope = sum(np.sum(bars[name] * dots[name]) for name in VALUES)

    def remainder(step):
        moved = {name: VALUES[name] + step * dots[name] for name in VALUES}
        change = KERNELS["closed form"].matrices(moved, ROWS) - base
        value = np.einsum("eik,eij,ejk->", sides[0].conj(), change, sides[1]).real
        return abs(value - step * slope)

    assert np.log2(remainder(2e-3) / remainder(1e-3)) > 1.95


def test_vjp_is_the_transpose_of_the_derivative():
    sides, dots, kernel = vectors(2, imaginary=1), directions(), KERNELS["jax"]
    bars = kernel.vjp(VALUES, *sides, ROWS)
    backward = sum(np.sum(bars[name] * dots[name]) for name in VALUES)
    slope = kernel.derivative(VALUES, dots, ROWS)
    forward = np.einsum("eik,eij,ejk->", sides[0].conj(), slope, sides[1]).real
    assert np.isclose(forward, backward, rtol=1e-12)


def test_double_precision_whatever_jax_is_set_to():
    assert jnp.ones(1).dtype == jnp.float32
    angle = ANGLE.astype(np.float32)  # data of any precision
    kernel = ga.JaxKernel(jax_truss, {"angle": angle})
    expected = truss_kernels(angle.astype(float))["closed form"].matrices(VALUES, ROWS)
    assert relative(kernel.matrices(VALUES, ROWS), expected) <= 1e-14
    assert jnp.ones(1).dtype == jnp.float32


def test_one_compilation_serves_all_batches_and_any_number_of_vectors():
    traced = []

    def counted(area, length, angle):
        traced.append(area)
        return jax_truss(area, length, angle)

    kernel = ga.JaxKernel(counted, {"angle": ANGLE})

    def visit(columns):
        for rows in (slice(0, 5), slice(5, 10), slice(10, COUNT)):
            values = {name: value[rows] for name, value in VALUES.items()}
            left, right = (side[rows] for side in vectors(columns, imaginary=columns % 2))
            kernel.matrices(values, rows)
            kernel.vjp(values, left, right, rows)

    visit(1)
    first = len(traced)
    visit(2)
    visit(5)
    assert first == len(traced)
    assert [plan.compiled._cache_size() for plan in kernel._plans.values()] == [1, 1]


def shapes_of(jaxpr):
    """Return the number of entries of every intermediate result, of inner functions too."""
    inner = [eqn.params["jaxpr"].jaxpr for eqn in jaxpr.eqns if "jaxpr" in eqn.params]
    own = [int(np.prod(var.aval.shape)) for eqn in jaxpr.eqns for var in eqn.outvars]
    return sum(map(shapes_of, inner), own)


def heavy(scale):
    """An element with many quadrature points: 200 times the entries of its matrix."""
    points = jnp.linspace(0.0, 1.0, 200)
    shapes = jnp.stack([jnp.sin(scale * points + i) for i in range(ND)])
    return jnp.einsum("iq,jq,q->ij", shapes, shapes, 1 / (1 + scale * points**2))


@pytest.mark.parametrize("function", [heavy, jax.jit(heavy)], ids=["plain", "inner function"])
@pytest.mark.parametrize("entries", [2**15, 2**18])
def test_intermediate_results_are_bounded_however_many_elements(entries, function):
    count = 300
    kernel = ga.JaxKernel(function, chunk_entries=entries)
    values = {"scale": np.linspace(1.0, 2.0, count)}
    sides = vectors(2, imaginary=0, count=count)
    calls = kernel.vjp(values, *sides, slice(0, count))["scale"]
    plan = next(plan for key, plan in kernel._plans.items() if key[0] == "vjp")
    size = plan.largest
    assert 1 <= size < count
    weights = np.zeros((size, ND, ND))
    with _float64():
        arguments = (size, {"scale": values["scale"][:size]}, {}, weights)
        outer = jax.make_jaxpr(plan.compiled, static_argnums=0)(*arguments)
        inner = outer.jaxpr.eqns[0].params["jaxpr"].jaxpr
        compiled = plan.compiled.lower(*arguments).compile()
    assert sum(shapes_of(inner)) <= 1.1 * entries  # some are shared by all elements
    assert compiled.memory_analysis().temp_size_in_bytes <= 8 * entries
    # The same numbers as from one call for all.
    assert relative(calls, heavy_at_once(count)) <= 1e-13


@cache
def heavy_at_once(count):
    sides, values = vectors(2, imaginary=0, count=count), {"scale": np.linspace(1.0, 2.0, count)}
    return ga.JaxKernel(heavy, chunk_entries=2**24).vjp(values, *sides, slice(0, count))["scale"]


def test_elements_that_stand_still_have_exact_zeros():
    kernel = ga.JaxKernel(lambda rho: rho**1.5 * EYE)
    values, dots = {"rho": np.array([0.0, 1.0])}, {"rho": np.array([0.0, 2.0])}
    ones = np.ones((2, 2, 1))
    assert np.array_equal(kernel.derivative(values, dots, slice(0, 2))[0], np.zeros((2, 2)))
    found = kernel.vjp_tangent(values, dots, ones, ones, slice(0, 2))["rho"]
    assert np.allclose(found, [0.0, 2 * 2 * 0.75], rtol=1e-15)


def test_derivatives_that_do_not_exist_name_the_element():
    kernel = ga.JaxKernel(lambda rho: jnp.sqrt(rho) * EYE)
    values = {"rho": np.array([1.0, 0.0, 2.0])}
    ones = np.ones((3, 2, 1))
    message = r"in 'rho' must be finite.* 1 elements, the first is element 7 of this rank; keep"
    with pytest.raises(ga.InputError, match=message):
        kernel.vjp(values, ones, ones, slice(6, 9))
    with pytest.raises(ga.InputError, match=r"of a JaxKernel must be finite.*element 7"):
        kernel.derivative(values, {"rho": np.ones(3)}, slice(6, 9))


SINGLE = jnp.asarray(EYE / 3)
BAD = {
    "branch": (lambda a: EYE if a > 0 else -EYE, r"JAX can trace, got TracerBool.*where"),
    "numpy": (lambda a: np.asarray(a) * EYE, r"JAX can trace, got TracerArray.*jax\.numpy"),
    "batch": (lambda a: a * np.ones((3, 2, 2)), r"square matrix of one element.*\(3, 2, 2\)"),
    "single": (lambda a: jnp.float32(a) * EYE.astype("f4"), r"return float64.*got float32"),
    "integer": (lambda a: jnp.ones((2, 2), int), r"return float64 or complex128, got int64"),
    "constant": (lambda a: a * SINGLE, r"double precision, got a float32 array of shape \(2, 2\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_functions_that_cannot_be_used(name):
    function, message = BAD[name]
    kernel, values, ones = ga.JaxKernel(function), {"a": np.ones(2)}, np.ones((2, 2, 1))
    rows = slice(0, 2)
    for use in (
        lambda: kernel.matrices(values, rows),
        lambda: kernel.derivative(values, values, rows),
        lambda: kernel.vjp(values, ones, ones, rows),
    ):
        with pytest.raises(ga.InputError, match=message):
            use()


def test_kernel_without_parameters():
    kernel = ga.JaxKernel(lambda angle: angle * EYE, {"angle": ANGLE})
    rows = slice(3, 6)
    assert np.allclose(kernel.matrices({}, rows)[:, 0, 0], ANGLE[rows], rtol=1e-15)
    assert np.array_equal(kernel.derivative({}, {}, rows), np.zeros((3, 2, 2)))
    ones = np.ones((3, 2, 1))
    assert kernel.vjp({}, ones, ones, rows) == kernel.vjp_tangent({}, {}, ones, ones, rows) == {}


def test_data_of_other_elements():
    kernel, ones = ga.JaxKernel(lambda a, w: a * w * EYE, {"w": np.ones(2)}), np.ones((3, 2, 1))
    with pytest.raises(ga.InputError, match=r"data 'w' .* row per element, got 2 rows for 3 el"):
        kernel.vjp({"a": np.ones(3)}, ones, ones, slice(0, 3))


def test_without_jax_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ga.errors.MissingPackageError, match=r"pip install 'geneig-adjoint\[jax\]'"):
        ga.JaxKernel(jax_truss)

"""Complex element matrices in NumPy: pairs (real, imaginary) and derivatives of the user's own."""

import warnings

import numpy as np
import pytest
from element_problems import element_ends
from jax_elements import ND, ClosedTruss, complex_truss, numpy_truss, truss_elements
from numpy.exceptions import ComplexWarning
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga

COUNT = 9
VALUES, ANGLE = truss_elements(COUNT)
ROWS = slice(0, COUNT)
FACTOR = 0.8 + 0.3j
CLOSED, TRACED = complex_truss(ANGLE)


def as_pair(area, length, angle):
    """A real part and an imaginary part of its own, not multiples of each other."""
    return numpy_truss(area, length, angle), numpy_truss(area, length**2, angle + 1)


def multiple(**given):
    found = numpy_truss(**given)
    return FACTOR.real * found, FACTOR.imag * found


def lossy(**given):
    return FACTOR * numpy_truss(**given)


def slope(values, dots, angle):
    return ClosedTruss(angle, FACTOR).derivative(values, dots, slice(None))


def slope_as_pair(values, dots, angle):
    found = slope(values, dots, angle)
    return found.real, found.imag


DATA = {"angle": ANGLE}
KERNELS = {
    "pair": ga.NumpyKernel(multiple, DATA),
    "own derivative": ga.NumpyKernel(lossy, DATA, slope),
    "own derivative, both as pairs": ga.NumpyKernel(multiple, DATA, slope_as_pair),
}


@pytest.mark.parametrize("other", [CLOSED, TRACED], ids=["closed form", "jax"])
@pytest.mark.parametrize("name", KERNELS)
def test_all_sources_agree_at_every_element(name, other):
    assert KERNELS[name].matrices(VALUES, ROWS).dtype == complex
    report = ga.check_kernels(KERNELS[name], other, VALUES, rtol=1e-12)
    assert report.passed, str(report)


def test_parts_that_differ():
    report = ga.check_kernels(ga.NumpyKernel(as_pair, DATA), None, VALUES)
    assert report.passed, str(report)
    constant = ga.NumpyKernel(
        lambda area, length, angle: (numpy_truss(area, length, angle), 0.5), DATA
    )
    assert ga.check_kernels(constant, None, VALUES).passed


@pytest.mark.parametrize("name", KERNELS)
def test_contraction_conjugates_left_vectors(name):
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(2, COUNT, ND, 3)) + 1j * rng.normal(size=(2, COUNT, ND, 3))
    for sides in ((left, right), (left.real, right), (left, right.real), (left.real, right.real)):
        found, expected = (one.vjp(VALUES, *sides, ROWS) for one in (KERNELS[name], CLOSED))
        for part, bars in expected.items():
            assert found[part].dtype == float
            # sums of some 30 products
            assert np.abs(found[part] - bars).max() <= 1e-13 * np.abs(bars).max()


def wrong_at_element_4(values, dots, angle):
    wrong = np.arange(len(angle)) == 4
    return slope(values, dots, angle) * np.where(wrong, 1 + 1e-6j, 1)[:, None, None]


def test_a_wrong_derivative_of_the_user_is_found_at_its_element():
    report = ga.check_kernels(ga.NumpyKernel(lossy, DATA, wrong_at_element_4), None, VALUES)
    assert {one.element for one in report.failures} == {4}
    assert {one.quantity.split()[0] for one in report.failures} == {"derivative"}


def test_a_derivative_of_ones_own_replaces_the_complex_step():
    # abs is not analytic
    kernel = ga.NumpyKernel(
        lambda a: np.abs(a)[:, None, None] * np.eye(2),
        tangent=lambda values, dots: (np.sign(values["a"]) * dots["a"])[:, None, None] * np.eye(2),
    )
    assert ga.check_kernels(kernel, None, {"a": np.array([-2.0, 1.5])}).passed


def root(values, dots):
    with np.errstate(divide="ignore", invalid="ignore"):
        return (0.5 / np.sqrt(values["a"]) * dots["a"])[:, None, None] * np.eye(2)


def test_elements_that_stand_still_have_exact_zeros_and_others_are_named():
    kernel = ga.NumpyKernel(lambda a: np.sqrt(a)[:, None, None] * np.eye(2), tangent=root)
    values, rows = {"a": np.array([4.0, 0.0])}, slice(6, 8)
    found = kernel.derivative(values, {"a": np.array([1.0, 0.0])}, rows)
    assert np.array_equal(found, np.stack([0.25 * np.eye(2), np.zeros((2, 2))]))
    with pytest.raises(ga.InputError, match=r"of a NumpyKernel must be finite.* is element 7 of"):
        kernel.derivative(values, {"a": np.ones(2)}, rows)


PLAIN = {"a": np.array([0.5, 0.7])}
EYES = np.stack([np.eye(2)] * 2)


@pytest.mark.parametrize("step", ["matrices", "derivative", "vjp"])
@pytest.mark.parametrize(
    "function",
    [
        lambda a: (1 + 0.1j) * a[:, None, None] * EYES,
        lambda a: (a[:, None, None] * EYES, 1j * EYES),
    ],
    ids=["complex", "complex part of a pair"],
)
def test_a_complex_function_with_neither_is_refused(function, step):
    kernel, ones = ga.NumpyKernel(function), np.ones((2, 2, 1))
    uses = {"matrices": (), "derivative": (PLAIN,), "vjp": (ones, ones)}
    message = r"must return real numbers.*complex128.* pair \(real part, .*or give .*tangent=func"
    with pytest.raises(ga.InputError, match=message):
        getattr(kernel, step)(PLAIN, *uses[step], slice(0, 2))


def test_a_part_that_drops_the_imaginary_part_is_an_error_not_a_zero():
    def casts(a):
        out = np.zeros((2, 2, 2))
        out[:, 0, 0] = a
        return a[:, None, None] * EYES, out

    halves = {"casts": casts, "abs": lambda a: (a[:, None, None] * EYES, np.abs(a)[:, None, None])}
    for function in halves.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises((ga.InputError, ComplexWarning)):
                ga.NumpyKernel(function).derivative(PLAIN, PLAIN, slice(0, 2))


@pytest.mark.parametrize("count", [1, 3])
def test_a_pair_has_two_parts(count):
    kernel = ga.NumpyKernel(lambda a: (a[:, None, None] * EYES,) * count)
    with pytest.raises(ga.InputError, match=rf"an array or a pair, got {count} arrays"):
        kernel.matrices(PLAIN, slice(0, 2))


@pytest.mark.parametrize("found", [np.ones((2, 2)), np.ones((3, 2, 2)), np.ones((2, 2, 3))])
def test_the_shape_of_a_derivative(found):
    kernel = ga.NumpyKernel(lambda a: a[:, None, None] * EYES, tangent=lambda values, dots: found)
    with pytest.raises(ga.InputError, match=r"tangent of a NumpyKernel must return shape \(2, nd"):
        kernel.derivative(PLAIN, PLAIN, slice(0, 2))


def chain_of(kernel, comm):
    ends = element_ends(5, last_constrained=True)
    return ga.ElementModel(4, [ga.ElementBlock("A", ends, kernel, {"a": np.arange(5)})], comm=comm)


def pair_of_springs(a):
    K = a[:, None, None] ** 2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    return K, 0.1 * K


SPRINGS = {
    "pair": ga.NumpyKernel(pair_of_springs),
    "own derivative": ga.NumpyKernel(
        lambda a: (1 + 0.1j) * pair_of_springs(a)[0],
        tangent=lambda values, dots: (
            (2 + 0.2j) * (values["a"] * dots["a"])[:, None, None] * np.array([[1, -1], [-1, 1]])
        ),
    ),
}


def refused(model, p):
    """Real scalars hold no complex matrices."""
    with pytest.raises(ga.InputError, match=r"matrices of element block 0 must be real in PETSc's"):
        model.assemble(p)


def differentiated(model, p):
    """Euler: A is of degree 2, and its imaginary part a tenth of the real one."""
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, target=0.0) as pairs:
        halves = [
            ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0, part=part))["a"]
            for part in ("real", "imag")
        ]
        # values to 1e-10
        assert halves[0] @ p["a"] == pytest.approx(2 * pairs.values[0].real, rel=1e-9)
        np.testing.assert_allclose(halves[1], 0.1 * halves[0], rtol=1e-9)


OUTCOME = differentiated if COMPLEX_BUILD else refused


@pytest.mark.parametrize("name", SPRINGS)
def test_complex_matrices_in_a_model(comm, name):
    OUTCOME(chain_of(SPRINGS[name], comm), {"a": np.linspace(1.0, 1.5, 5)})

"""Second derivatives of laws and kernels, at values of any size and next to singularities."""

import numpy as np
import pytest
from test_kernels import KERNELS, OWN_BASES, RHO, ROWS, directions

import geneig_adjoint as ga
from geneig_adjoint.differentiation import second_derivative
from geneig_adjoint.kernels import differenced_vjp

LAWS = {
    "simp": (lambda rho: 1e-3 + rho**3.1, lambda rho: 3.1 * 2.1 * rho**1.1),
    "ramp": (lambda rho: rho / (1 + 8 * (1 - rho)), lambda rho: 144 / (9 - 8 * rho) ** 3),
    "exponential": (lambda rho: np.exp(-3 * rho), lambda rho: 9 * np.exp(-3 * rho)),
    "root": (np.sqrt, lambda rho: -0.25 * rho**-1.5),
    "projection": (
        lambda rho: np.tanh(16 * (rho - 0.5)),
        lambda rho: -512 * np.tanh(16 * (rho - 0.5)) / np.cosh(16 * (rho - 0.5)) ** 2,
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_second_derivatives_of_laws(name):
    law, expected = LAWS[name]
    rho = np.linspace(0.05, 1.0, 33)
    # Rounding is eps |f| / radius^2, with a radius of 11 % of rho or an eighth of that.
    limit = 1e-11 * np.maximum(np.abs(expected(rho)), np.abs(law(rho)) / rho**2)
    assert (np.abs(second_derivative(law, rho) - expected(rho)) <= limit).all()


@pytest.mark.parametrize("size", [1e11, 1.0, 1e-3, 1e-5, 1e-9, 1e-17, 0.0])
def test_second_derivatives_at_values_of_any_size(size):
    rho = np.array([size, 0.5 * size])
    # At a zero with rounding the law sets the size, near its singularity the value does.
    found = second_derivative(lambda x: np.exp(-x / (1 + size)), rho)
    np.testing.assert_allclose(found, np.exp(-rho / (1 + size)) / (1 + size) ** 2, rtol=1e-11)
    tiny = rho + 1e-9
    expected = {"power": 3.1 * 2.1 * tiny**1.1, "inverse": 2 / tiny**3}
    laws = {"power": lambda x: x**3.1, "inverse": lambda x: 1 / x}
    for name, law in laws.items():
        # eps / 0.11^2, up to 4^2 more where circles had to shrink
        np.testing.assert_allclose(second_derivative(law, tiny), expected[name], rtol=1e-10)


NOT_SMOOTH = {
    "abs": lambda rho: np.abs(rho) ** 3,
    "real": lambda rho: np.real(rho) ** 3,
    "conj": lambda rho: np.conj(rho) * rho,
    "abs with a floor": lambda rho: 100.0 + np.abs(rho) ** 3,
    "kink": lambda rho: np.where(np.real(rho) > 0.5, rho, rho**2),
    "pole": lambda rho: 1 / (rho - 0.5),
    "root at its zero": lambda rho: np.sqrt(rho - 0.5),
}


@pytest.mark.parametrize("name", NOT_SMOOTH)
@pytest.mark.parametrize("dot", [1.0, 0.0])
def test_laws_without_second_derivative_are_refused_where_they_move(name, dot):
    kernel = ga.ScaledKernel(np.eye(2), NOT_SMOOTH[name])
    side, values = np.ones((2, 2, 1)), {"q": np.full(2, 0.5)}
    still = kernel.vjp_tangent(values, {"q": np.zeros(2)}, side, side, slice(0, 2))
    np.testing.assert_array_equal(still["q"], 0.0)
    match = r"must be analytic where its parameter moves.* derivative at 0\.5; .*curvature\(rho\)"
    with pytest.raises(ga.InputError, match=match):
        kernel.vjp_tangent(values, {"q": np.array([dot, 1.0])}, side, side, slice(0, 2))


def test_laws_that_cast_are_refused():
    def casting(rho):
        out = np.zeros(rho.shape)
        out[:] = rho**2
        return out

    with pytest.raises(ga.InputError, match="must pass complex numbers on"):
        second_derivative(casting, np.ones(2))


def nearly_constant(rho):
    return 1e6 + 1e-9 * rho**2


@pytest.mark.parametrize(
    "law", [np.ones_like, lambda rho: np.ones(rho.shape), lambda _: 2.0, nearly_constant]
)
def test_constant_laws_have_no_curvature(law):
    rho = np.array([0.5, 1.0])
    # eps / radius^2
    limit = 1e-12 * np.abs(law(rho)).max()
    np.testing.assert_allclose(second_derivative(law, rho), 0, rtol=0, atol=limit)


@pytest.mark.parametrize("p", [0.5, 1.5])
def test_infinite_curvature_counts_only_where_the_parameter_moves(p):
    kernel = ga.ScaledKernel(np.eye(2), ga.PowerLaw(p))
    side = np.ones((2, 2, 1))
    values = {"q": np.array([0.0, 0.25])}
    found = kernel.vjp_tangent(values, {"q": np.array([0.0, 3.0])}, side, side, slice(0, 2))
    expected = [0.0, 2 * 3.0 * p * (p - 1) * 0.25 ** (p - 2)]
    np.testing.assert_allclose(found["q"], expected, rtol=1e-14)
    with pytest.raises(ga.InputError, match="without a second derivative at 0;"):
        kernel.vjp_tangent(values, {"q": np.ones(2)}, side, side, slice(0, 2))


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, 2.5])
def test_power_laws_know_their_curvature(p):
    rho = np.array([0.0, 0.3, 1.0]) + (p < 2) * 0.1
    law = ga.PowerLaw(p, 1e-3)
    expected = p * (p - 1) * rho ** (p - 2) * (p not in {0.0, 1.0})
    np.testing.assert_allclose(law.curvature(rho), expected, rtol=1e-15)
    np.testing.assert_array_equal(ga.Linear().curvature(rho), 0.0)


def kernel_sides():
    rng = np.random.default_rng(4)
    shape = (2, len(RHO), OWN_BASES.shape[1], 2)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def tenth_of(values, dots, function, h=2e-2):
    """Return the derivative of vjp by differences of tenth order."""
    weights = {1: 5 / 6, 2: -5 / 21, 3: 5 / 84, 4: -5 / 504, 5: 1 / 1260}
    total = dict.fromkeys(values, 0.0)
    for k, w in weights.items():
        for side in (1, -1):
            at = {n: v + side * k * h * dots[n] for n, v in values.items()}
            found = function(at)
            total = {name: total[name] + side * w / h * found[name] for name in total}
    return total


@pytest.mark.parametrize("name", KERNELS)
def test_vjp_tangent_is_the_derivative_of_vjp(name):
    kernel, values = KERNELS[name]
    left, right = kernel_sides()
    dots = {n: 0.3 * d for n, d in directions(values).items()}
    found = kernel.vjp_tangent(values, dots, left, right, ROWS)
    expected = tenth_of(values, dots, lambda at: kernel.vjp(at, left, right, ROWS))
    for part, value in values.items():
        assert found[part].shape == value.shape
        # Differences: (h f^(11))^10 and eps / h, both near 1e-11 here
        size = np.abs(expected[part]).max() + np.abs(kernel.vjp(values, left, right, ROWS)[part])
        np.testing.assert_allclose(found[part] / size, expected[part] / size, rtol=0, atol=1e-9)


def differenced(kernel, values, dots, left, right, rows):
    return differenced_vjp(kernel, values, dots, (left, right), rows)


WAYS = {"NumpyKernel": ga.NumpyKernel.vjp_tangent, "differenced_vjp": differenced}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("a", [1e9, 3.0, 1e-2, 1e-8, 1e-17, 0.0])
def test_functions_at_values_of_any_size(way, a):
    """K = exp(a / s) b^2 + sin(16 b) c."""
    s = 1 + a
    kernel = ga.NumpyKernel(
        lambda a, bc: (
            (np.exp(a / s) * bc[:, 0] ** 2 + np.sin(16 * bc[:, 0]) * bc[:, 1])[:, None, None]
            * np.eye(2)
        )
    )
    b, c = 0.7, 0.2
    values = {"a": np.array([a]), "bc": np.array([[b, c]])}
    da, db, dc = dot = 0.3 * s, -0.4, 0.5
    dots = {"a": np.array([da]), "bc": np.array([[db, dc]])}
    side = np.ones((1, 2, 1))
    found = WAYS[way](kernel, values, dots, side, side, slice(0, 1))
    e, sine, cosine = np.exp(a / s), np.sin(16 * b), np.cos(16 * b)
    hessian = np.array(
        [
            [e * b**2 / s**2, 2 * e * b / s, 0.0],
            [2 * e * b / s, 2 * e - 256 * sine * c, 16 * cosine],
            [0.0, 16 * cosine, 0.0],
        ]
    )
    # eps / STEP, 1 / 0.02 more for the smallest a that is taken for a length
    scale = 10 / np.array([s, 1.0, 1.0])
    np.testing.assert_allclose(
        np.r_[found["a"], found["bc"][0]] / scale, 2 * hessian @ dot / scale, rtol=0, atol=2e-11
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("t", [1e-3, 1e-5, 1e-7, 1e-9])
def test_functions_of_small_values_near_their_singularity(way, t):
    kernel = ga.NumpyKernel(lambda t: (1 / t + t**0.5 / t)[:, None, None] * np.eye(2))
    side = np.ones((1, 2, 1))
    found = WAYS[way](
        kernel, {"t": np.array([t])}, {"t": np.array([0.1 * t])}, side, side, slice(0, 1)
    )
    expected = 0.2 * t * (2 / t**3 + 0.75 / t**2.5)
    # eps / STEP, and the 4 * 4 that a step may have shrunk too far
    np.testing.assert_allclose(found["t"], expected, rtol=1e-11)


@pytest.mark.parametrize("way", WAYS)
def test_elements_that_stand_still_get_exact_zeros(way):
    kernel, values = KERNELS["function"]
    left, right = kernel_sides()
    dots = directions(values)
    for dot in dots.values():
        dot[2] = 0.0
    found = WAYS[way](kernel, values, dots, left, right, ROWS)
    for part in found.values():
        np.testing.assert_array_equal(part[2], 0.0)
        assert np.abs(part[1]).min() > 0


@pytest.mark.parametrize("start", [0.0, 1.0], ids=["no number", "jump"])
def test_differences_of_what_is_not_smooth_name_the_element(start):
    def matrices(a):  # not a number below 0, a jump at 1
        return (np.sqrt(a) + (a > 1))[:, None, None] * np.eye(2)

    kernel, side = ga.Differenced(ga.NumpyKernel(matrices)), np.ones((2, 2, 1))
    message = r"need element matrices that are finite and smooth.* at element 7 of this rank"
    with pytest.raises(ga.InputError, match=message):
        kernel.vjp({"a": np.array([0.5, start])}, side, side, slice(6, 8))
    still = kernel.derivative({"a": np.array([0.5, start])}, {"a": np.array([1.0, 0.0])}, ROWS)
    # matrix / value
    assert still[0, 0, 0] == pytest.approx(0.5**0.5, rel=1e-11)
    assert np.array_equal(still[1], np.zeros((2, 2)))


def test_differences_have_no_second_derivatives(comm):
    kernel = ga.Differenced(ga.NumpyKernel(lambda a: a[:, None, None] * np.eye(1)))
    blocks = [ga.ElementBlock("A", np.array([[0]]), kernel, {"a": np.array([0])})]
    model, p, block = ga.ElementModel(1, blocks, comm=comm), {"a": np.ones(1)}, np.ones((1, 1))
    with pytest.raises(ga.InputError, match=r"vjp_tangent.* got Differenced without in element"):
        model.contract_tangent(p, p, block, block, block)
    assert model.contract(p, block, block, block)["a"] == pytest.approx([1.0], rel=1e-12)

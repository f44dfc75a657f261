"""Maps of one parameter: closed forms, derivatives by differences, what is refused."""

import numpy as np
import pytest
import scipy.sparse

import geneig_adjoint as ga

X = np.array([-0.2, 0.0, 0.1, 0.4, 0.5, 0.77, 1.0, 1.3])


def test_projection_keeps_the_ends_and_steps_at_the_threshold():
    q = ga.Projection("a", beta=60.0, eta=0.3)({"a": np.array([0.0, 0.29, 0.3, 0.31, 1.0])})["a"]
    # tanh(18) is 1 to the last bit: the lower half is (1 + tanh) / 2
    expected = [0.0, (1 - np.tanh(0.6)) / 2, 0.5, (1 + np.tanh(0.6)) / 2, 1.0]
    np.testing.assert_allclose(q, expected, rtol=0, atol=1e-15)


def test_soft_projection_is_nearly_the_identity():
    q = ga.Projection("a", beta=1e-4)({"a": X})["a"]
    np.testing.assert_allclose(q, X, rtol=0, atol=1e-8)  # off by beta^2 / 3


@pytest.mark.parametrize("beta", [1.0, 8.0, 64.0])
@pytest.mark.parametrize("eta", [0.0, 0.37, 1.0])
def test_derivatives_of_the_projection(beta, eta):
    chosen, h = ga.Projection("a", beta=beta, eta=eta), 1e-3 / beta
    ones = {"a": np.ones_like(X)}

    def differences(function):
        at = {k: function({"a": X + k * h})["a"] for k in (-3, -2, -1, 1, 2, 3)}
        weights = {1: 45, 2: -9, 3: 1}
        return sum(w * (at[k] - at[-k]) for k, w in weights.items()) / (60 * h)

    slope = chosen.vjp({"a": X}, ones)["a"]
    # Rounding 1e-16 / h; sixth order of beta h = 1e-3 is far below
    np.testing.assert_allclose(slope, differences(chosen), rtol=0, atol=1e-11 * beta)
    bend = chosen.vjp_tangent({"a": X}, ones, ones)["a"]
    expected = differences(lambda p: chosen.vjp(p, ones))
    np.testing.assert_allclose(bend, expected, rtol=0, atol=1e-11 * beta**2)
    np.testing.assert_array_equal(chosen.jvp({"a": X}, ones)["a"], slope)


def test_slope_far_from_the_threshold_keeps_its_digits():
    # 1 - tanh^2 would be 0 here, cosh^2 overflow
    chosen, one = ga.Projection("a", beta=50.0), {"a": np.ones(1)}
    slope = chosen.vjp({"a": np.ones(1)}, one)["a"]
    np.testing.assert_allclose(slope, 50 * 2 * np.exp(-50.0), rtol=1e-13)
    assert chosen.vjp({"a": np.full(1, 1e4)}, one)["a"] == 0


def test_mirrored_fields():
    chosen = ga.Symmetry("a", np.array([3, 2, 1, 0]))
    p = {"a": np.array([1.0, 5.0, 7.0, 2.0])}
    once = chosen(p)
    np.testing.assert_array_equal(once["a"], [1.5, 6.0, 6.0, 1.5])
    np.testing.assert_array_equal(chosen(once)["a"], once["a"])


def test_all_motions_of_a_group():
    turns = np.stack([np.roll(np.arange(4), s) for s in (1, 2, 3)], axis=1)
    q = ga.Symmetry("a", turns)({"a": np.array([1.0, 5.0, 8.0, 2.0])})
    np.testing.assert_array_equal(q["a"], np.full(4, 4.0))


def test_filter_in_closed_form():
    # Radius 1.5 of neighbours at distance 1: weights 0.5, 1.5, 0.5
    chosen = ga.DensityFilter("a", np.arange(4.0), 1.5)
    q = chosen({"a": np.array([1.0, 0.0, 0.0, 0.0])})["a"]
    np.testing.assert_allclose(q, [0.75, 0.2, 0.0, 0.0], rtol=1e-15)


def test_small_radius_changes_nothing():
    q = ga.DensityFilter("a", np.arange(4.0), 0.99)({"a": X[:4]})
    np.testing.assert_array_equal(q["a"], X[:4])


def test_filter_without_elements():
    q = ga.DensityFilter("a", np.zeros((0, 3)), 1.0)({"a": np.zeros(0)})
    assert q["a"].shape == (0,)


def test_names_of_results():
    p = {"a": np.array([4.0]), "z": np.array([1.0])}
    renamed = ga.Pointwise("a", np.sqrt, output="b")
    kept = ga.Pointwise("a", np.sqrt, output="b", keep=True)
    assert renamed(p) == {"b": 2.0, "z": 1.0}
    assert kept(p) == {"a": 4.0, "b": 2.0, "z": 1.0}
    bar = {"b": np.array([3.0]), "z": np.array([5.0]), "a": np.array([7.0])}
    assert renamed.vjp(p, bar) == {"a": 0.75, "z": 5.0}
    assert kept.vjp(p, bar) == {"a": 7.75, "z": 5.0}
    assert kept.jvp(p, {"a": np.array([4.0]), "z": np.array([2.0])}) == {"a": 4, "b": 1, "z": 2}


def test_what_stands_still_needs_no_curvature():
    chosen, p = ga.Pointwise("a", ga.PowerLaw(1.5)), {"a": np.array([0.0, 4.0])}
    bend = chosen.vjp_tangent(p, {"a": np.array([0.0, 2.0])}, {"a": np.ones(2)})
    np.testing.assert_allclose(bend["a"], [0.0, 0.75], rtol=1e-15)
    with pytest.raises(ga.InputError, match="without a second derivative at 0"):
        chosen.vjp_tangent(p, {"a": np.ones(2)}, {"a": np.ones(2)})


def test_laws_without_derivatives_of_their_own():
    chosen, x = ga.Pointwise("a", np.exp), np.array([0.3, 1.1])
    ones = {"a": np.ones(2)}
    # Complex step: the last bits; circles of `second_derivative`: some 1e-13
    np.testing.assert_allclose(chosen.vjp({"a": x}, ones)["a"], np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(chosen.vjp_tangent({"a": x}, ones, ones)["a"], np.exp(x), rtol=1e-11)


class Shifted:
    """A function of a user without second derivatives."""

    def __call__(self, value):
        return value + 1

    def vjp(self, value, bar):
        return bar

    jvp = vjp


class Bare:
    """No derivatives at all."""

    def __call__(self, value):
        return value


P = {"a": np.ones(2), "b": np.ones(2)}
EYE = scipy.sparse.identity(2)
REFUSED = {
    "beta": (lambda: ga.Projection("a", beta=0.0), "beta must be positive and finite, got 0.0"),
    "eta": (lambda: ga.Projection("a", beta=1.0, eta=1.5), r"eta must lie in 0 \.\.\. 1, got 1.5"),
    "keep": (lambda: ga.LinearMap("a", EYE, keep=True), "keep=True needs another name .* got 'a'"),
    "function": (lambda: ga.Named("a", Bare()), "must have __call__, vjp and jvp, got Bare"),
    "name": (
        lambda: ga.LinearMap("c", EYE)(P),
        r"LinearMap needs the parameter 'c', got \['a', 'b",
    ),
    "taken": (lambda: ga.LinearMap("a", EYE, output="b")(P), "got 'b', which is a parameter"),
    "complex": (lambda: ga.Pointwise("a", lambda x: 1j * x)(P), "real numbers .* dtype complex128"),
    "shape": (lambda: ga.Pointwise("a", np.sum)(P), r"of the shape \(2,\) .* got shape \(\)"),
    "second": (lambda: ga.Named("a", Shifted()).vjp_tangent(P, P, P), "got Shifted without"),
    "length": (lambda: ga.LinearMap("a", EYE)({"a": np.ones(3)}), "value with 2 entries, got 3"),
    "points": (lambda: ga.DensityFilter("a", np.ones((2, 1, 1)), 1.0), r"\(n, d\).*\(2, 1, 1\)"),
    "radius": (lambda: ga.DensityFilter("a", np.ones(2), np.nan), "radius must be .* got nan"),
    "volumes": (lambda: ga.DensityFilter("a", np.ones(2), 1, volumes=np.ones(3)), r"\(2\).*\(3,\)"),
    "ids": (lambda: ga.Tied("a", np.ones((2, 2), dtype=int)), "ids must be integers in an array"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    action, match = REFUSED[case]
    with pytest.raises(ga.InputError, match=match):
        action()


def test_functions_of_users_are_maps():
    chosen = ga.Named("a", Shifted(), output="c")
    assert isinstance(chosen, ga.Map)
    np.testing.assert_array_equal(chosen(P)["c"], [2, 2])

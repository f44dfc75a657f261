"""Quadratic problems whose eigenvalues, and their derivatives, are known by heart."""

import numpy as np
import pytest
from damped_bars import (
    bar_values,
    damped_bar,
    end_damper,
    oscillator,
    rotor,
    springs,
    wave_in_a_tube,
)
from mpi4py import MPI

import geneig_adjoint as ga
from geneig_adjoint.errors import DefectiveEigenvalueError, DegenerateEigenvalueError, InputError

COMM = MPI.COMM_WORLD
FORMS = ["companion", "symmetric"]
OBJECTIVES = ga.objectives
RE, IM = (OBJECTIVES.Eigenvalue(0, part) for part in ("real", "imag"))


def solved(model, p, objectives, count=1, **settings):
    """Return values and, per objective, value and gradient."""
    with model.assemble(p) as pencil, ga.solve_quadratic(pencil, count, **settings) as pairs:
        found = [(item(pairs)[0], ga.gradient(model, p, pairs, item)) for item in objectives]
        return pairs.values, found


def derivatives(found, name):
    """Return dlam/dp from the gradients of real and imaginary part."""
    (_, real), (_, imag) = found
    return real[name] + 1j * imag[name]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("c", [0.3, 5.0, -0.2])
def test_one_dof_moves_as_its_formula(c, form):
    m, k = 1.7, 2.9
    p = {"m": np.array([m]), "c": np.array([c]), "k": np.array([k])}
    values, found = solved(oscillator(COMM, form), p, [RE, IM])
    roots = np.roots([m, c, k])
    lam = values[0]
    assert np.abs(roots - lam).min() < 1e-13
    slope = 2 * lam * m + c
    for name, term in (("m", lam**2), ("c", lam), ("k", 1.0)):
        assert derivatives(found, name)[0] == pytest.approx(-term / slope, rel=1e-10)


def test_numbers_of_engineers_are_those_of_the_textbook():
    # lam = -zeta w +- i w sqrt(1 - zeta^2), w = sqrt(k / m), zeta = c / (2 sqrt(k m)).
    m, c, k = 1.7, 0.9, 2.9
    w, zeta = np.sqrt(k / m), c / (2 * np.sqrt(k * m))
    root = np.sqrt(1 - zeta**2)
    p = {"m": np.array([m]), "c": np.array([c]), "k": np.array([k])}
    w_dot = {"m": -w / (2 * m), "c": 0.0, "k": w / (2 * k)}
    zeta_dot = {"m": -zeta / (2 * m), "c": zeta / c, "k": -zeta / (2 * k)}
    expected = [
        (OBJECTIVES.DampingRatio(0), zeta, 0.0, 1.0),
        (OBJECTIVES.DecayRate(0), zeta * w, zeta, w),
        (OBJECTIVES.NaturalFrequency(0), w / (2 * np.pi), 1 / (2 * np.pi), 0.0),
        (OBJECTIVES.DampedFrequency(0), w * root / (2 * np.pi), root, -w * zeta / root),
    ]
    _, found = solved(oscillator(COMM), p, [item[0] for item in expected])
    scales = [1.0, 1.0, 1.0, 2 * np.pi]
    for (value, gradient), (_, known, by_w, by_zeta), scale in zip(
        found, expected, scales, strict=True
    ):
        assert value == pytest.approx(known, rel=1e-12)
        for name in p:
            total = (by_w * w_dot[name] + by_zeta * zeta_dot[name]) / scale
            assert gradient[name][0] == pytest.approx(total, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize(
    "name", ["DampingRatio", "DecayRate", "NaturalFrequency", "DampedFrequency"]
)
def test_numbers_of_engineers_have_second_derivatives(name):
    objective = getattr(OBJECTIVES, name)(1)
    model = damped_bar(6, COMM)
    p = {"k": np.array([1.1]), "c": np.array([0.9]), "m": np.array([0.8])}
    p_dot = {"k": np.array([0.3]), "c": np.array([0.5]), "m": np.array([-0.7])}

    def gradient(step):
        moved = {key: p[key] + step * p_dot[key] for key in p}
        return solved(model, moved, [objective], count=2)[1][0][1]

    with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
        found = ga.hessian_vector_product(model, p, pairs, objective, p_dot)
    h = 1e-3
    for key in p:
        one, two = (gradient(j * h)[key] - gradient(-j * h)[key] for j in (1, 2))
        # Fourth order of a smooth function of numbers near 1.
        assert found[key] == pytest.approx((8 * one - two) / (12 * h), abs=1e-8)
    report = ga.verify_gradient(model, p, objective, count=2)
    assert report.passed, report


@pytest.mark.parametrize("form", FORMS)
def test_uniformly_damped_bar(form):
    n, c, k = 12, 0.6, 1.3
    p = {"k": np.array([k]), "c": np.array([c]), "m": np.ones(1)}
    values, found = solved(damped_bar(n, COMM, form), p, [RE, IM], count=6)
    mu = k * bar_values(n, np.arange(1, 4))
    lam = -c / 2 + 1j * np.sqrt(mu - c**2 / 4)
    np.testing.assert_allclose(values[::2], lam, rtol=1e-12)
    slope = 2 * lam[0] + c
    assert derivatives(found, "c")[0] == pytest.approx(-lam[0] / slope, rel=1e-10)
    assert derivatives(found, "k")[0] == pytest.approx(-mu[0] / k / slope, rel=1e-10)
    assert derivatives(found, "m")[0] == pytest.approx(-(lam[0] ** 2) / slope, rel=1e-10)


def test_bar_with_a_damper_at_its_end():
    # u = sinh(lam x): tanh(lam) = -1 / c, lam = log((1 - c) / (1 + c)) / 2 + i pi / 2 for c < 1.
    c, coarse = 0.4, 20
    found = {}
    for n in (coarse, 2 * coarse):
        p = {"k": np.ones(n), "c": np.array([c]), "m": np.ones(n)}
        values, parts = solved(end_damper(n, COMM), p, [RE, IM], count=2)
        # Stretching the whole bar: k and m of every element scale time.
        found[n] = np.array([values[0], derivatives(parts, "c")[0], derivatives(parts, "k").sum()])
    extrapolated = (4 * found[2 * coarse] - found[coarse]) / 3
    lam = np.log((1 - c) / (1 + c)) / 2 + 0.5j * np.pi
    # With k for all elements, lam = sqrt(k) f(c / sqrt(k)).
    by_c = -1 / (1 - c**2)
    # Linear elements are of second order, extrapolated of fourth: (1.6 / 40)^4.
    np.testing.assert_allclose(extrapolated, [lam, by_c, (lam - c * by_c) / 2], rtol=5e-6)


def test_whirling_of_a_rotor():
    k, w = 4.0, 0.7
    p = {"k": np.array([k]), "w": np.array([w]), "m": np.ones(1)}
    values, found = solved(rotor(COMM), p, [RE, IM], count=2)
    assert values[0] == pytest.approx(1j * (np.sqrt(k) - w), abs=1e-13)
    assert derivatives(found, "w")[0] == pytest.approx(-1j, abs=1e-11)
    assert derivatives(found, "k")[0] == pytest.approx(1j / (2 * np.sqrt(k)), abs=1e-11)


def test_springs_of_nlevp():
    # T. Betcke et al., NLEVP, ACM Trans. Math. Software 39(2), 2013: tau = 10, kappa = 5.
    n, tau, kappa = 20, 10.0, 5.0
    p = {"kappa": np.array([kappa]), "tau": np.array([tau]), "m": np.ones(1)}
    values, found = solved(springs(n, COMM), p, [RE, IM], count=3, target=-60.0)
    mu = 3 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    lam = -tau * mu / 2 - np.sqrt((tau * mu / 2) ** 2 - kappa * mu)
    order = np.argsort(np.abs(lam + 60.0))
    np.testing.assert_allclose(values, lam[order[:3]], rtol=1e-11)
    lam, mu = lam[order[0]], mu[order[0]]
    slope = 2 * lam + tau * mu
    assert derivatives(found, "tau")[0] == pytest.approx(-lam * mu / slope, rel=1e-9)
    assert derivatives(found, "kappa")[0] == pytest.approx(-mu / slope, rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_acoustic_wave_of_nlevp(form):
    z, found = 0.75, {}
    for n in (30, 60):
        model, unit = wave_in_a_tube(n, COMM, form)
        p = {"y": np.array([1 / z])}
        values, parts = solved(model, p, [RE, IM])
        found[n] = np.array([values[0], derivatives(parts, "y")[0]]) / unit
    lam = np.arctan(1j * z) / (2 * np.pi)
    by_y = 1j / (1 - z**2) / (2 * np.pi) * -(z**2)
    # Second order, extrapolated to fourth.
    np.testing.assert_allclose((4 * found[60] - found[30]) / 3, [lam, by_y], rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_without_damping_it_is_the_generalised_problem(form):
    n = 9
    p = {"k": np.array([1.3]), "c": np.array([0.0]), "m": np.array([0.8])}
    values, found = solved(damped_bar(n, COMM, form), p, [OBJECTIVES.NaturalFrequency(0)], count=2)
    omega = np.sqrt(1.3 / 0.8 * bar_values(n, 1))
    np.testing.assert_allclose(values, [1j * omega, -1j * omega], atol=1e-11)
    value, gradient = found[0]
    assert value == pytest.approx(omega / (2 * np.pi), rel=1e-12)
    assert gradient["k"][0] == pytest.approx(value / 2.6, rel=1e-10)
    assert gradient["m"][0] == pytest.approx(-value / 1.6, rel=1e-10)
    assert abs(gradient["c"][0]) < 1e-11


def test_critical_damping_is_refused():
    # The solver finds the two copies 1e-8 apart; which step refuses them is rounding's choice.
    p = {"m": np.ones(1), "c": np.array([2.0]), "k": np.ones(1)}
    with pytest.raises(DefectiveEigenvalueError, match=r"eigenvalue \d must be simple"):
        solved(oscillator(COMM), p, [RE], count=2, target=-0.9)


def test_condition_grows_towards_critical_damping():
    c = 2.001
    p = {"m": np.ones(1), "c": np.array([c]), "k": np.ones(1)}
    with (
        oscillator(COMM).assemble(p) as pencil,
        ga.solve_quadratic(pencil, 1, target=-0.9) as pairs,
    ):
        lam = pairs.values[0].real
        expected = np.sqrt(2) * np.hypot(lam + c, lam) / abs(2 * lam + c)  # 32
        assert pairs.condition[0] == pytest.approx(expected, rel=1e-8)


def test_copies_have_sums_only():
    # Two equal oscillators that nothing couples.
    ids = np.arange(2)
    blocks = [
        ga.ElementBlock(name, ids[:, None], ga.ScaledKernel(np.ones((1, 1))), {name: ids})
        for name in "KCM"
    ]
    model = ga.QuadraticElementModel(2, blocks, comm=COMM)
    p = {"K": np.full(2, 4.0), "C": np.full(2, 0.2), "M": np.ones(2)}
    lam = -0.1 + 1j * np.sqrt(4 - 0.01)
    with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 4) as pairs:
        np.testing.assert_allclose(pairs.values[:2], lam, rtol=1e-12)
        with pytest.raises(DegenerateEigenvalueError, match="cluster"):
            ga.gradient(model, p, pairs, OBJECTIVES.Eigenvalue(0))

        def total(pairs):
            members = np.flatnonzero(pairs.values.imag > 0)
            bar = np.zeros(pairs.count, dtype=complex)
            bar[members] = 1.0
            return float(pairs.values[members].real.sum()), ga.EigenCotangent(values=bar)

        found = ga.gradient(model, p, pairs, total)["C"]
    np.testing.assert_allclose(found, (-lam / (2 * lam + 0.2)).real, rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "k"), [("DampedFrequency", 2.9), ("DampingRatio", 0.0), ("NaturalFrequency", 0.0)]
)
def test_numbers_that_have_a_kink_are_refused(kind, k):
    # Overdamped, and free: one value is 0.
    p = {"m": np.array([1.7]), "c": np.array([5.0]), "k": np.array([k])}
    with (
        oscillator(COMM).assemble(p) as pencil,
        ga.solve_quadratic(pencil, 2, target=1e-3) as pairs,
        pytest.raises(InputError, match="is not zero, got"),
    ):
        getattr(OBJECTIVES, kind)(0)(pairs)


def test_units_do_not_matter():
    # Steel in SI units: K near 1e10, M near 1e-2, and the same problem in other units.
    scale = {"k": 3e10, "c": 2e3, "m": 1e-2}
    model = damped_bar(12, COMM)
    p = {name: np.array([size]) for name, size in scale.items()}
    values, found = solved(model, p, [RE, IM], count=2)
    c, mu = 2e3 / 1e-2, 3e12 * bar_values(12, 1)
    lam = -c / 2 + 1j * np.sqrt(mu - c**2 / 4)
    assert values[0] == pytest.approx(lam, rel=1e-11)
    by_c = -lam / (2 * lam + c) / 1e-2
    assert derivatives(found, "c")[0] == pytest.approx(by_c, rel=1e-9)

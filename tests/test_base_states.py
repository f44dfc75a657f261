"""States in front of models: closed forms, and what is kept."""

from contextlib import nullcontext

import numpy as np
import pytest
from base_flows import (
    CRITICAL,
    bratu_eigenvalue,
    burgers_eigenvalue,
    flow,
)
from builders import distributed, matrix
from own_states import Complete, Cubic, N, own_state
from prestressed import E, column, euler

import geneig_adjoint as ga

ELEMENTS = 24


def slope(function, x, h=1e-3):
    """Return f'(x), with an error of h^4 times the fifth derivative."""
    near, far = (function(x + k * h) - function(x - k * h) for k in (1, 2))
    return (8 * near - far) / (12 * h)


def solved(model, p, objective, **solver):
    """Return the first value and the gradient."""
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **solver) as pairs:
        return pairs.values, ga.gradient(model, p, pairs, objective)


# -- known answers --


@pytest.mark.parametrize("ends", ["cantilever", "pinned"])
def test_a_column_beside_a_spring_by_euler(comm, ends):
    model, state = column(comm, ELEMENTS, ends=ends)
    with model, state:
        p = {"area": np.full(ELEMENTS, 0.7), "spring": np.array([1.3])}
        values, g = solved(model, p, ga.objectives.Eigenvalue(0), count=1, target=0.0)
    expected = euler(0.7, 1.3, ends=ends)
    # Cubic beams: relative error (k h)^4 / 720 with k h = pi / 24
    assert values[0].real == pytest.approx(expected[0], rel=1e-6)
    assert [g["area"].sum(), g["spring"][0]] == pytest.approx(expected[1:], rel=1e-6)


def test_the_pressure_depends_on_the_stiffness_of_each_element(comm):
    """The spring carries more where the column is thin: all by hand, for springs in a row."""
    model, state = column(comm, ELEMENTS)
    area, k = 0.7 + 0.2 * np.sin(np.arange(ELEMENTS)), 1.3
    with model, state:
        u = state({"area": area, "spring": np.array([k])})["state"]
    soft = np.cumsum(1 / (E * area * ELEMENTS))
    share = 1 / soft[-1] / (1 / soft[-1] + k)
    np.testing.assert_allclose(u.array.real, -share * soft, rtol=1e-12)


def test_a_column_under_its_own_weight_by_greenhill(comm):
    """Greenhill, Proc. Camb. Phil. Soc. 4, 1881: q L = 7.8373 E I / L^2, E I / q = E a / 12."""
    found = []
    for count in (12, 24):
        model, state = column(comm, count, load="weight")
        with model, state:
            p = {"area": np.full(count, 0.7), "spring": np.zeros(1)}
            values, g = solved(model, p, ga.objectives.Eigenvalue(0), count=1, target=0.0)
        found.append([values[0].real, g["area"].sum()])
    # The pressure is constant in each element: an error of h^2, which Richardson takes away
    value, total = (4 * np.array(found[1]) - found[0]) / 3
    assert value == pytest.approx(7.837347 * E * 0.7 / 12, rel=2e-5)
    assert total == pytest.approx(value / 0.7, rel=2e-5)


def test_bratu_by_poeschl_and_teller(comm):
    model, state = flow(comm, "bratu", ELEMENTS)
    with model, state:
        p = {"strength": np.full(ELEMENTS, 2.0)}
        values, g = solved(model, p, ga.objectives.Eigenvalue(0), count=1, target=0.0)
        # Quadratic elements: errors of h^4
        assert values[0].real == pytest.approx(bratu_eigenvalue(2.0), rel=2e-6)
        assert g["strength"].sum() == pytest.approx(slope(bratu_eigenvalue, 2.0), rel=2e-6)
        near = {"strength": np.full(ELEMENTS, CRITICAL - 1e-4)}
        state.vjp(near, state(near))  # the derivative is large there, and right
        values, g = solved(model, near, ga.objectives.Eigenvalue(0), count=1, target=0.0)
    # Like the square root of the distance to the limit point, which the elements move by 1e-6
    assert values[0].real == pytest.approx(bratu_eigenvalue(CRITICAL - 1e-4), rel=1e-2)
    assert g["strength"].sum() == pytest.approx(values[0].real / (2 * -1e-4), rel=2e-2)


def test_burgers_by_the_same_potential(comm):
    model, state = flow(comm, "burgers", ELEMENTS)
    with model, state:
        p = {"viscosity": np.full(ELEMENTS, 0.3)}
        values, g = solved(model, p, ga.objectives.Eigenvalue(1), count=2, target=0.0)
        assert not model.assemble(p).hermitian
    # Quadratic elements over a layer 0.6 wide: h^4, three digits worse than Bratu
    assert values[1].real == pytest.approx(burgers_eigenvalue(0.3), rel=2e-5)
    assert g["viscosity"].sum() == pytest.approx(slope(burgers_eigenvalue, 0.3), rel=2e-5)


class Root:
    """R = u^2 - p in one dof, for Newton's method."""

    def __init__(self, comm):
        self.comm, self.rows = comm, (0, 1)

    def residual(self, u, p):
        return u.array.real**2 - p["p"]

    def jacobian(self, u, p):
        return matrix(2 * np.array([u.array.real]), self.comm)

    def residual_jvp(self, u, p, p_dot):
        return -p_dot["p"]

    def residual_vjp(self, u, p, w):
        return {"p": -w.array.real}


@pytest.mark.parametrize(("rtol", "error"), [(1e-10, 0.0), (1e-3, 1.84e-9)])
def test_newton_ends_when_its_steps_are_small(comm, rtol, error):
    # From 1.4 the relative steps are 1e-2, 5e-5, 1.3e-9, 0: the error left is half their square
    state = ga.BaseState(Root(comm), guess=np.array([1.4]), newton={"rtol": rtol})
    found = state({"p": np.array([2.0])})["state"].array.real[0]
    assert found - np.sqrt(2) == pytest.approx(error, rel=0.2, abs=5e-16)


def test_newton_shortens_steps_that_go_too_far(comm):
    """The first step from 0.01 leads to 100; from u = 0 there is none."""
    state = ga.BaseState(Root(comm), guess=np.array([0.01]))
    assert state({"p": np.array([2.0])})["state"].array.real[0] == pytest.approx(np.sqrt(2))
    with pytest.raises(ga.ConvergenceError, match="must be regular"):
        ga.BaseState(Root(comm))({"p": np.array([2.0])})


def test_beyond_the_limit_point_there_is_no_state(comm):
    _, state = flow(comm, "bratu", 4)
    with pytest.raises(ga.ConvergenceError, match="there may be no state at these parameters"):
        state({"strength": np.full(4, 3.6)})
    state({"strength": np.full(4, 2.0)})
    assert state.counts.states == 1


# -- what is kept --


@pytest.mark.parametrize(
    ("kind", "of"),
    [(lambda k, _: k.copy(), lambda k: k), (distributed, lambda k: k.array)],
    ids=["array", "vector"],
)
def test_p_may_change_in_place(comm, kind, of):
    model, state, p = own_state(comm)
    at = {**p, "k": kind(p["k"], comm)}
    change = of(at["k"])
    first = state(at)["state"].array.copy()
    corner = [model.assemble(at).A[0, 0]]
    change *= 2.0
    second = state(at)["state"].array.copy()
    corner.append(model.assemble(at).A[0, 0])
    expected = ga.BaseState(Cubic(comm))(at)["state"].array
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(second, expected, rtol=1e-12)
    assert abs(corner[0] - corner[1]) > 1e-3  # A grows with the state


def test_nothing_is_solved_twice(comm):
    model, state, p = own_state(comm)
    rng = np.random.default_rng(1)
    blocks = list(rng.normal(size=(3, N, 1)))
    for at in (p, {name: value.copy() for name, value in p.items()}):
        model.contract(at, *blocks)
        model.contract_tangent(at, at, *blocks)
        model.tangent(at, at, blocks[0])
    assert (state.counts.states, state.counts.factors) == (1, 1)
    model.contract({**p, "m": 2 * p["m"]}, *blocks)  # the state does not know m
    assert (state.counts.states, state.counts.factors) == (1, 1)
    model.contract({**p, "s": 2 * p["s"]}, *blocks)
    assert (state.counts.states, state.counts.factors) == (2, 2)
    state.close()
    model.contract({**p, "s": 2 * p["s"]}, *blocks)
    assert (state.counts.states, state.counts.factors) == (3, 3)


def test_a_vector_and_an_array_are_not_the_same_p(comm):
    _, state, p = own_state(comm)
    state(p)
    at = {**p, "k": distributed(p["k"], comm)}
    state(at)
    assert state.counts.states == 2


def test_nothing_is_solved_where_nothing_depends_on_the_state(comm):
    model, state, p = own_state(comm)
    rng = np.random.default_rng(1)
    zero, left_b, right = np.zeros((N, 1)), *rng.normal(size=(2, N, 1))
    found = model.contract(p, zero, left_b, right)
    assert state.counts.factors == 0
    assert not np.any(found["k"])
    assert np.all(found["m"])


def test_vectors_and_factors_are_freed(comm):
    model, state, p = own_state(comm, Complete)
    blocks = list(np.ones((3, N, 1)))
    made = []

    def counting(function):
        def counted(*args, **options):
            made.append(function(*args, **options))
            return made[-1]

        return counted

    for name in ("_vec",):
        setattr(state, name, counting(getattr(state, name)))
    model.contract_tangent(p, p, *blocks)
    model.close()
    state.close()
    assert len(made) > 4
    assert not any(vec.handle for vec in made)


# A real Jacobian in either build, or the error for a complex one in the complex build.
ENTRIES = {
    "real": (2.0, nullcontext()),
    "complex": (2.0 + 1e-5j, pytest.raises(ga.InputError, match="must be real, got imaginary")),
}


def test_complex_jacobians_are_refused_however_small_their_imaginary_parts(comm, scalar_build):
    entry, verdict = ENTRIES[scalar_build]
    model = ga.MatrixModel(matrix(entry * np.eye(4), comm), None, {})
    with verdict, ga.BaseState.linear(model, np.ones(4)) as state:
        np.testing.assert_allclose(state({})["state"].array.real, 0.5, rtol=1e-14)

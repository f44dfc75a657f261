"""What is wrong with states and their problems: noticed, refused, explained."""

import types
from contextlib import contextmanager

import numpy as np
import pytest
from builders import chain, chain_parameters, distributed, matrix
from own_states import Checked, Complete, Cubic, N, own_state
from petsc4py import PETSc

import geneig_adjoint as ga

# -- what is noticed --


class WrongJacobian(Checked):
    """Forgets the cubic term."""

    def full_jacobian(self, u, k, s):
        return super().full_jacobian(0 * u, k, s)


class WrongSolve(WrongJacobian):
    solve = property()


class WrongTranspose(Complete):
    def residual_vjp(self, u, p, w):
        found = super().residual_vjp(u, p, w)
        return {**found, "s": found["s"] * [1.0, 1.001]}


class WrongParameter(Complete):
    def residual_jvp(self, u, p, p_dot):
        return super().residual_jvp(u, p, {**p_dot, "k": 1.001 * p_dot["k"]})


class WrongSecond(Complete):
    def residual_second(self, u, p, u_dot, p_dot, w):
        turned, found = super().residual_second(u, p, u_dot, p_dot, w)
        return 1.001 * turned, found


class WrongWithoutResidual(Cubic):
    def full_jacobian(self, u, k, s):
        return 1.001 * super().full_jacobian(u, k, s)


WRONG = {
    WrongJacobian: "jacobian against differences of residual",
    WrongTranspose: "s: residual_vjp against residual_jvp",
    WrongParameter: "k: residual_jvp against differences",
    WrongSecond: "residual_second, J^T w",
    WrongWithoutResidual: "s: change of the state against differences of solve",
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_derivatives_are_noticed(comm, kind):
    _, state, p = own_state(comm, kind)
    report = ga.check_base_state(state, p)
    assert not report.passed
    assert report.errors[WRONG[kind]] > 1e-5
    assert f"FAILED: {report.worst}" in str(report)


def test_wrong_jacobians_fail_the_verification_of_gradients(comm):
    model, _, p = own_state(comm, WrongWithoutResidual)
    report = ga.verify_gradient(model, p, ga.objectives.Eigenvalue(0), count=2, target=0.0)
    assert not report.passed


class Loose(Checked):
    def solve(self, p):
        return 1.001 * super().solve(p)


def test_states_that_are_not_solved_are_noticed(comm):
    model, _, p = own_state(comm, Loose)
    match = r"must return a state with r\(u, p\) = 0, got one that a Newton step changes by"
    with pytest.raises(ga.ConvergenceError, match=match) as caught:
        model.contract(p, *np.ones((3, N, 1)))
    assert caught.value.reason == "UNSOLVED_STATE"


def test_a_wrong_jacobian_stops_newton(comm):
    _, state, p = own_state(comm, WrongSolve, newton={"max_it": 3})
    match = "must end with a step below .* after 3 iterations .* check_base_state"
    with pytest.raises(ga.ConvergenceError, match=match) as caught:
        state({**p, "s": np.array([0.4, 7.0])})
    assert caught.value.reason == "NEWTON"
    assert caught.value.iterations == 3


class Fold:
    """R = p - u^2 in one dof, with the user's own solve: no derivative at p = 0."""

    def __init__(self, comm):
        self.comm, self.rows = comm, (0, 1)

    def solve(self, p):
        return np.sqrt(p["p"])

    def jacobian(self, u, p):
        return matrix(-2 * np.array([u.array.real]), self.comm)

    def residual_jvp(self, u, p, p_dot):
        return p_dot["p"]

    def residual_vjp(self, u, p, w):
        return {"p": w.array.real.copy()}


def test_limit_points_have_no_derivative(comm):
    state = ga.BaseState(Fold(comm))
    np.testing.assert_allclose(state.jvp({"p": np.ones(1)}, {"p": np.ones(1)})["state"].array, 0.5)
    with pytest.raises(ga.ConvergenceError, match="limit point or a bifurcation") as caught:
        state.jvp({"p": np.zeros(1)}, {"p": np.ones(1)})
    assert caught.value.reason == "SINGULAR_JACOBIAN"


def test_bodies_that_are_not_held_have_no_state(comm):
    """Pivots are rounding here, not zero: only a second solve tells."""
    k = np.array([0.1, 0.3, 0.7])
    K = np.zeros((4, 4))
    for i, stiff in enumerate(k):
        K[i : i + 2, i : i + 2] += stiff * np.array([[1, -1], [-1, 1]])
    model = ga.MatrixModel(matrix(K, comm), None, {"p": [(matrix(np.eye(4), comm), None)]})
    state = ga.BaseState.linear(model, np.ones(4))
    with pytest.raises(ga.ConvergenceError, match=r"must be regular, got .*constrain rigid"):
        state({"p": np.zeros(1)})
    assert np.isfinite(state({"p": np.ones(1)})["state"].array).all()


@contextmanager
def options_of_states(**options):
    database = PETSc.Options("own_ga_state_")
    for name, value in options.items():
        database[name] = value
    try:
        yield
    finally:
        for name in options:
            database.delValue(name)


def test_other_solvers_of_the_jacobian(comm):
    found = []
    for options in ({}, {"ksp_type": "gmres", "pc_type": "jacobi"}):
        with options_of_states(**options):
            model, _, p = own_state(comm, prefix="own_")
            found.append(model.contract(p, *np.ones((3, N, 1))))
    for name in p:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ksp_type": "gmres", "pc_type": "none", "ksp_max_it": 1}, "DIVERGED.*, 1 iterations"),
        ({"ksp_type": "preonly", "pc_type": "jacobi"}, "must reach a residual of 1e-08, got"),
    ],
)
def test_solvers_that_fail(comm, options, match):
    model, _, p = own_state(comm, prefix="own_")
    with options_of_states(**options), pytest.raises(ga.ConvergenceError, match=match):
        model.contract(p, *np.ones((3, N, 1)))


# -- what is refused --


def without(comm, name):
    problem = Cubic(comm)
    names = ("comm", "rows", "jacobian", "residual_vjp", "residual_jvp", "solve")
    return types.SimpleNamespace(**{key: getattr(problem, key) for key in names if key != name})


def replaced(comm, **methods):
    problem = without(comm, "")
    problem.__dict__.update(names=("k", "s"), **methods)
    return problem


REFUSED = {
    "jacobian": (lambda comm, p: ga.BaseState(without(comm, "jacobian")), "without jacobian"),
    "solve": (lambda comm, p: ga.BaseState(without(comm, "solve")), "without solve or residual"),
    "guess": (
        lambda comm, p: ga.BaseState(Cubic(comm), guess=np.zeros(3)),
        r"guess must hold this rank's 7 real rows.*shape \(3,\)",
    ),
    "newton": (
        lambda comm, p: ga.BaseState(Cubic(comm), newton={"max_it": 0}),
        "newton must have rtol in 0 ... 1 and max_it of at least 1, got 1e-10 and 0",
    ),
    "output": (
        lambda comm, p: ga.BaseState(Cubic(comm), output="k")(p),
        "the state needs a name of its own, got 'k'",
    ),
    "rows": (
        lambda comm, p: ga.BaseState(replaced(comm, solve=lambda p: np.zeros(2)))(p),
        "solve must hold this rank's 7 real rows",
    ),
    "complex": (
        lambda comm, p: ga.BaseState(replaced(comm, solve=lambda p: 1j * np.ones(N)))(p),
        "complex entries.* real and imaginary part",
    ),
    "nothing": (
        lambda comm, p: ga.BaseState(replaced(comm, solve=lambda p: None))(p),
        "solve must hold this rank's 7 real rows.*NoneType",
    ),
    "matrix": (
        lambda comm, p: ga.BaseState(replaced(comm, jacobian=lambda u, p: np.eye(N))).jvp(p, p),
        "jacobian must return a PETSc.Mat with local and global sizes .*ndarray",
    ),
    "size": (
        lambda comm, p: ga.BaseState(
            replaced(comm, jacobian=lambda u, p: matrix(np.eye(3), comm))
        ).jvp(p, p),
        r"jacobian must return .*\(3, 3\)",
    ),
    "no load": (
        lambda comm, p: ga.BaseState.linear(chain(N, comm)),
        "needs a load or a field, got none",
    ),
    "load": (
        lambda comm, p: ga.BaseState.linear(chain(N, comm), np.full(N, np.nan)),
        "load must hold .* got NaN or Inf",
    ),
    "field": (
        lambda comm, p: ga.BaseState.linear(
            ga.MatrixModel(matrix(np.eye(N), comm), None, {}), field=np.ones(N)
        )({}),
        "a field needs a model with B, got one without",
    ),
    "name": (
        lambda comm, p: ga.BaseState.of_elements(
            2,
            [ga.ResidualBlock(np.array([[0, 1]]), lambda u, state: u, {"state": np.array([0])})],
            comm=comm,
        ),
        "a name that no parameter has, got 'state'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(comm, case):
    action, match = REFUSED[case]
    with pytest.raises(ga.InputError, match=match):
        action(comm, {"k": np.ones(N), "s": np.ones(2)})


def test_states_of_composed_models_and_of_vectors(comm):
    """A load as a PETSc.Vec, a filter in front of the stiffness, names said by the user."""
    p = {**chain_parameters(N), "other": np.ones(2)}
    inner = ga.Composed(chain(N, comm), [ga.Pointwise("k", np.sqrt)])
    load = distributed(np.linspace(1.0, 2.0, N), comm)
    state = ga.BaseState.linear(inner, load, names=["k", "m"])
    q = state(p)
    with chain(N, comm).assemble({"k": np.sqrt(p["k"]), "m": p["m"]}) as pencil:
        product = pencil.multiply_a(q["state"].array[:, None])
    np.testing.assert_allclose(product[:, 0].real, load.array.real, rtol=1e-12)
    assert ga.check_base_state(state, p).passed
    assert set(q) == {"k", "m", "other", "state"}

"""States in front of models on any number of ranks: every derivative, every kind of problem."""

from functools import cache

import numpy as np
import pytest
from base_flows import brusselator_rates, flow, wavy
from builders import distributed
from maps_of_tests import entries
from mpi4py import MPI
from own_states import Checked, Complete, Cubic, Iterated, own_state
from prestressed import column

import geneig_adjoint as ga


def column_case(comm, **options):
    # Fewer elements than some ranks could have; the last rank holds the spring.
    model, state = column(comm, 5, **options)
    return model, state, {"area": 0.7 + 0.1 * np.cos(np.arange(5)), "spring": np.array([1.3])}


def flow_case(comm, name):
    model, state = flow(comm, name, 4, guess=wavy(name))
    rng = np.random.default_rng(4)
    p = {
        "bratu": {"strength": rng.uniform(1.5, 2.5, 4)},
        "brusselator": {
            "feed": rng.uniform(1.9, 2.1, 4),
            "control": rng.uniform(5.2, 5.6, 4),
            "spread": np.array([0.3, 0.2]),
        },
    }[name]
    return model, state, p


CASES = {
    "column": lambda comm: column_case(comm, load="both"),
    "brusselator": lambda comm: flow_case(comm, "brusselator"),
    "own solve": lambda comm: own_state(comm, Cubic),
    "own residual": lambda comm: own_state(comm, Iterated),
}
SOLVER = {"count": 2, "target": 0.0}


@cache
def kept(name, alone):
    return CASES[name](MPI.COMM_SELF if alone else MPI.COMM_WORLD)


def made(name, comm):
    """Return a case; what it compiles is kept for all tests."""
    return kept(name, comm.size == 1)


@pytest.fixture(params=CASES)
def case(request, comm):
    model, state, p = made(request.param, comm)
    state.counts = type(state.counts)()
    yield model, state, p
    model.close()
    state.close()


def flat(g):
    return np.concatenate([entries(value) for value in g.values()])


def direction(p, seed=5):
    rng = np.random.default_rng(seed)
    return {name: value * rng.normal(size=value.size) / 4 for name, value in p.items()}


def moved(p, step, p_dot):
    return {name: value + step * p_dot[name] for name, value in p.items()}


def differences(function, p, p_dot, h=1e-2):
    """Return the derivative by sixth-order differences."""
    at = {k: function(moved(p, k * h, p_dot)) for k in (-3, -2, -1, 1, 2, 3)}
    return sum(w * (at[k] - at[-k]) for k, w in {1: 45, 2: -9, 3: 1}.items()) / (60 * h)


def blocks(model):
    """Return three pairs of vectors that do not depend on the ranks."""
    n = model.model.n
    rng = np.random.default_rng(8)
    return [block[slice(*model.rows)] for block in rng.normal(size=(3, n, 2))]


def second_value(model):
    """An eigenvalue and the shape of its vector."""
    n = model.model.n
    return ga.objectives.LinearOutput(np.linspace(1.0, 2.0, n)[slice(*model.rows)], 0)


def differences_of(model, state, p, p_dot):
    """Return differences of the state and of vjp, one after the other."""
    bar = model.model.contract(state(p), *blocks(model))

    def both(at):
        return np.concatenate([entries(state(at)[state.output]), flat(state.vjp(at, bar))])

    return differences(both, p, p_dot)


def differences_alone(name, p_dot):
    model, state, p = made(name, MPI.COMM_SELF)
    with model, state:
        return differences_of(model, state, p, p_dot)


@pytest.mark.parametrize("name", CASES)
def test_changes_of_the_state_and_of_vjp_are_those_of_differences(comm, name):
    model, state, p = made(name, comm)
    p_dot = direction(p)
    with model, state:
        bar = model.model.contract(state(p), *blocks(model))
        change = entries(state.jvp(p, p_dot)[state.output])
        change_of_vjp = flat(state.vjp_tangent(p, p_dot, bar))
        size = np.abs(flat(state.vjp(p, bar))).max()
    alone = comm.bcast(differences_alone(name, p_dot) if comm.rank == 0 else None)
    expected, expected_of_vjp = np.split(alone, [change.size])
    # Truncation h^6 = 1e-12 of the seventh derivative; states are known to 1e-12 or so
    np.testing.assert_allclose(change, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    size = max(np.abs(expected_of_vjp).max(), 1e-2 * size)
    np.testing.assert_allclose(change_of_vjp, expected_of_vjp, rtol=0, atol=1e-8 * size)


def test_vjp_is_the_transpose_of_jvp(case):
    _, state, p = case
    p_dot = direction(p)
    q_dot = state.jvp(p, p_dot)
    rng = np.random.default_rng(1)
    bars = {name: rng.normal(size=entries(value).size) for name, value in q_dot.items()}
    one = sum(bars[name] @ entries(q_dot[name]) for name in bars)
    q_bar = {**bars, state.output: q_dot[state.output].duplicate()}
    first, last = q_bar[state.output].getOwnershipRange()
    q_bar[state.output].array[:] = bars[state.output][first:last]
    found = state.vjp(p, q_bar)
    assert list(found) == list(p)
    # One refined factor serves both ways
    size = np.abs(flat(found)) @ np.abs(flat(p_dot))
    assert flat(found) @ flat(p_dot) == pytest.approx(one, abs=1e-12 * size)
    np.testing.assert_array_equal(flat(found), state.comm.bcast(flat(found)))
    assert state.counts.factors == state.counts.states == 1


def test_gradients_of_the_whole_chain_are_verified(comm):
    model, _, p = made("column", comm)
    report = ga.verify_gradient(model, p, second_value(model), **SOLVER)
    assert report.passed, str(report)
    assert report.dot_product_error < 1e-9
    assert np.nanmax(report.orders) >= 1.95


def test_second_derivatives_are_those_of_gradients(comm):
    model, _, p = made("own residual", comm)
    p_dot, objective = direction(p), ga.objectives.Eigenvalue(0)

    def gradient(at):
        with model.assemble(at) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
            return flat(ga.gradient(model, at, pairs, objective))

    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        found = flat(ga.hessian_vector_product(model, p, pairs, objective, p_dot))
    expected = differences(gradient, p, p_dot)
    # Gradients to 1e-10, divided by h
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


# The other one knows closed forms on any number of ranks, and compiles for some time.
ALIKE = [name for name in CASES if name != "brusselator"]


@pytest.mark.parametrize("name", ALIKE)
def test_ranks_and_kinds_of_parameters_make_no_difference(comm, name):
    def results(world, kind=None):
        model, state, p = made(name, world)
        at, dot = p, direction(p)  # not p itself: lam may be homogeneous
        if kind is not None:
            at, dot = ({key: kind(value, comm) for key, value in of.items()} for of in (at, dot))
        with model, state, model.assemble(at) as pencil:
            dA, dB = model.tangent(at, dot, np.ones((model.rows[1] - model.rows[0], 1)))
            products = np.concatenate(world.allgather(np.hstack([dA, dB]))).ravel()
            with ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
                g = ga.gradient(model, at, pairs, ga.objectives.Eigenvalue(0))
                hp = ga.hessian_vector_product(model, at, pairs, ga.objectives.Eigenvalue(0), dot)
            assert {type(v) for v in g.values()} == {type(v) for v in at.values()}
            return [products, pairs.values[:1], flat(g), flat(hp)]

    alone = comm.bcast(results(MPI.COMM_SELF) if comm.rank == 0 else None)
    for one in (results(comm), results(comm, distributed)):
        for reference, found in zip(alone, one, strict=True):
            scale = np.abs(reference).max()
            np.testing.assert_allclose(found, reference, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("name", CASES)
def test_problems_pass_their_own_check(comm, name):
    _, state, p = made(name, comm)
    report = ga.check_base_state(state, p)
    assert report.passed, str(report)
    assert set(comm.allgather(str(report))) == {str(report)}


def test_one_transposed_solve_per_objective_and_one_factor_per_point(comm):
    model, state, p = column_case(comm)
    objectives = [ga.objectives.Eigenvalue(0), second_value(model)]
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        ga.gradient(model, p, pairs, objectives)
    assert (state.counts.states, state.counts.factors, state.counts.solves) == (1, 1, 2)
    with ga.value_and_gradient(model, objectives[0], **SOLVER) as f:
        f(p)
        f(moved(p, 0.1, direction(p)))
    assert (state.counts.states, state.counts.factors, state.counts.solves) == (2, 2, 4)


@pytest.mark.parametrize("kind", [Cubic, Checked, Complete, Iterated])
def test_all_that_a_user_may_bring_gives_the_same(comm, kind):
    results = []
    for one in (Cubic, kind):
        model, state, p = own_state(comm, one)
        bar = model.model.contract(state(p), *blocks(model))
        p_dot = direction(p)
        results.append(np.concatenate([flat(state.vjp_tangent(p, p_dot, bar)), flat(state(p))]))
    # One of both may have been differenced
    np.testing.assert_allclose(results[0], results[1], rtol=1e-9)


@pytest.mark.parametrize("bad", [0, -1])
def test_what_fails_on_one_rank_fails_on_all(comm, bad):
    class Failing(Cubic):
        def solve(self, p):
            found = super().solve(p)
            found[comm.rank == bad % comm.size :] = np.nan
            return found if comm.rank == bad % comm.size else super().solve(p)

    class Broken(Cubic):
        def residual_vjp(self, u, p, w):
            found = super().residual_vjp(u, p, w)
            return {} if comm.rank == bad % comm.size else found

    model, _, p = own_state(comm, Failing)
    with pytest.raises(ga.InputError, match=r"solve must hold this rank's .* rows.* NaN or Inf"):
        model.assemble(p)
    model, _, p = own_state(comm, Broken)
    with pytest.raises(ga.InputError, match="residual_vjp must return the structure of p"):
        model.contract(p, *blocks(model))


def rate(name, at):
    """Return the growth rate of even oscillations, feed = 2 and control = 5 but for one."""
    given = {"feed": 2.0, "control": 5.0, name: at}
    return max(brusselator_rates(spread=[0.0, 0.0], **given), key=np.imag)


@pytest.mark.parametrize(("part", "of"), [("real", np.real), ("imag", np.imag)])
def test_the_brusselator_oscillates(comm, part, of):
    """Prigogine & Lefever, J. Chem. Phys. 48, 1968: from control = 1 + feed^2 on, rate i feed."""
    model, _, p = made("brusselator", comm)
    at = {"feed": np.full(4, 2.0), "control": np.full(4, 5.0), "spread": p["spread"]}
    for make in (np.array, lambda values: distributed(values, comm)):
        given = {name: make(value) for name, value in at.items()}
        with model.assemble(given) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
            g = ga.gradient(model, given, pairs, ga.objectives.Eigenvalue(0, part=part))
        assert pairs.values[0] == pytest.approx(2j, abs=1e-8)
        for name, middle in [("feed", 2.0), ("control", 5.0)]:
            # Truncation 1e-12, rounding 1e-16 / 1e-3
            slope = (8 * (rate(name, middle + 1e-3) - rate(name, middle - 1e-3))
                     - (rate(name, middle + 2e-3) - rate(name, middle - 2e-3))) / 12e-3  # fmt: skip
            assert entries(g[name]).sum() == pytest.approx(of(slope), rel=1e-8)


class Endless(Iterated):
    """No state for s_1 = 9: the residual is not a number there, on one rank."""

    def residual(self, u, p):
        found = super().residual(u, p)
        if self.comm.rank == self.comm.size - 1 and entries(p["s"])[1] > 8:
            found.array[-1] = np.nan
        return found


def test_a_state_that_is_not_found_is_an_error_on_all_ranks(comm):
    model, state, p = own_state(comm, Endless)
    match = "there may be no state at these parameters .*, or start nearer with guess="
    with pytest.raises(ga.ConvergenceError, match=match):
        model.assemble({**p, "s": np.array([0.4, 9.0])})
    model.assemble(p).close()  # a failure does no harm
    assert state.counts.states == 1

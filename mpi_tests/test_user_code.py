"""Objectives and operators that fail, or answer differently, on one rank."""

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters, own_rows
from ranks import assert_from_the_last_rank, last, raised_everywhere, refused_if_different

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

pytestmark = pytest.mark.any_scalars

N = 11
P = chain_parameters(N)


@pytest.fixture(scope="module")
def solved(comm):
    model = chain(N, comm, base=K0 + C0)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        yield model, pairs


def explode(pairs):
    raise ArithmeticError("no tip found")


ZERO = ga.EigenCotangent()
OBJECTIVES = {
    "raises": (explode, ArithmeticError, r"no tip found"),
    "kind": (lambda pairs: 1.0, ga.InputError, r"must return \(value, EigenCotangent\)"),
    "nan": (lambda pairs: (np.nan, ZERO), ga.InputError, r"must be finite, got nan"),
    "shape": (
        lambda pairs: (1.0, ga.EigenCotangent(right=np.ones((1, 1, 1)))),
        ga.InputError,
        r"cotangent 'right' of .* must have shape",
    ),
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_objective_that_fails_on_one_rank(comm, solved, case):
    function, kind, match = OBJECTIVES[case]
    model, pairs = solved

    def objective(pairs):
        return function(pairs) if last(comm) else (1.0, ZERO)

    error = raised_everywhere(comm, kind, match, ga.gradient, model, P, pairs, objective)
    assert_from_the_last_rank(comm, error)


def test_objective_with_another_value_on_each_rank(comm, solved):
    model, pairs = solved
    match = r"must return the same value on every rank, got .* on rank 1 .*allreduce"
    refused_if_different(
        comm, match, lambda: ga.gradient(model, P, pairs, lambda pairs: (1.0 + comm.rank, ZERO))
    )


def test_eigenvalue_cotangent_that_differs(comm, solved):
    model, pairs = solved

    def objective(pairs):
        values = np.zeros(pairs.count)
        values[0] = 1.0 + comm.rank
        return 1.0, ga.EigenCotangent(values=values)

    match = r"cotangent 'values' .*must be the same on every rank"
    refused_if_different(comm, match, lambda: ga.gradient(model, P, pairs, objective))


def test_vector_cotangent_may_be_missing_where_it_is_zero(comm, solved):
    model, pairs = solved
    weight = np.where(np.arange(*pairs.rows) == N - 1, 1.0, 0.0)

    def objective(pairs):
        value, cotangent = obj.QuadraticForm(weight)(pairs)
        return value, cotangent if last(comm) else ZERO

    found = ga.gradient(model, P, pairs, objective)
    expected = ga.gradient(model, P, pairs, obj.QuadraticForm(weight))
    for name in P:
        assert np.allclose(found[name], expected[name], rtol=1e-12, atol=1e-13)


# -- operators --

ONE = {"p": np.array([2.0])}
FAILURES = {
    "raises": (lambda p, block: 1 / 0, ZeroDivisionError, r"division by zero"),
    "shape": (lambda p, block: block[:, 0], ga.InputError, r"must return this rank's rows"),
    "nan": (lambda p, block: block * np.nan, ga.InputError, r"must return finite numbers"),
}


def operator(comm, **options):
    diagonal = np.arange(*own_rows(N, comm))[:, None] + 1.0
    fields = {
        "apply_a": lambda p, block: p["p"][0] * diagonal * block,
        "vjp": lambda p, a, b, right: {
            "p": np.array([comm.allreduce(np.vdot(a, diagonal * right).real)])
        },
    }
    return ga.OperatorModel(N, **{**fields, **options}, comm=comm)


def solve(model):
    pencil = model.assemble(ONE)
    return pencil, ga.solve_eigenproblem(pencil, 1, which="largest_real")


@pytest.mark.parametrize("case", FAILURES)
def test_operator_that_fails_on_one_rank(comm, case):
    function, kind, match = FAILURES[case]
    good = operator(comm)

    def apply_a(p, block):
        return function(p, block) if last(comm) else good._a[0](p, block)

    error = raised_everywhere(comm, kind, match, solve, operator(comm, apply_a=apply_a))
    assert_from_the_last_rank(comm, error)


@pytest.mark.failure("exception in a callback", through="api")
def test_operator_that_fails_in_the_middle_of_a_solve(comm):
    calls = []
    good = operator(comm)

    def apply_a(p, block):
        calls.append(0)
        assert not (len(calls) > 12 and last(comm)), "worn out"
        return good._a[0](p, block)

    error = raised_everywhere(
        comm, AssertionError, r"worn out", solve, operator(comm, apply_a=apply_a)
    )
    assert_from_the_last_rank(comm, error)


def test_operator_that_fails_in_the_adjoint_solve(comm):
    broken = []
    good = operator(comm)

    def apply_a(p, block):
        assert not (broken and last(comm)), "worn out"
        return good._a[0](p, block)

    model = operator(comm, apply_a=apply_a)
    _, pairs = solve(model)
    broken.append(True)
    output = obj.LinearOutput(np.ones(pairs.right.shape[0]))
    raised_everywhere(comm, AssertionError, r"worn out", ga.gradient, model, ONE, pairs, output)


def test_vjp_that_fails_on_one_rank(comm):
    def vjp(p, left_a, left_b, right):
        return {"p": np.zeros(1 + last(comm))}

    model = operator(comm, vjp=vjp)
    _, pairs = solve(model)
    match = r"vjp must return the structure of p, \{'p': 1\}.*got \{'p': 2\}"
    error = raised_everywhere(
        comm, ga.InputError, match, ga.gradient, model, ONE, pairs, obj.Eigenvalue(0)
    )
    assert_from_the_last_rank(comm, error)


def test_operator_rows_that_do_not_add_up(comm):
    match = r"n_local must add up to n = 11 over the ranks, got"
    raised_everywhere(comm, ga.InputError, match, operator, comm, n_local=N + 1)


@pytest.mark.failure("shapes", through="api")
def test_operator_on_more_ranks_than_rows(comm):
    diagonal = np.arange(*own_rows(2, comm))[:, None] + 1.0
    model = ga.OperatorModel(
        2,
        lambda p, block: p["p"][0] * diagonal * block,
        lambda p, a, b, r: {"p": np.array([comm.allreduce(np.vdot(a, diagonal * r).real)])},
        comm=comm,
    )
    _, pairs = solve(model)
    assert np.allclose(pairs.values, 4.0, rtol=1e-12)
    assert np.allclose(ga.gradient(model, ONE, pairs, obj.Eigenvalue(0))["p"], 2.0, rtol=1e-12)


def test_the_library_works_after_all_that(comm, solved):
    model, pairs = solved
    assert np.isfinite(ga.gradient(model, P, pairs, obj.Eigenvalue(0))["k"]).all()

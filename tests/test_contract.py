"""The rules of the contract: lifetime, no aliasing, order and type, options, memory."""

import gc
import resource
from pathlib import Path

import numpy as np
import pytest
from builders import (
    C0,
    K0,
    M0,
    chain,
    chain_parameters,
    dense,
    generalized,
)

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 8
P = chain_parameters(N)
OUTPUT = obj.LinearOutput(np.arange(1.0, N + 1), 1)
NORMALIZED = obj.QuadraticForm(np.arange(1.0, N + 1), (0, 1))


def convected(comm):
    return chain(N, comm, base=K0 + C0)


def gradient_of(model, objective=OUTPUT, *, adjoint=None, **solver):
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2, **solver) as pairs:
        return ga.gradient(model, P, pairs, objective, **(adjoint or {}))


def assert_same(found, expected, rtol=1e-8):
    """Adjoint systems are solved to 1e-10; gradients are of order 1."""
    for name in P:
        assert np.allclose(found[name], expected[name], rtol=rtol, atol=rtol)


# -- lifetime --


def stale_calls(model, pencil, pairs):
    return {
        "gradient": lambda: ga.gradient(model, P, pairs, OUTPUT),
        "eigenvalue": lambda: ga.gradient(model, P, pairs, obj.Eigenvalue(0)),
        "jvp": lambda: ga.jvp(model, P, pairs, P),
        "check": pairs.check_current,
    }


CALLS = ["gradient", "eigenvalue", "jvp", "check"]


@pytest.mark.parametrize("call", CALLS)
def test_pairs_of_a_refilled_pencil_do_not_answer(comm, call):
    model = chain(N, comm)
    with model.assemble(P) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 2)
        assert model.assemble({**P, "k": 2 * P["k"]}, out=pencil) is pencil
        assert pencil.version > 0
        with pytest.raises(
            ga.StaleError, match=r"pairs of version 0 of a pencil at version .; solve"
        ):
            stale_calls(model, pencil, pairs)[call]()


@pytest.mark.parametrize("call", CALLS)
def test_pairs_of_a_closed_pencil_do_not_answer(comm, call):
    model = chain(N, comm)
    pencil = model.assemble(P)
    pairs = ga.solve_eigenproblem(pencil, 2)
    pencil.close()
    with pytest.raises(ga.StaleError, match=r"pencil must be open, got one that was closed"):
        stale_calls(model, pencil, pairs)[call]()


def test_solving_a_closed_pencil(comm):
    pencil = chain(N, comm).assemble(P)
    pencil.close()
    with pytest.raises(ga.StaleError, match=r"pencil must be open"):
        ga.solve_eigenproblem(pencil, 2)


def test_refilling_a_closed_pencil(comm):
    model = chain(N, comm)
    pencil = model.assemble(P)
    pencil.close()
    with pytest.raises(ga.StaleError, match=r"pencil must be open"):
        model.assemble(P, out=pencil)


def test_everything_can_be_closed_twice(comm):
    model = chain(N, comm)
    pencil = model.assemble(P)
    pairs = ga.solve_eigenproblem(pencil, 2)
    f = ga.value_and_gradient(model, OUTPUT, count=2)
    f(P)
    for item in (pairs, f, pencil, model) * 2:
        item.close()


@pytest.mark.parametrize("base", [K0, K0 + C0], ids=["symmetric", "nonsymmetric"])
def test_without_the_factor_gradients_are_the_same(comm, base):
    model = chain(N, comm, base=base)
    assert_same(gradient_of(model, keep_factor=False), gradient_of(model))


def test_closed_pairs_still_give_gradients(comm):
    model = chain(N, comm)
    with model.assemble(P) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 2)
        pairs.close()
        assert_same(ga.gradient(model, P, pairs, OUTPUT), gradient_of(model))


def test_value_and_gradient_closes_what_it_makes(comm):
    model = chain(N, comm)
    with ga.value_and_gradient(model, OUTPUT, count=2) as f:
        value, gradient = f(P)
        pencil = f._pencil
        A = pencil.A
        assert_same(gradient, gradient_of(model))
    assert not A  # destroyed
    with pytest.raises(ga.StaleError, match=r"pencil must be open"):
        pencil.check_open()
    again, _ = f(P)  # and can be used again
    f.close()
    assert np.isclose(value, again, rtol=1e-10)


class OneCall:
    """A model whose pencils are counted, and which cannot refill one."""

    def __init__(self, model):
        self.model = model
        self.pencils = []

    def assemble(self, p):
        self.pencils.append(self.model.assemble(p))
        return self.pencils[-1]

    def contract(self, p, left_a, left_b, right):
        return self.model.contract(p, left_a, left_b, right)


def test_model_of_ones_own(comm):
    model = OneCall(chain(N, comm))
    with ga.value_and_gradient(model, OUTPUT, count=2) as f:
        assert_same(f(P)[1], gradient_of(model.model))
    assert not model.pencils[0].A


def test_matrices_are_freed_when_the_objective_fails(comm):
    model = OneCall(chain(N, comm))
    with ga.value_and_gradient(model, lambda pairs: 1 / 0) as f, pytest.raises(ZeroDivisionError):
        f(P)
    assert not model.pencils[0].A


# -- no aliasing --


def test_assemble_gives_fresh_matrices(comm):
    model = chain(N, comm)
    with model.assemble(P) as first, model.assemble({**P, "k": 2 * P["k"]}) as second:
        before = dense(first.A)
        second.A.scale(3.0)
        assert np.array_equal(dense(first.A), before)
        assert first.A.handle != second.A.handle


def test_refill_equals_fresh(comm):
    model = convected(comm)
    with (
        model.assemble({"k": np.ones(N + 1), "m": np.ones(N + 1)}) as pencil,
        model.assemble(P) as fresh,
    ):
        model.assemble(P, out=pencil)
        assert np.array_equal(dense(pencil.A), dense(fresh.A))
        assert np.array_equal(dense(pencil.B), dense(fresh.B))


def test_failed_refill_leaves_no_pairs_that_answer(comm):
    # A is new, B could not be computed: pairs of the old A must not meet it.
    def law(m):
        return np.where(m.real < 0, np.nan, m)

    blocks = chain(N, comm).blocks
    blocks[1] = ga.ElementBlock(
        "B", blocks[1].dofs, ga.ScaledKernel(M0, law), {"m": blocks[1].parameters["m"]}
    )
    model = ga.ElementModel(N, blocks, comm=comm)
    with model.assemble(P) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1)
        with pytest.raises(ga.InputError, match=r"must be finite"):
            model.assemble({"k": 2 * P["k"], "m": -P["m"]}, out=pencil)
        with pytest.raises(ga.StaleError, match=r"solve again"):
            pairs.check_current()


def test_objective_cannot_change_what_comes_back(comm):
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        values, right = pairs.values.copy(), pairs.right.copy()
        ga.gradient(model, P, pairs, [OUTPUT, NORMALIZED])
        assert np.array_equal(pairs.values, values)
        assert np.array_equal(pairs.right, right)


# -- type --

REAL_IN = {"real": np.float64, "complex": np.complex128}


@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric", "singular_B"])
def test_blocks_are_real_iff_pencil_and_build_are(comm, scalar_build, kind):
    expected = {"symmetric": REAL_IN[scalar_build]}.get(kind, np.complex128)
    with generalized(N, comm, kind) as pencil:
        assert pencil.block_dtype == expected  # known before solving
        pairs = ga.solve_eigenproblem(pencil, 2, target=0.3)
        assert pairs.right.dtype == pairs.left.dtype == expected
        assert pairs.values.dtype == np.complex128
        assert pairs.right.flags.f_contiguous
        assert pairs.rows == (0, N)


def test_pairs_of_a_symmetric_pencil_have_real_values(comm):
    with generalized(N, comm, "symmetric") as pencil:
        assert not ga.solve_eigenproblem(pencil, 3).values.imag.any()


# -- how adjoint systems are solved --


def test_eigenvalue_objectives_solve_no_system(comm):
    def never(operator, rhs, solution):
        raise AssertionError("not reached")

    gradient_of(convected(comm), obj.Eigenvalue(0), adjoint={"strategy": never})


# -- memory --


def rss():
    """Return this process's memory in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.parametrize("base", [K0, K0 + 1e-3 * C0], ids=["symmetric", "nonsymmetric"])
def test_memory_does_not_grow(comm, base):
    n = 300
    model = chain(n, comm, base=base)
    p = chain_parameters(n)
    objective = obj.LinearOutput(np.ones(n), 1)

    def once():
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            ga.gradient(model, p, pairs, objective)
            ga.gradient(model, p, pairs, objective, strategy="direct")

    for _ in range(6):
        once()
    before = rss()
    for _ in range(20):
        once()
    # One forgotten factor or basis of 300 rows is about 0.1 MB: 20 of them would show.
    assert rss() - before < 1.0

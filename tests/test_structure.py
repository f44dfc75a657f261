"""What a model's contract returns, and the pencils and parameters a model takes."""

import numpy as np
import pytest
from builders import chain, chain_parameters, distributed, mass, matrix, stiffness

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 7
P = chain_parameters(N)
TURNED = dict(reversed(P.items()))


class Rewritten:
    """A model whose gradients are rewritten before they come back."""

    def __init__(self, model, rewrite):
        self.model, self.rewrite = model, rewrite

    def assemble(self, p):
        return self.model.assemble(p)

    def contract(self, p, left_a, left_b, right):
        return self.rewrite(self.model.contract(p, left_a, left_b, right))


def turned(gradient):
    return dict(reversed(gradient.items()))


def expected_gradient(comm, p=P):
    model = chain(N, comm)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        return ga.gradient(model, p, pairs, obj.Eigenvalue(1))


def assert_flat(found, expected):
    # start vectors may differ: eps_tol 1e-12 times conditions below 100
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_flat_gradient_of_a_contract_in_another_order(comm):
    expected = expected_gradient(comm)
    model = Rewritten(chain(N, comm), turned)
    with ga.value_and_gradient(model, obj.Eigenvalue(1), count=2) as f:
        assert list(f(P)[1]) == ["k", "m"]
        assert_flat(f.flat(f.pack(P))[1], np.r_[expected["k"], expected["m"]])
        assert_flat(f.flat(f.pack(TURNED))[1], np.r_[expected["m"], expected["k"]])


def test_calls_between_flat_calls_do_not_change_their_order(comm):
    expected = expected_gradient(comm)
    with ga.value_and_gradient(chain(N, comm), obj.Eigenvalue(1), count=2) as f:
        x = f.pack(P)
        _, turned_gradient = f(TURNED)
        assert list(turned_gradient) == ["m", "k"]
        value, found = f.flat(x)
        assert_flat(found, np.r_[expected["k"], expected["m"]])
        f(TURNED)
        again, same = f.flat(x)
        assert_flat(same, found)
        assert np.isclose(value, again, rtol=1e-12)


def without(name):
    return lambda gradient: {other: v for other, v in gradient.items() if other != name}


BROKEN = {
    "missing": (without("m"), r"got \{'k': 8\}"),
    "empty": (lambda gradient: {}, r"got \{\}"),
    "additional": (lambda gradient: {**gradient, "z": np.zeros(2)}, r"'z': 2"),
    "short": (lambda gradient: {**gradient, "k": gradient["k"][1:]}, r"'k': 7"),
    "2-D": (lambda gradient: {**gradient, "k": gradient["k"][:, None]}, r"'k': None"),
    "number": (lambda gradient: {**gradient, "k": 1.0}, r"'k': None"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("objective", [obj.Eigenvalue(0), obj.QuadraticForm(np.ones(N))], ids=str)
def test_contract_must_return_the_structure_of_p(comm, case, objective):
    rewrite, got = BROKEN[case]
    model = Rewritten(chain(N, comm), rewrite)
    match = rf"contract must return the structure of p, \{{'k': 8, 'm': 8\}} .*{got}"
    with (
        ga.value_and_gradient(model, objective) as f,
        pytest.raises(ga.InputError, match=match),
    ):
        f.flat(f.pack(P))


# -- pencils of other models --


def matrix_model(comm, n=N, B=True):
    base = {True: matrix(mass(n), comm), False: None}[B]
    return ga.MatrixModel(
        matrix(stiffness(n), comm), base, {"p": [(matrix(np.eye(n), comm), None)] * 2}
    )


TWO = {"p": np.array([0.1, 0.2])}
OTHERS = {
    "elements of another size": (
        lambda comm: (chain(N, comm), P),
        lambda comm: chain(N + 1, comm).assemble(chain_parameters(N + 1)),
    ),
    "matrices of another size": (
        lambda comm: (matrix_model(comm), TWO),
        lambda comm: matrix_model(comm, N + 1).assemble(TWO),
    ),
    "without B": (
        lambda comm: (matrix_model(comm), TWO),
        lambda comm: matrix_model(comm, B=False).assemble(TWO),
    ),
    "with B": (
        lambda comm: (matrix_model(comm, B=False), TWO),
        lambda comm: matrix_model(comm).assemble(TWO),
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_pencil_of_another_model_cannot_be_refilled(comm, case):
    (model, p), other = (make(comm) for make in OTHERS[case])
    with other as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        with pytest.raises(ga.InputError, match=r"out must be a pencil of this model, got rows"):
            model.assemble(p, out=pencil)
        pairs.check_current()  # nothing was changed


@pytest.mark.parametrize("kind", ["replicated", "distributed"])
@pytest.mark.parametrize("size", [1, 3])
def test_matrix_model_needs_one_entry_per_derivative(comm, kind, size):
    values = {"replicated": lambda v, _: v, "distributed": distributed}[kind](np.ones(size), comm)
    match = {1: r"'p' must have at least 2 entries", 3: r"'p' must have 2 entries.*got 3; shorten"}
    with pytest.raises(ga.InputError, match=match[size]):
        matrix_model(comm).assemble({"p": values})

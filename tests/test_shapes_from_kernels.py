"""Kernels of users that return something else than one matrix, or one number, per element."""

import numpy as np
import pytest
from builders import K0, chain_dofs

import geneig_adjoint as ga

N = 6
P = {"k": np.linspace(0.5, 1.5, N + 1)}
DOFS, IDS = chain_dofs(N), np.arange(N + 1)
X = np.cos(np.arange(N))[:, None]


class Odd:
    """k K0, each result changed by a function."""

    def __init__(self, change):
        self.change = change

    def matrices(self, values, rows):
        return self.change(values["k"][:, None, None] * K0)

    def derivative(self, values, dots, rows):
        return self.matrices(dots, rows)

    def vjp(self, values, left, right, rows):
        return self.change(np.einsum("eik,ij,ejk->e", left.conj(), K0, right).real)

    def vjp_tangent(self, values, dots, left, right, rows):
        return self.vjp(values, left, right, rows)


def model_of(change, comm):
    mine = IDS[comm.rank :: comm.size]
    return ga.ElementModel(
        N, [ga.ElementBlock("A", DOFS[mine], Odd(change), {"k": mine})], comm=comm
    )


MATRICES = {
    "one for all": lambda K: K[:1],
    "no axis of elements": lambda K: K[0],
    "flat": lambda K: K.reshape(len(K), 4),
    "too few": lambda K: K[:-1],
    "a number": lambda K: 1.0,
    "nothing": lambda K: None,
}


@pytest.mark.parametrize("kind", MATRICES)
def test_there_must_be_a_matrix_for_every_element(comm, kind):
    model = model_of(MATRICES[kind], comm)
    rows = slice(*model.rows)
    for call in (
        lambda: model.assemble(P),
        lambda: model.multiply(P, X[rows]),
        lambda: model.tangent(P, P, X[rows]),
        lambda: model.derivative_products(P, X[rows], "k"),
    ):
        with pytest.raises(ga.InputError, match=r"element block 0 must return shape \(.*, 2, 2\)"):
            call()


def test_lists_of_matrices_are_taken(comm):
    model, plain = (model_of(change, comm) for change in (np.ndarray.tolist, np.asarray))
    rows = slice(*model.rows)
    with model.assemble(P) as first, plain.assemble(P) as second:
        assert np.array_equal(first.multiply_a(X[rows]), second.multiply_a(X[rows]))
    for one, two in zip(model.tangent(P, P, X[rows]), plain.tangent(P, P, X[rows]), strict=True):
        assert np.array_equal(one, two)


NUMBERS = {
    "one for all": lambda g: {"k": g[:1]},
    "a number": lambda g: {"k": 1.0},
    "a column": lambda g: {"k": g[:, None]},
    "complex": lambda g: {"k": g + 1j},
    "nothing": lambda g: {},
    "another": lambda g: {"k": g, "q": g},
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_there_must_be_a_number_for_every_value(comm, kind):
    model = model_of(NUMBERS[kind], comm)
    own = X[slice(*model.rows)]
    for call in (
        lambda: model.contract(P, own, 0 * own, own),
        lambda: model.contract_tangent(P, P, own, 0 * own, own),
    ):
        with pytest.raises(ga.InputError, match="vjp of a Odd must return real numbers in the sha"):
            call()

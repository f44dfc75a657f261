"""`OperatorModel` with operators that are not Hermitian: products with A^H, and what they give."""

import numpy as np
import pytest
import scipy.linalg
from distributed_operators import (
    CASES,
    POINT,
    N,
    arrays,
    derivative_arrays,
    operator,
    product,
    solved,
)

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj


def dense_gradients(name):
    """Return the two largest eigenvalues and their gradients in the order b_0, b_1, a."""
    A, B = arrays(name, POINT)
    values, left, right = scipy.linalg.eig(A, B, left=True)
    rows = []
    order = np.argsort(-values.real)[:2]
    for j in order:
        y, x = left[:, j], right[:, j]
        square = y.conj() @ B @ x
        slopes = [
            y.conj() @ (dA - values[j] * dB) @ x / square
            for dA, dB in zip(*derivative_arrays(name), strict=True)
        ]
        rows.append(np.real(slopes))
    return values[order], np.array(rows)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_dense_matrices(comm, name):
    model = operator(name, comm)
    values, slopes = dense_gradients(name)
    with solved(model) as pairs:
        found = ga.gradient(model, POINT, pairs, [obj.Eigenvalue(0), obj.Eigenvalue(1)])
    # eps_tol 1e-12 (and 1e-13 of the inner solves with B) times conditions below 100
    assert np.allclose(pairs.values, values, rtol=1e-9)
    for one, expected in zip(found, slopes, strict=True):
        assert list(one) == ["b", "a"]
        assert np.allclose(np.r_[one["b"], one["a"]], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_a_vector_objective_agrees_with_differences(comm, name):
    model = operator(name, comm)
    objective = obj.QuadraticForm(np.linspace(1.0, 2.0, N))
    with solved(model) as pairs:
        gradient = ga.gradient(model, POINT, pairs, objective)

    def value(step):
        moved = {"b": POINT["b"] + step * np.array([1.0, -0.5]), "a": POINT["a"] + 0.7 * step}
        with solved(model, moved, like=pairs) as there:
            return objective(there)[0]

    h = 1e-3
    expected = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    slope = gradient["b"] @ [1.0, -0.5] + 0.7 * gradient["a"][0]
    # h^4 times fifth derivatives of order 100, and 1e-12 / h of the eigensolver
    assert np.isclose(slope, expected, rtol=1e-6, atol=1e-8)


def test_flat_gradient_is_packed_in_the_order_of_the_parameters(comm):
    model = operator("nonsymmetric", comm)  # its vjp gives {"a": ..., "b": ...}
    with ga.value_and_gradient(model, obj.Eigenvalue(0), which="largest_real") as f:
        _, found = f.flat(f.pack(POINT))
    assert np.allclose(found, dense_gradients("nonsymmetric")[1][0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("matrix", ["a", "b"])
def test_product_with_the_transpose_is_asked_for(comm, matrix):
    model = operator("nonsymmetric B", comm, **{f"apply_{matrix}_hermitian": None})
    match = rf"apply_{matrix} must belong to a Hermitian .*not Hermitian; pass apply_{matrix}_herm"
    with pytest.raises(ga.InputError, match=match):
        model.assemble(POINT)


def halved(array_at):
    return lambda p: array_at(p) * np.where(np.eye(N, k=1), 0.5, 1.0)


WRONG = {
    "not transposed": lambda array_at: lambda p: array_at(p).T,
    "one diagonal halved": halved,
    "zero": lambda array_at: lambda p: 0 * array_at(p),
    "minus": lambda array_at: lambda p: -array_at(p),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("matrix", ["a", "b"])
def test_wrong_product_with_the_transpose_is_found(comm, matrix, case):
    def array_at(p):
        return arrays("nonsymmetric B", p)["ab".index(matrix)]

    wrong = product(comm, WRONG[case](array_at), hermitian=True)
    model = operator("nonsymmetric B", comm, **{f"apply_{matrix}_hermitian": wrong})
    match = rf"apply_{matrix}_hermitian .*so apply_{matrix}_hermitian contradicts it"
    with pytest.raises(ga.InputError, match=match):
        model.assemble(POINT)

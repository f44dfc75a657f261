"""`check_operator`: wrong products and derivatives are found and named."""

import numpy as np
import pytest
from builders import chain, chain_parameters, distributed
from distributed_operators import CASES, POINT, N, derivative_arrays
from matrix_free import NAMES, distributed_model, flat, matrix_free, tangents
from petsc4py import PETSc

import geneig_adjoint as ga

LAST = "nonsymmetric B"


@pytest.mark.parametrize("name", NAMES)
def test_right_functions_pass(comm, name):
    report = ga.check_operator(matrix_free(name, comm), POINT)
    assert report.passed, str(report)
    names = [check.name for check in report.checks]
    assert len(names) == {True: 2, False: 4}[CASES[name][2] is None] + 8
    assert "verdict: passed (bound 1e-08)" in str(report)
    assert report.worst.error < 1e-10  # eighth order of affine functions: rounding, 4e-12


def test_models_of_elements_pass_too(comm):
    # k^2 + 0.01: differences of eighth order are exact up to rounding
    report = ga.check_operator(chain(11, comm), chain_parameters(11))
    assert report.passed, str(report)
    assert {check.parameter for check in report.checks} == {""}


def wrong_entry(comm):
    right = matrix_free(LAST, comm).contract

    def vjp(p, left_a, left_b, vectors):
        found = right(p, left_a, left_b, vectors)
        return {"a": found["a"], "b": found["b"] * [1.0, 1.1]}

    return {"vjp": vjp}


def wrong_tangent(name):
    def made(comm):
        right = tangents(LAST, comm)[name]

        def tangent(p, p_dot, block):
            half = {"a": p_dot["a"], "b": p_dot["b"] * [1.0, 0.5]}
            return right(p, half, block)

        return {name: tangent}

    return made


def wrong_second(comm):
    def vjp_tangent(p, p_dot, *_):
        return {"a": 10 * p_dot["a"], "b": np.zeros(2)}

    return {"vjp_tangent": vjp_tangent}


WRONG = {
    "vjp": (wrong_entry, "vjp in b: differences of products", "b[1]"),
    "jvp": (wrong_tangent("jvp"), "jvp in b: differences of products", "b[1]"),
    "hermitian": (
        wrong_tangent("jvp_hermitian"), "jvp_hermitian in b: differences of products", "b[1]",
    ),
    "second": (wrong_second, "vjp_tangent in a: differences of vjp", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_derivative_is_named_with_its_entry(comm, case):
    make, name, where = WRONG[case]
    report = ga.check_operator(matrix_free(LAST, comm, **make(comm)), POINT)
    assert not report.passed
    assert name in {check.name for check in report.failures}
    assert report.worst.name == name
    assert report.worst.parameter == where
    assert f"FAILED, worst: {name}" in str(report)


def test_products_that_are_not_linear_are_found(comm):
    # What is wrong by more contradicts the Hermitian transpose already.
    model = ga.OperatorModel(
        N,
        lambda p, block: block + 1e-12 * np.sign(block) * block**2,
        lambda p, *_: {"b": np.zeros(2), "a": np.zeros(1)},
        comm=comm,
    )
    report = ga.check_operator(model, POINT, rtol=1e-14)
    assert report.failures[0].name == "A is linear"


def test_nan_of_a_derivative_fails(comm):
    model = matrix_free(LAST, comm, vjp=lambda p, *_: {"b": np.full(2, np.nan), "a": np.zeros(1)})
    with pytest.raises(
        ga.InputError, match="vjp must return finite numbers, got nan at entry 0 of"
    ):
        ga.check_operator(model, POINT)


def test_distributed_parameters_are_checked(comm):
    model, p = distributed_model(comm), {"d": distributed(np.linspace(1.0, 2.0, N), comm)}
    report = ga.check_operator(model, p)
    assert report.passed, str(report)
    assert [check.name for check in report.checks][2:] == [
        "vjp in d: differences of products",
        "jvp in d: differences of products",
    ]
    p["d"].destroy()


@pytest.mark.parametrize("name", NAMES)
def test_derivative_products_are_those_of_the_dense_matrices(comm, name):
    x = np.cos(np.arange(N))
    model = matrix_free(name, comm)
    made = [
        ga.derivative_products(model, POINT, x, "b"),
        ga.derivative_products(model, POINT, x, "b", indices=np.array([1])),
    ]
    for derivatives, whole, part in zip(derivative_arrays(name), *made, strict=True):
        expected = np.column_stack([d @ x for d in derivatives[:2]])
        assert np.allclose(whole[:, :], expected)
        assert np.allclose(part[:, :], expected[:, 1:])
        whole.destroy()
        part.destroy()


def test_composed_needs_and_finds_the_rows(comm):
    model = matrix_free(LAST, comm)
    assert model.rows == (0, N)
    half = ga.Pointwise("b", ga.Linear())
    with ga.Composed(model, [half]) as behind, behind.assemble(POINT) as pencil:
        assert behind.rows == pencil.rows


def test_functions_get_real_blocks_in_the_real_build(comm):
    kinds = set()

    def noting(function):
        def wrapped(*arguments):
            kinds.update(part.dtype.kind for part in arguments if isinstance(part, np.ndarray))
            return function(*arguments)

        return wrapped

    changes = {key: noting(function) for key, function in tangents(LAST, comm).items()}
    model = matrix_free(LAST, comm, **changes)
    z = np.exp(1j * np.arange(N))[:, None]
    direction = {"b": np.array([1.0, -0.5]), "a": np.array([0.7])}
    products = model.tangent(POINT, direction, z)
    for derivatives, found in zip(derivative_arrays(LAST), products, strict=True):
        total = derivatives[0] - 0.5 * derivatives[1] + 0.7 * derivatives[2]
        assert np.allclose(found, total @ z)
    model.contract_tangent(POINT, direction, z, z, z)
    expected = [np.vdot(z, d @ (2j * z)).real for d in derivative_arrays(LAST)[0]]
    assert np.allclose(flat(model.contract(POINT, z, 0 * z, 2j * z)), expected)
    assert kinds == {np.dtype(PETSc.ScalarType).kind}

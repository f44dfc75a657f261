"""Requests that cannot be met, each refused with its reason."""

import numpy as np
import pytest
from builders import chain, chain_parameters, matrix, stiffness

import geneig_adjoint as ga

N = 8


def solved_chain(comm):
    model, p = chain(N, comm), chain_parameters(N)
    return model, p, ga.solve_eigenproblem(model.assemble(p), 2, target=0.0)


def test_pencil_that_is_singular_at_every_shift(comm):
    # A and B share the vector e_0: A - sigma B is singular whatever sigma is
    A, B = np.diag([0.0, 1.0, 2.0, 3.0]), np.diag([0.0, 1.0, 1.0, 1.0])
    A[1, 2] = 0.5  # not symmetric, so that LU is used in both builds
    with pytest.raises(ga.ConvergenceError, match=r"(must be regular|residuals below)"):
        ga.solve_eigenproblem(ga.Pencil(matrix(A, comm), matrix(B, comm)), 2, target=0.7)


def test_matrices_cotangent_of_unequal_blocks(comm):
    model, p, pairs = solved_chain(comm)

    def objective(pairs):
        x = pairs.right
        return 1.0, ga.EigenCotangent(matrices=(x, x, x[:, :1]))

    with pytest.raises(ga.InputError, match=r"'matrices' of objective must be three blocks"):
        ga.gradient(model, p, pairs, objective)


def test_contract_that_returns_no_mapping(comm):
    model, p, pairs = solved_chain(comm)

    class Wrong:
        def assemble(self, p):
            return model.assemble(p)

        def contract(self, p, left_a, left_b, right):
            return np.zeros(3)

    with pytest.raises(ga.InputError, match=r"contract must return the structure .* got ndarray"):
        ga.gradient(Wrong(), p, pairs, ga.objectives.Eigenvalue(0))


def refused(model, p, x):
    with pytest.raises(ga.InputError, match=r"x must be real in PETSc's real-scalar build"):
        ga.derivative_products(model, p, x, "k")


def complex_columns(model, p, x):
    products = ga.derivative_products(model, p, x, "k")
    assert abs(np.imag(products[0].getValuesCSR()[2])).max() > 0


def test_products_with_a_complex_vector(comm, scalar_build):
    model, p = chain(N, comm), chain_parameters(N)
    x = np.exp(1j * np.arange(model.rows[1] - model.rows[0]))
    {"real": refused, "complex": complex_columns}[scalar_build](model, p, x)


def test_operator_without_a_request_gives_the_largest_value(comm):
    A = stiffness(5)
    model = ga.OperatorModel(
        5, lambda p, block: A @ block, lambda p, a, b, r: {"p": np.zeros(1)}, comm=comm
    )
    pairs = ga.solve_eigenproblem(model.assemble({"p": np.zeros(1)}), 1)
    assert np.isclose(pairs.values[0].real, np.linalg.eigvalsh(A)[-1], rtol=1e-10)

"""Parameters may have any name, those of the parts of a cotangent too."""

import numpy as np
import pytest
from builders import matrix

import geneig_adjoint as ga

A = np.diag([1.0, 3.0, 4.0, 7.0]) + 0.3 * (np.eye(4, k=1) + np.eye(4, k=-1))
WEIGHT = np.arange(4.0)


@pytest.mark.parametrize("name", ["p", "values", "right", "matrices", "span P", "span Q"])
@pytest.mark.parametrize("with_values", [True, False])
@pytest.mark.parametrize("with_span", [True, False])
def test_name_of_a_parameter_with_an_explicit_derivative(comm, name, with_values, with_span):
    units = [matrix(np.diag(np.eye(4)[i]), comm) for i in range(2)]
    model = ga.MatrixModel(matrix(A, comm), None, {name: [(unit, None) for unit in units]})
    p = {name: np.zeros(2)}

    def objective(pairs, p):
        x_bar = np.zeros_like(pairs.right)
        x_bar[:, 0] = 2 * WEIGHT * pairs.right[:, 0]
        k = pairs.count
        return float(WEIGHT @ np.abs(pairs.right[:, 0]) ** 2 + 3 * p[name].sum()), (
            ga.EigenCotangent(
                right=x_bar,
                values={True: 0.5 * np.eye(k)[0], False: None}[with_values],
                span={True: (np.zeros((k, k)), np.zeros((k, k))), False: None}[with_span],
                parameters={name: np.full(2, 3.0)},
            )
        )

    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count=2) as pairs:
        found = ga.gradient(model, p, pairs, objective)[name]
    # Perturbation theory: x_0' = sum_k x_k (x_k^T D x_0) / (lam_0 - lam_k), lam_0' = x_0^T D x_0
    lam, X = np.linalg.eigh(A)
    rates = 1.0 / (lam[0] - lam[1:])
    rates[0] *= not with_span  # with span= the cotangent of vectors counts outside of it only
    mixing = (X[:2, 1:] * rates) @ (X[:, 1:].T @ (WEIGHT * X[:, 0]))
    expected = 3.0 + 2 * X[:2, 0] * mixing + 0.5 * with_values * X[:2, 0] ** 2
    # rtol 1e-10 of the solves
    np.testing.assert_allclose(found, expected, rtol=1e-9)

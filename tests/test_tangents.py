"""Tangents (jvp) in the default normalization; every other one: test_gradients.py."""

import numpy as np
import pytest
from pencils import petsc_matrix
from scenarios import scenarios, solved

import geneig_adjoint as ga

PARTS = ["values", "right", "left"]


@pytest.fixture(scope="module", params=scenarios("default"), ids=str)
def chain(request, comm):
    with solved(request.param, comm) as found:
        yield found


def test_tangent_is_linear_in_the_direction(chain):
    problem = chain.problem
    p_dot = {name: -3 * value for name, value in problem.p_dot.items()}
    scaled = ga.jvp(chain.model, problem.p, chain.pairs, p_dot)
    for part in PARTS:
        expected = -3 * getattr(chain.tangent(), part)
        # rtol 1e-10 of the solves
        np.testing.assert_allclose(
            getattr(scaled, part), expected, atol=1e-9 * np.linalg.norm(expected)
        )


def test_tangent_of_pairs_without_left_vectors(chain):
    problem = chain.problem
    pairs = chain.solved(problem.p, left=False)
    found = ga.jvp(chain.model, problem.p, pairs, problem.p_dot)
    expected = chain.reference.tangent(problem.p_dot)
    assert found.left is None
    # rtol 1e-10 of the solves, conditions below 10
    np.testing.assert_allclose(
        found.right, expected.right, atol=1e-9 * np.linalg.norm(expected.right)
    )
    np.testing.assert_allclose(
        found.values, expected.values, atol=1e-9 * np.linalg.norm(expected.values)
    )


def test_single_columns_of_a_tangent(comm):
    with solved(scenarios("default")[0], comm) as chain:
        problem = chain.problem
        whole = chain.tangent()
        single = ga.jvp(chain.model, problem.p, chain.pairs, problem.p_dot, columns=[1])
        for part in PARTS:
            found, expected = getattr(single, part), getattr(whole, part).copy()
            expected[..., [0, 2]] = 0.0
            # The same solve: rounding
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        with pytest.raises(ga.InputError, match=r"columns must be indices in 0 ... 2, got \[3\]"):
            ga.jvp(chain.model, problem.p, chain.pairs, problem.p_dot, columns=[3])


def test_pairs_beside_a_cluster_have_tangents(comm):
    A = petsc_matrix(comm, np.diag([1.0, 2.0, 2.0, 4.0]))
    dA = np.array([[1.0, 0.3, 0, 0], [0.3, 0.5, 0.2, 0], [0, 0.2, -1.0, 0.4], [0, 0, 0.4, 0.7]])
    p, p_dot = {"p": np.zeros(1)}, {"p": np.ones(1)}
    with (
        ga.MatrixModel(A, None, {"p": [(petsc_matrix(comm, dA), None)]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=4, target=0.9) as pairs,
    ):
        found = ga.jvp(model, p, pairs, p_dot, columns=[0, 3])
        with pytest.raises(ga.DegenerateEigenvalueError, match=r"pairs \[1, 2\]"):
            ga.jvp(model, p, pairs, p_dot)
    # First-order perturbation theory: dA_k0 / (lam_0 - lam_k)
    np.testing.assert_allclose(found.values.real, [1.0, 0.0, 0.0, 0.7], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.right[:, 0].real, [0.0, -0.3, 0.0, 0.0], rtol=0, atol=1e-10)

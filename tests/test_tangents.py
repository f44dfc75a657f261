"""Tangents (jvp) of values, right and left vectors, and their duality with gradients."""

import numpy as np
import pytest
from pencils import flat, petsc_matrix
from scenarios import fourth_order_difference, scenarios, solved

import geneig_adjoint as ga

CHAINS = scenarios("B", "2", "component", "linear", "bilinear")
PARTS = ["values", "right", "left"]


@pytest.fixture(scope="module", params=CHAINS, ids=str)
def chain(request, comm):
    with solved(request.param, comm) as found:
        yield found


def tangent_of(chain, **settings):
    problem = chain.problem
    return ga.jvp(chain.model, problem.p, chain.pairs, problem.p_dot, **settings)


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_tangent_equals_dense_reference(chain, strategy):
    found, expected = (
        tangent_of(chain, strategy=strategy),
        chain.reference.tangent(chain.problem.p_dot),
    )
    for part in PARTS:
        size = np.linalg.norm(getattr(expected, part))
        # rtol 1e-10 of the solves, conditions below 10
        np.testing.assert_allclose(
            getattr(found, part), getattr(expected, part), atol=1e-9 * size, err_msg=part
        )


def test_tangent_equals_fourth_order_differences(chain):
    found = tangent_of(chain)
    for part in PARTS:
        differences = fourth_order_difference(
            lambda k, part=part: getattr(chain.neighbours[k], part)
        )
        # Vectors are accurate to 1e-13 x condition, divided by the step 1e-3
        np.testing.assert_allclose(
            getattr(found, part),
            differences,
            atol=1e-7 * np.linalg.norm(differences),
            err_msg=part,
        )


def test_tangent_has_the_types_of_the_pairs(chain):
    found = tangent_of(chain)
    assert found.right.dtype == chain.pairs.right.dtype
    assert found.left.dtype == chain.pairs.left.dtype
    assert found.right.shape == chain.pairs.right.shape


# One factor serves both ways: rounding.  Krylov methods: 100 x their rtol of 1e-10.
@pytest.mark.parametrize(("strategy", "limit"), [("direct", 1e-12), ("ksp", 1e-8)])
def test_gradient_and_tangent_are_dual(chain, strategy, limit):
    tangent = tangent_of(chain, strategy=strategy)
    forward = [along(chain, tangent, cotangent) for cotangent in chain.cotangents()]
    backward = chain.gradients(strategy=strategy) @ flat(chain.problem.p_dot)
    assert chain.too_large(backward - forward, limit) == {}


def along(chain, tangent, cotangent) -> float:
    """Return Re <cotangent, tangent>, with the explicit terms in p, A and B."""
    pairs, problem = chain.pairs, chain.problem
    zero = np.zeros_like(pairs.right)
    explicit = {**{name: 0 * v for name, v in problem.p.items()}, **(cotangent.parameters or {})}
    left_a, left_b, right = cotangent.matrices or (zero, zero, zero)
    dA_x, dB_x = chain.model.tangent(problem.p, problem.p_dot, right)
    terms = [
        (np.zeros(pairs.count) if cotangent.values is None else cotangent.values, tangent.values),
        (zero if cotangent.right is None else cotangent.right, tangent.right),
        (zero if cotangent.left is None else cotangent.left, tangent.left),
        (flat(explicit), flat(problem.p_dot)),
        (left_a, dA_x),
        (left_b, dB_x),
    ]
    return sum(np.vdot(bar, dot).real for bar, dot in terms)


@pytest.mark.parametrize("scenario", scenarios("default"), ids=str)
def test_tangent_is_linear_in_the_direction(scenario, comm):
    with solved(scenario, comm) as chain:
        problem = chain.problem
        single = tangent_of(chain)
        p_dot = {name: -3 * value for name, value in problem.p_dot.items()}
        scaled = ga.jvp(chain.model, problem.p, chain.pairs, p_dot)
        for part in PARTS:
            expected = -3 * getattr(single, part)
            # rtol 1e-10 of the solves
            np.testing.assert_allclose(
                getattr(scaled, part), expected, atol=1e-9 * np.linalg.norm(expected)
            )


@pytest.mark.parametrize("scenario", scenarios("default"), ids=str)
def test_tangent_of_pairs_without_left_vectors(scenario, comm):
    with solved(scenario, comm) as chain:
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
        whole = tangent_of(chain)
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

"""Objectives of right and left vectors together: closed forms, independence of length, errors."""

from types import SimpleNamespace

import numpy as np
import pytest
from pencils import flat, petsc_matrix
from scenarios import scenarios, solved

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj


@pytest.fixture
def triangular(comm):
    """A = [[1, c], [0, 2 + b]] beside a value far away; b = 0 and c = 0.8 at p = 0."""
    A = np.array([[1.0, 0.8, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 9.0]])
    units = [np.zeros((3, 3)), np.zeros((3, 3))]
    units[0][0, 1], units[1][1, 1] = 1.0, 1.0
    mats = [petsc_matrix(comm, M) for M in (A, *units)]
    p = {"p": np.zeros(2)}
    with (
        ga.MatrixModel(mats[0], None, {"p": [(mats[1], None), (mats[2], None)]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=2, target=0.7) as pairs,
    ):
        yield model, p, pairs


@pytest.mark.parametrize("pair", [0, 1])
def test_petermann_factor_of_a_triangular_matrix(triangular, pair):
    # x = (1, 0), y = (1, -c / d) or x = (c / d, 1), y = (0, 1), d = 1 + b: K = 1 + c^2 / d^2
    model, p, pairs = triangular
    value, _ = obj.PetermannFactor(pair)(pairs)
    found = ga.gradient(model, p, pairs, obj.PetermannFactor(pair))["p"]
    assert value == pytest.approx(1.64, rel=1e-12)
    assert value == pytest.approx(pairs.condition[pair] ** 2, rel=1e-12)
    # rtol 1e-10 of the solves
    np.testing.assert_allclose(found, [1.6, -2 * 0.64], rtol=1e-9)


def test_structural_sensitivity_of_a_triangular_matrix(triangular):
    # Pair 1: |x_0||y_0| = 0, |x_1||y_1| = 1; pair 0: (1, 0).  With s = 0.1: sqrt(1 + s^2) - s.
    model, p, pairs = triangular
    weight = np.array([3.0, 5.0, 7.0])
    objective = obj.StructuralSensitivity(weight, 0, smoothing=0.1)
    value, _ = objective(pairs)
    assert value == pytest.approx(3 * (np.sqrt(1.01) - 0.1), rel=1e-12)
    found = ga.gradient(model, p, pairs, objective)["p"]
    # The products do not move at all.
    np.testing.assert_allclose(found, 0.0, rtol=0, atol=1e-9)


def dense_structural(state, weight, s):
    products = np.abs(state.right[:, 1]) * np.abs(state.left[:, 1])
    return float(weight @ (np.sqrt(products**2 + s**2) - s))


def dense_petermann(state):
    x, y = state.right[:, 1], state.left[:, 1]
    return float(np.linalg.norm(x) ** 2 * np.linalg.norm(y) ** 2)


@pytest.mark.parametrize("scenario", scenarios("default", "component"), ids=str)
def test_gradients_equal_the_dense_reference(scenario, comm):
    with solved(scenario, comm) as chain:
        weight = np.linspace(0.5, 2.0, chain.problem.n)
        cases = [
            (obj.PetermannFactor(1), dense_petermann),
            (
                obj.StructuralSensitivity(weight, 1, smoothing=1e-2),
                lambda state: dense_structural(state, weight, 1e-2),
            ),
        ]
        for objective, dense in cases:
            found = flat(ga.gradient(chain.model, chain.problem.p, chain.pairs, objective))
            expected = np.array([chain.reference.derivative(dense, t) for t in chain.unit_tangents])
            size = max(np.abs(expected).max(), objective(chain.pairs)[0])
            # rtol 1e-10 of the solves; sixth-order differences of the dense formula
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-8 * size)


def test_length_of_the_vectors_does_not_matter(comm):
    scenario = scenarios("default")[3]
    with solved(scenario, comm) as chain:
        weight = np.linspace(0.5, 2.0, chain.problem.n)
        for objective in (obj.PetermannFactor(1), obj.StructuralSensitivity(weight, 1)):
            values, slopes = [], []
            for norm in ("2", ("component", 3)):
                pairs = chain.solved(chain.problem.p, normalization=norm)
                values.append(objective(pairs)[0])
                slopes.append(flat(ga.gradient(chain.model, chain.problem.p, pairs, objective)))
            assert values[0] == pytest.approx(values[1], rel=1e-11)
            np.testing.assert_allclose(
                slopes[0], slopes[1], rtol=0, atol=1e-8 * np.abs(slopes[0]).max()
            )


# -- second derivatives where a product is zero --

WEIGHT = np.array([2.0, 3.0, 5.0])
CHAIN = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]])
NODE = np.array([[3.5, -1.0, 1.5], [-1.2, 2.0, -1.2], [0.3, -0.4, 2.3]])
"""x = (1, 0, -1), y = (-0.4, -0.25, 1) for the value 2, its middle one."""
MOVING = np.diag([1.0, 0.3, -0.5])


def products_along(comm, A, objective):
    """Return the Hessian-vector product and sixth-order differences of the gradient."""
    mats = [petsc_matrix(comm, M) for M in (A, MOVING)]
    model = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]})
    p, h, weights = {"p": np.zeros(1)}, 2e-3, {1: 45, 2: -9, 3: 1}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
        found = ga.hessian_vector_product(model, p, pairs, objective, {"p": np.ones(1)})["p"][0]

        def slope(k):
            moved = {"p": np.array([k * h])}
            with model.assemble(moved) as near, ga.solve_eigenproblem(near, 3, like=pairs) as q:
                return ga.gradient(model, moved, q, objective)["p"][0]

        differences = sum(w * (slope(k) - slope(-k)) for k, w in weights.items()) / (60 * h)
    return found, differences


def test_nodes_of_symmetric_pencils_are_smooth(comm):
    # y = x / x^H x: |x_i||y_i| is a square
    found, expected = products_along(comm, CHAIN, obj.StructuralSensitivity(WEIGHT, 1))
    # Gradients exact to 1e-11, divided by the step
    assert found == pytest.approx(expected, rel=1e-7)
    assert abs(found) > 0.1


@pytest.mark.parametrize("smoothing", [0.05, 0.3])
@pytest.mark.parametrize("A", [NODE, NODE.T], ids=["right", "left"])
def test_smoothed_nodes_have_second_derivatives(comm, A, smoothing):
    objective = obj.StructuralSensitivity(WEIGHT, 1, smoothing=smoothing)
    found, expected = products_along(comm, A, objective)
    # Seventh derivatives of sqrt(t^2 + s^2), h^6 / s^6 of it at s = 0.05
    assert found == pytest.approx(expected, rel=1e-6)


def test_rows_that_both_pass_zero_at_once(comm):
    # x = y = (t, 1): the sum is w_0 t^2 + w_1, so x_bar = y_bar = w (t, 1)
    block, dot = np.array([[0.0], [1.0]]), np.array([[0.5], [0.0]])
    pairs = SimpleNamespace(comm=comm, count=1, rows=(0, 2), right=block, left=block)
    tangent = ga.EigenTangent(np.zeros(1), dot, dot)
    found = obj.StructuralSensitivity(np.array([3.0, 5.0])).tangent(pairs, tangent)
    np.testing.assert_allclose(found.right, [[1.5], [0.0]], rtol=1e-14)
    np.testing.assert_allclose(found.left, [[1.5], [0.0]], rtol=1e-14)


def test_nodes_without_weight_do_not_matter(comm):
    objective = obj.StructuralSensitivity(np.array([2.0, 0.0, 5.0]), 1)
    found, expected = products_along(comm, NODE, objective)
    # Gradients exact to 1e-11, divided by the step
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("A", [NODE, NODE.T], ids=["right", "left"])
def test_nodes_of_one_side_only_are_refused(comm, A):
    match = r"away from 0, got a node at row 1; give smoothing="
    with pytest.raises(ga.InputError, match=match):
        products_along(comm, A, obj.StructuralSensitivity(WEIGHT, 1))


@pytest.mark.parametrize(
    ("objective", "match"),
    [
        (obj.PetermannFactor(5), r"pair must be in 0 ... 1, got 5"),
        (obj.PetermannFactor(-1), r"pair must be in 0 ... 1, got -1"),
        (obj.StructuralSensitivity(np.ones(2)), r"this rank's 3 rows, got shape \(2,\)"),
    ],
)
def test_wrong_arguments(triangular, objective, match):
    model, p, pairs = triangular
    with pytest.raises(ga.InputError, match=match):
        ga.gradient(model, p, pairs, objective)


def test_left_vectors_are_needed(triangular):
    model, p, _ = triangular
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, left=False) as pairs,
        pytest.raises(ga.InputError, match="left=False; solve again with left=True"),
    ):
        ga.gradient(model, p, pairs, obj.PetermannFactor(0))

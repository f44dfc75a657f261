"""Gradients of every problem class in its default normalization; the whole chain as one function.

Every normalization and strategy: test_gradients.py.
"""

import numpy as np
import pytest
import scipy.optimize
from pencils import flat, moved, petsc_matrix
from problems import problems
from scenarios import Scenario, solved

import geneig_adjoint as ga

GALLERY = problems()

# The adjoint's rtol is 1e-10 and the gallery's bordered systems have conditions below 10.
EXACT = 1e-9


def never(*_):
    raise AssertionError("no linear system must be solved")


@pytest.fixture(scope="module", params=GALLERY, ids=str)
def default_chain(request, comm):
    with solved(Scenario(request.param, "default"), comm) as found:
        yield found


def test_default_strategy_equals_dense_reference(default_chain):
    errors = default_chain.gradients() - default_chain.reference_gradients
    assert default_chain.too_large(errors, EXACT) == {}


def test_objectives_of_a_list_get_the_gradients_of_single_calls(default_chain):
    together = default_chain.gradients()
    problem, pairs = default_chain.problem, default_chain.pairs
    single = np.array(
        [
            flat(ga.gradient(default_chain.model, problem.p, pairs, objective))
            for objective in default_chain.objectives
        ]
    )
    # A Krylov method stops at 1e-11 for each right-hand side; the systems are the same.
    assert default_chain.too_large(together - single, 1e-10) == {}


def test_default_normalization_follows_the_pencil(default_chain):
    assert default_chain.pairs.normalization.kind == default_chain.scenario.scale.kind
    kinds = {"symmetric": "B", "nonsymmetric": "2", "complex_symmetric": "bilinear"}
    name = str(default_chain.problem)
    assert default_chain.pairs.normalization.kind == kinds.get(
        name, default_chain.scenario.scale.kind
    )
    # The vectors of the reference are normalised by the same rule: 1e-13 x the condition.
    np.testing.assert_allclose(
        default_chain.pairs.right, default_chain.reference.state.right, atol=1e-11
    )


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_eigenvalue_gradient_without_left_vectors_comes_from_the_bordered_system(
    default_chain, strategy
):
    problem = default_chain.problem
    objective = ga.objectives.Eigenvalue(1)
    pairs = default_chain.solved(problem.p, left=False)
    found = ga.gradient(default_chain.model, problem.p, pairs, objective, strategy=strategy)
    expected = ga.gradient(default_chain.model, problem.p, default_chain.pairs, objective)
    # rtol 1e-10 of the adjoint solve
    np.testing.assert_allclose(flat(found), flat(expected), atol=EXACT)


def test_eigenvalue_gradient_solves_no_system(default_chain):
    problem = default_chain.problem
    ga.gradient(
        default_chain.model,
        problem.p,
        default_chain.pairs,
        [ga.objectives.Eigenvalue(0), ga.objectives.KSMinimum(of="eigenvalue")],
        strategy=never,
    )


def test_zero_cotangent_gives_exactly_zero_and_no_solve(default_chain):
    problem, pairs = default_chain.problem, default_chain.pairs
    zero = np.zeros(pairs.right.shape)
    cotangents = [
        ga.EigenCotangent(),
        ga.EigenCotangent(values=np.zeros(pairs.count), right=zero, left=zero),
        ga.EigenCotangent(parameters={name: 0 * value for name, value in problem.p.items()}),
    ]
    found = ga.gradient(
        default_chain.model,
        problem.p,
        pairs,
        [lambda pairs, cotangent=cotangent: (1.0, cotangent) for cotangent in cotangents],
        strategy=never,
    )
    np.testing.assert_array_equal([flat(item) for item in found], 0.0)


def test_zero_columns_cost_no_solve(default_chain):
    problem, pairs = default_chain.problem, default_chain.pairs
    solves = []
    objective = ga.objectives.ModeShapeMatch(problem.vector(4), pair=1)

    def counting(operator, rhs, solution):
        solves.append(rhs.norm())
        never()

    with pytest.raises(AssertionError, match="no linear system"):
        ga.gradient(default_chain.model, problem.p, pairs, objective, strategy=counting)
    assert len(solves) == 1


@pytest.mark.parametrize("name", ["nonsymmetric", "advection", "two_group"])
def test_bilinear_normalization_is_refused_for_a_nonsymmetric_b(name, comm):
    # Its derivative needs B = B^T: with another B every vector objective would be wrong.
    problem = {problem.name: problem for problem in GALLERY}[name]
    with (
        pytest.raises(ga.InputError, match="bilinear"),
        solved(Scenario(problem, "bilinear"), comm),
    ):
        pass


# -- the whole chain as one function --


@pytest.mark.parametrize("problem", GALLERY, ids=str)
def test_value_and_gradient_has_second_order_taylor_remainder(problem, comm):
    def objective(pairs, p):
        x = pairs.right[:, [0]]
        value = pairs.inner(x, problem.hermitian_weight() @ x)[0, 0].real
        x_bar = np.zeros(pairs.right.shape, dtype=complex)
        x_bar[:, 0] = 2 * problem.hermitian_weight() @ x[:, 0]
        lam = pairs.values[1].real
        lam_bar = np.eye(pairs.count)[1] * value
        explicit = {name: 2 * entry for name, entry in p.items()}
        total = lam * value + sum((entry**2).sum() for entry in p.values())
        return total, ga.EigenCotangent(values=lam_bar, right=lam * x_bar, parameters=explicit)

    steps = np.array([2e-3, 1e-3])
    with (
        problem.model(comm) as model,
        ga.value_and_gradient(model, objective, **problem.solver) as f,
    ):
        value, gradient = f(problem.p)
        slope = flat(gradient) @ flat(problem.p_dot)
        values = [f(moved(problem.p, step, problem.p_dot))[0] for step in steps]
    one, two = np.abs(np.array(values) - value - steps * slope)
    assert np.log2(one / two) >= 1.95


def test_scipy_minimises_through_the_flat_interface(comm):
    # Two springs in a row share a total stiffness: the lowest frequency is largest for one split.
    wall, middle = np.diag([1.0, 0.0]), np.array([[1.0, -1.0], [-1.0, 1.0]])
    M = np.diag([1.0, 1.4])

    def lowest(k):
        return np.linalg.eigvals(np.linalg.solve(M, k * wall + (2 - k) * middle)).real.min()

    best = scipy.optimize.minimize_scalar(
        lambda k: -lowest(k), bounds=(0.2, 1.8), method="bounded", options={"xatol": 1e-10}
    )

    def objective(pairs, p):
        # Maximise the eigenvalue; a penalty keeps the sum of the stiffnesses at 2.
        excess = p["k"].sum() + p["rest"].sum() - 2
        return -pairs.values[0].real + 50 * excess**2, ga.EigenCotangent(
            values=np.array([-1.0]),
            parameters={"k": np.full(1, 100 * excess), "rest": np.full(1, 100 * excess)},
        )

    zero, derivatives = petsc_matrix(comm, 0 * M), [petsc_matrix(comm, D) for D in (wall, middle)]
    model = ga.MatrixModel(
        zero,
        petsc_matrix(comm, M),
        {"k": [(derivatives[0], None)], "rest": [(derivatives[1], None)]},
    )
    start = {"k": np.array([0.7]), "rest": np.array([1.1])}
    with model, ga.value_and_gradient(model, objective, count=1, target=0.0) as f:
        x = f.pack(start)
        np.testing.assert_array_equal(f.unpack(x)["rest"], start["rest"])
        result = scipy.optimize.minimize(f.flat, x, jac=True, method="BFGS", options={"gtol": 1e-9})
        found = f.unpack(result.x)
    # The penalty lets the sum exceed 2 by lam / 200, and lam is homogeneous in the stiffnesses.
    share = found["k"][0] / (found["k"][0] + found["rest"][0])
    assert share == pytest.approx(best.x / 2, abs=1e-6)

"""`contract_tangent` of the ready-made models: what Hessian-vector products are made of."""

import numpy as np
import pytest
from builders import chain, chain_parameters
from pencils import flat, moved, petsc_matrix
from problems import problems

import geneig_adjoint as ga
from geneig_adjoint import element_blocks


@pytest.fixture(params=[problem.name for problem in problems()])
def case(request, comm):
    problem = {problem.name: problem for problem in problems()}[request.param]
    with problem.model(comm) as model:
        rows = slice(*model.rows)
        rng = np.random.default_rng(9)
        blocks = [rng.normal(size=(problem.n, 2)) + 1j * rng.normal(size=(problem.n, 2))[::-1]
                  for _ in range(3)]  # fmt: skip
        yield problem, model, [block[rows] for block in blocks]


def other_direction(p):
    rng = np.random.default_rng(2)
    return {name: rng.normal(size=value.shape) for name, value in p.items()}


def test_contract_tangent_is_the_derivative_of_contract(case):
    problem, model, blocks = case
    found = flat(model.contract_tangent(problem.p, problem.p_dot, *blocks))
    h, weights = 1e-2, {1: 45, 2: -9, 3: 1}
    at = {k: flat(model.contract(moved(problem.p, k * h, problem.p_dot), *blocks))
          for k in (-3, -2, -1, 1, 2, 3)}  # fmt: skip
    expected = sum(w * (at[k] - at[-k]) for k, w in weights.items()) / (60 * h)
    # Laws are polynomials of low degree: rounding only
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(at[1]).max())


def test_contract_tangent_is_symmetric(case):
    problem, model, blocks = case
    u, v = problem.p_dot, other_direction(problem.p)
    one = flat(model.contract_tangent(problem.p, u, *blocks)) @ flat(v)
    two = flat(model.contract_tangent(problem.p, v, *blocks)) @ flat(u)
    size = np.abs(flat(model.contract(problem.p, *blocks))).max()
    assert one == pytest.approx(two, abs=1e-10 * size)


def test_batches_change_nothing(comm, monkeypatch):
    model, p = chain(11, comm), chain_parameters(11)
    rng = np.random.default_rng(1)
    blocks = [rng.normal(size=(model.rows[1] - model.rows[0], 2)) for _ in range(3)]
    p_dot = other_direction(p)
    found = []
    for entries in (4_000_000, 9):
        monkeypatch.setattr(element_blocks, "BATCH_ENTRIES", entries)
        found.append(flat(model.contract_tangent(p, p_dot, *blocks)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)
    assert np.abs(found[0]).max() > 0


# -- what cannot be differentiated twice --


class FirstOrder:
    """A kernel of the older kind."""

    def matrices(self, values, rows):
        return values["q"][:, None, None] * np.eye(2)

    derivative = vjp = None


def test_kernels_without_second_derivatives_are_named(comm):
    dofs = np.array([[0, 1], [1, 2]])
    block = ga.ElementBlock("A", dofs, FirstOrder(), parameters={"q": np.arange(2)})
    p = {"q": np.ones(2)}
    with ga.ElementModel(3, [block], comm=comm) as model:
        zero = np.zeros((3, 1))
        with pytest.raises(ga.InputError, match=r"vjp_tangent.* got FirstOrder without"):
            model.contract_tangent(p, p, zero, zero, zero)


@pytest.mark.parametrize("kind", ["elements", "matrices"])
def test_directions_of_another_structure_are_refused(comm, kind):
    A = petsc_matrix(comm, np.diag([1.0, 2.0]))
    models = {
        "elements": (chain(11, comm), chain_parameters(11)),
        "matrices": (ga.MatrixModel(A, None, {"p": [(A, None)]}), {"p": np.zeros(1)}),
    }
    model, p = models[kind]
    zero = np.zeros((model.rows[1] - model.rows[0], 1))
    with pytest.raises(ga.InputError, match="p must hold the parameters"):
        model.contract_tangent(p, {"wrong": np.ones(3)}, zero, zero, zero)


def operator(comm, **more):
    """A = diag(1, 2, 3) exp(p), matrix-free."""
    d = np.array([1.0, 2.0, 3.0])[:, None]

    def energy(p, left, right):
        return np.exp(p["p"][0]) * comm.allreduce(np.vdot(left, d * right).real)

    return ga.OperatorModel(
        3,
        lambda p, block: np.exp(p["p"][0]) * d * block,
        lambda p, left_a, left_b, right: {"p": np.array([energy(p, left_a, right)])},
        jvp=lambda p, q, block: (np.exp(p["p"][0]) * q["p"][0] * d * block, 0 * block),
        comm=comm,
        **more,
    ), lambda p, q, left_a, left_b, right: {"p": q["p"] * energy(p, left_a, right)}


def test_operators_bring_their_own_second_derivative(comm):
    _, second = operator(comm)
    model, _ = operator(comm, vjp_tangent=second)
    p, p_dot = {"p": np.array([0.2])}, {"p": np.array([0.7])}
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=1, which="largest_real") as pairs,
    ):
        found = ga.hessian_vector_product(model, p, pairs, ga.objectives.Eigenvalue(0), p_dot)
    # lam = 3 exp(p)
    np.testing.assert_allclose(found["p"], 3 * np.exp(0.2) * 0.7, rtol=1e-9)


def test_operators_without_a_second_derivative_say_so(comm):
    model, _ = operator(comm)
    zero = np.zeros((3, 1))
    with pytest.raises(ga.InputError, match="OperatorModel without vjp_tangent"):
        model.contract_tangent({"p": np.zeros(1)}, {"p": np.ones(1)}, zero, zero, zero)


def test_operators_without_products_of_the_transpose_say_so(comm):
    model, _ = operator(comm)
    p = {"p": np.zeros(1)}
    with pytest.raises(ga.InputError, match="OperatorModel without jvp_hermitian"):
        model.tangent(p, p, np.zeros((3, 1)), hermitian=True)

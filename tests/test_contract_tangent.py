"""Second derivatives of kernels and models: what Hessian-vector products are made of."""

import numpy as np
import pytest
from builders import chain, chain_parameters
from pencils import flat, moved, petsc_matrix
from problems import problems
from test_kernels import KERNELS, OWN_BASES, RHO, ROWS, directions

import geneig_adjoint as ga
from geneig_adjoint import element_blocks
from geneig_adjoint.kernels import differenced_vjp, second_derivative

LAWS = {
    "simp": (lambda rho: 1e-3 + rho**3.1, lambda rho: 3.1 * 2.1 * rho**1.1),
    "ramp": (lambda rho: rho / (1 + 8 * (1 - rho)), lambda rho: 144 / (9 - 8 * rho) ** 3),
    "exponential": (lambda rho: np.exp(-3 * rho), lambda rho: 9 * np.exp(-3 * rho)),
    "root": (np.sqrt, lambda rho: -0.25 * rho**-1.5),
    "projection": (
        lambda rho: np.tanh(16 * (rho - 0.5)),
        lambda rho: -512 * np.tanh(16 * (rho - 0.5)) / np.cosh(16 * (rho - 0.5)) ** 2,
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_second_derivatives_of_laws(name):
    law, expected = LAWS[name]
    rho = np.linspace(0.05, 1.0, 33)
    # Rounding is eps |f| / radius^2, with a radius of 2 % of rho.
    limit = 1e-11 * np.maximum(np.abs(expected(rho)), np.abs(law(rho)) / rho**2)
    assert (np.abs(second_derivative(law, rho) - expected(rho)) <= limit).all()


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, 2.5])
def test_power_laws_know_their_curvature(p):
    rho = np.array([0.0, 0.3, 1.0]) + (p < 2) * 0.1
    law = ga.PowerLaw(p, 1e-3)
    expected = p * (p - 1) * rho ** (p - 2) * (p not in {0.0, 1.0})
    np.testing.assert_allclose(law.curvature(rho), expected, rtol=1e-15)
    np.testing.assert_array_equal(ga.Linear().curvature(rho), 0.0)


def kernel_sides():
    rng = np.random.default_rng(4)
    shape = (2, len(RHO), OWN_BASES.shape[1], 2)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def tenth_of(values, dots, function, h=2e-2):
    """Return the derivative of vjp by differences of tenth order."""
    weights = {1: 5 / 6, 2: -5 / 21, 3: 5 / 84, 4: -5 / 504, 5: 1 / 1260}
    total = dict.fromkeys(values, 0.0)
    for k, w in weights.items():
        for side in (1, -1):
            at = {n: v + side * k * h * dots[n] for n, v in values.items()}
            found = function(at)
            total = {name: total[name] + side * w / h * found[name] for name in total}
    return total


@pytest.mark.parametrize("name", KERNELS)
def test_vjp_tangent_is_the_derivative_of_vjp(name):
    kernel, values = KERNELS[name]
    left, right = kernel_sides()
    dots = {n: 0.3 * d for n, d in directions(values).items()}
    found = kernel.vjp_tangent(values, dots, left, right, ROWS)
    expected = tenth_of(values, dots, lambda at: kernel.vjp(at, left, right, ROWS))
    for part, value in values.items():
        assert found[part].shape == value.shape
        # Differences: (h f^(11))^10 and eps / h, both near 1e-11 here
        size = np.abs(expected[part]).max() + np.abs(kernel.vjp(values, left, right, ROWS)[part])
        np.testing.assert_allclose(found[part] / size, expected[part] / size, atol=1e-9)


def test_elements_that_stand_still_get_exact_zeros():
    kernel, values = KERNELS["function"]
    left, right = kernel_sides()
    dots = directions(values)
    for dot in dots.values():
        dot[2] = 0.0
    found = differenced_vjp(kernel, values, dots, (left, right), ROWS)
    for part in found.values():
        np.testing.assert_array_equal(part[2], 0.0)
        assert np.abs(part[1]).min() > 0


# -- models --


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
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(at[1]).max())


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

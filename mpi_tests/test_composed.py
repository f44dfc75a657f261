"""`Composed`: a model of the parameters in front of the maps, on any number of ranks."""

import numpy as np
import pytest
import scipy.linalg
from builders import M0, chain_dofs, dense, distributed
from maps_of_tests import (
    BASE,
    CASES,
    CENTERS,
    CONE,
    RADIUS,
    SIZE,
    VECTOR_CASES,
    VOLUMES,
    N,
    chain_model,
    composed_cases,
    entries,
)

import geneig_adjoint as ga

SOLVER = {"count": 3, "target": 0.0}


@pytest.fixture(params=CASES)
def case(request, comm):
    maps, p = composed_cases(comm)[request.param]
    return ga.Composed(chain_model(comm), maps), p


def flat(g):
    return np.concatenate([entries(value) for value in g.values()])


def moved(p, step, p_dot):
    return {name: value + step * p_dot[name] for name, value in p.items()}


def direction(p, seed=5):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=value.size) / 4 for name, value in p.items()}


def differences(function, p, p_dot, h=1e-2):
    """Return the derivative by sixth-order differences."""
    at = {k: function(moved(p, k * h, p_dot)) for k in (-3, -2, -1, 1, 2, 3)}
    weights = {1: 45, 2: -9, 3: 1}
    return sum(w * (at[k] - at[-k]) for k, w in weights.items()) / (60 * h)


def blocks(model):
    rng = np.random.default_rng(8)
    rows = slice(*model.rows)
    return [rng.normal(size=(N, 2, 2)) @ [1, 1j] for _ in range(3)], rows


def row_blocks(model):
    whole, rows = blocks(model)
    return [block[rows] for block in whole]


def matrices(model, p):
    with model.assemble(p) as pencil:
        return np.stack([dense(pencil.A), dense(pencil.B)])


def functional(model):
    return ga.objectives.LinearOutput(np.linspace(1.0, 2.0, N)[slice(*model.rows)], 1)


# -- the derivatives of the model --


def test_tangent_is_the_derivative_of_the_matrices(case):
    model, p = case
    p_dot, (whole, rows) = direction(p), blocks(model)
    expected = differences(lambda at: matrices(model, at), p, p_dot)
    for hermitian, change in [(False, expected), (True, expected.conj().transpose(0, 2, 1))]:
        found = model.tangent(p, p_dot, whole[0][rows], hermitian=hermitian)
        # Truncation h^6 = 1e-12 times seventh derivatives of the step; rounding 1e-16 / h
        np.testing.assert_allclose(found, (change @ whole[0])[:, rows], rtol=0, atol=1e-9)


def test_contract_is_the_transpose_of_tangent(case):
    model, p = case
    p_dot, (left_a, left_b, right) = direction(p), row_blocks(model)
    dA_right, dB_right = model.tangent(p, p_dot, right)
    local = np.vdot(left_a, dA_right).real + np.vdot(left_b, dB_right).real
    one = model.comm.allreduce(local)
    found = model.contract(p, left_a, left_b, right)
    assert list(found) == list(p)
    size = np.abs(flat(found)) @ np.abs(flat(p_dot))
    assert flat(found) @ flat(p_dot) == pytest.approx(one, abs=1e-14 * size)
    np.testing.assert_array_equal(flat(found), model.comm.bcast(flat(found)))


def test_contract_tangent_is_the_derivative_of_contract(case):
    model, p = case
    p_dot, vectors = direction(p), row_blocks(model)
    found = flat(model.contract_tangent(p, p_dot, *vectors))
    expected = differences(lambda at: flat(model.contract(at, *vectors)), p, p_dot)
    size = np.abs(flat(model.contract(p, *vectors))).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * size)


def test_columns_of_derivatives(case):
    model, p = case
    name = next(iter(p))
    whole, rows = blocks(model)
    x = whole[0][:, 0].real
    found = ga.derivative_products(model, p, x[rows], name, indices=[3, 0])
    for column, index in enumerate([3, 0]):
        unit = {other: np.zeros(value.size) for other, value in p.items()}
        unit[name][index] = 1.0
        tangent = model.tangent(p, unit, x[rows, None])
        for mat, product in zip(found, tangent, strict=True):
            expected = np.concatenate(model.comm.allgather(product[:, 0]))
            np.testing.assert_allclose(dense(mat)[:, column], expected, rtol=0, atol=1e-15)
            assert mat.getSize() == (N, 2)


# -- the whole chain --


# One case each: the whole chain meets maps by the functions tested above only.


def test_gradients_are_verified(comm):
    maps, p = composed_cases(comm)["filter"]
    model = ga.Composed(chain_model(comm), maps)
    report = ga.verify_gradient(model, p, functional(model), **SOLVER)
    assert report.passed, str(report)
    assert report.dot_product_error < 1e-10  # one direct factor, gaps around 0.1
    assert max(report.orders) >= 1.95


def test_second_derivatives_are_those_of_gradients(comm):
    maps, p = composed_cases(comm)["coupled"]
    model = ga.Composed(chain_model(comm), maps)
    p_dot, objective = direction(p), functional(model)

    def gradient(at, like=None):
        with (
            model.assemble(at) as pencil,
            ga.solve_eigenproblem(pencil, like=like, **SOLVER) as pairs,
        ):
            return flat(ga.gradient(model, at, pairs, objective))

    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        found = flat(ga.hessian_vector_product(model, p, pairs, objective, p_dot))
        expected = differences(lambda at: gradient(at, pairs), p, p_dot, h=4e-3)
    size = np.abs(expected).max()
    # Gradients to 1e-10 or so, divided by h
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * size)


def test_gradient_by_the_chain_rule_of_dense_matrices(comm):
    # No code of the package: k = step(CONE rho), A = sum k_e^2 BASE, lam' = y^T A' x / y^T B x
    beta, eta = 3.0, 0.4
    maps = [
        ga.DensityFilter("k", CENTERS, RADIUS, volumes=VOLUMES),
        ga.Projection("k", beta=beta, eta=eta),
    ]
    rho, m = np.linspace(0.3, 0.8, SIZE), np.linspace(1.2, 0.7, SIZE)
    tilt = np.tanh(beta * (CONE @ rho - eta))
    height = np.tanh(beta * eta) + np.tanh(beta * (1 - eta))
    k = (np.tanh(beta * eta) + tilt) / height
    jacobian = (beta * (1 - tilt**2) / height)[:, None] * CONE
    A, B = np.zeros((N, N)), np.zeros((N, N))
    places = [(np.ix_(dofs[dofs >= 0], dofs[dofs >= 0]), np.ix_(dofs >= 0, dofs >= 0))
              for dofs in chain_dofs(N)]  # fmt: skip
    for e, (place, kept) in enumerate(places):
        A[place] += (k[e] ** 2 + 0.01) * BASE[kept]
        B[place] += m[e] * M0[kept]
    values, left, right = scipy.linalg.eig(A, B, left=True)
    j = np.argsort(np.abs(values))[1]
    y, x = left[:, j].conj() / (left[:, j].conj() @ B @ right[:, j]), right[:, j]
    pulled = np.array([(y[p0[0][:, 0]] @ BASE[k0] @ x[p0[0][:, 0]]).real for p0, k0 in places])
    mass = np.array([(y[p0[0][:, 0]] @ M0[k0] @ x[p0[0][:, 0]]).real for p0, k0 in places])
    model, p = ga.Composed(chain_model(comm), maps), {"k": rho, "m": m}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        assert pairs.values[1] == pytest.approx(values[j], rel=1e-12)
        found = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(1))
    expected = jacobian.T @ (2 * k * pulled)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found["k"], expected, rtol=0, atol=1e-10 * size)
    np.testing.assert_allclose(found["m"], -values[j].real * mass, rtol=1e-8)


def as_vectors(p, comm):
    return {key: distributed(value, comm) for key, value in p.items()}


@pytest.mark.parametrize("name", VECTOR_CASES)
def test_distributed_parameters_give_the_same(comm, name):
    maps, p = composed_cases(comm)[name]
    model, found = ga.Composed(chain_model(comm), maps), []
    vectors = row_blocks(model)
    for at in (p, as_vectors(p, comm)):
        g = model.contract(at, *vectors)
        bends = model.contract_tangent(at, at, *vectors)
        change = np.concatenate(comm.allgather(np.hstack(model.tangent(at, at, vectors[0]))))
        found.append(np.concatenate([flat(g), flat(bends), change.ravel()]))
        kinds = {type(value) for value in [*g.values(), *bends.values()]}
        assert kinds == {type(value) for value in at.values()}
    # Sums over elements in another order
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-13 * np.abs(found[0]).max())


def test_distributed_parameters_give_the_same_gradient(comm):
    maps, p = composed_cases(comm)["filter"]
    model = ga.Composed(chain_model(comm), maps)
    objective, found = functional(model), []
    for at in (p, as_vectors(p, comm)):
        with model.assemble(at) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
            g = ga.gradient(model, at, pairs, objective)
            hp = ga.hessian_vector_product(model, at, pairs, objective, at)
            found.append(np.concatenate([flat(g), flat(hp)]))
            kinds = {type(value) for value in [*g.values(), *hp.values()]}
            assert kinds == {type(value) for value in at.values()}
    # Sums over elements in another order
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-11 * np.abs(found[0]).max())


@pytest.mark.parametrize("name", ["k", "m"])
def test_columns_in_the_layout_of_a_distributed_parameter(comm, name):
    maps, p = composed_cases(comm)["filter"]
    model = ga.Composed(chain_model(comm), maps)
    vectors = as_vectors(p, comm)
    x = np.linspace(1.0, 2.0, N)[slice(*model.rows)]
    whole = ga.derivative_products(model, p, x, name)
    parts = ga.derivative_products(model, vectors, x, name)
    for one, two in zip(whole, parts, strict=True):
        assert two.getLocalSize()[1] == vectors[name].getLocalSize()
        np.testing.assert_allclose(dense(one), dense(two), rtol=0, atol=1e-15)


def test_matrices_are_kept_between_calls(comm):
    maps, p = composed_cases(comm)["filter"]
    model = ga.Composed(chain_model(comm), maps)
    assert model.refills
    with ga.value_and_gradient(model, functional(model), **SOLVER) as f:
        f(moved(p, 0.1, direction(p)))
        value, g = f(p)
    with ga.value_and_gradient(model, functional(model), **SOLVER) as fresh:
        expected = fresh(p)
    assert value == pytest.approx(expected[0], rel=1e-9)
    size = np.abs(flat(expected[1])).max()
    np.testing.assert_allclose(flat(g), flat(expected[1]), rtol=0, atol=1e-8 * size)


def test_pairs_are_those_of_the_outer_parameters(comm):
    maps, p = composed_cases(comm)["filter"]
    model, other = ga.Composed(chain_model(comm), maps), moved(p, 1e-3, direction(p))
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
        with pytest.raises(ga.StaleError, match="p must hold the parameters the pairs"):
            ga.gradient(model, other, pairs, ga.objectives.Eigenvalue(0))

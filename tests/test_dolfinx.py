"""`FormModel`: derivatives of forms, one proof after the other."""

import numpy as np
import pytest
from builders import dense, distributed
from dolfinx import fem
from forms_of_tests import (
    advection,
    direction,
    elasticity,
    gradient_of,
    moved_rectangle,
)

import geneig_adjoint as ga

EIGENVALUE = ga.objectives.Eigenvalue(0)
CASES = {"advection": advection, "elasticity": elasticity, "moved": moved_rectangle}


def motion(pairs):
    """Something that every scale and every row of a vector changes."""
    return ga.objectives.QuadraticForm(1.0 / (1.0 + np.arange(*pairs.rows)), (0,))(pairs)


@pytest.fixture(scope="module", params=CASES)
def forms(request, comm):
    return CASES[request.param](comm)


@pytest.fixture(scope="module")
def model(forms):
    return forms.model()


@pytest.fixture(scope="module")
def p(model):
    # Off the values of the forms, where the shift of the nodes is zero.
    values = model.values()
    return {name: values[name] + 0.02 * dot for name, dot in direction(values).items()}


def blocks(model, columns=2):
    rng = np.random.default_rng(3)
    parts = rng.normal(size=(2, 3, model.rows[1], columns))
    return list(parts[0] + 1j * parts[1])


@pytest.mark.parametrize("objective", [EIGENVALUE, motion], ids=["eigenvalue", "vector"])
def test_taylor_differences_and_dot_products(model, p, objective):
    report = ga.verify_gradient(model, p, objective, count=2, target=0.0)
    assert report.passed, str(report)
    assert report.dot_product_error < 1e-9


def test_contract_and_tangent_belong_together(model, p):
    left_a, left_b, right = blocks(model)
    dot = direction(p)
    dA_x, dB_x = model.tangent(p, dot, right)
    total = np.vdot(left_a, dA_x).real + np.vdot(left_b, dB_x).real
    bars = model.contract(p, left_a, left_b, right)
    terms = [bars[name] * dot[name] for name in p]
    # sums of some thousand products
    size = sum(np.abs(part).sum() for part in terms)
    assert abs(sum(part.sum() for part in terms) - total) < 1e-13 * size


def test_tangent_is_that_of_the_matrices(model, p):
    right = blocks(model)[2]
    dot, step = direction(p), 1e-4
    found = model.tangent(p, dot, right)

    def products(t):
        with model.assemble({name: p[name] + t * dot[name] for name in p}) as pencil:
            return np.array([pencil.multiply_a(right), pencil.multiply_b(right)])

    near, far = (products(k * step) - products(-k * step) for k in (1, 2))
    # fourth order: (1e-4 / h)^4, and 1e-16 / 1e-4 of rounding
    np.testing.assert_allclose(
        found, (8 * near - far) / (12 * step), atol=1e-9 * np.abs(products(0.0)).max()
    )


def test_hermitian_tangent_is_the_adjoint_of_the_tangent(model, p):
    left, _, right = blocks(model)
    dot = direction(p)
    plain = model.tangent(p, dot, right)
    turned = model.tangent(p, dot, left, hermitian=True)
    for one, other in zip(plain, turned, strict=True):
        size = np.linalg.norm(left) * np.linalg.norm(one)
        assert abs(np.vdot(left, one) - np.vdot(other, right)) <= 1e-13 * size


def test_contract_tangent_is_the_derivative_of_contract(model, p):
    vectors, dot, step = blocks(model), direction(p), 1e-4
    found = model.contract_tangent(p, dot, *vectors)

    def at(t, name):
        return model.contract({key: p[key] + t * dot[key] for key in p}, *vectors)[name]

    for name in p:
        near, far = (at(k * step, name) - at(-k * step, name) for k in (1, 2))
        expected = (8 * near - far) / (12 * step)
        size = np.abs(at(0.0, name)).max() + np.abs(expected).max()
        np.testing.assert_allclose(found[name], expected, atol=2e-9 * size)


def test_hessian_is_symmetric(comm):
    model = advection(comm).model()
    p = model.values()
    first = direction(p)
    second = {name: np.sin(2.0 + 1.3 * np.arange(value.size)) for name, value in p.items()}
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 2, target=0.0, solver_parameters={"eps_tol": 1e-13}) as pairs,
    ):
        found = [
            ga.hessian_vector_product(model, p, pairs, EIGENVALUE, dot) for dot in (first, second)
        ]
    ab, ba = (
        sum(np.dot(h[name], dot[name]) for name in p)
        for h, dot in zip(found, (second, first), strict=True)
    )
    assert ab == pytest.approx(ba, rel=1e-8)


def test_derivative_products_are_the_columns(comm):
    model = advection(comm).model()
    p, x = model.values(), np.linspace(1.0, 2.0, model.rows[1])
    found = [dense(mat) for mat in ga.derivative_products(model, p, x, "wind")]
    for i in range(2):
        dot = {name: np.zeros(value.size) for name, value in p.items()}
        dot["wind"][i] = 1.0
        for side, product in zip(found, model.tangent(p, dot, x[:, None]), strict=True):
            np.testing.assert_allclose(side[:, i], product[:, 0], rtol=1e-13, atol=1e-14)


def test_users_functions_are_not_changed(comm):
    forms = advection(comm)
    before = {name: np.array(forms.model().values()[name]) for name in forms.parameters}
    model = forms.model()
    gradient_of(model, {name: 1.1 * value for name, value in before.items()}, EIGENVALUE)
    for name, value in model.values().items():
        assert np.array_equal(value, before[name])


def test_matrices_are_those_of_dolfinx(comm):
    forms = elasticity(comm)
    with forms.model().assemble(forms.model().values()) as pencil:
        free = np.setdiff1d(np.arange(pencil.n + 10), forms.bcs[0].dof_indices()[0])
        for ours, form in ((pencil.A, forms.a), (pencil.B, forms.b)):
            whole = fem.petsc.assemble_matrix(fem.form(form))
            whole.assemble()
            np.testing.assert_allclose(
                dense(ours), dense(whole)[np.ix_(free, free)], rtol=1e-12, atol=1e-15
            )


def test_a_pencil_is_refilled(model, p):
    twice = {name: 1.3 * value for name, value in p.items()}
    with model.assemble(p) as pencil, model.assemble(twice) as fresh:
        assert model.assemble(twice, out=pencil) is pencil
        for mat, other in ((pencil.A, fresh.A), (pencil.B, fresh.B)):
            assert np.array_equal(dense(mat), dense(other))


def test_distributed_parameters(comm):
    model = advection(comm).model()
    p = model.values()
    mixed = model.values(distributed=True)
    assert {name: type(value).__name__ for name, value in mixed.items()} == {
        "cell": "Vec",
        "node": "Vec",
        "scale": "ndarray",
        "wind": "ndarray",
    }
    everything = {name: distributed(value, comm) for name, value in p.items()}
    expected = gradient_of(model, p, EIGENVALUE)[1]
    for given in (mixed, everything):
        found = gradient_of(model, given, EIGENVALUE)[1]
        for name, value in found.items():
            entries = getattr(value, "array_r", value)
            np.testing.assert_allclose(np.real(entries), expected[name], rtol=1e-9, atol=1e-12)

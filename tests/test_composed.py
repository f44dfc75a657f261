"""`Composed` around other models, and what it refuses."""

from dataclasses import dataclass

import numpy as np
import pytest
from builders import chain, chain_parameters, dense, mass, matrix, stiffness

import geneig_adjoint as ga

N = 5
P = {"p": np.array([0.3, 0.7])}
ROOT = ga.Pointwise("p", np.sqrt)
ZERO = np.zeros((N, 1))


class Own:
    """A(p) = diag(p_0, 2 p_1, 3, 4, 5) of a user, with no more than a model needs."""

    def __init__(self, comm):
        self.world = comm

    def assemble(self, p):
        return ga.Pencil(matrix(np.diag([p["p"][0], 2 * p["p"][1], 3, 4, 5]), self.world))

    def contract(self, p, left_a, left_b, right):
        return {"p": np.array([1, 2]) * np.einsum("ij,ij->i", left_a.conj(), right).real[:2]}


class Moving(Own):
    """One that also knows tangents."""

    def tangent(self, p, p_dot, right):
        return np.diag([*(p_dot["p"] * [1, 2]), 0, 0, 0]) @ right, 0 * right


class FirstOrder:
    """A map of a user without second derivatives."""

    def __call__(self, p):
        return p

    def vjp(self, p, q_bar):
        return q_bar

    jvp = vjp


def test_models_of_users(comm):
    model = ga.Composed(Own(comm), [ROOT])
    with ga.value_and_gradient(model, ga.objectives.Eigenvalue(1), count=2, target=0.0) as f:
        f({"p": np.array([0.5, 0.6])})
        value, gradient = f(P)
    assert not model.refills
    # The second of sqrt(0.3) and 2 sqrt(0.7)
    assert value == pytest.approx(2 * np.sqrt(0.7), rel=1e-12)
    np.testing.assert_allclose(gradient["p"], [0.0, 1 / np.sqrt(0.7)], atol=1e-12)


def test_matrices_of_derivatives_behind_a_map(comm):
    inner = ga.MatrixModel(
        matrix(stiffness(N), comm),
        matrix(mass(N), comm),
        {"p": [(matrix(mass(N), comm), None)] * 2},
    )
    model, x = ga.Composed(inner, [ROOT]), np.arange(1.0, N + 1)
    with model.assemble(P) as pencil:
        expected = stiffness(N) + np.sqrt(P["p"]).sum() * mass(N)
        np.testing.assert_allclose(dense(pencil.A), expected, rtol=1e-15)
    dA_x, _ = ga.derivative_products(model, P, x, "p")
    found = dA_x.getValuesCSR()[2].reshape(N, 2)
    expected = np.outer(mass(N) @ x, 0.5 / np.sqrt(P["p"]))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_operators_behind_a_map(comm):
    d = np.array([1.0, 2.0, 3.0])[:, None]
    inner = ga.OperatorModel(
        3,
        lambda p, block: p["p"][0] * d * block,
        lambda p, left_a, left_b, right: {"p": np.array([np.vdot(left_a, d * right).real])},
        jvp=lambda p, q, block: (q["p"][0] * d * block, 0 * block),
        vjp_tangent=lambda p, q, left_a, left_b, right: {"p": np.zeros(1)},
        comm=comm,
    )
    model, p = ga.Composed(inner, [ROOT]), {"p": np.array([0.25])}
    solver = {"count": 1, "which": "largest_real"}
    assert ga.verify_gradient(model, p, ga.objectives.Eigenvalue(0), **solver).passed
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **solver) as pairs:
        objective = ga.objectives.Eigenvalue(0)
        found = ga.gradient(model, p, pairs, objective)
        # 3 sqrt(p)
        np.testing.assert_allclose(found["p"], 1.5 / 0.5, rtol=1e-12)
        assert not model.has_hermitian_tangent
        match = r"needs tangent\(\.\.\., hermitian=True\) of the model .* got OperatorModel"
        with pytest.raises(ga.InputError, match=match):
            model.tangent(p, p, np.zeros((3, 1)), hermitian=True)
        # dA = 3 / (2 sqrt(p)) d in front of the map
        dA_x, _ = ga.derivative_products(model, p, np.ones(3), "p")
        np.testing.assert_allclose(dense(dA_x), d / (2 * np.sqrt(p["p"])), rtol=1e-12)


def test_model_that_does_not_know_its_rows(comm):
    class Rowless:
        def assemble(self, p): ...

    with pytest.raises(ga.InputError, match="knows its rows, got Rowless without"):
        _ = ga.Composed(Rowless(), [ROOT], comm=comm).rows


def test_composed_models_are_composed_again(comm):
    inner = ga.Composed(Own(comm), [ROOT])
    with ga.Composed(inner, [ROOT]) as model, model.assemble(P) as pencil:
        np.testing.assert_allclose(dense(pencil.A)[0, 0], 0.3**0.25, rtol=1e-15)


def test_verification_without_tangents(comm):
    report = ga.verify_gradient(
        ga.Composed(Own(comm), [ROOT]), P, ga.objectives.Eigenvalue(0), count=2, target=0.0
    )
    assert report.passed
    assert report.dot_product_error is None


REFUSED = {
    "maps": (lambda comm: ga.Composed(Own(comm), ROOT), "maps must be a list, .* got Pointwise"),
    "map": (lambda comm: ga.Composed(Own(comm), [abs]), "a map must have .* without vjp"),
    "out": (
        lambda comm: ga.Composed(Own(comm), []).assemble(P, out=Own(comm).assemble(P)),
        "out= needs a model whose assemble takes it, got Own",
    ),
    "tangent": (
        lambda comm: ga.Composed(Own(comm), [ROOT]).tangent(P, P, ZERO),
        "needs tangent of the model behind the maps, got Own",
    ),
    "contract_tangent": (
        lambda comm: ga.Composed(Own(comm), [ROOT]).contract_tangent(P, P, ZERO, ZERO, ZERO),
        "second derivatives need contract_tangent, got Own",
    ),
    "vjp_tangent": (
        lambda comm: ga.Composed(chain(N, comm), [ROOT, FirstOrder()]).contract_tangent(
            P, P, ZERO, ZERO, ZERO
        ),
        "second derivatives need vjp_tangent, got FirstOrder",
    ),
    "p": (lambda comm: ga.Composed(Own(comm), [ROOT]).assemble([1.0]), "p must map names to"),
    "direction": (
        lambda comm: ga.Composed(Moving(comm), [ROOT]).tangent(P, {"q": P["p"]}, ZERO),
        r"must hold the parameters \['p'\], got \['q'\]",
    ),
    "unknown": (
        lambda comm: ga.Composed(Own(comm), [ga.Pointwise("rho", np.sqrt)]).assemble(P),
        r"Pointwise needs the parameter 'rho', got \['p'\]",
    ),
    "behind": (
        lambda comm: ga.Composed(chain(N, comm), []).assemble(P),
        r"must hold the parameters \['k', 'm'\], got \['p'\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(comm, case):
    action, match = REFUSED[case]
    with pytest.raises(ga.InputError, match=match):
        action(comm)


class Short(FirstOrder):
    """A map whose derivatives forget a parameter."""

    def vjp(self, p, q_bar):
        return {"k": q_bar["k"]}


def test_cotangents_of_another_structure(comm):
    model = ga.Composed(chain(N, comm), [Short()])
    match = r"vjp of map 0 \(Short\) must return the structure of p, .*'m': 6.* got {'k': 6}"
    with pytest.raises(ga.InputError, match=match):
        model.contract(chain_parameters(N), ZERO, ZERO, ZERO)


class Wrong(Own):
    """A model whose contraction has another length."""

    def contract(self, p, left_a, left_b, right):
        return {"p": np.zeros(3)}


def test_contractions_of_another_structure(comm):
    with pytest.raises(ga.InputError, match=r"contract must return the structure of p.*'p': 3"):
        ga.Composed(Wrong(comm), [ROOT]).contract(P, ZERO, ZERO, ZERO)


def test_maps_are_called_anew_when_a_switch_of_the_parameters_changes(comm):
    @dataclass
    class Point:
        p: np.ndarray
        law: str = "linear"

    def law(point):
        return {"p": point.p**2 if point.law == "square" else point.p}

    class Bent(Own):
        def contract(self, p, left_a, left_b, right):
            return {"p": p["p"] * np.einsum("ij,ij->i", left_a.conj(), right).real[:2]}

    model, e = ga.Composed(Bent(comm), [ga.JaxMap(law)]), np.eye(5)
    for name, slopes in (("linear", [3.0, 2.0]), ("square", [54.0, 16.0]), ("linear", [3.0, 2.0])):
        point = Point(np.array([3.0, 2.0]), name)
        assert np.array_equal(model.contract(point, e, 0 * e, e).p, slopes)

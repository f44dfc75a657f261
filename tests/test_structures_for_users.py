"""Models, objectives and operators of users get structures as the user gave them."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from builders import mass, matrix, stiffness
from maps_of_tests import SIZE, N
from structures_of_tests import (
    DESIGNS,
    FIELD,
    SOLVER,
    Layer,
    Material,
    Tree,
    model_of,
)

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

P = DESIGNS["dataclass"](FIELD)


class Own:
    """A user's model of A(p) = young * stiffness + field[0] on the diagonal."""

    def __init__(self, comm, change=lambda gradient: gradient):
        self.comm, self.change, self.seen = comm, change, []

    def assemble(self, p):
        self.seen.append(type(p))
        array = p.core.young * stiffness(N) + p.field[0] * np.eye(N)
        return ga.Pencil(matrix(array, self.comm), matrix(mass(N), self.comm), owned=True)

    def contract(self, p, left_a, left_b, right):
        self.seen.append(type(p))
        young = np.vdot(left_a, stiffness(N) @ right).real
        values = np.zeros(SIZE)
        values[0] = np.vdot(left_a, right).real
        layers = [Layer(0, "")] * 2
        bars = {"core": {"young": young, "density": 0}, "layers": layers, "field": values}
        return self.change({**bars, "nodes": 0 * p.nodes})

    def tangent(self, p, p_dot, right):
        self.seen += [type(p), type(p_dot)]
        return p_dot.core.young * stiffness(N) @ right + p_dot.field[0] * right, 0 * right

    def contract_tangent(self, p, p_dot, left_a, left_b, right):
        self.seen += [type(p), type(p_dot)]
        zero = {"core": {"young": 0, "density": 0}, "layers": [Layer(0, "")] * 2}
        return {**zero, "field": 0 * p.field, "nodes": 0 * p.nodes}


def test_model_of_a_user_gets_what_the_user_gave(comm):
    model = Own(comm)
    report = ga.verify_gradient(model, P, obj.Eigenvalue(1), **SOLVER)
    assert report.passed, str(report)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        g = ga.gradient(model, P, pairs, obj.Eigenvalue(0))
        x = pairs.right[:, 0]
        assert g.core.young == pytest.approx(np.vdot(x, stiffness(N) @ x).real, rel=1e-12)
        h = ga.hessian_vector_product(model, P, pairs, obj.Eigenvalue(0), P)
        assert isinstance(h, type(P))
        cluster = ga.cluster_derivatives(model, P, pairs, 0)
        assert cluster.matrices["core/young"][0, 0, 0] == pytest.approx(g.core.young, rel=1e-12)
        mu = ga.directional_derivatives(model, P, pairs, 0, P)
        expected = g.core.young * P.core.young + g.field @ P.field
        assert mu[0] == pytest.approx(expected, rel=1e-11)
    with ga.value_and_gradient(model, obj.Eigenvalue(0), **SOLVER) as f:
        f.flat(f.pack(P))
    assert set(model.seen) == {type(P)}


MISFITS = {
    "shape": (lambda g: {**g, "nodes": g["nodes"].T}, r"contract must .* \(13, 3\) for 'nodes'"),
    "missing": (lambda g: {**g, "core": None}, r"contract must return the structure of p"),
    "kind": (lambda g: 1.0, r"the result of contract must have the structure of p, got ''"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_gradients_of_users_that_do_not_fit(comm, case):
    change, match = MISFITS[case]
    with (
        ga.value_and_gradient(Own(comm, change), obj.Eigenvalue(0), **SOLVER) as f,
        pytest.raises(ga.InputError, match=match),
    ):
        f(P)


@pytest.mark.parametrize("wrong", [{"nodes": np.ones((3, 13))}, {"other": 1.0}, {"field": 2.0}])
def test_explicit_derivatives_that_do_not_fit(comm, wrong):
    def objective(pairs, p):
        return 0.0, ga.EigenCotangent(parameters=wrong)

    match = f"the explicit derivative must have the structure of p, .*'{next(iter(wrong))}'"
    with (
        ga.value_and_gradient(Own(comm), objective, **SOLVER) as f,
        pytest.raises(ga.InputError, match=match),
    ):
        f(P)


def test_objectives_with_tangents_get_what_the_user_gave(comm):
    class Cubic:
        def __call__(self, pairs, p):
            bar = {"core": {"young": 3 * p.core.young**2}}
            return p.core.young**3, ga.EigenCotangent(values=np.zeros(pairs.count), parameters=bar)

        def tangent(self, pairs, tangent, p, p_dot):
            bar = {"core": {"young": 6 * p.core.young * p_dot.core.young}}
            return ga.EigenCotangent(parameters=bar)

    model, p_dot = Own(comm), replace(P, core=Material(0.5, 1.0))
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        found = ga.hessian_vector_product(model, P, pairs, Cubic(), p_dot)
    assert found.core.young == pytest.approx(6 * 1.3 * 0.5, rel=1e-12)
    assert found.core.density == 0


def test_operators_of_users_get_what_the_user_gave(comm):
    d = np.array([1.0, 2.0, 3.0])[:, None]
    p = {"core": Material(2.0, 1.0), "shift": np.full((2, 2), 0.25)}
    model = ga.OperatorModel(
        3,
        lambda p, block: (p["core"].young ** 2 * d + p["shift"].sum()) * block,
        lambda p, left_a, left_b, right: {
            "core": {"young": 2 * p["core"].young * np.vdot(left_a, d * right).real, "density": 0},
            "shift": np.full((2, 2), np.vdot(left_a, right).real),
        },
        jvp=lambda p, q, block: (
            (2 * p["core"].young * q["core"].young * d + q["shift"].sum()) * block,
            0 * block,
        ),
        vjp_tangent=lambda p, q, left_a, left_b, right: {
            "core": {"young": 2 * q["core"].young * np.vdot(left_a, d * right).real, "density": 0},
            "shift": np.zeros((2, 2)),
        },
        comm=comm,
    )
    solver = {"count": 1, "which": "largest_real"}
    assert ga.verify_gradient(model, p, obj.Eigenvalue(0), **solver).passed
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **solver) as pairs:
        g = ga.gradient(model, p, pairs, obj.Eigenvalue(0))
        h = ga.hessian_vector_product(model, p, pairs, obj.Eigenvalue(0), p)
    # 3 young^2 + sum of shift
    assert g["core"].young == pytest.approx(12.0, rel=1e-12)
    np.testing.assert_allclose(g["shift"], np.ones((2, 2)), rtol=1e-12)
    assert g.relative_error < 1e-8
    assert h["core"].young == pytest.approx(6 * 2.0, rel=1e-10)


def test_what_jax_returns_is_taken_as_an_explicit_derivative(comm):
    p = DESIGNS["pytree"](FIELD)

    def objective(pairs, q):
        bar = Tree(*[None] * 2, jax.grad(lambda v: (v**2).sum())(q.field), None, None)
        return float(np.sum(q.field**2)), ga.EigenCotangent(parameters=bar)

    with ga.value_and_gradient(model_of(comm), objective, **SOLVER) as f:
        _, g = f(p)
    np.testing.assert_allclose(g.field, 2 * FIELD, rtol=1e-6)  # single precision of jax.grad

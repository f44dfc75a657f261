"""Structures of parameters through everything that takes parameters, on one rank."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.optimize
from builders import K0, chain_dofs, distributed, matrix, stiffness
from maps_of_tests import SIZE, N
from structures_of_tests import (
    DESIGNS,
    FIELD,
    NAMES,
    SOLVER,
    flat,
    model_of,
    part,
    spread,
    value_at,
    whole,
)

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

P = DESIGNS["dataclass"](FIELD)


@pytest.mark.parametrize("kind", DESIGNS)
def test_gradient_equals_differences_of_plain_numpy(comm, kind):
    p, h = DESIGNS[kind](FIELD), 1e-3
    points = ga.flatten(p)
    model = model_of(comm)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        g = ga.gradient(model, p, pairs, obj.Eigenvalue(1))
    assert type(g) is {"nested": ga.EstimatedGradient}.get(kind, type(p))
    assert {type(part(g, name)) for name in NAMES[:2]} == {float}
    assert part(g, "nodes").shape == part(p, "nodes").shape
    for name in NAMES:
        dot = np.cos(np.arange(points[name].size))

        def at(step, name=name, dot=dot):
            moved = {**points, name: points[name] + step * dot}
            return value_at(comm, points.structure.rebuild(moved, point=True))

        slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        # h^4 with derivatives of fifth order below 1e3
        assert whole(part(g, name)) @ dot == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("kind", ["pytree"])
def test_verification_and_second_derivatives(comm, kind):
    p, model = DESIGNS[kind](FIELD), model_of(comm)
    objective = obj.LinearOutput(np.linspace(1.0, 2.0, N), 1)
    report = ga.verify_gradient(model, p, objective, **SOLVER)
    assert report.passed, str(report)
    assert [item.parameter for item in report.comparisons] == NAMES
    assert part(report.gradient, "core").name == "steel"
    assert type(report.gradient) is type(p)
    points, h = ga.flatten(p), 1e-3
    dots = {name: np.sin(1.0 + np.arange(value.size)) / 4 for name, value in points.items()}
    p_dot = points.structure.rebuild(dots, point=False)

    def gradient_at(step):
        moved = {name: value + step * dots[name] for name, value in points.items()}
        with ga.value_and_gradient(model, objective, **SOLVER) as f:
            return flat(f(points.structure.rebuild(moved, point=True))[1])

    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        found = ga.hessian_vector_product(model, p, pairs, objective, p_dot)
        g = ga.gradient(model, p, pairs, objective)
        tangent = ga.jvp(model, p, pairs, p_dot)
        slope = np.dot(np.linspace(1.0, 2.0, N), tangent.right[:, 1]).real
    assert type(found) is type(p)
    near, far = (gradient_at(s) - gradient_at(-s) for s in (h, 2 * h))
    expected = (8 * near - far) / (12 * h)
    # gradients to 1e-10 divided by the step, and h^4
    np.testing.assert_allclose(flat(found), expected, atol=1e-6 * np.abs(expected).max())
    direction = np.concatenate([dots[name] for name in NAMES])
    assert flat(g) @ direction == pytest.approx(slope, rel=1e-8)


def test_optimiser(comm):
    model = model_of(comm)

    def objective(pairs, p):  # a frequency of one's own, and what departing from 1 costs
        assert isinstance(p, type(P))
        values = np.zeros(pairs.count)
        values[0] = -1.0
        explicit = replace(
            P, core=None, layers=None, field=2 * (p.field - 1), nodes=2 * p.nodes, ids=None
        )
        cost = np.sum((p.field - 1) ** 2) + np.sum(p.nodes**2)
        return cost - pairs.values[0].real, ga.EigenCotangent(values=values, parameters=explicit)

    with ga.value_and_gradient(model, objective, **SOLVER) as f:
        x = f.pack(P)
        np.testing.assert_array_equal(x, flat(P))
        options = {"maxiter": 8}
        bounds = [(0.5, 2.0)] * 2 + [(-0.5, 0.5)] * 2 + [(0.2, 2.0)] * SIZE
        bounds += [(entry - 0.2, entry + 0.2) for entry in P.nodes.ravel()]
        found = scipy.optimize.minimize(f.flat, x, jac=True, bounds=bounds, options=options)
        best = f.unpack(found.x)
        assert f(P)[0] > found.fun + 1
        value, slopes = f(best)
        assert (value, type(slopes)) == (pytest.approx(found.fun, rel=1e-9), type(P))
    assert isinstance(best, type(P))
    assert best.core.ratio == best.core.young / best.core.density
    assert scipy.optimize.check_grad(lambda x: f.flat(x)[0], lambda x: f.flat(x)[1], x) < 1e-5


def element_model(comm):
    ids = np.arange(SIZE)
    nodes = np.stack([3 * ids, 3 * ids + 4], axis=1)  # entries (i, 0) and (i + 1, 1)
    kernel = ga.NumpyKernel(
        lambda nodes, core_young: (
            (nodes[:, :1] ** 2 + nodes[:, 1:] ** 2 + core_young[:, None])[..., None] * K0
        )
    )
    zeros = np.zeros(SIZE, dtype=int)
    block = {"nodes": nodes, "core/young": zeros}
    return ga.ElementModel(N, [ga.ElementBlock("A", chain_dofs(N), kernel, block)], comm=comm)


def test_elements_name_parts_by_their_paths(comm):
    model, p = element_model(comm), {"core": {"young": 1.0}, "nodes": P.nodes}
    assert ga.verify_gradient(model, p, obj.Eigenvalue(0), **SOLVER).passed
    x, vectors = np.linspace(1.0, 2.0, N), [np.ones((N, 1))] * 3
    assert model.contract(p, *vectors)["nodes"].shape == (SIZE + 1, 3)
    dA, _ = model.tangent(p, p_dot={"core": {"young": 1}, "nodes": 0 * P.nodes}, right=x[:, None])
    dA_x, dB_x = ga.derivative_products(model, p, x, "core/young")
    assert dA_x.getSize() == (N, 1)
    np.testing.assert_allclose(dA_x.getValuesCSR()[2].real, dA[:, 0], rtol=1e-13, atol=1e-14)
    for mat in (dA_x, dB_x):
        mat.destroy()
    flattened = ga.flatten(p)
    assert list(model.contract(flattened, *vectors)) == ["core/young", "nodes"]


def test_given_matrices(comm):
    units = [(matrix(np.diag(np.eye(N)[i]), comm), None) for i in range(4)]
    model = ga.MatrixModel(matrix(stiffness(N), comm), None, {"a/b": units[:1], "c": units[:3]})
    p = {"a": {"b": 0.1}, "c": np.array([[0.1, 0.2, 0.3]])}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        g = ga.gradient(model, p, pairs, obj.Eigenvalue(0))
        np.testing.assert_allclose(g["c"], np.abs(pairs.right[:3, :1].T) ** 2, rtol=1e-10)
        with pytest.raises(ga.StaleError, match="p must hold the parameters the pairs were"):
            ga.gradient(model, {**p, "a": {"b": 0.2}}, pairs, obj.Eigenvalue(0))


REFUSED = {
    "nan": ({"core": {"young": np.nan}, "nodes": P.nodes}, "'core/young' must be finite, got nan"),
    "whole": ({"core": {"young": 2}, "nodes": P.nodes}, "leaf 'core/young' of p .* number 2"),
    "missing": ({"core": {}, "nodes": P.nodes}, r"must hold .*'core/young'.*got \['nodes'\]"),
    "complex": ({"core": {"young": 1j}, "nodes": P.nodes}, "'core/young' must be real, got dtype"),
    "list": ({"core": {"young": 1.0}, "nodes": [1.0, 2.0]}, "'nodes' must be a 1-D .* got list"),
    "number": ({"core": {"young": 1.0}, "nodes": 2.0}, "'nodes' must be a 1-D .* got float"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(comm, case):
    p, match = REFUSED[case]
    with pytest.raises(ga.InputError, match=match):
        element_model(comm).assemble(p)


def test_distributed_parts_cannot_be_packed(comm):
    p = {"core": {"young": 1.0, "field": distributed(FIELD, comm)}}
    with (
        ga.value_and_gradient(element_model(comm), obj.Eigenvalue(0)) as f,
        pytest.raises(ga.InputError, match=r"got a PETSc.Vec for 'core/field'"),
    ):
        f.pack(p)


def test_filters_in_front_keep_the_structure(comm):
    centers = np.arange(SIZE, dtype=float)
    filters = [ga.DensityFilter("field", centers, 2.5), ga.Projection("field", 2.0)]
    inner = model_of(comm)
    model = ga.Composed(inner.model, [*filters, *inner.maps])
    p = replace(P, field=0.9 * FIELD / FIELD.max())
    report = ga.verify_gradient(model, p, obj.Eigenvalue(1), **SOLVER)
    assert report.passed, str(report)
    assert isinstance(report.gradient, type(P))


def test_study_writes_parts_by_their_paths(tmp_path):
    (tmp_path / "model.py").write_text(
        "import sys\n"
        "from structures_of_tests import DESIGNS, FIELD, model_of\n\n\n"
        "def build(comm, options):\n"
        "    return model_of(comm), DESIGNS['dataclass'](FIELD)\n"
    )
    (tmp_path / "study.toml").write_text(
        '[model]\npython = "model.py:build"\n[solver]\ncount = 3\ntarget = 0.0\n'
        '[[objective]]\nname = "second"\nkind = "eigenvalue"\npair = 1\n'
        '[output]\ndirectory = "out"\n'
    )
    import json

    from geneig_adjoint.cli import main

    assert main(["run", str(tmp_path / "study.toml")]) == 0
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    slopes = content["gradients"]["second"]
    assert set(slopes) == set(NAMES)
    with h5py.File(tmp_path / "out" / "result.h5") as file:
        for name in NAMES:
            np.testing.assert_array_equal(file[slopes[name]["path"]][()], slopes[name]["entries"])
            np.testing.assert_array_equal(file[f"parameters/{name}"][()], whole(part(P, name)))


def test_flat_mappings_are_what_they_were(comm):
    model = model_of(comm).model
    p = spread(P)
    with ga.value_and_gradient(model, obj.Eigenvalue(1), **SOLVER) as f:
        _, g = f(p)
        assert f.unpack(f.pack(p)).keys() == p.keys()
    assert type(g) is ga.EstimatedGradient
    assert ga.flatten(p) is p

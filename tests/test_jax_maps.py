"""`JaxMap` on one rank: what it gives, its derivatives, its conventions, what it refuses."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from builders import chain, chain_parameters, distributed
from maps_of_tests import Coupled, N, chain_model, composed_cases, entries
from structures_of_tests import Tree

import geneig_adjoint as ga

RNG = np.random.default_rng(2)
S, T, W = RNG.uniform(0.4, 0.8, 12), np.array([0.9, 0.4]), RNG.uniform(size=12)
P = {"s": S, "t": T}
DOT = {"s": np.cos(S * 9), "t": np.array([0.3, -0.2])}
BAR = {"k": np.sin(S * 7), "m": W - 0.5}


def coupled(p):
    s, t = p["s"], p["t"]
    return {"k": s**2 * t[0] + 0.3 * s, "m": jnp.exp(0.2 * s) + t[1]}


def same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        # rounding of a few operations in double precision
        np.testing.assert_allclose(entries(found[name]), entries(value), rtol=1e-13, atol=1e-14)


def test_equals_the_derivatives_written_by_hand():
    found, expected = ga.JaxMap(coupled), Coupled()
    same(found(P), expected(P))
    same(found.jvp(P, DOT), expected.jvp(P, DOT))
    same(found.vjp(P, BAR), expected.vjp(P, BAR))
    same(found.vjp_tangent(P, DOT, BAR), expected.vjp_tangent(P, DOT, BAR))


def test_chain_behind_it(comm):
    maps, p = composed_cases(comm)["coupled"]
    model = ga.Composed(chain_model(comm), [ga.JaxMap(coupled), *maps[1:]])
    reference = ga.Composed(chain_model(comm), maps)
    solver = {"count": 3, "target": 0.0}
    assert ga.verify_gradient(model, p, ga.objectives.Eigenvalue(1), **solver).passed
    p_dot, found = {"s": DOT["s"], "t": DOT["t"]}, []
    for one in (model, reference):
        with one.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **solver) as pairs:
            form = ga.objectives.LinearOutput(np.linspace(1.0, 2.0, N), 1)
            found.append(ga.hessian_vector_product(one, p, pairs, form, p_dot))
    for name in p:
        # both to the 1e-10 of the solves
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-7)


def test_the_rest_of_the_program_stays_in_single_precision():
    ga.JaxMap(coupled)(P)
    assert jnp.ones(2).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("field", ["replicated", "distributed"])
def test_named_parameters(comm, field):
    s = {"replicated": S, "distributed": distributed(S, comm)}[field]
    p = {"a": np.ones(3), "s": s, "b": T}
    chosen = ga.JaxMap(lambda s: s**2, "s")
    q = chosen(p)
    assert list(q) == ["a", "s", "b"]
    assert type(q["s"]) is type(s)
    assert q["a"] is p["a"]
    np.testing.assert_allclose(entries(q["s"]), S**2, rtol=1e-15)
    kept = ga.JaxMap(lambda s, b: {"c": {"x": s * b[0]}}, ["s", "b"], keep=True)
    q = kept(p)
    assert list(q) == ["a", "s", "b", "c/x"]
    np.testing.assert_allclose(entries(q["c/x"]), 0.9 * S, rtol=1e-15)
    bar = {**{name: np.ones(1) for name in "a"}, "s": s, "b": np.ones(2), "c/x": s}
    found = kept.vjp(p, bar)
    assert found["a"] is bar["a"]
    np.testing.assert_allclose(entries(found["s"]), S + 0.9 * S, rtol=1e-15)
    np.testing.assert_allclose(found["b"], [1 + S @ S, 1.0], rtol=1e-14)
    renamed = ga.JaxMap(lambda s: s + 1, "s", output="r")
    assert list(renamed(p)) == ["a", "b", "r"]
    zero = renamed.vjp_tangent(p, p, {"r": s, "a": p["a"], "b": T})
    assert {name: np.abs(entries(value)).max() for name, value in zero.items()} == dict.fromkeys(
        p, 0.0
    )


class Core(dict):
    """A dict of its own kind."""

    def __init__(self, young=0.0):
        super().__init__(young=young)


class Plate(NamedTuple):
    core: dict
    nodes: np.ndarray
    title: str


PLATE = Plate({"young": 2.0, "layers": [0.1, 0.2]}, RNG.uniform(size=(4, 3)), "plate")


def test_parts_of_structures_by_their_names():
    chosen = ga.JaxMap(
        lambda core, x: {"stiff": core["young"] * core["layers"][1], "x": {"y": x.sum(axis=0)}},
        ["core", "nodes"],
    )
    q = chosen(PLATE)
    same(q, {"stiff": np.array([0.4]), "x/y": PLATE.nodes.sum(axis=0)})
    bar = chosen.vjp(PLATE, {"stiff": np.array([1.0]), "x/y": np.arange(3.0)})
    assert type(bar) is Plate
    assert bar.core == {"young": 0.2, "layers": [0.0, 2.0]}
    np.testing.assert_array_equal(bar.nodes, np.tile(np.arange(3.0), (4, 1)))
    # without the structure: names below a part
    flat = dict(ga.flatten(PLATE))
    again = ga.JaxMap(lambda core: core["young"] * core["layers/1"], "core", output="stiff")
    np.testing.assert_allclose(again(flat)["stiff"], [0.4])


def test_structures_go_from_map_to_map(comm):
    first = ga.JaxMap(lambda p: p._replace(nodes=2 * p.nodes))
    second = ga.JaxMap(
        lambda p: {"k": jnp.ravel(p.nodes) * p.core["young"], "m": 1 + p.nodes.reshape(-1)}
    )
    model = ga.Composed(chain(N, comm), [first, second])
    with ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), count=2, target=0.0) as f:
        _, g = f(PLATE)
        _, title = f(PLATE._replace(title="other"))
    assert type(g) is Plate
    assert title.title == "other"
    assert g.core["layers"] == [0.0, 0.0]
    assert g.nodes.shape == (4, 3)


def test_compiled_once():
    calls = []

    def counted(p):
        calls.append(p.title)
        return {"x": p.nodes * p.core["young"]}

    chosen = ga.JaxMap(counted)
    for young in (1.0, 2.0, 3.0):
        p = PLATE._replace(core={**PLATE.core, "young": young})
        np.testing.assert_array_equal(chosen(p)["x"], young * PLATE.nodes.ravel())
    assert len(calls) == 2  # looked at, compiled
    chosen(PLATE._replace(title="b"))
    assert calls == ["plate"] * 2 + ["b"] * 2


def test_what_is_no_parameter_is_compared_by_its_contents():
    chosen = ga.JaxMap(lambda p: {"x": p["x"][np.flatnonzero(p["mask"])]})
    for mask in ([True, False, True], [False, True, True]):
        p = {"x": np.arange(3.0), "mask": np.array(mask)}
        q = chosen({**p, "more": 1.0})
        np.testing.assert_array_equal(q["x"], np.arange(3.0)[mask])


@dataclass
class Scaled:
    """A field, and a factor inside of what is no parameter."""

    field: np.ndarray
    factor: Any = field(metadata={"static": True})


@pytest.mark.parametrize(
    "factor", [[2.0], {0: 2.0}, np.array([2.0])], ids=["list", "dict", "array"]
)
def test_what_is_no_parameter_and_changes_in_place(factor):
    chosen = ga.JaxMap(lambda p: {"x": p.field * p.factor[0]})
    for value in (2.0, 3.0, 2.0):
        factor[0] = value
        np.testing.assert_array_equal(chosen(Scaled(S, factor))["x"], value * S)


@pytest.mark.parametrize("values", [(1.0, 2.0), ([1.0], [2.0])], ids=["plain", "unhashable"])
def test_what_registered_classes_hold_beside_their_parts(values):
    def function(tree):
        return {"x": tree.field * np.sum(tree.ids)}

    chosen = ga.JaxMap(function)
    for ids in values:
        tree = Tree(1.0, [0.5], np.ones(2), np.ones(2), ids)
        np.testing.assert_array_equal(chosen(tree)["x"], np.sum(ids) * np.ones(2))


def test_kinds_of_structures_with_the_same_names():
    chosen = ga.JaxMap(lambda p: {"x": p["core"]["young"] * p["k"]})
    assert chosen({"core": {"young": 2.0}, "k": np.ones(2)})["x"].tolist() == [2.0, 2.0]
    assert chosen({"core": Core(2.0), "k": np.ones(2)})["x"].tolist() == [2.0, 2.0]


def summed(p):
    return {"k": p["k"] / p["k"].sum()}


VALUES = chain_parameters(11)
TOTAL = VALUES["k"].sum()
REFUSED = {
    "list": (lambda p: [p["k"]], "the JaxMap of <lambda> must return a dict .* got list; return"),
    "array": (lambda p: p["k"], r"must return a dict or .*; return a dict, or pass output="),
    "complex": (lambda p: {"x": p["k"] * 1j}, "must return real numbers, got complex128 for 'x'"),
    "single": (lambda p: {"x": p["k"].astype("float32")}, "compute in double precision, got a fl"),
    "whole": (lambda p: {"x": (p["k"] > 1).astype(int)}, "leaf 'x' of p .* whole numbers"),
    "trace": (lambda p: {"x": float(p["k"][0])}, "function of a JaxMap must be one that JAX can"),
    "value": (lambda p: {"x": jnp.log(p["k"] - 2)}, "must return finite numbers, got nan at entry"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    function, match = REFUSED[case]
    with pytest.raises(ga.InputError, match=match):
        ga.JaxMap(function)(VALUES)


LOCAL = {
    "sum": (lambda p: {"x": p["k"].sum()}, r"'x' .* depends on the distributed 'k' .* shape \(\)"),
    "reversed": (lambda p: {"x": p["k"][::-1]}, "must be computed entry by entry from .* 'k'"),
    "share": (lambda p: {"x": p["k"] / p["k"].sum()}, "got entry 0 of this rank that depends on"),
    "inside": (jax.jit(summed), "must be computed entry by entry"),
    "mean": (lambda p: {"x": jnp.where(p["k"] > p["k"].mean(), p["k"], 0)}, "entry by entry"),
    "constant": (lambda p: {"x": p["k"] * jax.lax.stop_gradient(p["k"].max())}, "entry by entry"),
    "still": (lambda p: {"x": p["k"] + (p["k"].sum() - TOTAL) ** 2}, "entry by entry"),
    "twice": (lambda p: {"x": jnp.r_[p["k"], p["k"]]}, r"must have one entry .* got shape \(24,\)"),
}


@pytest.mark.parametrize("case", LOCAL)
@pytest.mark.parametrize("method", ["__call__", "jvp", "vjp"])
def test_functions_of_distributed_fields_that_need_other_ranks(comm, case, method):
    function, match = LOCAL[case]
    p = {"k": distributed(VALUES["k"], comm)}
    arguments = {"__call__": (p,), "jvp": (p, p), "vjp": (p, p)}[method]
    with pytest.raises(ga.InputError, match=match):
        getattr(ga.JaxMap(function), method)(*arguments)


def test_results_that_depend_on_no_field_stay_replicated(comm):
    @jax.jit
    def inside(field, number):
        return field * number, number**2

    def function(p):
        first, second = inside(p["k"], p["t"][0])
        return {"x": first, "y": second * jnp.ones(3), "z": np.arange(2.0)}

    q = ga.JaxMap(function)({"k": distributed(S, comm), "t": T})
    assert [type(value).__name__ for value in q.values()] == ["Vec", "ndarray", "ndarray"]
    np.testing.assert_array_equal(q["z"], [0.0, 1.0])


ROOT = {"k": np.array([1.0, 0.0, 4.0])}
TRAPS = {
    "root": (lambda p: {"x": jnp.sqrt(p["k"])}, ["jvp", "vjp", "vjp_tangent"]),
    "where": (
        lambda p: {"x": jnp.where(p["k"] > 0, jnp.sqrt(p["k"]), 0.0)},
        ["vjp", "vjp_tangent"],  # forward, the branch that is not taken does no harm
    ),
}


@pytest.mark.parametrize(
    ("case", "method"), [(case, method) for case in TRAPS for method in TRAPS[case][1]]
)
def test_derivatives_that_are_not_finite(case, method):
    one = {"k": np.ones(3)}
    arguments = {"jvp": (one,), "vjp": ({"x": one["k"]},), "vjp_tangent": (one, {"x": one["k"]})}
    match = r"derivatives of the JaxMap of <lambda> must be finite, got (nan|-?inf) at entry 1 of"
    chosen = ga.JaxMap(TRAPS[case][0])
    np.testing.assert_array_equal(chosen(ROOT)["x"], [1.0, 0.0, 2.0])
    with pytest.raises(ga.InputError, match=match):
        getattr(chosen, method)(ROOT, *arguments[method])


def test_names():
    with pytest.raises(ga.InputError, match="keep=True needs the names of the parameters"):
        ga.JaxMap(coupled, keep=True)
    with pytest.raises(ga.InputError, match=r"needs the parameter 'r', got \['s', 't'\]; correct"):
        ga.JaxMap(coupled, ["s", "r"])(P)
    with pytest.raises(ga.InputError, match="needs a name of its own, got 't', which is a param"):
        ga.JaxMap(lambda s: s, "s", output="t")(P)
    with pytest.raises(ga.InputError, match="needs a name of its own, got 's'"):
        ga.JaxMap(lambda s: s, "s", keep=True)(P)
    with pytest.raises(ga.InputError, match="needs a structure of parameters, got list"):
        ga.JaxMap(coupled)([1.0])


def test_missing_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jax", None)
    with pytest.raises(ga.errors.MissingPackageError, match=r"a JaxMap needs jax, .* pip install"):
        ga.JaxMap(coupled)

"""Structures alone: names, what is a parameter, what comes back, what is refused."""

import subprocess
import sys
from collections import OrderedDict, defaultdict
from dataclasses import InitVar, dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
import pytest
from builders import distributed
from structures_of_tests import DESIGNS, FIELD, IDS, NAMES, NODES, Layer, Material, part

import geneig_adjoint as ga
from geneig_adjoint.structures import flat_like, rebuilt


class Colour(Enum):
    RED = 1


@dataclass
class Declared:
    real: float = 3
    maybe: "float | None" = 2
    count: int = 5
    text: "int | None" = 4


@dataclass
class Silent:
    value: object = 3


@pytest.mark.parametrize("kind", DESIGNS)
def test_names_and_entries(kind):
    p = DESIGNS[kind](FIELD)
    found = ga.flatten(p)
    assert list(found) == NAMES
    assert np.shares_memory(found["field"], part(p, "field"))
    np.testing.assert_array_equal(found["nodes"], NODES.ravel())
    assert [value.dtype for value in found.values()] == [np.dtype(float)] * 6
    assert found.rebuild() is p


@pytest.mark.parametrize("kind", DESIGNS)
@pytest.mark.parametrize("point", [True, False])
def test_other_numbers_in_the_same_structure(kind, point):
    p = DESIGNS[kind](FIELD)
    flat = ga.flatten(p)
    q = flat.structure.rebuild({name: 2 * value for name, value in flat.items()}, point=point)
    assert type(q) is type(p)
    for name in NAMES:
        np.testing.assert_array_equal(part(q, name), 2 * np.asarray(part(p, name)))
    core = part(q, "core")
    assert (type(core.young), core.name, core.copies) == (float, "steel", 2)
    # ratio is computed: again for a point, left alone in a derivative
    assert core.ratio == 1.3 / 0.8
    assert type(part(q, "layers")) is type(part(p, "layers"))
    assert part(p, "core").young == 1.3


def test_what_is_computed_is_computed_again_for_points_only():
    flat = ga.flatten(Material(2.0, 4.0))
    twice = {"young": np.array([8.0]), "density": np.array([4.0])}
    assert flat.structure.rebuild(twice, point=True).ratio == 2.0
    negative = {"young": np.array([-1.0]), "density": np.array([4.0])}
    assert flat.structure.rebuild(negative, point=False) != negative
    assert flat.structure.rebuild(negative, point=False).young == -1.0
    with pytest.raises(ValueError, match="young must be positive"):
        flat.structure.rebuild(negative, point=True)


def test_declared_whole_numbers():
    flat = ga.flatten(Declared())
    assert {name: value.tolist() for name, value in flat.items()} == {"real": [3.0], "maybe": [2.0]}
    back = flat.structure.rebuild({"real": np.array([0.5]), "maybe": np.ones(1)}, point=False)
    assert back == Declared(0.5, 1.0)


@pytest.mark.parametrize(
    "make", [dict, OrderedDict, lambda pairs: defaultdict(list, pairs), MappingProxyType]
)
def test_mappings(make):
    p = make({"a": 1.0, 3: make({"b": jnp.ones(2)})})
    flat = ga.flatten(p)
    assert list(flat) == ["a", "3/b"]
    back = rebuilt(p, flat, flat)
    kinds = {MappingProxyType: dict}
    assert type(back) is kinds.get(type(p), type(p))
    np.testing.assert_array_equal(back[3]["b"], [1.0, 1.0])


def test_other_values_pass_through():
    kept = {
        "text": "a",
        "bytes": b"b",
        "path": Path("x"),
        "colour": Colour.RED,
        "mask": np.array([True]),
        "words": np.array(["x"]),
        "none": None,
    }
    flat = ga.flatten({**kept, "x": 1.0})
    assert list(flat) == ["x"]
    assert flat.structure.fixed == kept
    back = flat.structure.rebuild({"x": np.array([2.0])}, point=False)
    assert back == {**kept, "x": 2.0}


@pytest.mark.parametrize(
    "p", [{"a": np.ones(2)}, {}, [1.0, 2.0], (1.0,), 1.0, None, np.ones(2), Material]
)
def test_what_is_flat_or_no_structure_is_left_alone(p):
    assert ga.flatten(p) is p


def test_precision_and_order():
    flat = ga.flatten({"x": np.float32(0.5), "y": np.asfortranarray(NODES), "z": jnp.ones((2, 1))})
    assert [value.dtype for value in flat.values()] == [np.dtype(float)] * 3
    np.testing.assert_array_equal(flat["y"], NODES.ravel())


@dataclass
class Initial:
    x: float
    y: InitVar[float]


WRONG = {
    "whole": ({"a": {"b": 3}}, r"leaf 'a/b' of p must be .* got the whole number 3; write 3.0 if"),
    "undeclared": (Silent(), "leaf 'value' .* got the whole number 3"),
    "ids": ({"a": [1.0, np.arange(3)]}, r"leaf 'a/1' .* whole numbers, shape \(3,\); write .ast"),
    "kind": ({"a": {"b": object()}}, "leaf 'a/b' of p must be a float, .* got object; use numpy"),
    "function": ({"a": abs, "b": 1.0}, "leaf 'a' .* got builtin_function_or_method"),
    "names": ({"a/b": 1.0, "a": {"b": 2.0}}, "names in p must differ, got 'a/b' twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused(case):
    p, match = WRONG[case]
    with pytest.raises(ga.InputError, match=match):
        ga.flatten(p)


def test_points_need_all_arguments_of_init():
    flat = ga.flatten(Initial(1.0, 2.0))
    assert rebuilt(None, flat, {"x": np.array([3.0])}).x == 3.0
    with pytest.raises(ga.InputError, match=r"Initial must be made again.*InitVar 'y'.*default"):
        flat.structure.rebuild({"x": np.array([3.0])}, point=True)


P = {"core": Material(1.0, 2.0), "nodes": np.ones((4, 3)), "list": [1.0, {"x": np.ones(2)}]}
RESULTS = {
    "all": (P, {"core/young", "core/density", "nodes", "list/0", "list/1/x"}),
    "part": ({"core": {"young": 1}}, {"core/young"}),
    "none": ({"core": None, "nodes": np.zeros((4, 3))}, {"nodes"}),
    "flat": ({"nodes": np.zeros(12), "core/young": np.zeros(1)}, {"nodes", "core/young"}),
    "jax": ({"nodes": jnp.zeros((4, 3)), "list": [jnp.ones(())]}, {"nodes", "list/0"}),
    "nothing": ({}, set()),
}


@pytest.mark.parametrize("case", RESULTS)
def test_results_of_users(case):
    result, names = RESULTS[case]
    found = flat_like(ga.flatten(P), result, "what")
    assert set(found) == names
    assert {value.ndim for value in found.values()} <= {1}


MISFITS = {
    "turned": ({"nodes": np.ones((3, 4))}, r"what must have .* \(4, 3\) for 'nodes', got ndarray"),
    "number": ({"core": {"young": np.ones(2)}}, r"shape \(\) for 'core/young', got .* \(2,\)"),
    "unknown": ({"core": {"jung": 1.0}}, "got 'core/jung', which is not among .*'core/density'"),
    "all": (3.0, "got '', which is not among"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_results_that_do_not_fit(case):
    result, match = MISFITS[case]
    with pytest.raises(ga.InputError, match=match):
        flat_like(ga.flatten(P), result, "what")


def test_vectors_stay_vectors(comm):
    vec = distributed(FIELD, comm)
    p = {"core": Layer(1.0, "x"), "field": vec}
    flat = ga.flatten(p)
    assert flat["field"] is vec
    assert flat.structure.leaves["field"].shape == FIELD.shape
    with pytest.raises(ga.InputError, match=r"a PETSc.Vec for 'field', got ndarray"):
        flat_like(flat, {"field": FIELD}, "what")
    with pytest.raises(ga.InputError, match=r"shape \(\) for 'core/weight', got Vec"):
        flat_like(flat, {"core": {"weight": vec}}, "what")


def test_jax_is_not_loaded():
    program = """
import sys
from dataclasses import dataclass
import numpy as np
import geneig_adjoint as ga

@dataclass
class Rod:
    young: float
    nodes: np.ndarray

flat = ga.flatten({"rod": Rod(1.0, np.ones((2, 3))), "more": [1.0]})
assert list(flat) == ["rod/young", "rod/nodes", "more/0"], list(flat)
assert flat.structure.rebuild(flat, point=True)["rod"].young == 1.0
assert "jax" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_static_arrays_are_no_parameters():
    p = DESIGNS["dataclass"](FIELD)
    assert ga.flatten(p).structure.fixed["ids"] is IDS

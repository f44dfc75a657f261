"""`JaxMap` with distributed fields: the results of one rank, errors on all ranks."""

import jax.numpy as jnp
import numpy as np
import pytest
from builders import distributed
from maps_of_tests import entries, kinds
from petsc4py import PETSc
from ranks import last, raised_everywhere

import geneig_adjoint as ga

RNG = np.random.default_rng(4)


def data(size):
    names = {"v": size, "w": size, "s": 3}
    return [
        {name: RNG.uniform(0.5, 1.5, count) for name, count in names.items()} for _ in range(2)
    ], {"x": RNG.normal(size=size), "y": RNG.normal(size=2), "z": RNG.normal(size=size)}


SIZES = [1, 13]  # fewer entries than ranks, too
DATA = {size: data(size) for size in SIZES}


def mixed(p):
    """Two results of fields and one of replicated numbers alone."""
    v, w, s = p["v"], p["w"], p["s"]
    x = jnp.sin(v) * w ** s[0] + s[1]
    return {"x": x, "y": s[:2] ** 2 * s[2], "z": v * s[2] ** 2}


MIXED = ga.JaxMap(mixed)


def by_hand(p, bar):
    """Return the cotangents of v, w and s by plain NumPy."""
    v, w, s = p["v"], p["w"], p["s"]
    x, y, z = bar["x"], bar["y"], bar["z"]
    s_bar = np.array(
        [
            x @ (np.sin(v) * w ** s[0] * np.log(w)) + 2 * s[0] * s[2] * y[0],
            x.sum() + 2 * s[1] * s[2] * y[1],
            2 * s[2] * (z @ v) + s[0] ** 2 * y[0] + s[1] ** 2 * y[1],
        ]
    )
    v_bar = x * np.cos(v) * w ** s[0] + z * s[2] ** 2
    return {"v": v_bar, "w": x * np.sin(v) * s[0] * w ** (s[0] - 1), "s": s_bar}


def spread_out(comm, values, names="vwxz"):
    return {
        name: distributed(value, comm) if name in names else value for name, value in values.items()
    }


def close(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(entries(found[name]), entries(value), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
def test_cotangents_by_hand(comm, size):
    (p, _), bar = DATA[size]
    found = MIXED.vjp(spread_out(comm, p), spread_out(comm, bar))
    assert isinstance(found["v"], PETSc.Vec)
    close(found, by_hand(p, bar))
    assert len(set(comm.allgather(found["s"].tobytes()))) == 1


def test_distributed_results_are_the_replicated_ones(comm):
    (p, dot), bar = DATA[13]
    found, chosen = [], MIXED
    for make in (lambda values: values, lambda values: spread_out(comm, values)):
        point, along, q_bar = make(p), make(dot), make(bar)
        found.append(
            [
                chosen(point),
                chosen.jvp(point, along),
                chosen.vjp(point, q_bar),
                chosen.vjp_tangent(point, along, q_bar),
            ]
        )
    for replicated, spread in zip(*found, strict=True):
        assert list(spread) == list(replicated)
        close(spread, replicated)
        assert {type(spread[name]) for name in spread if name in "vwxz"} == {PETSc.Vec}


def test_second_derivatives_are_symmetric(comm):
    (p, dot), bar = DATA[13]
    point, q_bar, chosen = spread_out(comm, p), spread_out(comm, bar), MIXED
    other = {name: np.cos(7 * value) for name, value in p.items()}
    products = []
    for first, second in ((dot, other), (other, dot)):
        bent = chosen.vjp_tangent(point, spread_out(comm, first), q_bar)
        products.append(sum(entries(bent[name]) @ second[name] for name in p))
    assert products[0] == pytest.approx(products[1], rel=1e-12)


@pytest.mark.parametrize("kind", ["replicated", "distributed"])
def test_behind_and_in_front_of_other_maps(comm, kind):
    make = kinds(comm)[kind]
    p = {"v": make(DATA[13][0][0]["v"]), "s": np.array([0.5])}
    maps = [
        ga.Pointwise("v", np.sqrt),
        ga.JaxMap(lambda p: {"v": p["v"] ** 2 + p["s"][0], "t": p["s"] * 2}),
        ga.JaxMap(lambda v, t: v * t[0], ["v", "t"], output="k"),
    ]
    for one in maps:
        p = one(p)
    assert list(p) == ["k"]
    np.testing.assert_allclose(entries(p["k"]), DATA[13][0][0]["v"] + 0.5, rtol=1e-14)


COUPLED = {
    "share": (lambda p: {"x": p["v"] / p["v"].sum()}, "must be computed entry by entry"),
    "sum": (lambda p: {"x": p["v"].sum()}, r"must have one entry for each .* got shape \(\)"),
    "lengths": (lambda p: {"x": p["v"] * p["s"]}, "JAX|shape|broadcast"),
    "other": (lambda p: {"x": p["v"][:0]}, r"must have one entry for each of its entries"),
}


@pytest.mark.parametrize("case", COUPLED)
def test_functions_that_would_have_to_communicate(comm, case):
    function, match = COUPLED[case]
    p = spread_out(comm, {"v": np.arange(1.0, 15.0), "s": np.ones(3)})
    raised_everywhere(comm, (ga.InputError, TypeError), match, ga.JaxMap(function), p)


def test_functions_that_fail_on_one_rank(comm):
    def failing(p):
        return {"x": p["v"] / (0 if last(comm) else 1)}

    p = spread_out(comm, DATA[13][0][0])
    with np.errstate(all="ignore"):
        match = "must return finite numbers|division|entry by entry"
        raised_everywhere(comm, (ga.InputError, ZeroDivisionError), match, ga.JaxMap(failing), p)


@pytest.mark.parametrize("method", ["jvp", "vjp"])
def test_no_derivative_on_one_rank(comm, method):
    v = np.ones(13)
    v[-1] = 0.0  # of the last rank
    p, one = spread_out(comm, {"v": v, "s": np.ones(1)}), distributed(np.ones(13), comm)
    chosen = ga.JaxMap(lambda p: {"x": jnp.sqrt(p["v"]) * p["s"][0]})
    other = {"jvp": {"v": one, "s": np.ones(1)}, "vjp": {"x": one}}[method]
    match = "derivatives of the JaxMap of <lambda> must be finite, got inf"
    raised_everywhere(comm, ga.InputError, match, getattr(chosen, method), p, other)

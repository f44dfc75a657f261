"""Structures of parameters on any number of ranks: the results of one rank, errors on all."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from maps_of_tests import SIZE, N, chain_model
from mpi4py import MPI
from ranks import assert_from_the_last_rank, differing, last, raised_everywhere
from structures_of_tests import (
    DESIGNS,
    FIELD,
    NAMES,
    SOLVER,
    fields,
    flat,
    model_of,
    part,
    spread_entries,
    whole,
)

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj
from geneig_adjoint import parameters as params

P = DESIGNS["dataclass"](FIELD)
WEIGHTS = np.linspace(1.0, 2.0, N)


def form(model):
    return obj.LinearOutput(WEIGHTS[slice(*model.rows)], 1)


def directions(p):
    flat = ga.flatten(p)
    dots = {name: np.sin(1.0 + np.arange(params.length(flat[name]))) / 4 for name in NAMES}
    return flat, dots


def results(comm, kind, field):
    """Return gradient, tangent and product with the Hessian, for a field of either kind."""
    make = fields(comm)[field]
    p, model = DESIGNS[kind](make(FIELD)), model_of(comm, spread_entries)
    points, dots = directions(p)
    p_dot = points.structure.rebuild({**dots, "field": make(dots["field"])}, point=False)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        g = ga.gradient(model, p, pairs, form(model))
        h = ga.hessian_vector_product(model, p, pairs, obj.Eigenvalue(1), p_dot)
        values = ga.jvp(model, p, pairs, p_dot).values
    assert type(g) is {"nested": ga.EstimatedGradient}.get(kind, type(p))
    assert type(h) is type(p)
    assert type(part(g, "field")) is type(part(p, "field"))
    return flat(g), flat(h), values


@pytest.fixture(scope="module")
def alone(comm):
    here = None
    for _ in range(comm.rank == 0):
        here = results(MPI.COMM_SELF, "dataclass", "replicated")
    return comm.bcast(here)


@pytest.mark.parametrize(
    ("kind", "field"), [("dataclass", "replicated"), ("pytree", "distributed")]
)
def test_results_of_one_rank(comm, alone, kind, field):
    found = results(comm, kind, field)
    for mine, expected in zip(found, alone, strict=True):
        # solves to 1e-10, times the condition of the pairs
        np.testing.assert_allclose(mine, expected, rtol=1e-7, atol=1e-8 * np.abs(expected).max())
        assert len(set(comm.allgather(mine.tobytes()))) == 1


def test_flat_functions(comm):
    with ga.value_and_gradient(model_of(comm), form(model_of(comm)), **SOLVER) as f:
        x = f.pack(P)
        value, slopes = f.flat(x)
        back = f.unpack(x)
    assert len(set(comm.allgather((value, slopes.tobytes())))) == 1
    np.testing.assert_array_equal(flat(back), x)


class Sums:
    """An objective of the user's own that knows distributed parts."""

    def __call__(self, pairs, p):
        field = p["field"]
        bar = field.duplicate()
        bar.array[:] = 2 * field.array_r
        value = sum(pairs.comm.allgather(float((field.array_r.real**2).sum())))
        return value, ga.EigenCotangent(parameters={"field": bar, "core": {"young": 1.0}})


def test_explicit_derivatives_of_distributed_parts(comm):
    p = DESIGNS["nested"](fields(comm)["distributed"](FIELD))
    with ga.value_and_gradient(model_of(comm, spread_entries), Sums(), **SOLVER) as f:
        value, g = f(p)
    assert value == pytest.approx(FIELD @ FIELD, rel=1e-14)
    np.testing.assert_allclose(whole(g["field"]), 2 * FIELD, rtol=1e-14)
    assert (g["core"].young, g["core"].density) == (1.0, 0.0)


def test_what_is_no_parameter_may_be_local(comm):
    field = fields(comm)["distributed"](FIELD)
    mine = slice(*field.getOwnershipRange())
    weights = np.cos(np.arange(SIZE))

    def function(p):
        k = p.field**2 * (2 + jnp.where(p.ids > 0, p.layers[0].weight, 0.1))
        return {"k": k, "m": np.full(SIZE, 1.0)}

    def slopes(ranks, value, ids):
        model = ga.Composed(chain_model(ranks), [ga.JaxMap(function)])
        with ga.value_and_gradient(model, obj.Eigenvalue(1), **SOLVER) as f:
            return flat(f(replace(P, field=value, ids=ids))[1])

    found, expected = slopes(comm, field, weights[mine] > 0), None
    for _ in range(comm.rank == 0):
        expected = slopes(MPI.COMM_SELF, FIELD, weights > 0)
    # eps_tol 1e-12 times the condition of the pair
    np.testing.assert_allclose(found, comm.bcast(expected), rtol=1e-9, atol=1e-12)


OTHERS = {
    "shape": (lambda p: {**p, "nodes": p["nodes"][:-1]}, "same structure .* for 'nodes' on rank"),
    "names": (lambda p: {**p, "more": 1.0}, "same structure .* for 'more' on rank"),
    "missing": (lambda p: {**p, "nodes": None}, "p must have the same structure on every rank"),
    "kind": (lambda p: {**p, "layers": [0.5, 0.5]}, "same structure .* for 'layers/0"),
    "text": (lambda p: {**p, "flag": False}, "got fixed False for 'flag' on rank . and fixed True"),
    "entries": (lambda p: {**p, "nodes": 2 * p["nodes"]}, "'nodes' must be the same on every rank"),
}
ACTIONS = {
    "assemble": lambda model, p: model.assemble(p),
    "value": lambda model, p: ga.value_and_gradient(model, obj.Eigenvalue(0))(p),
    "verify": lambda model, p: ga.verify_gradient(model, p, obj.Eigenvalue(0)),
}


@pytest.mark.parametrize(
    ("case", "action"), [*[(case, "assemble") for case in OTHERS], *[("shape", a) for a in ACTIONS]]
)
def test_other_structures_on_other_ranks(comm, case, action):
    change, match = OTHERS[case]
    good = DESIGNS["nested"](FIELD)
    p = change(good) if last(comm) else good
    for _ in range(comm.size > 1):
        raised_everywhere(comm, ga.InputError, match, ACTIONS[action], model_of(comm), p)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("first", [True, False])
def test_flat_and_nested_on_different_ranks(comm, action, first):
    nested = {"core": {"young": 1.0}}
    p = differing(comm, *[{"k": FIELD, "m": FIELD}, nested][:: 1 if first else -1])
    model = chain_model(comm)
    for _ in range(comm.size > 1):
        raised_everywhere(comm, ga.InputError, "p must|parameter '", ACTIONS[action], model, p)


WRONG = {
    "leaf": (lambda p: {**p, "core": {"young": 3}}, "leaf 'core/young' .* whole number 3"),
    "nan": (lambda p: {**p, "nodes": np.nan * p["nodes"]}, "'nodes' must be finite, got nan"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("action", ["assemble", "value"])
def test_wrong_parts_on_one_rank(comm, case, action):
    change, match = WRONG[case]
    good = DESIGNS["nested"](FIELD)
    p = change(good) if last(comm) else good
    error = raised_everywhere(comm, ga.InputError, match, ACTIONS[action], model_of(comm), p)
    assert_from_the_last_rank(comm, error)

"""Named parameters: what is accepted, what is refused, packing, distributed vectors."""

import numpy as np
import pytest
from builders import chain, chain_parameters, distributed
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import parameters as params

N = 5
GOOD = chain_parameters(N)
OBJECTIVE = ga.objectives.Eigenvalue(0)


def changed(**values):
    return {**GOOD, **values}


@pytest.mark.parametrize(
    ("p", "match"),
    [
        (np.ones(6), r"p must map names to arrays, got ndarray; pass a dict such as \{'k'"),
        ({"k": np.ones(6)}, r"must hold the parameters \['k', 'm'\], got \['k'\]; add the missing"),
        (changed(z=np.ones(6)), r"must hold the parameters .*got \['k', 'm', 'z'\]"),
        (changed(k=[1.0] * 6), r"'k' must be a 1-D array or a PETSc.Vec, got list; use numpy"),
        (changed(k=1.0), r"'k' must be a 1-D array or a PETSc.Vec, got float"),
        (changed(k=np.ones((5, 1))), r"'k' must have at least 6 entries .*, got 5; extend"),
        (changed(m=np.ones(5)), r"'m' must have at least 6 entries \(the largest id is 5\), got 5"),
        (changed(k=np.ones(6) + 0j), r"'k' must be real, got dtype complex128; split"),
        (changed(k=np.array(["1"] * 6)), r"'k' must be real, got dtype <U1"),
        (
            changed(k=np.r_[1, 1, np.nan, 1, np.inf, 1]),
            r"'k' must be finite, got nan at entry 2 and 1",
        ),
    ],
    ids=[
        "no mapping",
        "missing",
        "unknown",
        "list",
        "number",
        "2-D",
        "short",
        "complex",
        "text",
        "nan",
    ],
)
def test_refused(comm, p, match):
    with pytest.raises(ga.InputError, match=match):
        chain(N, comm).assemble(p)


def test_short_vector_is_refused(comm):
    short = PETSc.Vec().createMPI(5, comm=comm)
    with pytest.raises(ga.InputError, match=r"'m' must have at least 6 entries"):
        chain(N, comm).assemble(changed(m=short))


def test_vector_with_nan_is_refused(comm):
    with pytest.raises(ga.InputError, match=r"'k' must be finite, got nan at entry 3"):
        chain(N, comm).assemble(changed(k=distributed([1, 1, 1, np.nan, 1, 1], comm)))


def complex_is_refused(model, p):
    with pytest.raises(ga.InputError, match=r"'k' must be real, got"):
        model.assemble(p)


def real_is_accepted(model, p):
    model.assemble(p).close()


def test_vector_must_be_real_in_the_complex_build(comm, scalar_build):
    values = {"real": GOOD["k"], "complex": GOOD["k"] * (1 + 0.1j)}
    check = {"real": real_is_accepted, "complex": complex_is_refused}
    check[scalar_build](chain(N, comm), changed(k=distributed(values[scalar_build], comm)))


def test_integers_and_spare_entries_are_accepted(comm):
    model = chain(N, comm)
    p = {"k": np.ones(6, dtype=int), "m": np.ones(9)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        g = ga.gradient(model, p, pairs, OBJECTIVE)
    assert g["k"].shape == (6,)
    assert g["m"].shape == (9,)
    assert not g["m"][6:].any()  # no element uses them: exactly zero


@pytest.mark.parametrize("names", [("k",), ("m",), ("k", "m")])
def test_distributed_gives_the_gradient_of_replicated(comm, names):
    model = chain(N, comm)
    p = changed(**{name: distributed(GOOD[name], comm) for name in names})
    objective = ga.objectives.LinearOutput(np.ones(N), 1)
    found = {}
    for label, point in (("replicated", GOOD), ("distributed", p)):
        with model.assemble(point) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            found[label] = ga.gradient(model, point, pairs, objective)
    for name in GOOD:
        value = found["distributed"][name]
        assert isinstance(value, PETSc.Vec if name in names else np.ndarray)
        # the same arithmetic in another order
        local = np.asarray(getattr(value, "array_r", value)).real
        assert np.allclose(local, found["replicated"][name], rtol=1e-12, atol=1e-14)


def test_gradient_is_not_the_parameter(comm):
    model = chain(N, comm)
    p = {name: value.copy() for name, value in GOOD.items()}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        g = ga.gradient(model, p, pairs, OBJECTIVE)
    g["k"][:] = 7.0
    for name in GOOD:
        assert np.array_equal(p[name], GOOD[name])


def test_order_of_names_does_not_matter(comm):
    model = chain(N, comm)
    turned = dict(reversed(GOOD.items()))
    with model.assemble(turned) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        first = ga.gradient(model, GOOD, pairs, OBJECTIVE)
        second = ga.gradient(model, turned, pairs, OBJECTIVE)
    assert list(second) == ["m", "k"]
    for name in GOOD:
        assert np.array_equal(first[name], second[name])


def test_pack_and_unpack_are_inverse():
    p = {"b": np.array([1.0, 2.0]), "a": np.array([3.0])}
    flat = params.pack(p)
    assert np.array_equal(flat, [1.0, 2.0, 3.0])
    back = params.unpack(flat, p)
    assert list(back) == ["b", "a"]
    assert np.array_equal(back["b"], p["b"])
    flat[:] = 0.0
    assert np.array_equal(back["b"], p["b"])  # a copy


def test_packing_needs_replicated_parameters(comm):
    with pytest.raises(ga.InputError, match=r"replicated parameters, got a PETSc.Vec for 'k'"):
        params.pack({"k": distributed([1.0, 2.0], comm)})


@pytest.mark.parametrize(
    "flat", [np.ones(3), np.ones((2, 1)), np.ones(0)], ids=["long", "2-D", "0"]
)
def test_unpack_needs_the_same_length(flat):
    with pytest.raises(ga.InputError, match=r"must have shape \(2,\), got .*pack returned"):
        params.unpack(flat, {"k": np.ones(2)})


def test_unpack_without_a_structure(comm):
    f = ga.value_and_gradient(chain(N, comm), OBJECTIVE)
    with pytest.raises(ga.InputError, match=r"unpack needs the structure.*x = f.pack\(p\)"):
        f.unpack(np.ones(12))


def test_gather_and_add_repeated_ids(comm):
    ids = np.array([[3, 0], [3, 3]])
    access = params.IdAccess(ids)
    assert access.smallest_length == 4
    value = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    for form in (value, distributed(value, comm)):
        assert np.array_equal(access.gather(form), value[ids])
        total = params.zeros_like({"k": form})
        access.add(total["k"], np.array([[1.0, 10.0], [100.0, 1000.0]]))
        done = params.finish(comm, total)["k"]
        expected = [10.0, 0.0, 0.0, 1101.0, 0.0]
        assert np.array_equal(np.asarray(getattr(done, "array_r", done)).real, expected)


def test_arithmetic_of_both_kinds(comm):
    p = {"a": np.array([1.0, 2.0]), "b": distributed([3.0, 4.0], comm)}
    assert params.dot(p, p) == 30.0
    q = params.moved(p, 2.0, p)
    assert params.dot(q, p) == 90.0
    params.add_scaled(q, -3.0, p)
    assert params.dot(q, q) == 0.0
    params.release(q)
    assert params.dot(p, p) == 30.0

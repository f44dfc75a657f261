"""Maps on several ranks: the matrices they stand for, whoever holds which part."""

import functools

import numpy as np
import pytest
import scipy.sparse
from builders import distributed
from maps_of_tests import (
    CENTERS,
    CONE,
    LINEAR,
    RADIUS,
    SIZE,
    VOLUMES,
    entries,
    kinds,
    linear_maps,
    shared,
)
from petsc4py import PETSc
from ranks import assert_from_the_last_rank, last, raised_everywhere, refused_if_different

import geneig_adjoint as ga
from geneig_adjoint import filters


@pytest.fixture(params=["whole", "shares"])
def ranks(request, comm):
    """Who holds the data of a map: every rank all of it, or each its share."""
    return {"whole": None, "shares": comm}[request.param]


@pytest.fixture
def rng():
    """The same numbers on every rank."""
    return np.random.default_rng(12)


@pytest.fixture(params=["replicated", "distributed"])
def made(request, comm):
    """Make a parameter of an array that every rank has."""
    return kinds(comm)[request.param]


def like(result, array):
    """Return an array as a cotangent of a result."""
    if not isinstance(result, PETSc.Vec):
        return np.array(array)
    vec = result.duplicate()
    vec.array[:] = array[slice(*result.getOwnershipRange())]
    return vec


@pytest.mark.parametrize("name", LINEAR)
def test_linear_maps_are_their_matrices(comm, rng, ranks, made, name):
    chosen, dense = linear_maps(comm, ranks)[name]
    x, y = rng.normal(size=dense.shape[1]), rng.normal(size=dense.shape[0])
    p = {"k": made(x), "other": made(y)}
    q = chosen(p)
    assert q["other"] is p["other"]
    # Sums of at most 12 products, in another order than NumPy's
    np.testing.assert_allclose(entries(q["k"]), dense @ x, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(entries(chosen.jvp(p, p)["k"]), entries(q["k"]))
    bar = {"k": like(q["k"], y), "other": made(y)}
    pulled = chosen.vjp(p, bar)
    assert list(pulled) == ["k", "other"]
    np.testing.assert_allclose(entries(pulled["k"]), dense.T @ y, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(entries(pulled["other"]), y)
    bend = chosen.vjp_tangent(p, p, bar)
    assert [np.abs(entries(value)).max() for value in bend.values()] == [0, 0]


@pytest.mark.parametrize("name", LINEAR)
def test_results_are_the_same_on_all_ranks(comm, rng, ranks, name):
    chosen, dense = linear_maps(comm, ranks)[name]
    p = {"k": rng.normal(size=dense.shape[1])}
    q = chosen(p)
    found = [q["k"].tobytes(), chosen.vjp(p, q)["k"].tobytes()]
    assert comm.allgather(found) == [found] * comm.size


@pytest.mark.parametrize("batch", [1, 5, 50_000])
def test_filter_weights_do_not_depend_on_ranks_or_batches(comm, monkeypatch, batch):
    whole = filters.cone_weights(CENTERS, RADIUS, VOLUMES, None).toarray()
    np.testing.assert_allclose(whole, CONE, rtol=0, atol=1e-15)
    monkeypatch.setattr(filters, "BATCH", batch)
    own, sizes = shared(comm, comm, CENTERS), shared(comm, comm, VOLUMES)
    mine = filters.cone_weights(own, RADIUS, sizes, comm).toarray()
    np.testing.assert_array_equal(np.vstack(comm.allgather(mine)), whole)


def test_only_points_near_a_rank_are_fetched(comm):
    points = 100.0 * comm.rank + np.arange(5.0)[:, None]
    ids, others, sizes = filters._with_halo(
        comm, (5 * comm.rank + np.arange(5), points, np.ones(5)), 96.5
    )
    # Of the next rank's five points those at 100 are 96 away from this rank's last one.
    neighbours = (comm.rank > 0) + (comm.rank < comm.size - 1)
    assert len(ids) == len(others) == len(sizes) == 5 + neighbours


def test_constant_fields_stay_though_a_rank_has_no_elements(comm, rng, made):
    points = rng.random((7, 2))[: 7 * (comm.size == 1 or not last(comm))] + comm.rank / 10
    chosen = ga.DensityFilter("rho", points, 0.3, comm=comm)
    count = comm.allreduce(len(points))
    q = chosen({"rho": made(np.full(count, 0.37))})
    # Row sums are one, up to the rounding of 7 divisions
    np.testing.assert_allclose(entries(q["rho"]), 0.37, rtol=1e-14)


def test_vectors_may_be_cut_in_any_way(comm, rng, ranks):
    chosen, dense = linear_maps(comm, ranks)["filter"]
    x = rng.normal(size=SIZE)
    for owner in range(comm.size):  # one rank has everything, the others nothing
        vec = PETSc.Vec().createMPI((SIZE * (comm.rank == owner), SIZE), comm=comm)
        vec.array[:] = x[slice(*vec.getOwnershipRange())]
        q = chosen({"k": vec})
        np.testing.assert_allclose(entries(q["k"]), dense @ x, rtol=0, atol=1e-14)
        pulled = chosen.vjp({"k": vec}, q)["k"]
        assert pulled.getOwnershipRange() == vec.getOwnershipRange()
        np.testing.assert_allclose(entries(pulled), dense.T @ dense @ x, rtol=0, atol=1e-14)


def test_laws_of_entries(rng, made):
    x, y = rng.uniform(0.1, 0.9, 9), rng.normal(size=9)
    chosen, p, bar = ga.Pointwise("a", ga.PowerLaw(3.0, 0.1)), {"a": made(x)}, {"a": made(y)}
    for found, expected in [
        (chosen(p), 0.1 + x**3),
        (chosen.vjp(p, bar), 3 * x**2 * y),
        (chosen.jvp(p, bar), 3 * x**2 * y),
        (chosen.vjp_tangent(p, bar, bar), 6 * x * y**2),
    ]:
        np.testing.assert_allclose(entries(found["a"]), expected, rtol=1e-14)


# -- what is refused, on all ranks alike --


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"centroids": np.full((2, 2), np.nan)}, "centroids must be finite real points"),
        ({"volumes": np.array([1.0, 0.0])}, r"volumes must be positive.*smallest 0.0"),
        ({"radius": -1.0}, "radius must be positive and finite, got -1.0"),
    ],
)
def test_geometry_of_one_rank(comm, wrong, match):
    given = {"centroids": np.ones((2, 2)), "radius": 1.0, **(wrong if last(comm) else {})}
    make = functools.partial(ga.DensityFilter, "a", comm=comm, **given)
    error = raised_everywhere(comm, ga.InputError, match, make)
    assert_from_the_last_rank(comm, error)


@pytest.mark.parametrize(
    ("maker", "values", "match"),
    [
        (ga.Tied, np.array([0, 9]), r"ids must lie in 0 \.\.\. 4, got 9"),
        (ga.Symmetry, np.array([0, -1]), r"images must lie in 0 \.\.\. \d, got -1"),
        (ga.Symmetry, np.array([0.0, 1.0]), "images must be integers .* got dtype float64"),
    ],
)
def test_indices_of_one_rank(comm, maker, values, match):
    keywords = {ga.Tied: {"size": 5}}.get(maker, {})
    given = values if last(comm) else np.array([0, 1])
    make = functools.partial(maker, "a", given, comm=comm, **keywords)
    error = raised_everywhere(comm, ga.InputError, match, make)
    assert_from_the_last_rank(comm, error)


RAGGED = [[0.0, 1.0], [1.0]]


@pytest.mark.parametrize(
    ("maker", "given", "kind", "match"),
    [
        (ga.DensityFilter, (None, 1.0), ga.InputError, r"centroids must be .* shape \(\); pass"),
        (ga.DensityFilter, (RAGGED, 1.0), ValueError, "inhomogeneous"),
        (ga.DensityFilter, (np.ones((2, 2)), "1"), TypeError, "not supported between"),
        (ga.Tied, (None,), ga.InputError, r"ids must be integers .* dtype object, shape \(\)"),
        (ga.Symmetry, (None,), ga.InputError, "images must be integers"),
    ],
)
def test_what_is_no_array_on_one_rank(comm, maker, given, kind, match):
    usual = {ga.DensityFilter: (np.ones((2, 2)), 1.0)}.get(maker, (np.array([0, 1]),))
    make = functools.partial(maker, "a", *(given if last(comm) else usual), comm=comm)
    assert_from_the_last_rank(comm, raised_everywhere(comm, kind, match, make))


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.eye(2), "must be a scipy.sparse matrix or a PETSc.Mat, got ndarray"),
        (scipy.sparse.csr_matrix(1j * np.eye(2)), "must be real, got dtype complex128"),
        (scipy.sparse.csr_matrix(np.diag([1, np.inf])), "must be finite, got 1 NaN or Inf"),
    ],
)
def test_matrix_of_one_rank(comm, matrix, match):
    given = matrix if last(comm) else scipy.sparse.csr_matrix(np.eye(2))
    make = functools.partial(ga.LinearMap, "a", given, comm=comm)
    error = raised_everywhere(comm, ga.InputError, match, make)
    assert_from_the_last_rank(comm, error)


def test_ranks_must_agree(comm):
    own = comm.rank > 0
    eye = scipy.sparse.csr_matrix(np.eye(2 + own))
    match = "same number of columns on every rank"
    refused_if_different(comm, match, lambda: ga.LinearMap("a", eye, comm=comm))
    match = "dimension of the centroids and the radius must be the same on every rank"
    points = np.ones((2, 1 + own))
    refused_if_different(comm, match, lambda: ga.DensityFilter("a", points, 1.0, comm=comm))


def test_lengths_and_layouts_that_do_not_fit(comm, ranks):
    chosen = linear_maps(comm, ranks)["wide"][0]
    short, right, bar = distributed(np.ones(4), comm), distributed(np.ones(5), comm), np.ones(SIZE)
    match = r"shape \(12, 5\) needs a value with 5 entries, got 4"
    raised_everywhere(comm, ga.InputError, match, chosen, {"k": short})
    raised_everywhere(comm, ga.InputError, match, chosen, {"k": np.ones(4)})
    match = "needs a cotangent with 12 entries, got 5"
    raised_everywhere(comm, ga.InputError, match, chosen.vjp, {"k": right}, {"k": right})
    match = "the cotangent must be a PETSc.Vec with the first rows .* got ndarray"
    raised_everywhere(comm, ga.InputError, match, chosen.vjp, {"k": right}, {"k": bar})


def test_vectors_of_other_ranks(comm):
    chosen = linear_maps(comm, comm)["wide"][0]
    alone = PETSc.Vec().createSeq(5)
    for _ in range(comm.size > 1):
        with pytest.raises(ga.InputError, match="got 1 ranks in place of"):
            chosen({"k": alone})

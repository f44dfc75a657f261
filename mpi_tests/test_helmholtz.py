"""The Helmholtz filter on several ranks: its matrix, its transpose, whoever holds which cells."""

import numpy as np
import pytest
import scipy.sparse
from builders import distributed
from maps_of_tests import chain_model, entries, kinds, shared
from meshes import FILTERED, RADIUS, filter_matrix, filtered_meshes, line_matrices, lines
from petsc4py import PETSc
from ranks import assert_from_the_last_rank, last, raised_everywhere, refused_if_different

import geneig_adjoint as ga

MESHES = filtered_meshes()


@pytest.fixture(params=["whole", "shares"])
def ranks(request, comm):
    """Who holds the cells: every rank all of them, or each its share."""
    return {"whole": None, "shares": comm}[request.param]


@pytest.fixture(params=["replicated", "distributed"])
def made(request, comm):
    """Make a parameter of an array that every rank has."""
    return kinds(comm)[request.param]


def helmholtz(comm, ranks, name="quadrilaterals", **keywords):
    points, cells, dense = MESHES[name]
    own = shared(comm, ranks, cells)
    return ga.HelmholtzFilter("k", own, points[own], RADIUS, comm=ranks, **keywords), dense


def cotangent(result, array):
    if not isinstance(result, PETSc.Vec):
        return np.array(array)
    vec = result.duplicate()
    vec.array[:] = array[slice(*result.getOwnershipRange())]
    return vec


HOLDERS = [("whole", "triangles"), *[("shares", name) for name in FILTERED]]


@pytest.mark.parametrize(("ranks", "name"), HOLDERS, indirect=["ranks"])
def test_filter_is_its_dense_matrix(comm, ranks, made, name):
    chosen, dense = helmholtz(comm, ranks, name)
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, len(dense)))
    with chosen:
        p = {"k": made(x), "other": made(y)}
        q = chosen(p)
        assert q["other"] is p["other"]
        # Residuals of 1e-13, condition numbers of the mass below 100
        np.testing.assert_allclose(entries(q["k"]), dense @ x, rtol=0, atol=1e-11)
        np.testing.assert_array_equal(entries(chosen.jvp(p, p)["k"]), entries(q["k"]))
        bar = {"k": cotangent(q["k"], y), "other": p["other"]}
        pulled = chosen.vjp(p, bar)
        np.testing.assert_allclose(entries(pulled["k"]), dense.T @ y, rtol=0, atol=1e-11)
        assert type(pulled["k"]) is type(p["k"])
        bend = chosen.vjp_tangent(p, p, bar)
        assert [np.abs(entries(value)).max() for value in bend.values()] == [0, 0]
    assert np.abs(dense - dense.T).max() > 1e-2  # the transpose is another matrix


@pytest.mark.parametrize("name", FILTERED)
def test_constant_fields_and_integrals_stay(comm, name):
    chosen, dense = helmholtz(comm, comm, name)
    with chosen:
        ones = chosen({"k": np.ones(len(dense))})["k"]
        np.testing.assert_allclose(ones, 1.0, rtol=0, atol=1e-11)
        x = np.cos(np.arange(len(dense)))
        sizes = np.concatenate(comm.allgather(chosen.sizes))
        # dense: sum of the sizes of the cells of the whole mesh is the mesh's
        assert sizes @ chosen({"k": x})["k"] == pytest.approx(sizes @ x, abs=1e-11)


def test_results_are_the_same_on_all_ranks(comm, ranks):
    chosen, dense = helmholtz(comm, ranks)
    with chosen:
        q = chosen({"k": np.sin(np.arange(len(dense)))})
        found = [q["k"].tobytes(), chosen.vjp(q, q)["k"].tobytes()]
    assert comm.allgather(found) == [found] * comm.size


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_units_of_values_do_not_matter(comm, scale):
    chosen, dense = helmholtz(comm, comm)
    x = np.sin(np.arange(len(dense)))
    with chosen:
        found = chosen({"k": scale * x})["k"] / scale
        np.testing.assert_allclose(found, dense @ x, rtol=0, atol=1e-11)
        assert not chosen({"k": 0 * x})["k"].any()


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_lengths_do_not_matter(comm, unit):
    points, cells, dense = MESHES["hexahedra"]
    own = shared(comm, comm, cells)
    x = np.sin(np.arange(len(dense)))
    with ga.HelmholtzFilter("k", own, unit * points[own], unit * RADIUS, comm=comm) as chosen:
        np.testing.assert_allclose(chosen({"k": x})["k"], dense @ x, rtol=0, atol=1e-11)


def test_numbers_of_nodes_may_have_gaps_and_any_order(comm, made):
    points, cells, dense = MESHES["triangles"]
    own = shared(comm, comm, cells)
    names = np.random.default_rng(1).permutation(3 * len(points))[: len(points)]
    x = np.sin(np.arange(len(dense)))
    with ga.HelmholtzFilter("k", names[own], points[own], RADIUS, comm=comm) as chosen:
        np.testing.assert_allclose(entries(chosen({"k": made(x)})["k"]), dense @ x, atol=1e-11)


def test_cells_on_one_rank_only(comm, made):
    points, cells, dense = MESHES["tetrahedra"]
    own = cells[: len(cells) * last(comm)]
    x = np.sin(np.arange(len(dense)))
    with ga.HelmholtzFilter("k", own, points[own], RADIUS, comm=comm) as chosen:
        p = {"k": made(x)}
        q = chosen(p)
        np.testing.assert_allclose(entries(q["k"]), dense @ x, rtol=0, atol=1e-11)
        np.testing.assert_allclose(entries(chosen.vjp(p, q)["k"]), dense.T @ dense @ x, atol=1e-11)


def test_gradients_and_second_derivatives_are_those_of_the_dense_matrix(comm, made):
    x = np.linspace(0, 1, 13) ** 1.5
    points, cells = lines(x)
    own = shared(comm, comm, cells)
    p = {"k": made(np.linspace(0.4, 0.9, 12)), "m": made(np.linspace(1.2, 0.7, 12))}
    along = {"k": made(np.cos(np.arange(12.0))), "m": made(np.sin(np.arange(12.0)))}
    matrix = scipy.sparse.csr_matrix(filter_matrix(line_matrices(x), 0.4))
    objective, found = ga.objectives.Eigenvalue(1), []
    with ga.HelmholtzFilter("k", own, points[own], 0.4, comm=comm) as chosen:
        for smoothing in (chosen, ga.LinearMap("k", matrix)):
            model = ga.Composed(chain_model(comm), [smoothing, ga.Projection("k", beta=3.0)])
            with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 3, target=0) as pairs:
                g = ga.gradient(model, p, pairs, objective)
                hp = ga.hessian_vector_product(model, p, pairs, objective, along)
            found.append(np.concatenate([entries(one[name]) for one in (g, hp) for name in p]))
    # Solves to 1e-13; gaps around 0.1
    size = np.abs(found[1]).max()
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-9 * size)


# -- what is refused --


def test_bad_cells_of_one_rank(comm):
    points, cells, _ = MESHES["quadrilaterals"]
    own = shared(comm, comm, cells).copy()
    own[:1] = np.where(last(comm), own[:1, [0, 2, 1, 3]], own[:1])
    match = r"every quadrilateral must have an extent.* in cell 0 of this rank"

    def make():
        ga.HelmholtzFilter("k", own, points[own], 1.0, comm=comm)

    error = raised_everywhere(comm, ga.InputError, match, make)
    assert_from_the_last_rank(comm, error)


def test_what_is_no_array_on_one_rank(comm):
    points, cells, _ = MESHES["quadrilaterals"]
    own = [[0, 1], [2]] if last(comm) else cells
    match = "inhomogeneous"  # NumPy's

    def make():
        ga.HelmholtzFilter("k", own, points[cells], 1.0, comm=comm)

    error = raised_everywhere(comm, ValueError, match, make)
    assert_from_the_last_rank(comm, error)


def test_other_cells_or_radii_on_other_ranks(comm):
    points, cells, _ = MESHES["quadrilaterals"]
    match = r"nodes per cell, dimension, radius\) must be the same on every rank"
    radius = 1.0 + comm.rank
    refused_if_different(
        comm, match, lambda: ga.HelmholtzFilter("k", cells, points[cells], radius, comm=comm)
    )
    other = cells[:, : 4 - (comm.rank == 1)]
    refused_if_different(
        comm, match, lambda: ga.HelmholtzFilter("k", other, points[other], 1.0, comm=comm)
    )


def test_bad_values(comm, made):
    chosen, dense = helmholtz(comm, comm)
    bad = np.ones(len(dense))
    bad[-1] = np.nan
    with chosen:
        match = "must be finite, got NaN"
        raised_everywhere(comm, ga.InputError, match, chosen, {"k": made(bad)})
        match = "needs a value with 10 entries, one per cell, got 4"
        raised_everywhere(comm, ga.InputError, match, chosen, {"k": made(np.ones(4))})
        match = "needs a cotangent with 10 entries"
        good = {"k": made(np.ones(10))}
        raised_everywhere(comm, ga.InputError, match, chosen.vjp, good, {"k": made(np.ones(4))})
    match = "must be open, got a closed one"
    raised_everywhere(comm, ga.InputError, match, chosen, {"k": made(np.ones(10))})
    chosen.close()


def test_vectors_of_other_ranks(comm):
    chosen, dense = helmholtz(comm, comm)
    alone = PETSc.Vec().createSeq(len(dense))
    with chosen:
        for _ in range(comm.size > 1):
            with pytest.raises(ga.InputError, match="got 1 ranks in place of"):
                chosen({"k": alone})


FEW = {"pc_type": "none", "ksp_max_it": 2}
DIRECT = {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "mumps"}


@pytest.fixture
def chosen_options(request):
    """PETSc's options of the filter for the duration of a test."""
    options = PETSc.Options("ga_filter_")
    for name, value in request.param.items():
        options[name] = value
    yield
    for name in request.param:
        options.delValue(name)


@pytest.mark.parametrize("chosen_options", [FEW], indirect=True)
@pytest.mark.usefixtures("chosen_options")
def test_solve_that_does_not_converge(comm):
    chosen, dense = helmholtz(comm, comm)
    match = r"residual of 1e-11, got .*DIVERGED_\w+, 2 iterations\); drop options"
    with chosen:
        error = raised_everywhere(
            comm, ga.ConvergenceError, match, chosen, {"k": np.cos(np.arange(len(dense)))}
        )
    assert (error.iterations, error.residual_norm > 1e-11) == (2, True)


@pytest.mark.parametrize("chosen_options", [DIRECT], indirect=True)
@pytest.mark.usefixtures("chosen_options")
def test_solver_of_the_user(comm):
    chosen, dense = helmholtz(comm, comm)
    x = np.cos(np.arange(len(dense)))
    with chosen:
        np.testing.assert_allclose(chosen({"k": x})["k"], dense @ x, rtol=0, atol=1e-11)
        assert chosen.iterations == 1


def test_layouts_of_distributed_values(comm):
    chosen, dense = helmholtz(comm, comm)
    x = distributed(np.ones(len(dense)), comm)
    with chosen:
        q = chosen({"k": x})["k"]
        assert q.getLocalSize() == chosen.sizes.size
        assert chosen.vjp({"k": x}, {"k": q})["k"].getLocalSize() == x.getLocalSize()

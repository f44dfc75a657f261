"""What is kept from call to call of a loop: orderings of factors, never values."""

import numpy as np
import pytest
from builders import (
    chain,
    chain_parameters,
    mass,
    matrix,
    stiffness,
)
from counted_factorisations import factorisation_counter
from petsc4py import PETSc
from slepc4py import SLEPc

import geneig_adjoint as ga
from geneig_adjoint.kept_factors import KeptFactor, pattern_of

N = 12
P = chain_parameters(N)
KINDS = {
    "symmetric": np.array([[1.0, -1.0], [-1.0, 1.0]]),
    "nonsymmetric": np.array([[1.0, -1.1], [-0.8, 1.0]]),
}
CLOSE = 1e-8
"""Gradients from other start vectors agree as well as the adjoint's rtol, 1e-10, times the
condition of these small problems."""


@pytest.fixture
def factorisations():
    return factorisation_counter()


def scaled(step):
    """Return other parameters of the chain: up to three times as stiff, in another profile."""
    place = np.arange(N + 1)
    return {"k": P["k"] * (1 + step * (1 + np.cos(place)) / 2), "m": P["m"] + 0.1 * step}


def loop(comm, kind="symmetric", **settings):
    model = chain(N, comm, base=KINDS[kind])
    settings = {"count": 3, "target": 0.0, "count_check": "off", "track": False, **settings}
    return ga.value_and_gradient(model, weighted(comm), **settings)


def weighted(comm):
    """Return an objective of values and vectors."""

    def objective(pairs):
        weight = 1.0 + np.arange(*pairs.rows)
        value, one = ga.objectives.QuadraticForm(weight, (0, 1))(pairs)
        more, two = ga.objectives.Eigenvalue(0)(pairs)
        return value + more, ga.EigenCotangent(values=two.values, right=one.right)

    return objective


@pytest.mark.parametrize("target", [0.0, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_analyses_its_matrices_once_and_equals_fresh_calls(
    comm, kind, target, factorisations
):
    with loop(comm, kind, target=target) as f:
        f(P)
        factorisations()
        for step in (0.5, 2.0, 0.0):
            value, g = f(scaled(step))
            assert factorisations() == (0, 1)
            with loop(comm, kind, target=target) as fresh:
                expected, reference = fresh(scaled(step))
            assert factorisations() == (1, 1)
            assert value == pytest.approx(expected, rel=1e-10)
            for name in P:
                size = np.abs(reference[name]).max()
                np.testing.assert_allclose(g[name], reference[name], atol=CLOSE * size)


def test_after_closing_the_loop_begins_anew(comm, factorisations):
    f = loop(comm)
    for _ in range(2):
        f(P)
        assert factorisations()[0] == 1
        f.close()


def test_dropped_factors_are_not_kept(comm, factorisations):
    lowest = ga.objectives.Eigenvalue(0)
    with ga.value_and_gradient(
        chain(N, comm), lowest, target=0.0, keep_factor=False, count_check="off"
    ) as f:
        f(P)
        factorisations()
        f(P)
        assert factorisations() == (1, 1)


def test_a_failed_call_leaves_nothing_stale(comm):
    bad = {**P, "k": np.full(N + 1, np.nan)}
    with loop(comm) as f, loop(comm) as fresh:
        f(P)
        with pytest.raises(ga.InputError, match="must be finite"):
            f(bad)
        assert f(scaled(1.0))[0] == pytest.approx(fresh(scaled(1.0))[0], rel=1e-10)


# -- solves of one pencil --


@pytest.fixture
def pencil(comm):
    A, B = matrix(stiffness(N), comm), matrix(mass(N), comm)
    with ga.Pencil(A, B, owned=True) as made:
        made.kept = KeptFactor(comm)
        yield made


def lowest(count=3):
    """Return the eigenvalues of the chain by formula."""
    c = np.cos(np.arange(1, N + 1) * np.pi / (N + 1))
    return np.sort((2 - 2 * c) / ((4 + 2 * c) / 6))[:count]


def solved(pencil, **settings):
    settings = {"count": 1, "count_check": "off", **settings}
    with ga.solve_eigenproblem(pencil, **settings) as pairs:
        residual = pairs.residuals.max()
        values = pairs.values.real
    assert residual < 1e-12
    return values


@pytest.mark.parametrize("targets", [(0.0, 1.9, 0.0), (1.9, 0.4, 1.9), (0.4, 0.4, 0.0)], ids=str)
def test_each_solve_has_the_shift_it_asks_for(pencil, targets):
    for target in targets:
        nearest = min(lowest(N), key=lambda value: abs(value - target))
        assert solved(pencil, target=target) == pytest.approx(nearest, rel=1e-10)


def test_a_shift_on_an_eigenvalue_is_moved_and_the_next_one_is_not(pencil):
    solved(pencil, target=0.3)
    second = lowest()[1]
    assert solved(pencil, target=second) == pytest.approx(second, rel=1e-9)
    with ga.solve_eigenproblem(pencil, target=0.3, count_check="off") as pairs:
        assert pairs.info.sigma == 0.3
        assert pairs.values[0].real == pytest.approx(second, rel=1e-10)


def test_other_options_are_obeyed(pencil, factorisations):
    solved(pencil, target=0.0)
    factorisations()
    solved(pencil, target=0.0, solver_parameters={"st_mat_mumps_icntl_7": 0})
    assert factorisations()[0] == 1
    PETSc.Options().setValue("ga_st_mat_mumps_icntl_7", 2)
    try:
        solved(pencil, target=0.0, solver_parameters={"st_mat_mumps_icntl_7": 0})
    finally:
        PETSc.Options().delValue("ga_st_mat_mumps_icntl_7")
    assert factorisations()[0] == 1


def test_solves_without_a_factor_of_a_do_not_mix_with_those_that_have_one(pencil):
    for _ in range(2):
        assert solved(pencil, target=0.0) == pytest.approx(lowest()[0], rel=1e-10)
        largest = solved(pencil, which="largest_magnitude")
        assert largest == pytest.approx(lowest(N)[-1], rel=1e-10)


def test_a_new_entry_means_a_new_analysis(comm, pencil, factorisations):
    solved(pencil, target=0.0)
    dense = stiffness(N)
    dense[0, -1] = dense[-1, 0] = -0.7
    pencil.A.setOption(PETSc.Mat.Option.NEW_NONZERO_LOCATION_ERR, False)
    pencil.A.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
    for row, column in ((0, N - 1), (N - 1, 0)):
        pencil.A.setValue(row, column, -0.7)  # every rank says the same: one of them counts
    pencil.A.assemble()
    pencil.entries_changed()
    factorisations()
    found = solved(pencil, count=3, target=0.0)
    assert factorisations() == (1, 1)
    expected = np.sort(np.linalg.eigvals(np.linalg.solve(mass(N), dense)).real)[:3]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("target", [0.0, 0.4])
def test_a_matrix_replaced_in_place_means_a_new_analysis(comm, pencil, target, factorisations):
    """PETSc alone does not see it: the new matrix may have the older number of its pattern."""
    dense = stiffness(N)
    for _ in range(3):  # raises that number
        pencil.A.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
        pencil.A.setValue(0, 5, 0.0)
        pencil.A.assemble()
    for step in range(3):
        more = np.zeros((N, N))
        more[step, N - 2 - step] = more[N - 2 - step, step] = 0.3
        dense = dense + more
        change = matrix(more, comm)
        pencil.A.axpy(1.0, change, structure=PETSc.Mat.Structure.DIFFERENT_NONZERO_PATTERN)
        change.destroy()
        pencil.entries_changed()
        factorisations()
        found = solved(pencil, target=target)
        assert factorisations() == (1, 1)
        values = np.linalg.eigvals(np.linalg.solve(mass(N), dense)).real
        assert found == pytest.approx(values[np.argmin(np.abs(values - target))], rel=1e-10)


def test_a_package_that_failed_once_is_not_tried_again(comm, pencil, factorisations):
    """A is indefinite with a positive diagonal: on one rank CHOLMOD is tried, in the real build."""
    for row in range(*pencil.rows):
        pencil.A.setValue(row, row, 1.0)
    pencil.A.assemble()
    pencil.entries_changed()
    values = np.linalg.eigvals(np.linalg.solve(mass(N), stiffness(N) - np.eye(N))).real
    for _ in range(2):
        found = solved(pencil, target=0.0)
        assert np.abs(found) == pytest.approx(np.abs(values).min(), rel=1e-10)
    factorisations()
    solved(pencil, target=0.0)
    assert factorisations() == (0, 0)


def test_open_pairs_keep_their_factor_to_themselves(pencil):
    block = np.ones((pencil.n_local, 1))
    with ga.solve_eigenproblem(pencil, target=0.0, count_check="off") as first:
        before = first.factor.solve(block)
        assert solved(pencil, target=1.9) == pytest.approx(
            min(lowest(N), key=lambda value: abs(value - 1.9)), rel=1e-10
        )
        solved(pencil, target=0.3)
        np.testing.assert_array_equal(first.factor.solve(block), before)


@pytest.mark.parametrize(
    ("change", "given"), [(0.0, True), (0.3, False)], ids=["same pattern", "other pattern"]
)
def test_only_a_solver_of_the_same_pattern_is_given(comm, change, given):
    """PETSc sees most changes by itself, but not all: what is given must not rest on it."""
    dense = stiffness(N)
    dense[0, 5] = change
    mats = matrix(stiffness(N), comm), matrix(dense, comm)
    kept = KeptFactor(comm)
    first, second = SLEPc.EPS().create(comm), SLEPc.EPS().create(comm)
    kept.give_to(first, "request", mats[:1])
    first.setOperators(mats[0])
    st = first.getST()
    st.getKSP().setType("preonly")
    st.getKSP().getPC().setType("lu")
    kept.take_from(first)
    kept.give_to(second, "request", mats[1:])
    assert (second.getST().handle == st.handle) == given
    assert not kept.holds
    for item in (first, second, *mats):
        item.destroy()


def test_matrices_that_do_not_show_their_pattern_never_fit(comm):
    mat = PETSc.Mat().createDense((N, N), comm=comm)
    mat.setUp()
    assert pattern_of(mat) != pattern_of(mat)
    assert pattern_of(None) is None
    mat.destroy()


def test_a_closed_pencil_keeps_nothing(comm):
    kept = KeptFactor(comm)
    pencil = ga.Pencil(matrix(stiffness(N), comm), owned=True)
    pencil.kept = kept
    solved(pencil, target=0.0)
    assert kept.holds
    pencil.close()
    assert not kept.holds


@pytest.mark.parametrize("pc", ["jacobi", "lu"])
def test_iterative_solvers_are_not_kept(pencil, pc):
    options = {"st_ksp_type": "gmres", "st_pc_type": pc}
    solved(pencil, target=0.0, solver_parameters=options)
    assert not pencil.kept.holds

"""What is kept from call to call of a loop: orderings of factors, never values."""

from contextlib import nullcontext

import numpy as np
import pytest
from base_flows import flow
from builders import (
    REAL,
    chain,
    chain_parameters,
    mass,
    matrix,
    nonsymmetric,
    stiffness,
)
from petsc4py import PETSc
from slepc4py import SLEPc

import geneig_adjoint as ga
from geneig_adjoint.kept_factors import KeptFactor, pattern_of
from geneig_adjoint.state_solver import JacobianSolver, KeptJacobian

N = 12
P = chain_parameters(N)
STAGES = ("assemble", "eigensolve", "left", "adjoint", "contract")
KINDS = {
    "symmetric": np.array([[1.0, -1.0], [-1.0, 1.0]]),
    "nonsymmetric": np.array([[1.0, -1.1], [-0.8, 1.0]]),
}
CLOSE = 1e-8
"""Gradients from other start vectors agree as well as the adjoint's rtol, 1e-10, times the
condition of these small problems."""


@pytest.fixture
def factorisations():
    """Return a function that counts symbolic and numeric factorisations since its last call."""
    PETSc.Log.begin()
    stages = [0, *(PETSc.Log.Stage(name).id for name in STAGES)]
    events = [
        [PETSc.Log.Event(f"{name}{part}") for name in names]
        for names, part in (
            (("MatLUFactor", "MatCholFctr"), "Sym"),
            (("MatLUFactor", "MatCholFctr"), "Num"),
        )
    ]

    def totals():
        return np.array(
            [sum(e.getPerfInfo(s)["count"] for e in kind for s in stages) for kind in events]
        )

    last = [totals()]

    def since():
        last.append(totals())
        return tuple(int(count) for count in last[-1] - last[-2])

    return since


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


# -- Jacobians --


def test_newton_analyses_one_pattern_once(comm, factorisations):
    with flow(comm, "bratu", 8)[1] as state:
        factorisations()
        first = state({"strength": np.full(8, 1.0)})
        symbolic, numeric = factorisations()
        assert symbolic == 1 < numeric
        second = state({"strength": np.full(8, 1.4)})
        assert factorisations()[0] == 0
    with flow(comm, "bratu", 8)[1] as fresh:
        expected = fresh({"strength": np.full(8, 1.4)})
    np.testing.assert_allclose(second["state"].array, expected["state"].array, rtol=1e-9)
    for made in (first, second, expected):
        made["state"].destroy()


def test_a_jacobian_of_another_pattern_gets_its_own_factor(comm, factorisations):
    arrays = [stiffness(N) + np.eye(N), nonsymmetric(N), nonsymmetric(N) + np.eye(N, k=3)]
    arrays += [2.0 * arrays[-1], stiffness(N)]
    mats = [matrix(array, comm) for array in arrays]
    rows = slice(*mats[0].getOwnershipRange())
    kept = KeptJacobian()
    rhs = np.cos(np.arange(N))
    counts = []
    for array, mat in zip(arrays, mats, strict=True):
        found = kept.factored(mat).solve(rhs[rows])
        np.testing.assert_allclose(found, np.linalg.solve(array, rhs)[rows], rtol=1e-10)
        counts.append(factorisations())
        mat.destroy()
    kept.close()
    assert counts == [(1, 1), (0, 1), (1, 1), (0, 1), (1, 1)]


def test_after_a_singular_jacobian_the_next_one_is_solved_with(comm, factorisations):
    kept = KeptJacobian()
    rhs = np.cos(np.arange(N))
    good = matrix(stiffness(N), comm)
    bad = good.copy()
    bad.scale(0.0)  # of the same pattern
    rows = slice(*good.getOwnershipRange())
    expected = np.linalg.solve(stiffness(N), rhs)[rows]
    np.testing.assert_allclose(kept.factored(good).solve(rhs[rows]), expected, rtol=1e-10)
    with pytest.raises(ga.ConvergenceError, match="must be regular"):
        kept.factored(bad).solve(rhs[rows])
    factorisations()
    np.testing.assert_allclose(kept.factored(good).solve(rhs[rows]), expected, rtol=1e-10)
    assert factorisations() == (1, 1)
    kept.close()
    for mat in (good, bad):
        mat.destroy()


# Entries have no imaginary parts in the real build.
TURN = 1.0 if REAL else 1 + 0.1j
REFUSED = nullcontext() if REAL else pytest.raises(ga.InputError, match="must be real")


def test_complex_jacobians_are_refused_at_any_time(comm):
    first, second = matrix(stiffness(N), comm), matrix(TURN * stiffness(N), comm)
    with JacobianSolver(first) as solver, REFUSED:
        solver.refill(second)
    for mat in (first, second):
        mat.destroy()

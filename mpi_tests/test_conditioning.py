"""What is refused, warned about or not converged is so on every rank, whoever owns the rows."""

import warnings

import numpy as np
import pytest
from builders import mass, matrix, own_rows, stiffness
from hard_pencils import (
    FLUTTER_LOAD,
    bidiagonal,
    chain_of_four,
    constrained_matrices,
    ziegler,
    ziegler_values,
)

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 40
ROWS = {"all on the first rank": np.arange(5), "everywhere": np.arange(0, N, 3)}


def together(comm, text):
    """Return whether a text is the same on every rank."""
    return len(set(comm.allgather(text))) == 1


@pytest.mark.parametrize("skew", [0.0, 3.0])
@pytest.mark.parametrize("rows", ROWS)
def test_constrained_rows_of_any_rank_are_refused_on_all(comm, rows, skew):
    A, B = constrained_matrices(comm, N, ROWS[rows], (1.0, 1.0), skew)
    # No parameter of a constrained row: those that depend on one are modes.
    free = matrix(np.diag(~np.isin(np.arange(N), ROWS[rows])), comm)
    model, p = ga.MatrixModel(A, B, {"p": [(free, None)]}), {"p": np.zeros(1)}
    pairs = ga.solve_eigenproblem(model.assemble(p), 3, target=1.0)
    spurious = np.flatnonzero(np.isclose(pairs.values, 1.0, rtol=1e-8))
    assert pairs.info.constrained == tuple(spurious)
    assert f"belong to {len(ROWS[rows])} constrained rows with the value 1" in pairs.info.notes[0]
    assert together(comm, str((pairs.info.constrained, pairs.info.notes)))
    first, last = pairs.rows
    weights = np.arange(1.0, N + 1)[first:last]
    for objective in (obj.Eigenvalue(spurious[0]), obj.LinearOutput(weights, int(spurious[0]))):
        with pytest.raises(ga.ConstrainedRowError, match="kept in the matrices; leave") as caught:
            ga.gradient(model, p, pairs, objective)
        assert together(comm, str(caught.value))


def test_one_constrained_row_is_found_by_the_ranks_without(comm):
    A, B = constrained_matrices(comm, N, [N - 1], (2.0, 2.0))
    pairs = ga.solve_eigenproblem(ga.Pencil(A, B, owned=True), 1, target=0.999)
    assert pairs.info.constrained == (0,)


@pytest.mark.parametrize("left", ["auto", False])
def test_exceptional_point_with_more_ranks_than_rows(comm, left):
    model, p = ziegler(comm, FLUTTER_LOAD)
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=0.5, left=left)
    with pytest.raises(ga.DefectiveEigenvalueError, match="exceptional point") as caught:
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    assert together(comm, str(caught.value))
    model, p = ziegler(comm, FLUTTER_LOAD - 1e-3)
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=0.5, left=left)
    found = [ga.gradient(model, p, pairs, obj.Eigenvalue(j))["p"][0] for j in range(2)]
    # eps times the square of the condition 28, rtol 1e-10 without left vectors
    np.testing.assert_allclose(found, ziegler_values(1e-3)[1].real, rtol=1e-8)


def test_target_inside_of_a_ring_is_an_error_on_all_ranks(comm):
    pencil = ga.Pencil(matrix(chain_of_four(0), comm), owned=True)
    with pencil, pytest.raises(ga.DefectiveEigenvalueError, match="around the target") as caught:
        ga.solve_eigenproblem(pencil, 1, target=1.001)
    assert together(comm, str(caught.value))


def test_warning_made_an_error_is_raised_on_all_ranks(comm):
    A = np.array([[1.0, 3e6, 0.5], [0.0, 2.0, 0.3], [0.0, 0.0, 7.5]])
    mats = [matrix(array, comm) for array in (A, np.eye(3))]
    model, p = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {"p": np.zeros(1)}
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ga.IllConditionedWarning, match="condition number below") as caught:
            ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    assert together(comm, str(caught.value))


def test_error_estimate_bounds_the_true_error(comm):
    T = bidiagonal(8.0)
    pairs = ga.solve_eigenproblem(ga.Pencil(matrix(T, comm), owned=True), 2, target=6.2)
    true = np.abs(np.diag(T)[:, None] - pairs.values[None, :]).min(axis=0)
    assert (pairs.condition > 1e5).all()
    assert (pairs.errors >= true / 10).all()


def test_corrected_pairs_on_all_ranks(comm):
    # Convection: condition 1e6, values known, y_k x_k = sin^2 of the symmetric matrix below.
    n, k = 14, 4
    A = 2 * np.eye(n) - 1.9 * np.eye(n, k=-1) - 0.1 * np.eye(n, k=1)
    exact = 2 - 2 * np.sqrt(0.19) * np.cos(np.pi / (n + 1))
    s = np.sin(np.arange(1, n + 1) * np.pi / (n + 1))
    mats = [matrix(array, comm) for array in (A, np.diag(np.eye(n)[k]))]
    model, p = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {"p": np.zeros(1)}
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=1.001 * exact)
    j = int(np.argmin(np.abs(pairs.values - exact)))
    assert pairs.condition[j] > 1e6
    assert abs(pairs.values[j] - exact) <= pairs.errors[j] <= 1e-12
    with pytest.warns(ga.IllConditionedWarning, match="condition number below"):
        found = ga.gradient(model, p, pairs, obj.Eigenvalue(j))
    assert abs(found["p"][0] / (s[k] ** 2 / (s @ s)) - 1) <= found.relative_error <= 1e-10
    assert together(comm, str((pairs.values, pairs.errors, pairs.turns, pairs.rounding)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"st_ksp_max_it": 3}, "inner solves of the eigensolve.*after 3 of 3 iterations"),
        ({"st_ksp_rtol": 1e-3}, "stop at st_ksp_rtol 1.0e-03: lower that to 1.0e-13"),
    ],
    ids=["early", "loose"],
)
def test_failing_inner_solves_are_an_error_on_all_ranks(comm, options, message):
    mats = [matrix(array, comm) for array in (7 * stiffness(N), mass(N))]
    iterative = {"st_ksp_type": "gmres", "st_pc_type": "bjacobi", "st_sub_pc_type": "none"}
    with pytest.raises(ga.ConvergenceError, match=message) as caught:
        ga.solve_eigenproblem(
            ga.Pencil(*mats, owned=True), 2, target=0.1, solver_parameters={**iterative, **options}
        )
    assert together(comm, caught.value.reason)


def test_iterative_inner_solves_on_all_ranks(comm):
    mats = [matrix(array, comm) for array in (7 * stiffness(N), mass(N))]
    options = {"st_ksp_type": "gmres", "st_pc_type": "jacobi", "eps_tol": 1e-10}
    pairs = ga.solve_eigenproblem(
        ga.Pencil(*mats, owned=True), 2, target=0.1, solver_parameters=options
    )
    assert pairs.factor.inner_rtol == pytest.approx(1e-11)
    first, last = own_rows(N, comm)
    assert pairs.right.shape == (last - first, 2)
    assert pairs.residuals.max() < 1e-9

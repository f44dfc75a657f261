"""Rows of constrained dofs that stay in the matrices: their pairs are named, not differentiated."""

import contextlib

import numpy as np
import pytest
import scipy.linalg
from builders import dense, matrix, stiffness
from hard_pencils import constrained_matrices
from pencils import COMPLEX_BUILD
from test_completeness import exact_values, grid

import geneig_adjoint as ga
from geneig_adjoint import eigensolver, rows_beside
from geneig_adjoint import objectives as obj

N = 70
ROWS = np.r_[0:25, 45:70]
FREE = np.arange(25, 45)
SKEW = [0.0, 3.0]
# Definite pencils (without the skew part) are searched beside the rows; the rows are taken off.
COUNTED = {0.0: ["inertia", "second start"][COMPLEX_BUILD], 3.0: "off"}


def solved(comm, diagonals, skew, *, rows=ROWS, **wanted):
    """Return model, p and pairs; the parameter scales a spring between two free dofs."""
    A, B = constrained_matrices(comm, N, rows, diagonals, skew)
    slope = np.zeros((N, N))
    slope[30, 30] = 1.0
    model = ga.MatrixModel(A, B, {"p": [(matrix(slope, comm), None)]})
    p = {"p": np.zeros(1)}
    return model, p, ga.solve_eigenproblem(model.assemble(p), **wanted)


def free_values(A, B, center):
    values = scipy.linalg.eigvals(dense(A)[np.ix_(FREE, FREE)], dense(B)[np.ix_(FREE, FREE)])
    return values[np.argsort(np.abs(values - center))]


@pytest.mark.failure("constrained rows", through="api")
@pytest.mark.parametrize("skew", SKEW)
@pytest.mark.parametrize("diagonals", [(1.0, 1.0), (6.0, 2.0)], ids=["1", "3"])
def test_pairs_of_constrained_rows_are_reported(comm, diagonals, skew):
    value = diagonals[0] / diagonals[1]
    _, _, pairs = solved(comm, diagonals, skew, count=4, target=1.1 * value)
    spurious = np.flatnonzero(np.isclose(pairs.values, value, rtol=1e-8))
    assert pairs.info.constrained == tuple(spurious)
    assert len(spurious) > 1
    [note] = [note for note in pairs.info.notes if "constrained rows with" in note]
    assert note.startswith(f"{len(spurious)} of the pairs (")
    assert f"belong to 50 constrained rows with the value {value:.12g}: leave these" in note
    # Nobody looks for all fifty.
    assert pairs.count < 40
    assert pairs.info.completeness.method == COUNTED[skew]


@pytest.mark.failure("constrained rows", through="api")
@pytest.mark.parametrize("skew", SKEW)
def test_no_derivative_touches_a_constrained_row(comm, skew):
    model, p, pairs = solved(comm, (1.0, 1.0), skew, count=4, target=1.0)
    j = pairs.info.constrained[0]
    for objective in (
        obj.Eigenvalue(j),
        obj.LinearOutput(np.ones(N), j),
        obj.QuadraticForm(np.arange(1.0, N + 1), tuple(range(pairs.count))),
        obj.KSMinimum(rho=1.0, of="eigenvalue"),
    ):
        with pytest.raises(ga.ConstrainedRowError, match=r"modes of the problem.*leave") as caught:
            ga.gradient(model, p, pairs, objective)
        assert set(caught.value.members) <= set(pairs.info.constrained)
    with pytest.raises(ga.ConstrainedRowError, match=r"got pairs \[\d+\] with eigenvalues 1"):
        ga.jvp(model, p, pairs, {"p": np.ones(1)}, columns=[j])


@pytest.mark.parametrize("skew", SKEW)
def test_modes_beside_constrained_rows_have_their_derivative(comm, skew):
    # Target between 1 and the lowest mode: both kinds are among the pairs.
    A, B = constrained_matrices(comm, N, ROWS, (1.0, 1.0), skew)
    lowest = np.sort(free_values(A, B, 0.0).real)[0]
    model, p, pairs = solved(comm, (1.0, 1.0), skew, count=4, target=1.1 * lowest)
    others = np.setdiff1d(np.arange(pairs.count), pairs.info.constrained)
    j = int(others[0])
    found = ga.gradient(model, p, pairs, obj.Eigenvalue(j))["p"][0]
    # A mode vanishes on the constrained rows: the pencil of the free ones has the derivative.
    small = [dense(mat)[np.ix_(FREE, FREE)] for mat in (A, B)]
    values, left, right = scipy.linalg.eig(*small, left=True)
    i = int(np.argmin(np.abs(values - pairs.values[j])))
    y, x = left[:, i], right[:, i]
    expected = (y[5].conj() * x[5] / (y.conj() @ small[1] @ x)).real
    assert found == pytest.approx(expected, rel=1e-8)  # errors of the vectors


@pytest.mark.parametrize("skew", SKEW)
@pytest.mark.parametrize("diagonals", [(1.0, 0.0), (1e8, 1.0), (1.0, 1.0)], ids=str)
def test_rows_out_of_the_way_change_nothing(comm, diagonals, skew):
    # Infinite, moved away as the message proposes, or simply far from the target.
    _, _, pairs = solved(comm, diagonals, skew, count=4, target=400.0)
    A, B = constrained_matrices(comm, N, ROWS, diagonals, skew)
    expected = free_values(A, B, 400.0)[: pairs.count]
    assert pairs.info.constrained == ()
    assert not [note for note in pairs.info.notes if "constrained" in note]
    # rounding, times the condition of a mildly skew matrix
    np.testing.assert_allclose(np.sort(pairs.values.real), np.sort(expected.real), rtol=1e-9)


def test_oscillator_of_its_own_is_legitimate(comm):
    # One row alone with the value 3: a mass on a spring, with a parameter.
    A = np.zeros((6, 6))
    A[0, 0], A[1:, 1:] = 6.0, 50 * stiffness(5)
    B = np.diag(np.r_[2.0, np.ones(5)])
    slope = np.diag(np.eye(6)[0])
    model = ga.MatrixModel(matrix(A, comm), matrix(B, comm), {"p": [(matrix(slope, comm), None)]})
    p = {"p": np.zeros(1)}
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=2.0)
    assert pairs.info.constrained == ()
    assert ga.gradient(model, p, pairs, obj.Eigenvalue(0))["p"][0] == pytest.approx(0.5, rel=1e-12)


def test_one_row_with_the_value_one_is_a_constraint(comm):
    _, _, pairs = solved(comm, (4.0, 4.0), 0.0, rows=[0], count=1, target=0.99)
    assert pairs.info.constrained == (0,)
    assert "1 of the pairs (0) belong to 1 constrained rows" in pairs.info.notes[0]


def test_diagonal_pencil_has_no_constraints(comm):
    pairs = ga.solve_eigenproblem(ga.Pencil(matrix(np.diag([1.0, 1.0, 5.0]), comm)), 2, target=0.9)
    assert pairs.info.constrained == ()
    assert pairs.clusters == ((0, 1),)


def test_coupled_row_on_the_value_is_no_constraint(comm):
    # Row 1 has 1 on its diagonal and is coupled in B only; 1 is an eigenvalue of rows 0 and 2.
    A = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 2.0]])
    B = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.2], [0.0, 0.2, 1.0]])
    pairs = ga.solve_eigenproblem(ga.Pencil(matrix(A, comm), matrix(B, comm)), 3, target=0.0)
    assert pairs.info.constrained == ()


def test_mode_with_the_value_of_a_row_that_it_does_not_move(comm):
    # Rows 1 and 2 have a mode at 1 + 9e-9, as near to row 0 as counts as the same value.
    A = np.array([[1.0, 0.0, 0.0], [0.0, 2.0 + 9e-9, -1.0], [0.0, -1.0, 2.0 + 9e-9]])
    pairs = ga.solve_eigenproblem(ga.Pencil(matrix(A, comm)), 2, target=0.5)
    # Vectors mix by rounding over the gap: 1e-16 / 9e-9.
    assert pairs.info.constrained == (0,)


def test_reordered_pairs_remember_their_rows(comm):
    _, _, pairs = solved(comm, (1.0, 1.0), 3.0, count=4, target=1.1)
    spurious = set(pairs.info.constrained)
    order = list(range(pairs.count))[::-1]
    turned = pairs.reordered(order)
    assert {order[j] for j in turned.info.constrained} == spurious
    assert pairs.reordered([j for j in order if j not in spurious]).info.constrained == ()


def test_thousands_of_constrained_rows_cost_nothing(comm):
    rows = np.arange(2000)
    A, B = constrained_matrices(comm, 2040, rows, (1.0, 1.0))
    pairs = ga.solve_eigenproblem(ga.Pencil(A, B, owned=True), 4, target=1.05)
    assert pairs.count < 40
    assert "belong to 2000 constrained rows" in pairs.info.notes[0]


def beside_a_row(comm):
    """Return the Laplacian of a square, whose seventh value is double, and one row more."""
    A = np.zeros((101, 101))
    A[:100, :100] = grid(10)
    A[100, 100] = 1.0
    return ga.Pencil(matrix(A, comm))


def test_a_copy_missed_beside_a_constrained_row_is_found(comm, monkeypatch):
    monkeypatch.setattr(eigensolver, "finite_pairs", one_copy_of(eigensolver.finite_pairs))
    values = exact_values(10)
    assert values[7] == pytest.approx(values[6])
    with beside_a_row(comm) as pencil, ga.solve_eigenproblem(pencil, 7, target=0.0) as pairs:
        [row] = pairs.info.constrained
        found = np.delete(pairs.values.real, row)
        np.testing.assert_allclose(found, values[: len(found)], rtol=1e-10)
        record = pairs.info.completeness
        assert record.mended >= 1
        assert record.method == ["inertia", "second start"][COMPLEX_BUILD]
        assert record.found in {6, 8}  # the row is none of them
        assert record.expected in {None, record.found}


OUTCOMES = {False: ["error"], True: ["note"]}[COMPLEX_BUILD]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_beside_many_rows_missed_copies_are_not_silent(comm, outcome, monkeypatch):
    monkeypatch.setattr(rows_beside, "MOST_ROWS", 0)
    spoiled = {"error": one_copy_of, "note": lambda function: function}[outcome]
    monkeypatch.setattr(eigensolver, "finite_pairs", spoiled(eigensolver.finite_pairs))

    def solved_notes():
        with beside_a_row(comm) as pencil, ga.solve_eigenproblem(pencil, 8, target=0.0) as pairs:
            assert pairs.info.completeness.method == "off"
            return " ".join(pairs.info.notes)

    match = r"in spite of searches.*or take the constrained rows out"
    checks = {
        "error": lambda: pytest.raises(ga.MissingEigenvaluesError, match=match),
        "note": contextlib.nullcontext,
    }
    with checks[outcome]():
        assert "have not been looked for: there are constrained rows" in solved_notes()


def one_copy_of(finite_pairs):
    """Return a function that forgets second copies: what Krylov-Schur does now and then."""

    def found(eps, pencil):
        values, right = finite_pairs(eps, pencil)
        kept = np.flatnonzero(np.r_[True, np.abs(np.diff(values)) > 1e-8])
        return values[kept], np.asfortranarray(right[:, kept])

    return found

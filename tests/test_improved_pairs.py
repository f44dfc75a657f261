"""Ill-conditioned pairs are corrected until rounding ends it, and know what error is left.

References are exact: of triangular matrices, whose eigenvalues are their diagonals, by back
substitution in rational numbers; of the others by Newton's method in long double.
"""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from builders import REAL, matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

USEFUL = 1e3
"""Estimates over true errors, where these are more than a few roundings."""
ROUNDED = 1e-12


def exact_vectors(A, j):
    """Return x and y with y^T x = 1 of value A[j, j] of a triangular matrix, in floating point."""
    T = [[Fraction(float(item)) for item in row] for row in A]
    n, lam = len(T), T[j][j]
    x, y = [Fraction(0)] * n, [Fraction(0)] * n
    x[j] = y[j] = Fraction(1)
    for i in reversed(range(j)):
        x[i] = sum((T[i][k] * x[k] for k in range(i + 1, j + 1)), Fraction(0)) / (lam - T[i][i])
    for i in range(j + 1, n):
        y[i] = sum((y[k] * T[k][i] for k in range(j, i)), Fraction(0)) / (lam - T[i][i])
    return np.array(x, dtype=float), np.array(y, dtype=float)


def triangular(coupling, n, seed):
    """Return an upper triangular matrix with well separated values and one large coupling."""
    rng = np.random.default_rng(seed)
    A = np.diag(np.cumsum(rng.uniform(0.7, 1.3, n))) + np.triu(rng.uniform(-1, 1, (n, n)), 1)
    at = rng.integers(n - 1)
    A[at, at + 1] = coupling
    return A, at


def solved(comm, A, target, slopes, **wanted):
    """Return value 0, its gradient in the slopes and the pairs' measures."""
    mats = [matrix(array, comm) for array in (A, *slopes)]
    model = ga.MatrixModel(mats[0], None, {"p": [(mat, None) for mat in mats[1:]]})
    p = {"p": np.zeros(len(slopes))}
    with (
        warnings.catch_warnings(),
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=target, **wanted) as pairs,
    ):
        warnings.simplefilter("ignore", ga.IllConditionedWarning)
        return pairs, ga.gradient(model, p, pairs, obj.Eigenvalue(0))


def test_error_of_a_value_with_a_condition_of_3e6(comm):
    A = np.array([[1.0, 3e6, 0.5], [0.0, 2.0, 0.3], [0.0, 0.0, 7.5]])
    pairs, found = solved(comm, A, 0.8, [np.diag([1.0, 2.0, 3.0])])
    # The eigensolver alone: off by 1e-6 to 1e-5, with an estimate of 1e2.
    assert abs(pairs.values[0] - 1) <= pairs.errors[0] <= ROUNDED
    assert abs(found["p"][0] - 1) <= found.relative_error <= ROUNDED


@pytest.mark.parametrize(
    ("coupling", "n", "seed"), [(3e6, 8, 0), (3e6, 5, 1), (3e7, 20, 2), (1e8, 12, 3)]
)
def test_estimates_of_triangular_matrices_are_honest_and_useful(comm, coupling, n, seed):
    A, at = triangular(coupling, n, seed)
    rng = np.random.default_rng(seed)
    slopes = [np.diag(rng.uniform(0.5, 1.5, n)), rng.standard_normal((n, n)), A * rng.random()]
    pairs, found = solved(comm, A, A[at, at] + 0.05, slopes)
    x, y = exact_vectors(A, at)
    assert pairs.condition[0] > 1e4
    true = abs(pairs.values[0] - A[at, at])
    assert true <= pairs.errors[0] <= USEFUL * max(true, ROUNDED * A[at, at])
    terms = [np.abs(y) @ np.abs(S) @ np.abs(x) for S in slopes]
    worst = max(abs(y @ S @ x - g) / t for S, g, t in zip(slopes, found["p"], terms, strict=True))
    assert worst <= found.relative_error <= USEFUL * max(worst, ROUNDED)


def convection(n, peclet):
    """Return a row of cells with upwind-like unequal neighbours, and its exact values."""
    up, down = 1 + peclet, 1 - peclet
    A = 2 * np.eye(n) - up * np.eye(n, k=-1) - down * np.eye(n, k=1)
    return A, 2 - 2 * np.sqrt(up * down) * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))


@pytest.mark.parametrize("left", ["factors", "krylov"])
def test_harmless_pairs_of_strong_convection_are_right(comm, left):
    # A is D S D^-1 with S symmetric and D graded over 8 digits: y_i x_i = s_i^2.
    n, peclet = 14, 0.9
    A, exact = convection(n, peclet)
    s = np.sin(np.arange(1, n + 1) * np.pi / (n + 1))
    k = 4
    parts = {"solver_parameters": {"left_type": left}, "normalization": "2"}
    pairs, found = solved(comm, A, 1.001 * exact[0], [np.diag(np.eye(n)[k])], **parts)
    assert pairs.condition[0] > 1e6
    assert abs(pairs.values[0] - exact[0]) <= pairs.errors[0] <= 1e-12
    expected = s[k] ** 2 / (s @ s)
    assert abs(found["p"][0] / expected - 1) <= found.relative_error <= 1e-10


def test_graded_pair_is_not_taken_for_a_defective_one(comm):
    # Condition 1e7 and norm 1e8: rounding of the size of ||A|| would join it with its neighbour.
    rng = np.random.default_rng(5)
    d = np.geomspace(1, 1e10, 8)
    core = np.diag(np.arange(1.0, 9.0)) + 0.1 * rng.standard_normal((8, 8))
    A = d[:, None] * core / d
    pairs, found = solved(comm, A, 3.1, [np.diag(np.eye(8)[2])])
    values, left, right = _eig(core)
    j = int(np.argmin(np.abs(values - pairs.values[0])))
    assert pairs.condition[0] > 1e6
    assert abs(pairs.values[0] - values[j]) <= 1e-12  # those of core, which LAPACK knows
    assert found["p"][0] == pytest.approx((left[2, j] * right[2, j]).real, rel=1e-10)


def _eig(core):
    values, right = np.linalg.eig(core)
    return values, np.linalg.inv(right).T, right


def test_loose_pairs_are_left_alone(comm, monkeypatch):
    """A tolerance is the user's choice: no factors are made to do better."""
    from geneig_adjoint import finished_pairs

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(finished_pairs, "improved", refuse)
    A = np.diag(np.arange(1.0, 40.0)) + 0.3 * np.eye(39, k=1) * (1 if REAL else 1j)
    pencil = ga.Pencil(matrix(A, comm), owned=True)
    options = {"eps_tol": 1e-4, "eps_ncv": 5}
    with pencil, ga.solve_eigenproblem(pencil, 1, target=3.2, solver_parameters=options) as pairs:
        assert np.isnan(pairs.turns).all()


@pytest.mark.parametrize("seed", [52, 179])
def test_vectors_that_are_not_corrected_count(comm, seed):
    """Conditions below 1e3, rows graded over 7 digits: values are exact, left vectors are not."""
    rng = np.random.default_rng(seed)
    d = 2.0 ** rng.integers(0, 25, 3)  # exact
    core = np.diag(np.arange(1.0, 4.0)) + 0.1 * rng.standard_normal((3, 3))
    slope = rng.standard_normal((3, 3))
    values, left, right = _eig(core)
    j = np.argsort(values)[1]
    x, y = d * right[:, j], left[:, j] / d
    _, found = solved(comm, d[:, None] * core / d, values[j] + 0.05, [slope])
    wrong = abs(found["p"][0] - y @ slope @ x) / (np.abs(y) @ np.abs(slope) @ np.abs(x))
    assert wrong <= max(found.relative_error, ROUNDED)
    assert found.relative_error <= 1e-6


def distance_from_a_root(A, lam):
    """Return |p / p'| of the characteristic polynomial at lam, exactly (Faddeev and LeVerrier)."""
    T = np.array([[Fraction(float(item)) for item in row] for row in A])
    n, one = (
        len(T),
        np.array([[Fraction(int(i == j)) for j in range(len(T))] for i in range(len(T))]),
    )
    M, c = one, [Fraction(1)]
    for k in range(1, n + 1):
        M = T @ M
        c.append(-np.trace(M) / k)
        M = M + c[-1] * one
    at = Fraction(float(lam))
    value = sum(a * at ** (n - k) for k, a in enumerate(c))
    return float(abs(value / sum((n - k) * a * at ** (n - k - 1) for k, a in enumerate(c[:-1]))))


@pytest.mark.parametrize("seed", [4, 66, 166])
def test_rounding_of_a_large_entry_is_not_taken_for_luck(comm, seed):
    """Residuals through the factor are rounding, of which a sample may be small by chance."""
    rng = np.random.default_rng(seed)
    A = np.diag(np.arange(1.0, 5.0)) + 0.5 * rng.standard_normal((4, 4))
    A[0, 0] = 1e6
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    A = turn @ A @ turn.T
    target = np.abs(np.linalg.eigvals(A)).min() + 0.05
    pencil = ga.Pencil(matrix(A, comm), owned=True)
    with pencil, ga.solve_eigenproblem(pencil, 1, target=target) as pairs:
        wrong = abs(pairs.values[0].imag) + distance_from_a_root(A, pairs.values[0].real)
        assert wrong <= pairs.errors[0] <= 1e-9

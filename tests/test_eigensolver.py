"""Which pairs come back, in which order, and what happens when they cannot."""

import numpy as np
import pytest
import scipy.linalg
from builders import (
    REAL,
    generalized,
    mass,
    matrix,
    nonsymmetric,
    rotation,
    stiffness,
    whole,
)
from petsc4py import PETSc
from slepc4py import SLEPc

import geneig_adjoint as ga
from geneig_adjoint import _petsc, extraction, right_pairs

WHICH = {
    "largest_magnitude": lambda lam: -np.abs(lam),
    "smallest_magnitude": np.abs,
    "largest_real": lambda lam: -lam.real,
    "smallest_real": lambda lam: lam.real,
    "largest_imaginary": lambda lam: -lam.imag,
    "smallest_imaginary": lambda lam: lam.imag,
}
# SLEPc's real build takes conjugates together and sorts by |Im|: the keys hold for complex scalars.
WHICH_HERE = dict(list(WHICH.items())[: 4 if REAL else 6])


def pencil_of(comm, A, B=None, **options):
    return ga.Pencil(matrix(A, comm), B if B is None else matrix(B, comm), **options)


def reference(A, B=None):
    return scipy.linalg.eigvals(A, B).astype(complex)


def assert_same_values(found, expected):
    # eps_tol is 1e-12; the eigenvalues here have condition numbers below 100.
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-9), (found, expected)


@pytest.mark.parametrize("target", [0.0, 2.2, 9.0, -1.0])
@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric"])
def test_pairs_nearest_to_the_target_by_distance(comm, kind, target):
    with generalized(10, comm, kind) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 4, target=target)
        arrays = {"symmetric": (stiffness(10), mass(10))}
        A, B = arrays.get(kind, (nonsymmetric(10), mass(10) + 0.1 * np.eye(10, k=2)))
        expected = np.sort(np.abs(reference(A, B) - target))
        distance = np.abs(pairs.values - target)
        assert_same_values(distance, expected[: pairs.count])
        assert pairs.info.sigma == target
        assert pairs.residuals.max() < 1e-12  # eps_tol
        pairs.close()


@pytest.mark.parametrize("which", WHICH_HERE)
def test_which_selects_and_sorts(comm, which):
    A = nonsymmetric(8)
    pairs = ga.solve_eigenproblem(pencil_of(comm, A), 3, which=which)
    key = WHICH[which]
    assert_same_values(key(pairs.values), np.sort(key(reference(A)))[: pairs.count])
    pairs.close()


def test_default_is_nearest_to_zero(comm):
    pairs = ga.solve_eigenproblem(pencil_of(comm, stiffness(6)), 2)
    assert_same_values(pairs.values, np.sort(reference(stiffness(6)).real)[:2])
    assert pairs.info.sigma == 0


@pytest.mark.parametrize("which", ["largest_magnitude", "largest_real"])
def test_ties_are_ordered_by_larger_imaginary_part(comm, which):
    pairs = ga.solve_eigenproblem(pencil_of(comm, rotation(6)), 4, which=which)
    assert_same_values(pairs.values, [3 + 3j, 3 - 3j, 2 + 2j, 2 - 2j])


def test_ties_about_the_target(comm):
    pairs = ga.solve_eigenproblem(pencil_of(comm, np.diag(np.arange(1.0, 8.0))), 3, target=3.5)
    # 3 and 4 are equally near: equal imaginary parts, then the larger real part.
    assert_same_values(pairs.values, [4, 3, 5])


COMPLETED = {"real": [2 + 2j, 2 - 2j], "complex": [2 + 2j]}


def test_conjugate_is_completed_in_the_real_build(comm, scalar_build):
    pairs = ga.solve_eigenproblem(pencil_of(comm, rotation(4)), 1, which="largest_magnitude")
    assert_same_values(pairs.values, COMPLETED[scalar_build])
    assert pairs.right.shape == pairs.left.shape == (4, len(COMPLETED[scalar_build]))


@pytest.mark.parametrize("count", [1, 2, 3] if REAL else [4])
def test_no_conjugate_is_cut_among_values_of_equal_size(comm, count):
    A = np.diag([0.0, 0.0, 0.0, 0.0, 0.5, 0.3])
    A[:2, :2] = [[1, -2], [2, 1]]
    A[2:4, 2:4] = [[-1, -2], [2, -1]]
    pairs = ga.solve_eigenproblem(pencil_of(comm, A), count, which="largest_magnitude")
    distance = np.abs(pairs.values.conj()[:, None] - pairs.values[None, :]).min(axis=1)
    assert distance.max() < 1e-9, pairs.values


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("declared", [None, "nhep"])
def test_all_pairs_of_a_tiny_problem(comm, n, declared):
    pairs = ga.solve_eigenproblem(pencil_of(comm, stiffness(n), problem_type=declared), n)
    assert_same_values(pairs.values, np.sort(reference(stiffness(n)).real))


def test_diagonal_of_one_row(comm):
    pairs = ga.solve_eigenproblem(pencil_of(comm, [[3.0]], [[2.0]]), 1)
    assert_same_values(pairs.values, [1.5])
    # x^H B x = 1 and the largest entry positive
    assert np.allclose(pairs.right, 2**-0.5, rtol=1e-14)


@pytest.mark.parametrize("count", [0, -1, 7, 1.5, None])
def test_count_must_be_possible(comm, count):
    with pytest.raises(ga.InputError, match=r"count must be in 1 ... 6.*got .*ask for fewer"):
        ga.solve_eigenproblem(pencil_of(comm, stiffness(6)), count)


@pytest.mark.parametrize(
    "given",
    [{"target": 1.0, "which": "largest_real"}, {"target": 1.0, "interval": (0, 1)}],
    ids=["which", "interval"],
)
def test_target_which_and_interval_exclude_each_other(comm, given):
    with pytest.raises(
        ga.InputError, match=rf"one of target, which and interval, got {' and '.join(given)}"
    ):
        ga.solve_eigenproblem(pencil_of(comm, stiffness(6)), 1, **given)


def test_unknown_which(comm):
    with pytest.raises(ga.InputError, match=r"one of largest_magnitude.*got 'biggest'"):
        ga.solve_eigenproblem(pencil_of(comm, stiffness(6)), 1, which="biggest")


@pytest.mark.parametrize("target", [np.nan, np.inf])
def test_target_must_be_finite(comm, target):
    with pytest.raises(ga.InputError, match=r"target must be finite"):
        ga.solve_eigenproblem(pencil_of(comm, stiffness(6)), 1, target=target)


@pytest.mark.parametrize("words", [{"phase": "smallest"}, {"left": "maybe"}], ids=["phase", "left"])
def test_words_that_do_not_exist(comm, words):
    name, value = next(iter(words.items()))
    with pytest.raises(ga.InputError, match=rf'{name} must be ".*got {value!r}'):
        ga.solve_eigenproblem(pencil_of(comm, stiffness(6)), 1, **words)


# -- what only one of the builds can do --


@pytest.mark.failure("too few pairs", through="api")
@pytest.mark.parametrize(
    ("request_", "converged"),
    [({"count": 10, "which": "largest_real"}, 0), ({"count": 20, "target": 1.0}, 3)],
    ids=["none", "some"],
)
def test_too_few_pairs_raise_with_those_that_converged(comm, request_, converged):
    options = {"eps_max_it": 1, "eps_ncv": request_["count"] + 5}
    with pytest.raises(
        ga.ConvergenceError, match=r"must give .* pairs, got .*raise eps_max_it"
    ) as caught:
        ga.solve_eigenproblem(
            pencil_of(comm, stiffness(200)), **request_, solver_parameters=options
        )
    error = caught.value
    found = np.array([]) if error.pairs is None else error.pairs.values
    assert len(found) >= converged
    exact = reference(stiffness(200)).real
    assert np.abs(found[:, None] - exact[None, :]).min(axis=1, initial=1.0).max(initial=0.0) < 1e-9
    assert error.iterations == 1
    assert error.reason == "DIVERGED_ITS"


def test_converged_part_can_be_closed_and_has_no_left_vectors(comm):
    options = {"eps_max_it": 1, "eps_ncv": 25}
    with pytest.raises(ga.ConvergenceError) as caught:
        ga.solve_eigenproblem(
            pencil_of(comm, stiffness(200)), 20, target=1.0, solver_parameters=options
        )
    with caught.value.pairs as pairs:
        assert pairs.left is None
        x = pairs.right
        assert np.allclose(whole(pairs, x.conj() * x).sum(axis=0), 1.0, rtol=1e-14)


def test_residuals_are_looked_at_whatever_the_solver_says(comm, monkeypatch):
    # As if SLEPc's pairs were worse than it believes.
    monkeypatch.setattr(right_pairs, "residual_limit", lambda tolerance: 0.0)
    pencil = pencil_of(comm, stiffness(30))
    with pytest.raises(
        ga.ConvergenceError, match=r"must have residuals below .* for pair"
    ) as caught:
        ga.solve_eigenproblem(pencil, 2, which="largest_real")
    assert caught.value.pairs.count == 2


def test_a_loose_tolerance_is_not_accepted_silently(comm):
    pairs = ga.solve_eigenproblem(
        pencil_of(comm, stiffness(60)), 2, target=0.0, solver_parameters={"eps_tol": 1e-3}
    )
    # The residual gate is 10 eps_tol: the user asked for it, and the pairs say how good they are.
    assert pairs.info.tolerance == 1e-3
    assert pairs.residuals.max() <= 1e-2


# -- a shift that hits an eigenvalue --


@pytest.mark.failure("shift on an eigenvalue", through="api")
@pytest.mark.parametrize(
    ("A", "B", "target", "expected"),
    [
        (np.diag(np.arange(1.0, 9.0)), None, 4.0, [4, 5, 3]),
        (np.diag(np.arange(0.0, 8.0)), None, 0.0, [0, 1, 2]),
        (np.diag(np.arange(1.0, 9.0)) + np.eye(8, k=1), None, 4.0, [4, 5, 3]),
        (np.diag(np.arange(0.0, 8.0)) + np.eye(8, k=-1), 2 * np.eye(8), 0.0, [0, 0.5, 1]),
    ],
    ids=["diagonal", "singular", "triangular", "singular_nonsymmetric"],
)
def test_shift_on_an_eigenvalue_is_moved_and_noted(comm, A, B, target, expected):
    pairs = ga.solve_eigenproblem(pencil_of(comm, A, B), 3, target=target)
    assert_same_values(pairs.values, expected)
    assert pairs.info.sigma != target
    assert "the shift was moved from" in " ".join(pairs.info.notes)


def test_a_without_entries_is_refused(comm):
    with pytest.raises(ga.InputError, match=r"A must have entries, got zeros only; check its el"):
        ga.solve_eigenproblem(pencil_of(comm, np.zeros((4, 4)), np.eye(4)), 2)


@pytest.mark.parametrize(("B", "kept"), [(2 * np.eye(5), 2), (None, 4)], ids=["B", "identity"])
def test_values_larger_than_a_product_with_b_can_show_are_infinite(comm, monkeypatch, B, kept):
    pencil = pencil_of(comm, np.diag(np.arange(5.0)) + np.eye(5, k=1), B)
    limit = 4.0 / (1e3 * np.finfo(float).eps * 2.0)
    values = np.array([1.0, 0.99 * limit, 1.01 * limit, 3 * limit, np.inf], dtype=complex)
    monkeypatch.setattr(_petsc, "converged_pairs", lambda *_, **__: (values, np.eye(5)))
    found, vectors = extraction.finite_pairs(SLEPc.EPS().create(comm), pencil)
    assert np.array_equal(found, values[:kept])
    assert np.array_equal(vectors, np.eye(5)[:, :kept])


def test_all_eigenvalues_infinite(comm):
    with pytest.raises(ga.InputError, match=r"B must have entries, got zeros only"):
        ga.solve_eigenproblem(pencil_of(comm, stiffness(5), np.zeros((5, 5))), 1)


def test_operator_cannot_have_a_target(comm):
    mat = PETSc.Mat().createPython((4, 4), Double(), comm=comm)
    mat.setUp()
    with pytest.raises(ga.InputError, match=r'needs assembled matrices.*which="largest_real"'):
        ga.solve_eigenproblem(ga.Pencil(mat), 1, target=1.0)


class Double:
    def mult(self, _, x, y):
        y.array[:] = 2 * x.array_r

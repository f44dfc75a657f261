"""A target that hits an eigenvalue: the values nearest to it are found all the same."""

import numpy as np
import pytest
import scipy.linalg
from builders import matrix
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga

TARGETS = [2.7, 2.7 + 0.3j][: 1 + COMPLEX_BUILD]
N = 120
STEP = 0.01
DENSE = 1000.0 + STEP * (np.arange(N) - N // 2)
"""A hundred values lie within a thousandth of the target."""


def nearest(values, target, count):
    return np.sort(np.abs(values - target))[:count]


def found(comm, A, count, target, **wanted):
    with (
        ga.Pencil(matrix(A, comm)) as pencil,
        ga.solve_eigenproblem(pencil, count, target=target, **wanted) as pairs,
    ):
        assert "the shift was moved" in pairs.info.notes[0]
        return pairs.values


@pytest.mark.parametrize("coupling", [0.0, 0.002])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_dense_spectrum(comm, count, coupling):
    # Upper triangular with a coupling; its eigenvalues have conditions up to 1.5.
    A = np.diag(DENSE) + np.diag(np.full(N - 1, coupling), 1)
    values = found(comm, A, count, 1000.0)
    np.testing.assert_allclose(
        np.sort(np.abs(values - 1000.0))[:count],
        nearest(DENSE, 1000.0, count),
        atol=1e-9,  # 1e-12 of the values
        rtol=0,
    )


def test_values_are_nearest_to_the_target_not_to_the_shift(comm):
    # The shift goes below 5, to where 4 is as near as 5.95 is not.
    values = found(comm, np.diag([5.0, 4.0, 5.95, 9.0, 12.0, 17.0, 1.0]), 2, 5.0)
    np.testing.assert_allclose(values, [5.0, 5.95], rtol=1e-12)


def test_several_shifts_that_hit(comm):
    # 5, and what lies 1e-8, 1e-6 and 1e-3 of it below, are eigenvalues.
    exact = 5.0 * (1.0 - np.array([0.0, 1e-8, 1e-6, 1e-3]))
    A = np.diag([*exact, 9.5, 12.0, 17.0, 1.0])
    with (
        ga.Pencil(matrix(A, comm)) as pencil,
        ga.solve_eigenproblem(pencil, 5, target=5.0, left=False) as pairs,
    ):
        np.testing.assert_allclose(np.sort(pairs.values.real), np.sort([*exact, 1.0]), rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("which", ["largest_imaginary", "smallest_imaginary"])
def test_ends_of_the_imaginary_axis(comm, which, count):
    # Rotations of different speed, and real values beyond them.
    heights = 1.0 + 0.1 * np.arange(25)
    A = np.diag(np.r_[100.0, -90.0, 80.0, -70.0, np.zeros(50)])
    for k, height in enumerate(heights):
        i = 4 + 2 * k
        A[i : i + 2, i : i + 2] = [[0.05 * k, height], [-height, 0.05 * k]]
    A += np.diag(np.full(53, 0.02), 1) - np.diag(np.diag(A, 1) * 0, 1)
    exact = np.linalg.eigvals(A)
    sign = {"largest_imaginary": 1.0, "smallest_imaginary": -1.0}[which]
    best = exact[np.argsort(-sign * exact.imag)][:count]
    with (
        ga.Pencil(matrix(A, comm)) as pencil,
        ga.solve_eigenproblem(pencil, count, which=which) as pairs,
    ):
        np.testing.assert_allclose(pairs.values[:count], best, rtol=1e-9)
        assert pairs.count == count * (1 if COMPLEX_BUILD else 2)  # and the conjugates
        assert not any("bordered" in note for note in pairs.info.notes)
        # The search for missed ones ends at the wanted end.
        assert pairs.info.completeness.mended == 0


def test_message_without_a_target_speaks_of_none(comm):
    B = np.diag([1.0, 1.0, 1.0, 1.0, 1e-14, 0.0])
    A = np.diag(np.arange(1.0, 7.0)) + np.diag(np.ones(5), 1)
    with (
        ga.Pencil(matrix(A, comm), matrix(B, comm)) as pencil,
        pytest.raises(ga.ConvergenceError) as caught,
    ):
        ga.solve_eigenproblem(pencil, 5, which="largest_real")
    assert "the target may hit" not in str(caught.value)


FREE_N = 20


def free_structure(damping):
    """Return a free chain in state-space form: 0 is a defective double eigenvalue."""
    K = 2 * np.eye(FREE_N) - np.eye(FREE_N, k=1) - np.eye(FREE_N, k=-1)
    K[0, 0] = K[-1, -1] = 1.0
    M = np.diag(1 + 0.1 * np.cos(np.arange(FREE_N)))
    zero, one = np.zeros((FREE_N, FREE_N)), np.eye(FREE_N)
    A = np.block([[zero, one], [-K, -damping * K]])
    return A, np.block([[one, zero], [zero, M]])


@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("target", [0.0, 0.01, -0.3])
@pytest.mark.parametrize("count", [2, 4, 5])
def test_elastic_modes_beside_a_defective_zero(comm, count, target, damping):
    A, B = free_structure(damping)
    exact = np.sort(np.abs(scipy.linalg.eigvals(A, B) - target))
    with (
        ga.Pencil(matrix(A, comm), matrix(B, comm)) as pencil,
        ga.solve_eigenproblem(pencil, count, target=target, left=False) as pairs,
    ):
        distances = np.abs(pairs.values - target)
        # The zeros split by the root of rounding.
        np.testing.assert_allclose(distances[:count], exact[:count], atol=1e-6, rtol=0)


@pytest.mark.parametrize("target", [-1e-15, -1e-12, 1e-10])
def test_targets_that_are_zero_but_for_rounding_find_rigid_motions(comm, target):
    n = 30
    ring = 2.0 * np.eye(n) - np.roll(np.eye(n), 1, axis=0) - np.roll(np.eye(n), -1, axis=0)
    expected = 2.0 - 2.0 * np.cos(2.0 * np.pi * np.array([0, 1, 1]) / n)
    with (
        ga.Pencil(matrix(ring, comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 3, target=target) as pairs,
    ):
        # Rounding of a matrix of size 4.
        np.testing.assert_allclose(np.sort(pairs.values.real), expected, atol=1e-13)


@pytest.mark.parametrize("target", TARGETS)
def test_complex_targets_of_hermitian_pencils_count_by_their_real_part(comm, target):
    A = np.diag(np.arange(1.0, 9.0))
    with ga.Pencil(matrix(A, comm)) as pencil, ga.solve_eigenproblem(pencil, 2, target=target) as p:
        np.testing.assert_allclose(p.values, [3.0, 2.0], rtol=1e-12)

"""Nonsymmetric tracking where the criterion exceeds 1: the rival decides how sure it is."""

import numpy as np
import pytest
from pencils import petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj


def solved(comm, A, **settings):
    wanted = {"target": 0.0, "count": len(A), **settings}
    return ga.solve_eigenproblem(ga.Pencil(petsc_matrix(comm, A)), **wanted)


def raw(old, new):
    """Return |y^H x'| |y'^H x| over |y^H x| |y'^H x'|, each with numpy."""
    (_, x), (_, z) = old, new
    y, w = np.linalg.inv(x).conj().T, np.linalg.inv(z).conj().T
    return np.abs((y.conj().T @ z) * (w.conj().T @ x).T)


def ordered(A):
    values, vectors = np.linalg.eig(A)
    nearest = np.argsort(np.abs(values))
    return values[nearest], vectors[:, nearest]


START = np.array([[-0.73335106, 3.40853996], [-0.13609515, 0.71002171]])  # -0.25030, 0.22697
END = np.array([[-2.19711716, 3.56770015], [0.4778113, 2.20490171]])  # -2.55523, 2.56302


def test_the_better_of_two_partners_above_one_is_taken(comm):
    old, new = ordered(START), ordered(END)
    # By small steps: both values stay real and never come nearer than 0.3.
    path = [np.linalg.eigvals(START + t * (END - START)) for t in np.linspace(0, 1, 101)]
    assert np.abs(np.imag(path)).max() == 0
    assert np.abs(np.diff(np.real(path), axis=1)).min() > 0.3
    score = raw(old, new)
    assert score.min() > 1
    tracking = ga.track_modes(solved(comm, START), solved(comm, END))
    assert np.sign(new[0][list(tracking.order)]).tolist() == np.sign(old[0]).tolist()
    # 2.27 against 1.27; rounding times conditions below 10
    expected = score.max() / (2 * score.min())
    np.testing.assert_allclose(tracking.confidence, expected, rtol=1e-10)
    assert tracking.lost == ()


@pytest.mark.parametrize("value", [4.0, 100.0])
def test_two_equal_partners_are_no_continuation(comm, value):
    # +-i meet at 0 and part as +-sqrt(value): neither of these continues either of those.
    old, new = (np.array([[0.0, 1.0], [p, 0.0]]) for p in (-1.0, value))
    tracking = ga.track_modes(solved(comm, old), solved(comm, new))
    assert raw(ordered(old), ordered(new)).min() > 0.6  # the formula alone is above the minimum
    np.testing.assert_allclose(tracking.confidence, 0.5, rtol=1e-10)  # rounding
    assert tracking.lost == (0, 1)


def test_a_loop_through_an_exceptional_point_is_refused(comm):
    A, slope = (petsc_matrix(comm, np.array(M)) for M in ([[0.0, 1.0], [0, 0]], [[0.0, 0], [1, 0]]))
    model = ga.MatrixModel(A, None, {"p": [(slope, None)]})
    with ga.value_and_gradient(model, obj.Eigenvalue(0), count=2) as f:
        f({"p": np.array([-1.0])})
        with pytest.raises(ga.ModeTrackingError, match=r"modes \[0\] must continue") as caught:
            f({"p": np.array([100.0])})
    assert caught.value.confidence == pytest.approx((0.5,))


def test_nearly_parallel_vectors_without_left_ones_are_no_proof(comm):
    # Right vectors 0.05 apart: each new one resembles both old ones.
    A = np.array([[1.0, 20.0], [0.0, 2.0]])
    old, new = solved(comm, A, left=False), solved(comm, 1.01 * A, left=False)
    tracking = ga.track_modes(old, new)
    assert tracking.order == (0, 1)
    assert (tracking.confidence < 0.51).all()
    # With left vectors there is no doubt.
    tracking = ga.track_modes(solved(comm, A), solved(comm, 1.01 * A))
    np.testing.assert_allclose(tracking.confidence, 1.0, rtol=0, atol=1e-10)


def test_partners_in_the_same_cluster_are_no_rivals(comm):
    # A double value splits in a skew basis; then the plane of two simple ones is a cluster.
    X = np.array([[1.0, 0.6, 0.3, 0.1], [0.0, 1.0, 0.5, 0.2], [0.1, 0.0, 1.0, 0.4], [0, 0.2, 0, 1]])
    together, apart = (
        solved(comm, X @ np.diag(values) @ np.linalg.inv(X), target=0.9, count=3)
        for values in ([1.0, 2.0, 2.0, 5.0], [1.0, 1.999, 2.001, 5.0])
    )
    assert together.clusters == ((0,), (1, 2))
    for previous, pairs in ((together, apart), (apart, together), (together, together)):
        tracking = ga.track_modes(previous, pairs)
        assert tracking.order[0] == 0
        np.testing.assert_allclose(tracking.confidence, 1.0, rtol=0, atol=1e-9)  # eps_tol

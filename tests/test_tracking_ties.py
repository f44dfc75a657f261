"""Mode tracking where the criterion ties, at the edge of the confidence, and across clusters."""

import numpy as np
import pytest
import scipy.linalg
from pencils import petsc_matrix
from test_track_modes import solved

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

# -- ties --


@pytest.mark.parametrize("n", [4, 8, 16])
def test_modes_of_equal_confidence_keep_their_order(comm, n):
    # All assurances are 1 / n, up to rounding: the order of the eigenvalues decides.
    values = np.diag(np.arange(1.0, n + 1))
    Q = scipy.linalg.hadamard(n) / np.sqrt(n)
    tracking = ga.track_modes(
        solved(comm, values, count=n), solved(comm, Q @ values @ Q.T, count=n)
    )
    np.testing.assert_allclose(tracking.confidence, 1 / n, rtol=1e-9)
    assert tracking.order == tuple(range(n))


@pytest.mark.parametrize("distance", [1e-3, 0.05])
def test_confidence_decides_before_the_order(comm, distance):
    # Two modes change places; each is nearer to its like by a few percent only.
    values, swapped = np.diag([1.0, 2.0, 5.0]), np.diag([2.0, 1.0, 5.0])
    angle = np.pi / 4 - distance  # assurances 1/2 +- distance
    Q = np.eye(3)
    Q[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tracking = ga.track_modes(
        solved(comm, values, count=2), solved(comm, Q @ swapped @ Q.T, count=2)
    )
    assert tracking.order == (1, 0)
    np.testing.assert_allclose(tracking.confidence, np.cos(angle) ** 2, rtol=1e-9)


# -- clusters on both sides --


def planes(theta, split):
    """Return A and its like: the double value 2 has a plane that theta tilts into e_3.

    ``split`` parts the tilted one into simple values, along its own basis.
    """
    tilt = np.eye(5)
    tilt[np.ix_([2, 3], [2, 3])] = [
        [np.cos(theta), -np.sin(theta)],
        [np.sin(theta), np.cos(theta)],
    ]
    turn = np.eye(5)
    turn[1:3, 1:3] = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
    V = tilt @ turn
    return np.diag([1.0, 2.0, 2.0, 5.0, 7.0]), V @ np.diag([1.0, 2.0, 2.0 + split, 5.0, 7.0]) @ V.T


def test_a_simple_mode_in_a_new_cluster_is_compared_with_its_span(comm):
    # Old values 2 and 2.1 are simple, the new plane is one cluster: |P e|^2 in the new span.
    theta = 0.3
    together, _ = planes(theta, 0.0)
    _, apart = planes(theta, 0.1)
    old, new = solved(comm, apart, count=4), solved(comm, together, count=4)
    vectors = np.linalg.eigh(apart)[1]
    expected = (vectors[1:3] ** 2).sum(axis=0)[1:3]  # the new plane is rows 1 and 2
    tracking = ga.track_modes(old, new)
    np.testing.assert_allclose(np.sort(tracking.confidence[1:3]), np.sort(expected), rtol=1e-9)
    assert sorted(tracking.order) == [0, 1, 2, 3]


def triple(comm):
    """Old: a plane of the value 2; new: that plane, and a third vector, of the value 2."""
    V = scipy.linalg.qr(np.eye(5) + 0.7 * np.random.default_rng(5).standard_normal((5, 5)))[0]
    old = np.diag([1.0, 2.0, 2.0, 5.0, 7.0])
    W = np.eye(5)
    W[1:4, 1:4] = scipy.linalg.qr(V[1:4, 1:4])[0]
    return solved(comm, old, count=4), solved(comm, W @ np.diag([1.0, 2, 2, 2, 7.0]) @ W.T, count=4)


@pytest.mark.parametrize("forward", [True, False], ids=["grows", "shrinks"])
def test_a_cluster_that_grows_or_shrinks_is_found_again(comm, forward):
    # The larger span holds the smaller one: its members are certain, whichever came first.
    previous, pairs = triple(comm)[:: 1 if forward else -1]
    tracking = ga.track_modes(previous, pairs)
    assert tracking.lost == ()
    assert sorted(tracking.order) == [0, 1, 2, 3]
    np.testing.assert_allclose(tracking.confidence, 1.0, rtol=0, atol=1e-9)


# -- the smallest confidence, and what is done with lost modes --


def tilted(comm, assurances):
    """A(t) from diag(1, ..., 6) to the same values; mode j has the given assurance with itself.

    Every mode is mixed with a partner, 0 with 1, 2 with 3, 4 with 5.
    """
    values, Q = np.diag(np.arange(1.0, 7.0)), np.zeros((6, 6))
    for k, assurance in enumerate(assurances):
        c, s = np.sqrt(assurance), np.sqrt(1 - assurance)
        Q[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[c, -s], [s, c]]
    L = np.eye(6) + 0.1 * np.eye(6, k=1)  # no row is alone in its matrix
    mats = [L.T @ values @ L, L.T @ L, L.T @ (Q @ values @ Q.T - values) @ L]
    A, B, change = (petsc_matrix(comm, M) for M in mats)
    return ga.MatrixModel(A, B, {"t": [(change, None)]})


START, END = {"t": np.zeros(1)}, {"t": np.ones(1)}


@pytest.mark.parametrize("assurance", [0.61, 0.7, 0.89])
def test_a_confidence_of_six_tenths_is_enough(comm, assurance):
    model = tilted(comm, [assurance, 1.0, 1.0])
    with ga.value_and_gradient(model, obj.Eigenvalue(0), count=4) as f:
        f(START)
        assert f(END)[0] == pytest.approx(1.0, rel=1e-10)
    with model.assemble(START) as old, model.assemble(END) as new:
        tracking = ga.track_modes(
            ga.solve_eigenproblem(old, count=4), ga.solve_eigenproblem(new, count=4)
        )
    assert tracking.lost == ()
    assert tracking.order == (0, 1, 2, 3)
    np.testing.assert_allclose(tracking.confidence, [assurance] * 2 + [1.0] * 2, rtol=1e-9)


def test_less_than_six_tenths_is_not(comm):
    with ga.value_and_gradient(tilted(comm, [0.59, 1.0, 1.0]), obj.Eigenvalue(0), count=4) as f:
        f(START)
        with pytest.raises(ga.ModeTrackingError, match=r"confidence of 0.6, got 0.59 at best"):
            f(END)


@pytest.mark.parametrize("assurance", [0.45, 0.41])
def test_places_of_lost_modes_go_to_the_others_in_their_order(comm, assurance):
    # Modes 4 and 5 look a little more like each other than like themselves: neither is found.
    seen = []

    def watched(pairs):
        seen.append((pairs.values.real, pairs.info.notes))
        return obj.Eigenvalue(0)(pairs)

    model = tilted(comm, [1.0, 1.0, assurance])
    with ga.value_and_gradient(model, watched, count=6) as f:
        f(START)
        f(END)
    with model.assemble(START) as old, model.assemble(END) as new:
        tracking = ga.track_modes(
            ga.solve_eigenproblem(old, count=6), ga.solve_eigenproblem(new, count=6)
        )
    assert tracking.order == (0, 1, 2, 3, 5, 4)
    assert tracking.lost == (4, 5)
    # by their eigenvalues, not by a likeness that means nothing
    np.testing.assert_allclose(seen[1][0], np.arange(1.0, 7.0), rtol=1e-9)
    assert seen[1][1] == ("modes 4, 5 are lost: others have their places",)


def test_modes_that_are_found_again_keep_their_places_beside_lost_ones(comm):
    # 0 and 1 change places for certain, 4 and 5 are lost.
    seen = []

    def watched(pairs):
        seen.append((pairs.values.real, pairs.info.notes))
        return obj.Eigenvalue(0)(pairs)

    with ga.value_and_gradient(tilted(comm, [0.1, 1.0, 0.45]), watched, count=6) as f:
        f(START)
        f(END)
    np.testing.assert_allclose(seen[1][0], [2.0, 1.0, 3.0, 4.0, 5.0, 6.0], rtol=1e-9)
    assert seen[1][1] == (
        "modes 0, 1 changed places: confidence 0.90",
        "modes 4, 5 are lost: others have their places",
    )

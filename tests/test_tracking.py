"""Mode tracking: through crossings, out of the window, inside clusters, and when it is lost."""

import numpy as np
import pytest
import scipy.linalg
from builders import stiffness
from pencils import petsc_matrix
from test_changing_modes import HALF, N, two_chains

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

CHAIN = np.linalg.eigvalsh(stiffness(HALF))


def point(s):
    """The lowest values are s CHAIN[0] and CHAIN[0]: they cross at s = 1."""
    return {"s": np.array([s]), "t": np.zeros(N)}


PATH = [0.5, 0.7, 0.9, 0.97, 1.03, 1.2, 1.5]


def crossings(kind):
    """Return the s where modes of the first chain meet their like in the convected second one."""
    second = np.linalg.eigvals(stiffness(HALF) + kind * np.eye(HALF, k=1))
    return np.sort(second.real) / CHAIN


# -- in loops --


@pytest.mark.parametrize("kind", [0.0, 0.2], ids=["symmetric", "nonsymmetric"])
@pytest.mark.parametrize("coupling", [0.0, 1e-7])
def test_a_mode_stays_itself_through_a_crossing(comm, kind, coupling):
    model = two_chains(comm, coupling, convected=kind)
    path = np.array(PATH) * crossings(kind)[0]
    with ga.value_and_gradient(model, obj.Eigenvalue(0), count=2) as f:
        found = [f(point(s)) for s in path]
    values = [value for value, _ in found]
    # Mode 0 lies in the first chain, whose values are s times those of a chain of stiffness 1.
    np.testing.assert_allclose(values, path * CHAIN[0], rtol=1e-6)
    np.testing.assert_allclose([g["s"][0] for _, g in found], CHAIN[0], rtol=1e-6)


def test_without_tracking_the_lowest_value_is_taken(comm):
    with ga.value_and_gradient(two_chains(comm), obj.Eigenvalue(0), count=2, track=False) as f:
        values = [f(point(s))[0] for s in PATH]
    np.testing.assert_allclose(values, np.minimum(PATH, 1.0) * CHAIN[0], rtol=1e-10)


def test_sign_and_phase_row_go_with_the_mode(comm):
    c = np.r_[np.arange(1.0, HALF + 1), np.zeros(HALF)]
    with ga.value_and_gradient(two_chains(comm), obj.LinearOutput(c, 0), count=2) as f:
        values = [f(point(s))[0] for s in PATH]
    # The lowest mode of a chain has one sign, and does not depend on the stiffness.
    shape = np.abs(np.linalg.eigh(stiffness(HALF))[1][:, 0])
    np.testing.assert_allclose(values, c[:HALF] @ shape, rtol=1e-8)


@pytest.mark.parametrize("kind", [0.0, 0.2], ids=["symmetric", "nonsymmetric"])
def test_the_row_of_the_phase_is_kept_through_a_crossing(comm, kind):
    # The second mode of a chain has two peaks of opposite sign; a tilt decides which is higher.
    tilt = np.r_[np.linspace(-1.0, 1.0, HALF), np.zeros(HALF)]
    at_peak = np.eye(N)[1]
    products, peaks = [], []

    def output(pairs):
        products.append(np.diag(pairs.inner(pairs.left, pairs.right)))
        return obj.LinearOutput(at_peak, 2)(pairs)

    model = two_chains(comm, convected=kind)
    with ga.value_and_gradient(model, output, count=4) as f:
        for s, tau in np.array([[0.9, -0.05], [1.1, 0.05]]) * [crossings(kind)[1], 1.0]:
            value, _ = f({"s": np.array([s]), "t": tau * tilt})
            A = s * stiffness(HALF) + np.diag(tau * tilt[:HALF])
            x = np.linalg.eigh(A)[1][:, 1]
            assert value == pytest.approx(abs(x[1]), rel=1e-8)
            peaks.append(np.abs(x).argmax())
    assert peaks == [1, 4]
    # y^H x = 1: left vectors turn with the right ones.
    np.testing.assert_allclose(products, 1.0, rtol=0, atol=1e-8)


def test_a_mode_that_leaves_the_window_is_looked_for_among_more(comm):
    # At s = 9 the first mode of the first chain lies above two modes of the second one.
    path = [0.5, 0.9, 2.0, 9.0]
    with ga.value_and_gradient(two_chains(comm), obj.Eigenvalue(0), count=1) as f:
        values = [f(point(s))[0] for s in path]
    np.testing.assert_allclose(values, np.array(path) * CHAIN[0], rtol=1e-10)


def test_symmetric_objectives_mean_the_modes_that_are_wanted_now(comm):
    ks = obj.KSMinimum(rho=1e3, of="eigenvalue")
    assert ks.symmetric
    assert not obj.KSMinimum(pairs=(0, 1)).symmetric
    assert obj.SpectralFunction(np.ones(N)).symmetric
    with ga.value_and_gradient(two_chains(comm), ks, count=2) as f:
        values = [f(point(s))[0] for s in PATH]
    np.testing.assert_allclose(values, np.minimum(PATH, 1.0) * CHAIN[0], rtol=0.05)


def test_a_mode_is_followed_while_the_objective_does_not_look_at_it(comm):
    bound = 1.1 * CHAIN[0]

    def excess(pairs):
        bar = np.zeros(pairs.count)
        above = max(0.0, pairs.values[0].real - bound)
        bar[0] = 2 * above
        return above**2, ga.EigenCotangent(values=bar)

    with ga.value_and_gradient(two_chains(comm), excess, count=2) as f:
        values = [f(point(s))[0] for s in PATH]
    expected = np.maximum(0.0, np.array(PATH) * CHAIN[0] - bound) ** 2
    # The square of a value of 1e-2 that is right to eps_tol 1e-12
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_notes_say_what_changed_places(comm):
    notes = []

    def watched(pairs):
        notes.append(pairs.info.notes)
        return obj.Eigenvalue(0)(pairs)

    with ga.value_and_gradient(two_chains(comm), watched, count=2) as f:
        for s in (0.7, 0.9, 1.2):
            f(point(s))
    assert notes[1] == ()
    assert notes[2] == ("modes 0, 1 changed places: confidence 1.00",)


def test_neighbours_of_a_mode_found_among_more_come_with_it(comm):
    # Without its neighbour at 1e-4 nobody could tell how well its derivative is known.
    L = np.eye(8) + 0.1 * np.eye(8, k=1)
    A = L.T @ np.diag([0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0]) @ L
    first = petsc_matrix(comm, np.outer(L[0], L[0]))
    seen = []

    def watched(pairs):
        seen.append(pairs.values.real)
        return obj.Eigenvalue(0)(pairs)

    model = ga.MatrixModel(
        petsc_matrix(comm, A), petsc_matrix(comm, L.T @ L), {"t": [(first, None)]}
    )
    with ga.value_and_gradient(model, watched, count=1) as f:
        f({"t": np.zeros(1)})
        f({"t": np.array([3.4999])})
    np.testing.assert_allclose(seen[1], [3.9999, 4.0], rtol=1e-9)  # eps_tol 1e-12


# -- lost modes --


def from_to(comm, values, Q):
    """A(t) and B with the given values, and at t = 1 vectors that are turned by Q."""
    n = len(values)
    L = np.eye(n) + 0.1 * np.eye(n, k=1)  # no row is alone in its matrix
    start, end = np.diag(values), Q @ np.diag(values) @ Q.T
    A, change, B = (petsc_matrix(comm, L.T @ M @ L) for M in (start, end - start, np.eye(n)))
    return ga.MatrixModel(A, B, {"t": [(change, None)]})


def turned(comm):
    """A(t) from diag(1, 2, 3, 4) to the same values with vectors between all of those."""
    values = np.diag(np.arange(1.0, 5.0))
    Q = scipy.linalg.hadamard(4) / 2  # every assurance is 1/4
    mats = [petsc_matrix(comm, M) for M in (values, Q @ values @ Q.T - values)]
    return ga.MatrixModel(mats[0], None, {"t": [(mats[1], None)]})


@pytest.mark.failure("lost mode", through="api")
def test_a_lost_mode_is_an_error_with_its_numbers(comm):
    model = turned(comm)
    with ga.value_and_gradient(model, obj.Eigenvalue(1), count=2) as f:
        f({"t": np.zeros(1)})
        with pytest.raises(
            ga.ModeTrackingError, match=r"modes \[1\] must continue .*smaller steps.*track=False"
        ) as caught:
            f({"t": np.ones(1)})
        assert caught.value.modes == (1,)
        assert caught.value.confidence == pytest.approx((0.25,))
        # Smaller steps succeed afterwards: nothing of the failed call is kept.
        f({"t": np.array([0.02])})


def test_lost_modes_that_the_objective_does_not_touch_do_not_matter(comm):
    # Modes 3 and 4 are mixed beyond recognition, mode 0 stays.
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
    Q = np.eye(5)
    Q[3:, 3:] = turn
    model = from_to(comm, np.arange(1.0, 6.0), Q)
    notes = []

    def watched(pairs):
        notes.append(pairs.info.notes)
        return obj.Eigenvalue(0)(pairs)

    with ga.value_and_gradient(model, watched, count=5) as f:
        f({"t": np.zeros(1)})
        assert f({"t": np.ones(1)})[0] == pytest.approx(1.0, rel=1e-10)
    assert notes[1] == ("modes 3, 4 are lost: others have their places",)
    with ga.value_and_gradient(model, obj.Eigenvalue(3), count=5) as f:
        f({"t": np.zeros(1)})
        with pytest.raises(ga.ModeTrackingError, match=r"modes \[3\]"):
            f({"t": np.ones(1)})


def singular_mass(comm, split):
    """Three finite values 1, 2, 2 + t."""
    L = np.eye(6) + 0.1 * np.eye(6, k=1)
    A = L.T @ np.diag([1.0, 2.0, 2.0, 1.0, 1.0, 1.0]) @ L
    B = L.T @ np.diag([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) @ L
    mats = [petsc_matrix(comm, M) for M in (A, B, L.T @ split @ L)]
    return ga.MatrixModel(mats[0], mats[1], {"t": [(mats[2], None)]})


def test_a_lost_mode_is_said_where_no_more_pairs_exist(comm):
    Q = np.eye(6)
    Q[:3, :3] -= 2 / 3  # a reflection: assurances 1/9 and 4/9
    values = np.diag([1.0, 2.0, 4.0, 0.0, 0.0, 0.0])
    model = singular_mass(comm, Q @ values @ Q.T - values)
    with ga.value_and_gradient(model, obj.Eigenvalue(0), count=1) as f:
        f({"t": np.zeros(1)})
        with pytest.raises(ga.ModeTrackingError, match=r"modes \[0\] must continue"):
            f({"t": np.ones(1)})


def test_places_that_no_longer_exist(comm):
    def total(pairs):
        return float(pairs.values.real.sum()), ga.EigenCotangent(values=np.ones(pairs.count))

    split = np.diag([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    with ga.value_and_gradient(singular_mass(comm, split), total, count=2) as f:
        assert f({"t": np.zeros(1)})[0] == pytest.approx(5.0, rel=1e-10)  # completed by the copy
        with pytest.raises(
            ga.ModeTrackingError, match=r"modes \[2\] must keep .*only 2 pairs.*raise count"
        ):
            f({"t": np.ones(1)})

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


# -- in loops --


@pytest.mark.parametrize("kind", [0.0, 0.2], ids=["symmetric", "nonsymmetric"])
@pytest.mark.parametrize("coupling", [0.0, 1e-7])
def test_a_mode_stays_itself_through_a_crossing(comm, kind, coupling):
    model = two_chains(comm, coupling, convected=kind)
    with ga.value_and_gradient(model, obj.Eigenvalue(0), count=2) as f:
        found = [f(point(s)) for s in PATH]
    values = [value for value, _ in found]
    # Mode 0 lies in the first chain, whose values are s times those of a chain of stiffness 1.
    np.testing.assert_allclose(values, np.array(PATH) * CHAIN[0], rtol=1e-6)
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


# -- lost modes --


def turned(comm):
    """A(t) from diag(1, 2, 3, 4) to the same values with vectors between all of those."""
    values = np.diag(np.arange(1.0, 5.0))
    Q = scipy.linalg.hadamard(4) / 2  # every assurance is 1/4
    mats = [petsc_matrix(comm, M) for M in (values, Q @ values @ Q.T - values)]
    return ga.MatrixModel(mats[0], None, {"t": [(mats[1], None)]})


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
    values = np.arange(1.0, 6.0)
    change = Q @ np.diag(values) @ Q.T - np.diag(values)
    model = ga.MatrixModel(
        petsc_matrix(comm, np.diag(values)), None, {"t": [(petsc_matrix(comm, change), None)]}
    )
    with ga.value_and_gradient(model, obj.Eigenvalue(0), count=5) as f:
        f({"t": np.zeros(1)})
        assert f({"t": np.ones(1)})[0] == pytest.approx(1.0, rel=1e-12)
    with ga.value_and_gradient(model, obj.Eigenvalue(3), count=5) as f:
        f({"t": np.zeros(1)})
        with pytest.raises(ga.ModeTrackingError, match=r"modes \[3\]"):
            f({"t": np.ones(1)})


# -- track_modes itself --


def solved(comm, A, B=None, **settings):
    pencil = ga.Pencil(*[None if M is None else petsc_matrix(comm, M) for M in (A, B)])
    return ga.solve_eigenproblem(pencil, **{"target": 0.9, **settings})


def test_members_of_a_cluster_are_compared_with_its_span(comm):
    # A double value splits, meets again in another basis: the plane is the same.
    values = np.diag([1.0, 2.0, 2.0, 5.0])
    split = values.copy()
    split[1:3, 1:3] += 1e-3 * np.array([[0.3, 0.8], [0.8, -0.4]])
    together, apart = solved(comm, values, count=3), solved(comm, split, count=3)
    for previous, pairs in ((together, apart), (apart, together), (together, together)):
        tracking = ga.track_modes(previous, pairs)
        assert sorted(tracking.order) == [0, 1, 2]
        assert tracking.order[0] == 0
        assert tracking.lost == ()
        np.testing.assert_allclose(tracking.confidence, 1.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["weighted", "buckling", "nonsymmetric", "without left"])
def test_confidence_is_that_of_the_formula(comm, kind):
    rng = np.random.default_rng(6)
    n = 6
    L = np.eye(n) + 0.3 * rng.standard_normal((n, n))
    B = L @ L.T
    A = L @ np.diag([1.0, 2.2, 3.1, 4.5, 6.0, 8.0]) @ L.T
    change = 0.3 * rng.standard_normal((n, n))
    if kind in {"weighted", "buckling"}:
        change = change + change.T
    if kind == "buckling":
        signs = np.diag([1.0, -1 / 2.2, 1 / 3.1, 1 / 4.5, -1 / 6.0, 1 / 8.0])
        A, B = B, L @ signs @ L.T
    if kind in {"nonsymmetric", "without left"}:
        A = A + 0.5 * np.triu(rng.standard_normal((n, n)), 1)
    left = kind != "without left"
    target = 0.0 if kind == "buckling" else 0.9
    old = solved(comm, A, B, count=3, left=left, target=target)
    new = solved(comm, A + change, B, count=3, left=left, target=target)
    x, z = old.right, new.right
    weights = {"weighted": B, "buckling": A + change, "without left": np.eye(n)}
    if kind == "nonsymmetric":
        y, w = old.left, new.left
        expected = np.abs(y.conj().T @ B @ z) * np.abs(w.conj().T @ B @ x).T
        expected /= np.outer(np.abs(np.diag(y.conj().T @ B @ x)), 1.0 + np.zeros(3))
    else:
        W = weights[kind]
        expected = np.abs(x.conj().T @ W @ z) ** 2 / np.outer(
            np.diag(x.conj().T @ W @ x).real, np.diag(z.conj().T @ W @ z).real
        )
    tracking = ga.track_modes(old, new)
    np.testing.assert_allclose(
        tracking.confidence,
        np.clip(expected[range(3), tracking.order], 0, 1),
        atol=1e-9,  # eps_tol 1e-12 of the vectors
    )
    assert sorted(tracking.order) == [0, 1, 2]


def test_scale_of_the_vectors_does_not_matter(comm):
    A = np.diag([1.0, 2.2, 3.1]) + 0.4 * np.triu(np.ones((3, 3)), 1)
    change = 0.2 * np.arange(9.0).reshape(3, 3)
    found = [
        ga.track_modes(
            solved(comm, A, normalization=norm, count=3),
            solved(comm, A + change, normalization="2", count=3),
        )
        for norm in ("2", ("component", 0))
    ]
    assert found[0].order == found[1].order
    np.testing.assert_allclose(found[0].confidence, found[1].confidence, rtol=0, atol=1e-10)


def test_complex_pairs_are_told_from_their_conjugates(comm):
    block = np.array([[1.0, 0.8], [-0.8, 1.0]])
    A = np.zeros((4, 4))
    A[:2, :2], A[2:, 2:] = block, 1.7 * block
    change = 0.05 * np.arange(16.0).reshape(4, 4) / 16
    old, new = (solved(comm, M, count=4) for M in (A, A + change))
    tracking = ga.track_modes(old, new)
    moved = new.values[list(tracking.order)]
    assert np.array_equal(np.sign(moved.imag), np.sign(old.values.imag))
    assert tracking.confidence.min() > 0.95


def test_fewer_pairs_than_before_leave_modes_without_continuation(comm):
    A = np.diag(np.arange(1.0, 6.0))
    tracking = ga.track_modes(solved(comm, A, count=4), solved(comm, A, count=2))
    assert tracking.order == (0, 1, -1, -1)
    assert tracking.lost == (2, 3)


def test_reordered_pairs_keep_what_belongs_together(comm):
    A = np.diag([1.0, 2.0, 2.0, 5.0])
    pairs = solved(comm, A, count=4)
    found = pairs.reordered([3, 1, 2])
    np.testing.assert_array_equal(found.values, pairs.values[[3, 1, 2]])
    np.testing.assert_array_equal(found.right, pairs.right[:, [3, 1, 2]])
    np.testing.assert_array_equal(found.left, pairs.left[:, [3, 1, 2]])
    assert found.clusters == ((0,), (1, 2))
    assert found.right.flags.f_contiguous
    assert found.factor is pairs.factor


@pytest.mark.parametrize("minimum", [-0.1, 1.5])
def test_wrong_minimum(comm, minimum):
    pairs = solved(comm, np.diag([1.0, 2.0]))
    with pytest.raises(ga.InputError, match=r"minimum must lie in \[0, 1\]"):
        ga.track_modes(pairs, pairs, minimum=minimum)


def test_pairs_of_another_size_are_refused(comm):
    with pytest.raises(ga.InputError, match="pairs of the same layout"):
        ga.track_modes(solved(comm, np.diag([1.0, 2.0])), solved(comm, np.diag([1.0, 2.0, 3.0])))


def test_refilled_matrices_of_the_previous_pairs_are_not_used(comm):
    model = two_chains(comm)
    with model.assemble(point(0.5)) as pencil:
        previous = ga.solve_eigenproblem(pencil, count=2, keep_factor=False)
        model.assemble(point(1.5), out=pencil)
        pairs = ga.solve_eigenproblem(pencil, count=2, keep_factor=False)
        tracking = ga.track_modes(previous, pairs)
    assert tracking.order == (1, 0)
    np.testing.assert_allclose(tracking.confidence, 1.0, rtol=0, atol=1e-12)

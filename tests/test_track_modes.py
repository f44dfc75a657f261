"""`track_modes` and `Eigenpairs.reordered`: the criterion, clusters, scale, refusals."""

import numpy as np
import pytest
from pencils import petsc_matrix
from test_changing_modes import two_chains
from test_tracking import point

import geneig_adjoint as ga


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


def test_span_of_a_nonsymmetric_cluster(comm):
    # |y^H P x| with P the projector on the new plane: terms of its basis cancel in part.
    rng = np.random.default_rng(43)
    n = 6
    X = np.eye(n) + 0.8 * rng.standard_normal((n, n))
    Z = X + 0.4 * rng.standard_normal((n, n))
    values = np.diag([1.0, 2.0, 2.0, 5.0, 6.0, 7.0])
    apart = np.diag([1.0, 1.9, 2.1, 5.0, 6.0, 7.0])
    old = solved(comm, X @ apart @ np.linalg.inv(X), count=3)
    new = solved(comm, Z @ values @ np.linalg.inv(Z), count=3)
    assert new.clusters == ((0,), (1, 2))
    P = Z[:, 1:3] @ np.linalg.inv(Z)[1:3]
    expected = np.abs(np.diag(np.linalg.inv(X) @ P @ X))[1:3]
    assert (expected < 0.9).all()  # not clipped
    tracking = ga.track_modes(old, new)
    assert tracking.order == (0, 1, 2)
    # eps_tol 1e-12 times conditions below 1e3
    np.testing.assert_allclose(tracking.confidence[1:], expected, rtol=0, atol=1e-9)


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
    with pytest.raises(
        ga.InputError, match=r"must keep clusters whole, got part of pairs \[1, 2\]"
    ):
        pairs.reordered([0, 1])


@pytest.mark.parametrize("order", [(0, -1), (0, 0), (2,)])
def test_orders_that_are_none(comm, order):
    pairs = solved(comm, np.diag([1.0, 2.0]), count=2)
    with pytest.raises(ga.InputError, match=r"distinct indices in 0 ... 1, got .*lost modes"):
        pairs.reordered(order)


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

"""Derivatives of repeated eigenvalues: closed forms, dense references, Taylor, other bases."""

from contextlib import contextmanager

import numpy as np
import pytest
import scipy.linalg
from builders import stiffness
from pencils import COMPLEX_BUILD, flat, petsc_matrix

import geneig_adjoint as ga

N = 9
KINDS = ["symmetric", "triple", "buckling", "nonsymmetric", *["hermitian"] * COMPLEX_BUILD]


def pencil_arrays(kind):
    """Return A, B and three (dA, dB): an exact multiple value 2.0 beside simple ones."""
    rng = np.random.default_rng(len(kind))
    values = np.array([1.0, 2.0, 2.0, 2.0 if kind == "triple" else 3.1, 4.6, 6.4, 8.3, 10.0, 12.7])
    complex_ = kind == "hermitian"

    def draw():
        M = rng.standard_normal((N, N))
        return M + 1j * rng.standard_normal((N, N)) if complex_ else M

    L = np.eye(N) + 0.2 * draw()
    if kind == "nonsymmetric":
        X = np.eye(N) + 0.2 * draw()
        A, B = L @ X @ np.diag(values) @ np.linalg.inv(X), L
        changes = [(0.3 * draw(), 0.1 * draw()) for _ in range(3)]
    else:
        Q = np.linalg.qr(draw())[0]
        A, B = L @ Q @ np.diag(values) @ Q.conj().T @ L.conj().T, L @ L.conj().T
        changes = [tuple(0.1 * (M + M.conj().T) for M in (draw(), draw())) for _ in range(3)]
    if kind == "buckling":  # B carries the signs
        signs = np.array([1, 1, 1, -1, 1, -1, 1, -1, 1])
        A, B = B, L @ Q @ np.diag(signs / values) @ Q.T @ L.T
    if kind != "nonsymmetric":
        A, B = (A + A.conj().T) / 2, (B + B.conj().T) / 2
    return A, B, changes


@contextmanager
def case(kind, comm, **solver):
    A, B, changes = pencil_arrays(kind)
    mats = [petsc_matrix(comm, M) for M in (A, B)]
    pairs = [tuple(petsc_matrix(comm, M) for M in change) for change in changes]
    p = {"p": np.zeros(3)}
    solver = {"count": 4, "target": 0.9, **solver}
    with (
        ga.MatrixModel(*mats, {"p": pairs}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, **solver) as found,
    ):
        yield model, p, found


def moved_values(kind, direction, t):
    """Return the values near 2 at a finite step, from LAPACK."""
    A, B, changes = pencil_arrays(kind)
    for weight, (dA, dB) in zip(direction, changes, strict=True):
        A, B = A + t * weight * dA, B + t * weight * dB
    values = scipy.linalg.eigvals(A, B)
    count = 3 if kind == "triple" else 2
    return values[np.argsort(np.abs(values - 2.0))[:count]]


DIRECTION = np.array([0.7, -0.4, 1.1])


def sorted_like(values, mu):
    """Return the values in the order of mu, matched one to one."""
    from scipy.optimize import linear_sum_assignment

    return values[linear_sum_assignment(np.abs(mu[:, None] - values[None, :]))[1]]


@pytest.mark.parametrize("kind", KINDS)
def test_directional_derivatives_equal_differences_of_lapack(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        assert pairs.clusters[1] in {(1, 2), (1, 2, 3)}
        mu = ga.directional_derivatives(model, p, pairs, 1, {"p": DIRECTION})
    quotients = []
    for t in (1e-3, 5e-4):
        plus = sorted_like((moved_values(kind, DIRECTION, t) - 2) / t, mu)
        minus = sorted_like((moved_values(kind, DIRECTION, -t) - 2) / -t, mu)
        quotients.append((plus + minus) / 2)
    # Even orders cancel; extrapolation leaves t^4. LAPACK is exact to 1e-14 / t.
    expected = (4 * quotients[1] - quotients[0]) / 3
    np.testing.assert_allclose(mu, expected, rtol=0, atol=1e-7 * np.abs(mu).max())
    assert np.abs(mu[0] - mu[1]) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_remainder_is_of_second_order(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        mu = ga.directional_derivatives(model, p, pairs, 2, {"p": DIRECTION})
    remainders = []
    for t in (4e-3, 2e-3):
        found = sorted_like((moved_values(kind, DIRECTION, t) - 2) / t, mu)
        remainders.append(np.abs(t * (found - mu)).max())
    assert np.log2(remainders[0] / remainders[1]) >= 1.9


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_make_every_direction(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        found = ga.cluster_derivatives(model, p, pairs, 1)
        mu = ga.directional_derivatives(model, p, pairs, 1, {"p": DIRECTION})
    D = found.matrices["p"]
    g = len(found.members)
    assert D.shape == (3, g, g)
    assert found.value == pytest.approx(2.0, rel=1e-11)
    values = np.linalg.eigvals(np.einsum("i,ikj->kj", DIRECTION, D))
    # The same numbers by another road: rounding
    np.testing.assert_allclose(sorted_like(values, mu), mu, rtol=0, atol=1e-11 * np.abs(D).max())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nonsymmetric"])
def test_matrices_are_hermitian_for_definite_pencils(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        D = ga.cluster_derivatives(model, p, pairs, 1).matrices["p"]
        assert D.dtype == pairs.right.dtype
    np.testing.assert_array_equal(D, np.conj(np.swapaxes(D, 1, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_traces_are_the_gradient_of_the_sum(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        found = ga.cluster_derivatives(model, p, pairs, 1)
        bar = np.zeros(pairs.count)
        bar[list(found.members)] = 1.0
        total = ga.gradient(model, p, pairs, lambda _: (0.0, ga.EigenCotangent(values=bar)))["p"]
    traces = np.einsum("ikk->i", found.matrices["p"]).real
    np.testing.assert_allclose(traces, total, rtol=0, atol=1e-10 * np.abs(total).max())  # rounding


@pytest.mark.parametrize("kind", KINDS)
def test_a_simple_eigenvalue_gives_its_gradient(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        found = ga.cluster_derivatives(model, p, pairs, 0)
        mu = ga.directional_derivatives(model, p, pairs, 0, {"p": DIRECTION})
        expected = flat(ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0)))
    assert found.members == (0,)
    np.testing.assert_allclose(
        found.matrices["p"][:, 0, 0], expected, rtol=0, atol=1e-10
    )  # rounding
    np.testing.assert_allclose(mu, [expected @ DIRECTION], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalization", ["2", ("component", 4)])
def test_scale_and_basis_do_not_matter(kind, normalization, comm):
    found = []
    for norm, target in ((None, 0.9), (normalization, 1.1)):
        with case(kind, comm, normalization=norm, target=target) as (model, p, pairs):
            pair = int(np.argmin(np.abs(pairs.values - 2.0)))
            D = ga.cluster_derivatives(model, p, pairs, pair).matrices["p"]
            found.append(np.sort_complex(np.linalg.eigvals(D[0] - 0.3 * D[2])))
    np.testing.assert_allclose(
        found[0], found[1], rtol=0, atol=1e-9
    )  # eps_tol 1e-12 of the vectors


def test_square_grid_splits_as_its_closed_form_says(comm):
    # A = a X + b Y: (i, j) has a k_i + b k_j, k_i = 2 - 2 cos(i pi / (n + 1)); along a: k_1, k_2.
    n = 10
    line, eye = stiffness(n), np.eye(n)
    mats = [petsc_matrix(comm, np.kron(*pair)) for pair in ((line, eye), (eye, line))]
    zero = petsc_matrix(comm, np.zeros((n * n, n * n)))
    p, p_dot = {"ab": np.ones(2)}, {"ab": np.array([1.0, 0.0])}
    with (
        ga.MatrixModel(zero, None, {"ab": [(mat, None) for mat in mats]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=2) as pairs,
    ):
        mu = ga.directional_derivatives(model, p, pairs, 1, p_dot)
    expected = 2 - 2 * np.cos(np.array([1, 2]) * np.pi / (n + 1))
    np.testing.assert_allclose(mu, expected, rtol=1e-9)  # eps_tol 1e-12 of the vectors


# -- refusals --


@pytest.mark.parametrize("call", [ga.cluster_derivatives, ga.directional_derivatives])
def test_pairs_that_do_not_exist(call, comm):
    with (
        case("symmetric", comm) as (model, p, pairs),
        pytest.raises(ga.InputError, match=r"pair must be in 0 ... 3, got 4"),
    ):
        call(model, p, pairs, 4, *[p] * (call is ga.directional_derivatives))


def test_left_vectors_are_needed(comm):
    with (
        case("nonsymmetric", comm, left=False) as (model, p, pairs),
        pytest.raises(ga.InputError, match="solve again with left=True"),
    ):
        ga.cluster_derivatives(model, p, pairs, 1)


def test_other_parameters_are_stale(comm):
    with (
        case("symmetric", comm) as (model, _, pairs),
        pytest.raises(ga.StaleError, match="the parameters the pairs were solved for"),
    ):
        ga.cluster_derivatives(model, {"p": np.ones(3)}, pairs, 1)


def test_models_without_tangent(comm):
    with case("symmetric", comm) as (model, p, pairs):

        class Reverse:
            contract = model.contract

        with pytest.raises(ga.InputError, match="got Reverse without"):
            ga.directional_derivatives(Reverse(), p, pairs, 1, p)


def test_a_cluster_that_is_not_semisimple(comm):
    A = np.diag([2.0, 2.0, 5.0, 7.0]) + 1e-9 * np.eye(4, k=1)
    A[0, 1] = 1.0
    mat = petsc_matrix(comm, A)
    p = {"p": np.zeros(1)}
    with (
        ga.MatrixModel(mat, None, {"p": [(mat, None)]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=2, target=1.9) as pairs,
        pytest.raises(ga.DefectiveEigenvalueError, match="must be semisimple"),
    ):
        ga.cluster_derivatives(model, p, pairs, 0)

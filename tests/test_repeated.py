"""Derivatives of repeated eigenvalues: closed forms, dense references, Taylor, other bases."""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.linalg
from pencils import COMPLEX_BUILD, petsc_matrix
from scipy.optimize import linear_sum_assignment

import geneig_adjoint as ga

N = 9
DIRECTION = np.array([0.7, -0.4, 1.1])
HERMITIAN = ["symmetric", "triple", "buckling", "negative", *["hermitian"] * COMPLEX_BUILD]
OTHERS = ["indefinite", "nonsymmetric", "conjugate"]
KINDS = HERMITIAN + OTHERS + ["complex", "complex_symmetric"] * COMPLEX_BUILD
COPIES = {"triple": 3}
SIDE = {"negative": -1.0}  # of 0 on which the eigenvalues are looked for
CENTER = {"conjugate": 2 + 1j, "negative": -2.0}


def pencil_arrays(kind, gap=0.0):
    """Return A, B and three (dA, dB): a multiple value, exact but for a gap, beside simple ones."""
    rng = np.random.default_rng(len(kind))
    values = np.array([1.0, 2.0, 2.0, 2.0 if kind == "triple" else 3.1, 4.6, 6.4, 8.3, 10.0, 12.7])
    values[2] += gap
    signs = np.array([1, 1, 1, -1, 1, -1, 1, -1, 1])

    def draw():
        M = rng.standard_normal((N, N))
        complex_ = kind in {"hermitian", "complex", "complex_symmetric"}
        return M + 1j * rng.standard_normal((N, N)) if complex_ else M

    L, X = np.eye(N) + 0.2 * draw(), np.eye(N) + 0.2 * draw()
    S = np.linalg.qr(draw())[0]
    middle = np.diag(values)
    if kind == "conjugate":  # 2 +- i, both twice
        middle[1:5, 1:5] = np.kron(np.eye(2), [[2.0, 1.0], [-1.0, 2.0]])
    if kind in {"nonsymmetric", "conjugate", "complex"}:
        A, B = L @ X @ middle @ np.linalg.inv(X), L
        return A, B, [(0.3 * draw(), 0.1 * draw()) for _ in range(3)]
    turned = (lambda M: M.T) if kind == "complex_symmetric" else (lambda M: M.conj().T)
    a, b = {  # B carries the signs
        "buckling": (np.ones(N), signs / values),
        "negative": (np.ones(N), -signs / values),
        "indefinite": (signs * values, signs),
    }.get(kind, (values, np.ones(N)))
    L = L if kind == "complex_symmetric" else L @ S
    A, B = L @ np.diag(a) @ turned(L), L @ np.diag(b) @ turned(L)
    changes = [tuple(0.1 * (M + turned(M)) for M in (draw(), draw())) for _ in range(3)]
    return (A + turned(A)) / 2, (B + turned(B)) / 2, changes


@contextmanager
def case(kind, comm, *, container=np.asarray, gap=0.0, **solver):
    """Yield model, p and pairs; pair 1 is one of the copies."""
    A, B, changes = pencil_arrays(kind, gap)
    mats = [petsc_matrix(comm, M) for M in (A, B)]
    pairs = [tuple(petsc_matrix(comm, M) for M in change) for change in changes]
    p = {"p": container(np.zeros(3))}
    solver = {"count": 4, "target": 0.9 * SIDE.get(kind, 1.0), **solver}
    with (
        ga.MatrixModel(*mats, {"p": pairs}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, **solver) as found,
    ):
        yield model, p, found


def moved_values(kind, direction, t):
    """Return the values near the multiple one at a finite step, from LAPACK."""
    A, B, changes = pencil_arrays(kind)
    for weight, (dA, dB) in zip(direction, changes, strict=True):
        A, B = A + t * weight * dA, B + t * weight * dB
    values = scipy.linalg.eigvals(A, B)
    return values[np.argsort(np.abs(values - center(kind)))[: COPIES.get(kind, 2)]]


def center(kind):
    return CENTER.get(kind, 2.0)


def sorted_like(values, mu):
    """Return the values in the order of mu, matched one to one."""
    return values[linear_sum_assignment(np.abs(mu[:, None] - values[None, :]))[1]]


def copy_of(kind, pairs):
    return int(np.argmin(np.abs(pairs.values - center(kind))))


def slopes(kind, mu, t):
    return sorted_like((moved_values(kind, DIRECTION, t) - center(kind)) / t, mu)


def differences(kind, mu):
    """Return what mu should be. Even orders cancel; extrapolation leaves t^4."""
    quotients = [(slopes(kind, mu, t) + slopes(kind, mu, -t)) / 2 for t in (1e-3, 5e-4)]
    return (4 * quotients[1] - quotients[0]) / 3


def invariants(D, combined):
    """Return numbers of every D_i that do not depend on the basis of the cluster."""
    together = np.einsum("ikj,jk->i", D, combined)
    return np.stack([np.einsum("ikk->i", D), together, np.linalg.det(D)], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_directional_derivatives_equal_differences_of_lapack(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        pair = copy_of(kind, pairs)
        mu = ga.directional_derivatives(model, p, pairs, pair, {"p": DIRECTION})
        real = pairs.pencil.definite
    # t^4, and LAPACK's 1e-14 / t
    np.testing.assert_allclose(mu, differences(kind, mu), atol=1e-7 * np.abs(mu).max())
    assert mu.shape == (COPIES.get(kind, 2),)
    assert np.isrealobj(mu) == real == (kind in HERMITIAN)
    assert np.all(np.diff(mu.real) > -1e-9)
    assert np.abs(mu[0] - mu[1]) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_remainder_is_of_second_order(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        pair = copy_of(kind, pairs)
        mu = ga.directional_derivatives(model, p, pairs, pair, {"p": DIRECTION})
    remainders = [np.abs(t * (slopes(kind, mu, t) - mu)).max() for t in (2e-3, 1e-3)]
    assert np.log2(remainders[0] / remainders[1]) >= 1.9


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_make_every_direction(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        pair = copy_of(kind, pairs)
        found = ga.cluster_derivatives(model, p, pairs, pair)
        mu = ga.directional_derivatives(model, p, pairs, pair, {"p": DIRECTION})
        dtype = pairs.right.dtype
    D = found.matrices["p"]
    g = len(found.members)
    assert D.shape == (3, g, g)
    assert D.dtype == dtype
    assert found.value == pytest.approx(center(kind), rel=1e-11)
    assert np.isrealobj(found.value) == (kind in HERMITIAN)
    values = np.linalg.eigvals(np.einsum("i,ikj->kj", DIRECTION, D))
    # The same numbers by another road: rounding
    np.testing.assert_allclose(sorted_like(values, mu), mu, atol=1e-11 * np.abs(D).max())


@pytest.mark.parametrize("kind", HERMITIAN)
def test_matrices_are_hermitian_for_definite_pencils(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        D = ga.cluster_derivatives(model, p, pairs, 1).matrices["p"]
    np.testing.assert_array_equal(D, np.conj(np.swapaxes(D, 1, 2)))
    assert np.abs(D[:, 0, 1]).min() > 1e-3  # not by being diagonal


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [1.0, 1j])
def test_traces_are_the_gradient_of_the_sum(kind, weight, comm):
    with case(kind, comm) as (model, p, pairs):
        found = ga.cluster_derivatives(model, p, pairs, copy_of(kind, pairs))
        bar = np.zeros(pairs.count, dtype=complex)
        bar[list(found.members)] = weight
        total = ga.gradient(model, p, pairs, lambda _: (0.0, ga.EigenCotangent(values=bar)))["p"]
    traces = (np.conj(weight) * np.einsum("ikk->i", found.matrices["p"])).real
    np.testing.assert_allclose(traces, total, atol=1e-10)  # rounding; entries of size 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_simple_eigenvalue_gives_its_gradient(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        found = ga.cluster_derivatives(model, p, pairs, 0)
        mu = ga.directional_derivatives(model, p, pairs, 0, {"p": DIRECTION})
        real, imag = (
            ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0, part=part))["p"]
            for part in ("real", "imag")
        )
    assert found.members == (0,)
    expected = real + 1j * imag
    np.testing.assert_allclose(found.matrices["p"][:, 0, 0], expected, atol=1e-10)  # rounding
    np.testing.assert_allclose(mu, [expected @ DIRECTION], atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalization", ["2", ("component", 4)])
def test_scale_and_basis_do_not_matter(kind, normalization, comm):
    found = []
    for norm, distance in ((None, 0.9), (normalization, 1.1)):
        target = distance * SIDE.get(kind, 1.0)
        with case(kind, comm, normalization=norm, target=target) as (model, p, pairs):
            D = ga.cluster_derivatives(model, p, pairs, copy_of(kind, pairs)).matrices["p"]
            found.append(invariants(D, D[0] - 0.3 * D[2]))
    # eps_tol 1e-12 of the vectors
    np.testing.assert_allclose(found[1], found[0], atol=1e-9 * np.abs(found[0]).max())


@pytest.mark.parametrize("kind", KINDS)
def test_any_basis_serves(kind, comm):
    # Inside a cluster every mixture of the vectors is as good; left ones are mixed otherwise.
    with case(kind, comm) as (model, p, pairs):
        pair = copy_of(kind, pairs)
        found = [ga.cluster_derivatives(model, p, pairs, pair)]
        members, g = list(found[0].members), len(found[0].members)
        mixed = {side: getattr(pairs, side).copy() for side in ("right", "left")}
        weight = {"f": 0.4, "c": 0.3 + 0.4j}[pairs.right.dtype.kind]
        for turn, block in enumerate(mixed.values()):
            mixture = np.eye(g) + weight ** (turn + 1) * np.eye(g, k=2 * turn - 1)
            block[:, members] = block[:, members] @ mixture
        other = dataclasses.replace(pairs, **mixed)
        found.append(ga.cluster_derivatives(model, p, other, pair))
        mu = [
            ga.directional_derivatives(model, p, q, pair, {"p": DIRECTION}) for q in (pairs, other)
        ]
    first, second = (invariants(D, D[0] - 0.3 * D[2]) for D in (f.matrices["p"] for f in found))
    assert np.abs(found[0].matrices["p"] - found[1].matrices["p"]).max() > 1e-2
    # eps_tol 1e-12 of the vectors, whose parts outside the cluster are mixed too
    np.testing.assert_allclose(second, first, atol=1e-10 * np.abs(first).max())
    np.testing.assert_allclose(mu[1], mu[0], atol=1e-10 * np.abs(mu[0]).max())

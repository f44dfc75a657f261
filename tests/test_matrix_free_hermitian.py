"""Hermitian operators inside the spectrum: complex ones in the complex build."""

import numpy as np
import pytest
import scipy.linalg
from builders import REAL, matrix
from mpi4py import MPI

import geneig_adjoint as ga

COMM = MPI.COMM_WORLD
N = 24
ROWS = np.arange(N)
TURN = 0.0 if REAL else 1j
WEIGHT = np.cos(ROWS)
STEP = 1e-3
COEFFICIENTS = {1: 45 / 60, 2: -9 / 60, 3: 1 / 60}
P = np.array([0.3, 0.5])


def hermitian(diagonal, above):
    return np.diag(diagonal) + np.diag(above, 1) + np.diag(np.conj(above), -1)


A = [
    hermitian(1.0 + ROWS, 0.7 + 0.4 * TURN * np.cos(ROWS[1:])),
    hermitian(np.sin(ROWS), 0.2 * TURN + 0.1 * ROWS[1:] / N),
    hermitian(0.1 * np.cos(ROWS), 0.3 + 0.1 * TURN * ROWS[1:] / N),
]
B = [
    hermitian(2 + 0.1 * ROWS, 0.3 + 0.2 * TURN * np.sin(ROWS[1:])),
    hermitian(0.1 * np.cos(ROWS), 0.02 * TURN + 0.01 * np.sin(ROWS[1:])),
]


def dense(p):
    return A[0] + p[0] * A[1] + p[1] ** 2 * A[2], B[0] + p[0] * B[1]


def slopes(p):
    return (A[1], 2 * p[1] * A[2]), (B[1], 0 * B[1])


def vjp(p, left_a, left_b, right):
    found = [
        np.vdot(left_a, dA @ right) + np.vdot(left_b, dB @ right)
        for dA, dB in zip(*slopes(p["p"]), strict=True)
    ]
    return {"p": np.real(found)}


def near(p, sigma):
    """Return the tridiagonal shifted matrix without a part of its corners."""
    K = np.subtract(*(side * part for side, part in zip((1, sigma), dense(p["p"]), strict=True)))
    return matrix(K - np.diag(0.2 * np.diag(K, 1), 1) - np.diag(0.2 * np.diag(K, -1), -1), COMM)


def operator():
    return ga.OperatorModel(
        N,
        lambda p, block: dense(p["p"])[0] @ block,
        vjp,
        apply_b=lambda p, block: dense(p["p"])[1] @ block,
        preconditioner=near,
        comm=COMM,
    )


def reference(p, chosen):
    """Return the first chosen value and x^H W x of the second and of all chosen pairs."""
    values, X = scipy.linalg.eigh(*dense(p))
    sizes = WEIGHT @ np.abs(X) ** 2  # x^H B x = 1
    return np.array([values[chosen[0]], sizes[chosen[1]], sizes[chosen].sum()])


@pytest.mark.parametrize("place", [0.0, 10.4], ids=["below", "inside"])
def test_hermitian_operators_at_a_target(place):
    values = scipy.linalg.eigh(*dense(P), eigvals_only=True)
    target = np.interp(place, ROWS, values) * (place > 0)
    chosen = np.argsort(np.abs(values - target))[:4]
    expected = np.zeros((3, 2))
    for entry, unit in enumerate(np.eye(2)):
        for k, weight in COEFFICIENTS.items():
            change = reference(P + k * STEP * unit, chosen) - reference(P - k * STEP * unit, chosen)
            expected[:, entry] += weight * change / STEP
    model, p, o = operator(), {"p": P}, ga.objectives
    wanted = [o.Eigenvalue(0), o.QuadraticForm(WEIGHT, (1,)), o.QuadraticForm(WEIGHT, range(4))]
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 4, target=target) as pairs,
    ):
        found = [item["p"] for item in ga.gradient(model, p, pairs, wanted)]
        # Iterative solves to 1e-13.
        np.testing.assert_allclose(pairs.values, values[chosen], rtol=1e-10)
    # Adjoint solves to 1e-10; sixth-order differences of QR's 1e-15 by steps of 1e-3.
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)

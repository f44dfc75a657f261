"""Slender cantilevers: stiffness matrices 1e8 and more times their lowest eigenvalues.

Every entry of the stiffness is exact in double precision, and the flexibility (the inverse) has
a closed form, since Hermite elements are exact at their nodes. Modes and derivatives found from
it have lost no digits to the stiffness of the elements.
"""

import functools

import numpy as np
import scipy.linalg
from builders import dense, matrix

import geneig_adjoint as ga

UNITS = {
    # Length of an element (a power of two), bending stiffnesses (integers), mass per length.
    "mm N t": (8.0, (4838e6, 3360e6), 20.0 * 24.0 * 7.85e-9),
    "m N kg": (2.0**-7, (4838.0, 3360.0), 0.020 * 0.024 * 7850.0),
}


def assembled(element, count, elements):
    """Return a bending matrix of the given elements, clamped at the first node."""
    total = np.zeros((2 * count + 2, 2 * count + 2))
    for e in elements:
        total[2 * e : 2 * e + 4, 2 * e : 2 * e + 4] += element
    return total[2:, 2:]


def bending(L):
    """Return an element's stiffness over EI / L^3."""
    return np.array(
        [
            [12, 6 * L, -12, 6 * L],
            [6 * L, 4 * L**2, -6 * L, 2 * L**2],
            [-12, -6 * L, 12, -6 * L],
            [6 * L, 2 * L**2, -6 * L, 4 * L**2],
        ]
    )


def curvatures(L):
    """Return R with R^T R the stiffness over EI / L: it cancels less than the product."""
    s = np.sqrt(3.0)
    return np.array([[0.0, -1.0, 0.0, 1.0], [2 * s / L, s, -2 * s / L, s]])


def inertia(L):
    """Return an element's consistent mass over its mass per length."""
    return (L / 420) * np.array(
        [
            [156, 22 * L, 54, -13 * L],
            [22 * L, 4 * L**2, 13 * L, -3 * L**2],
            [54, 13 * L, 156, -22 * L],
            [-13 * L, -3 * L**2, -22 * L, 4 * L**2],
        ]
    )


def flexibility(L, count):
    """Return EI K^-1: deflections and slopes under unit forces and moments at the nodes."""
    x = L * np.arange(1.0, count + 1)
    low, high = np.minimum.outer(x, x), np.maximum.outer(x, x)
    column, row = x[:, None], x[None, :]
    by_moment = np.where(column <= row, column**2 / 2, row * (2 * column - row) / 2)
    F = np.zeros((2 * count, 2 * count))
    F[::2, ::2] = low**2 * (3 * high - low) / 6
    F[::2, 1::2] = by_moment
    F[1::2, ::2] = by_moment.T
    F[1::2, 1::2] = low
    return F


class Cantilever:
    """Two planes of bending, dofs (deflection, slope) of all nodes in one, then in the other.

    Parameters p (3,): stiffness of the first half in each plane, mass of the first half.
    """

    def __init__(self, count, units):
        L, self.EI, density = UNITS[units]
        self.count, self.n = count, 4 * count
        self.half = range(count // 2)
        whole = range(count)
        zero = np.zeros((2 * count, 2 * count))
        one, part = (assembled(bending(L), count, e) / L**3 for e in (whole, self.half))
        masses = [density * assembled(inertia(L), count, e) for e in (whole, self.half)]
        self.K = scipy.linalg.block_diag(self.EI[0] * one, self.EI[1] * one)
        self.M, self.dM = (scipy.linalg.block_diag(m, m) for m in masses)
        self.dK = [
            scipy.linalg.block_diag(self.EI[0] * part, zero),
            scipy.linalg.block_diag(zero, self.EI[1] * part),
        ]
        self.L = L

    def model(self, comm):
        slopes = [(matrix(dK, comm), None) for dK in self.dK] + [(None, matrix(self.dM, comm))]
        return ga.MatrixModel(matrix(self.K, comm), matrix(self.M, comm), {"p": slopes})

    @functools.cached_property
    def modes(self):
        """Return all 1 / lam, descending, and modes X with X^T M X = 1."""
        F = flexibility(self.L, self.count)
        C = np.linalg.cholesky(self.M)
        S = C.T @ scipy.linalg.block_diag(F / self.EI[0], F / self.EI[1]) @ C
        inverses, Z = np.linalg.eigh((S + S.T) / 2)
        return inverses[::-1], np.linalg.solve(C.T, Z)[:, ::-1]

    def products(self, X, j):
        """Return X^T dA x_j for the three parameters, each (n,), with A = K or -lam M."""
        m, found = 2 * self.count, []
        for plane, EI in enumerate(self.EI):
            part = np.zeros((m + 2, X.shape[1]))
            part[2:] = X[plane * m : (plane + 1) * m]
            rows = np.vstack([curvatures(self.L) @ part[2 * e : 2 * e + 4] for e in self.half])
            found.append(EI / self.L * (rows.T @ rows[:, j]))
        return np.array([*found, X.T @ (self.dM @ X[:, j])])

    def gradient(self, weights, j):
        """Return d(x_j^T diag(weights) x_j) / dp, (3,), by expansion in all modes."""
        inverses, X = self.modes
        stiff_1, stiff_2, heavy = self.products(X, j)
        gains = X.T @ (weights * X[:, j])
        others = np.arange(self.n) != j
        # 1 / (lam_j - lam_i) from 1 / lam: the large eigenvalues have no digits.
        with np.errstate(divide="ignore"):
            reach = inverses * inverses[j] / (inverses - inverses[j])
        push = np.array([stiff_1, stiff_2, -heavy / inverses[j]])
        normal = np.array([0.0, 0.0, -heavy[j] * gains[j]])
        return 2 * push[:, others] @ (reach * gains)[others] + normal


def rayleigh_quotients(pairs):
    """Return values of symmetric pairs in long doubles: their errors are those of x, squared."""
    A, B = (dense(mat).real.astype(np.longdouble) for mat in (pairs.pencil.A, pairs.pencil.B))
    x = pairs.right.real.astype(np.longdouble)
    return np.sum(x * (A @ x), axis=0) / np.sum(x * (B @ x), axis=0)

"""Problems that ask for trouble: exceptional points, constrained rows, triangular matrices."""

import numpy as np
import scipy.linalg
from builders import mass, matrix, stiffness

import geneig_adjoint as ga

FLUTTER_LOAD = 3.5 - np.sqrt(2)
"""Of Ziegler's pendulum with m1 = 2 m2, in units of c / l.

H. Ziegler, "Die Stabilitaetskriterien der Elastomechanik", Ing.-Arch. 20, 49-56, 1952; also
V. V. Bolotin, "Nonconservative Problems of the Theory of Elastic Stability", 1963.
"""
BECK_LOAD, BECK_FREQUENCY = 20.05, 11.02
"""P L^2 / EI and omega L^2 sqrt(m / EI) of a cantilever under a tangential force at flutter.

M. Beck, "Die Knicklast des einseitig eingespannten, tangential gedrueckten Stabes", ZAMP 3,
225-228, 1952.
"""


def affine(comm, K, M, slope):
    """Return the model K + p slope, M, and its point p = 0."""
    mats = [None if array is None else matrix(array, comm) for array in (K, M, slope)]
    return ga.MatrixModel(mats[0], mats[1], {"p": [(mats[2], None)]}), {"p": np.zeros(1)}


def ziegler(comm, load):
    """Return Ziegler's pendulum (m1 = 2 m2, all units 1) with p added to the load."""
    K = np.array([[2.0 - load, load - 1.0], [-1.0, 1.0]])
    return affine(comm, K, np.array([[3.0, 1.0], [1.0, 1.0]]), np.array([[-1.0, 1.0], [0.0, 0.0]]))


def ziegler_values(below):
    """Return eigenvalues and their derivatives at a load ``below`` the one of flutter.

    2 lam^2 - (7 - 2 P) lam + 1 = 0; with d = 7 - 2 P, d^2 - 8 = 4 below (2 sqrt(2) + below).
    """
    d = 2 * np.sqrt(2) + 2 * below
    root = np.sqrt(4 * below * (2 * np.sqrt(2) + below) + 0j)
    signs = np.array([-1.0, 1.0])
    return (d + signs * root) / 4, (-2 - signs * 2 * d / root) / 4


def beck(comm, load, elements=20):
    """Return Beck's column of Hermite beams, clamped at its foot, with p added to the load."""
    h = 1.0 / elements
    K, G, M = np.zeros((3, 2 * elements + 2, 2 * elements + 2))
    for e in range(elements):
        at = slice(2 * e, 2 * e + 4)
        K[at, at] += _hermite([12, 6, 4, 2], h) / h**3
        G[at, at] += _hermite([36, 3, 4, -1], h) / (30 * h)
        M[at, at] += _hermite_mass(h)
    slope = -G
    slope[-2, -1] += 1.0  # the force turns with the tip: no moment, no shear there
    return affine(comm, (K + load * slope)[2:, 2:], M[2:, 2:], slope[2:, 2:])


def _hermite(entries, h):
    a, b, c, d = entries
    s = np.diag([1.0, h, 1.0, h])
    return s @ np.array([[a, b, -a, b], [b, c, -b, d], [-a, -b, a, -b], [b, d, -b, c]]) @ s


def _hermite_mass(h):
    s = np.diag([1.0, h, 1.0, h])
    entries = [[156, 22, 54, -13], [22, 4, 13, -3], [54, 13, 156, -22], [-13, -3, -22, 4]]
    return s @ np.array(entries) @ s * h / 420


def constrained_matrices(comm, n, rows, diagonals, skew=0.0):
    """Return A = 50 stiffness + skew and B = mass with rows replaced as FE codes do it.

    The columns stay unless ``skew`` is 0; zeros stay in the pattern.
    """
    A = matrix(50 * stiffness(n) + skew * (np.eye(n, k=1) - np.eye(n, k=-1)), comm)
    B = matrix(mass(n), comm)
    for mat, diagonal in zip((A, B), diagonals, strict=True):
        mat.setOption(mat.Option.KEEP_NONZERO_PATTERN, True)
        (mat.zeroRows if skew else mat.zeroRowsColumns)(np.asarray(rows, dtype="i"), diagonal)
    return A, B


def bidiagonal(coupling, n=12):
    """Return an upper triangular matrix with the eigenvalues 1.5, 2.5, ..., n + 0.5."""
    return np.diag(np.arange(1.0, n + 1) + 0.5) + coupling * np.eye(n, k=1)


def chain_of_four(seed):
    """Return a matrix with the value 1 four times in one block, split into a ring of 1e-4."""
    A = scipy.linalg.block_diag(np.eye(4) + np.eye(4, k=1), np.diag([3.0, 5.0]))
    turn = np.random.default_rng(seed).standard_normal(A.shape)
    return turn @ A @ np.linalg.inv(turn)

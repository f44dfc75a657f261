"""Small quadratic problems as dense arrays, their models, and an independent dense chain.

K, C and M have different parameters, other patterns than their derivatives, and no equal entries.
The reference solves another linearisation, with SciPy, and knows nothing of bordered systems.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from builders import REAL, matrix

import geneig_adjoint as ga

N = 8
STEP = 2e-3
COEFFICIENTS = {1: 45 / 60, 2: -9 / 60, 3: 1 / 60}


@dataclass(frozen=True)
class Quadratic:
    """Matrices at p = 0, and one triple of derivatives per parameter entry."""

    name: str
    matrices: tuple
    derivatives: tuple
    target: complex
    form: str = "companion"
    p: dict = field(default_factory=lambda: {"p": np.array([0.31, 0.17, 0.23])})

    def dense(self, p):
        found = [None if base is None else base.copy() for base in self.matrices]
        for weight, triple in zip(p["p"], self.derivatives, strict=True):
            for place, part in enumerate(triple):
                if part is not None:
                    found[place] = found[place] + weight * part
        return found

    def model(self, comm):
        """Return the model; its PETSc matrices live until the process ends."""
        mats = [optional(array, comm) for array in self.matrices]
        triples = [tuple(optional(d, comm) for d in triple) for triple in self.derivatives]
        return ga.QuadraticMatrixModel(*mats, {"p": triples}, form=self.form)


def optional(array, comm):
    return None if array is None else matrix(array, comm)


def banded(n, diagonal, above, below):
    return np.diag(diagonal) + np.diag(above, 1) + np.diag(below, -1)


def damped(n=N):
    i = np.arange(n)
    K = banded(n, 4.0 + 0.9 * i, -1.0 - 0.1 * i[1:], -0.8 + 0.07 * i[1:])
    C = banded(n, 0.3 + 0.05 * i, 0.1 + 0 * i[1:], -0.2 + 0.01 * i[1:])
    M = banded(n, 1.0 + 0.1 * i, 0.2 + 0 * i[1:], 0.1 + 0.01 * i[1:])
    return K, C, M


def derivatives(n=N):
    i = np.arange(n)
    dK = np.diag(0.5 + 0.2 * np.sin(i)) + 0.3 * np.eye(n, k=2)
    dC = np.diag(0.4 * np.cos(i)) - 0.2 * np.eye(n, k=-2)
    dM = np.diag(0.2 + 0.1 * np.cos(2 * i)) + 0.1 * np.eye(n, k=-1)
    return dK, dC, dM


def symmetrised(arrays):
    return tuple((array + array.T) / 2 for array in arrays)


def triples(dK, dC, dM):
    """Return three parameters: one per matrix, and the last one in all of them."""
    return ((dK, None, None), (None, dC, None), (0.5 * dK, -0.3 * dC, dM))


def real_problems():
    gyro = 0.9 * (np.eye(N, k=1) - np.eye(N, k=-1))
    K, C, M = damped()
    dK, dC, dM = derivatives()
    light = symmetrised((K, 0.3 * C, M))
    skew = (dC - dC.T) / 2
    sK, sC, sM = symmetrised((dK, dC, dM))
    holes = np.diag(np.r_[np.ones(N - 2), 0.0, 0.0])
    return [
        Quadratic("nonsymmetric", (K, C, M), triples(dK, dC, dM), 0.0),
        Quadratic("symmetric_form", light, triples(sK, sC, sM), 0.0, form="symmetric"),
        Quadratic("symmetric", light, triples(sK, sC, sM), 0.0),
        Quadratic("gyroscopic", (light[0], gyro, light[2]), triples(sK, skew, sM), 0.0),
        Quadratic(
            "massless",
            (K, C, holes @ M @ holes),
            triples(dK, dC, holes @ dM @ holes),
            -0.6,
        ),
        Quadratic("overdamped", (light[0], 9 * light[2], light[2]), triples(sK, sC, sM), -1.0),
    ]


def complex_problems():
    K, _, M = symmetrised(damped())
    dK, dC, dM = symmetrised(derivatives())
    impedance = np.zeros((N, N), dtype=complex)
    impedance[-1, -1] = 1.3 + 0.4j
    wave = (K, impedance, M * (1 + 0.1j))
    full = tuple(a + 0.1j * b for a, b in zip(damped(), derivatives(), strict=True))
    turned = tuple(a + 0.2j * b.T for a, b in zip(derivatives(), damped(), strict=True))
    gyro = 0.8j * (np.eye(N, k=1) + np.eye(N, k=-1)) + 0.2 * np.eye(N)
    hermitian = (K, (gyro + gyro.conj().T) / 2 + 0.3 * (np.eye(N, k=1) * 1j).real, M)
    return [
        Quadratic("impedance", wave, triples(dK, 1j * dC, dM), 1.5j, form="symmetric"),
        Quadratic("complex", full, triples(*turned), 2.0j),
        Quadratic("hermitian", hermitian, triples(dK, dC, dM), 2.1j, form="symmetric"),
    ]


PROBLEMS = real_problems() + ([] if REAL else complex_problems())


def dense_values(K, C, M):
    """Return the finite eigenvalues: SciPy's, of the second companion form with -M in A."""
    n, zero, one = len(K), np.zeros_like(K), np.eye(len(K))
    C = zero if C is None else C
    A = np.block([[zero, -K], [one, -C]])
    B = np.block([[one, zero], [zero, M]])
    values = scipy.linalg.eigvals(A, B)
    return values[np.isfinite(values) & (np.abs(values) < 1e8)], n


def nearest(values, target, count):
    """Return the values nearest to the target."""
    return values[np.argsort(np.abs(values - target), kind="stable")[:count]]


def slope(problem, p, lam):
    """Return Q(lam) and Q'(lam)."""
    K, C, M = (0.0 if a is None else a for a in problem.dense(p))
    return lam**2 * M + lam * C + K, 2 * lam * M + C


def null_vectors(Q):
    """Return right and left null vectors, by a singular value decomposition."""
    U, _, Vh = np.linalg.svd(Q)
    return Vh[-1].conj(), U[:, -1]


def dense_pair(problem, p, near, row):
    """Return lam, x (x^H x = 1, x[row] > 0) and y (y^H Q'(lam) x = 1) of the pair nearest."""
    values, _ = dense_values(*problem.dense(p))
    lam = nearest(values, near, 1)[0]
    for _ in range(2):  # Newton on y^H Q(lam) x: the values of a QZ are not all digits
        Q, Q_slope = slope(problem, p, lam)
        x, y = null_vectors(Q)
        lam = lam - (y.conj() @ Q @ x) / (y.conj() @ Q_slope @ x)
    Q, Q_slope = slope(problem, p, lam)
    x, y = null_vectors(Q)
    x = x * abs(x[row]) / x[row]
    return lam, x, y / np.conj(y.conj() @ Q_slope @ x)


def dense_gradients(problem, functions, near, row):
    """Return, for every function(lam, x, y), sixth-order differences in every parameter entry."""
    result = np.zeros((len(functions), 3))
    for entry in range(3):
        for k, weight in COEFFICIENTS.items():
            for side in (1, -1):
                p = {"p": problem.p["p"].copy()}
                p["p"][entry] += side * k * STEP
                pair = dense_pair(problem, p, near, row)
                values = np.array([function(*pair) for function in functions])
                result[:, entry] += side * weight * values / STEP
    return result

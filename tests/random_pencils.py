"""Random pencils for tests of what must not change: small, well apart, with matrix models."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from builders import REAL, matrix
from hypothesis import assume, note
from hypothesis import strategies as st

import geneig_adjoint as ga

SIZES = st.integers(2, 12)
SEEDS = st.integers(0, 2**32 - 1)
KINDS = ["hermitian", "general"]


@dataclass
class Case:
    """A(p) = A + p_0 dA_0 + p_1 dA_1, B(p) alike, as dense arrays, and a vector."""

    A: np.ndarray
    B: np.ndarray
    dA: list  # noqa: N815
    dB: list  # noqa: N815
    c: np.ndarray

    def changed(self, change_a, change_b=None, c=None):
        """Return the case with functions applied to its matrices."""
        change_b = change_b or change_a
        return Case(
            change_a(self.A),
            change_b(self.B),
            [change_a(part) for part in self.dA],
            [change_b(part) for part in self.dB],
            self.c if c is None else c,
        )


def numbers(rng, *shape):
    """Return normal numbers, complex where the build is."""
    real = rng.standard_normal(shape)
    return real if REAL else real + 1j * rng.standard_normal(shape)


def random_case(seed, n, kind):
    """Return a case whose lowest eigenvalue is simple, real and away from the others."""
    rng = np.random.default_rng(seed)
    values = np.cumsum(rng.uniform(0.5, 1.5, n))
    note(f"random_case({seed}, {n}, {kind!r}): eigenvalues {values}")
    if kind == "hermitian":
        Q = scipy.linalg.qr(numbers(rng, n, n))[0]
        L = np.eye(n) + 0.2 * numbers(rng, n, n) / n
        A = L @ (Q * values) @ Q.conj().T @ L.conj().T
        B = L @ L.conj().T
        A, B = (A + A.conj().T) / 2, (B + B.conj().T) / 2
    else:
        left, right = (np.eye(n) + 0.3 * numbers(rng, n, n) / np.sqrt(n) for _ in "ab")
        A, B = (left * values) @ right, left @ right
    assume(max(np.linalg.cond(A), np.linalg.cond(B)) < 1e3)
    parts = [numbers(rng, n, n) / n for _ in range(4)]
    if kind == "hermitian":
        parts = [part + part.conj().T for part in parts]
    return Case(A, B, parts[:2], parts[2:], rng.standard_normal(n))


def solved(comm, case, *, count=1, **settings):
    """Return values and the gradients of the lowest value and of |c^T x|^2 (both real)."""
    model = ga.MatrixModel(
        matrix(case.A, comm),
        matrix(case.B, comm),
        {"p": [(matrix(a, comm), matrix(b, comm)) for a, b in zip(case.dA, case.dB, strict=True)]},
    )
    p = {"p": np.zeros(2)}

    def size(pairs):
        mine = case.c[slice(*pairs.rows)]
        z = pairs.comm.allreduce(mine @ pairs.right[:, 0])
        x_bar = np.zeros_like(pairs.right)
        x_bar[:, 0] = 2 * z * mine
        return float(abs(z) ** 2), ga.EigenCotangent(right=x_bar)

    settings = {"target": 0.0, "normalization": "2", **settings}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count, **settings) as pairs:
        values = pairs.values.copy()
        objectives = [ga.objectives.Eigenvalue(0), size]
        slopes = [found["p"] for found in ga.gradient(model, p, pairs, objectives)]
    for mat in (model.A, model.B, *(mat for pair in model.derivatives["p"] for mat in pair)):
        mat.destroy()
    return values, *slopes

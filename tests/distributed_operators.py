"""Operators A(p) and B(p) given by products, next to the dense arrays they stand for."""

from contextlib import contextmanager

import numpy as np
from builders import own_rows
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga

N = 16
RNG = np.random.default_rng(31)
POINT = {"b": np.array([0.3, -0.2]), "a": np.array([0.4])}


def square(scale=1.0):
    return scale * RNG.standard_normal((N, N))


def positive():
    G = square(0.2)
    return np.eye(N) + G @ G.T


def even(M):
    return M + M.T


SPREAD = np.diag(np.arange(1.0, N + 1))
CASES = {
    # A, dA of b_0, b_1, a; B, dB of b_0, b_1, a
    "symmetric": (SPREAD + even(square(0.06)), [even(square(0.12)) for _ in range(3)], None, []),
    "nonsymmetric": (SPREAD + square(0.06), [square(0.12) for _ in range(3)], None, []),
    "positive B": (
        SPREAD + square(0.06),
        [square(0.12) for _ in range(3)],
        positive(),
        [0.1 * positive() for _ in range(3)],
    ),
    "nonsymmetric B": (
        SPREAD + square(0.06),
        [square(0.12) for _ in range(3)],
        np.eye(N) + square(0.06),
        [square(0.05) for _ in range(3)],
    ),
}
COMPLEX_CASES = {
    "complex": (
        SPREAD + square(0.06) + 1j * square(0.12),
        [square(0.12) + 1j * square(0.12) for _ in range(3)],
        positive() + 0.1j * (np.eye(N, k=1) - np.eye(N, k=-1)),
        [square(0.05) + 1j * square(0.05) for _ in range(3)],
    ),
}
CASES |= COMPLEX_CASES if COMPLEX_BUILD else {}


def weights(p):
    return np.concatenate([p["b"], p["a"]])


def summed(base, derivatives, p):
    return base + np.tensordot(weights(p), np.array(derivatives), axes=1)


def product(comm, array_at, *, hermitian=False):
    """Return apply(p, block) for the matrix array_at(p): this rank's rows in and out."""
    rows = slice(*own_rows(N, comm))
    last = {}

    def rows_at(p):
        """Return this rank's rows of the matrix: made once for the same numbers."""
        key = weights(p).tobytes()
        if key not in last:
            last.clear()
            M = array_at(p)
            last[key] = (M.conj().T if hermitian else M)[rows]
        return last[key]

    def apply(p, block):
        return rows_at(p) @ np.concatenate(comm.allgather(np.ascontiguousarray(block)))

    return apply


def operator(name, comm, **changes):
    """Return the OperatorModel of a case; its vjp names the parameters in another order."""
    A, dA, B, dB = CASES[name]
    rows = slice(*own_rows(N, comm))

    def a_at(p):
        return summed(A, dA, p)

    def b_at(p):
        return summed(B, dB, p)

    def contracted(left, derivatives, right):
        whole = np.concatenate(comm.allgather(np.ascontiguousarray(right)))
        local = np.array([np.vdot(left, d[rows] @ whole).real for d in derivatives])
        return comm.allreduce(local) if derivatives else np.zeros(3)

    def vjp(p, left_a, left_b, right):
        total = contracted(left_a, dA, right) + contracted(left_b, dB, right)
        return {"a": total[2:], "b": total[:2]}

    fields = {
        "apply_a": product(comm, a_at),
        "vjp": vjp,
        "apply_a_hermitian": product(comm, a_at, hermitian=True),
    }
    generalized = {
        "apply_b": product(comm, b_at),
        "apply_b_hermitian": product(comm, b_at, hermitian=True),
    }
    fields |= {True: {}, False: generalized}[B is None]
    return ga.OperatorModel(N, **{**fields, **changes}, comm=comm)


def arrays(name, p):
    A, dA, B, dB = CASES[name]
    return summed(A, dA, p), np.eye(N) if B is None else summed(B, dB, p)


def derivative_arrays(name):
    _, dA, B, dB = CASES[name]
    zeros = [np.zeros((N, N))] * 3
    return dA, zeros if B is None else dB


@contextmanager
def solved(model, p=POINT, count=2, **options):
    """Give the largest pairs of a model; everything is closed at the end."""
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count, which="largest_real", **options) as pairs,
    ):
        yield pairs

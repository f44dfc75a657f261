"""Operators with preconditioners and all derivatives, beside the dense arrays they stand for."""

from contextlib import contextmanager

import numpy as np
import scipy.linalg
from builders import matrix, own_rows
from distributed_operators import CASES, POINT, N, arrays, derivative_arrays, operator, product

import geneig_adjoint as ga

TARGET = 8.3
"""Inside the spectrum of every case: A - TARGET B is indefinite."""


def band(array, width=2):
    rows, columns = np.indices(array.shape)
    return np.where(np.abs(rows - columns) <= width, array, 0.0)


def near(name, comm, width=2):
    """Return preconditioner(p, sigma): the middle diagonals of A - sigma B."""

    def preconditioner(p, sigma):
        A, B = arrays(name, p)
        return matrix(band(A - sigma * B, width), comm)

    return preconditioner


def mass_near(name, comm):
    return lambda p: matrix(band(arrays(name, p)[1], 1), comm)


def moved(derivatives, p_dot):
    return np.tensordot(np.concatenate([p_dot["b"], p_dot["a"]]), np.array(derivatives), axes=1)


def tangents(name, comm):
    """Return the keywords jvp, jvp_hermitian and vjp_tangent of a case; A and B are affine."""
    dA, dB = derivative_arrays(name)

    def tangent(*, hermitian):
        parts = [
            product(comm, lambda p_dot, d=derivatives: moved(d, p_dot), hermitian=hermitian)
            for derivatives in (dA, dB)
        ]
        return lambda p, p_dot, right: tuple(part(p_dot, right) for part in parts)

    return {
        "jvp": tangent(hermitian=False),
        "jvp_hermitian": tangent(hermitian=True),
        "vjp_tangent": lambda p, *_: {key: np.zeros(len(p[key])) for key in p},
    }


def matrix_free(name, comm, **changes):
    fields = {"preconditioner": near(name, comm), **tangents(name, comm), **changes}
    return operator(name, comm, **fields)


@contextmanager
def around(model, p=POINT, count=2, target=TARGET, **options):
    """Give the pairs nearest to the target; everything is closed at the end."""
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count, target=target, **options) as pairs,
    ):
        yield pairs


def dense_around(name, p=POINT, target=TARGET, count=2):
    """Return the eigenvalues nearest to the target and their gradients in the order b, a."""
    A, B = arrays(name, p)
    values, left, right = scipy.linalg.eig(A, B, left=True)
    order = np.lexsort((-values.imag, np.round(np.abs(values - target), 9)))[:count]
    slopes = []
    for j in order:
        y, x = left[:, j], right[:, j]
        square = y.conj() @ B @ x
        slopes.append([
            (y.conj() @ (dA - values[j] * dB) @ x / square).real
            for dA, dB in zip(*derivative_arrays(name), strict=True)
        ])  # fmt: skip
    return values[order], np.array(slopes)


def flat(gradient):
    return np.concatenate([np.asarray(gradient["b"]), np.asarray(gradient["a"])])


def rows_of(comm):
    return slice(*own_rows(N, comm))


NAMES = list(CASES)


def distributed_model(comm):
    """A = tridiag(-1, 2, -1) + diag(d^2) with a parameter that lives where the rows live."""

    def rows(block):
        return np.concatenate(comm.allgather(np.ascontiguousarray(block)))

    first = comm.scan(shares(comm)) - shares(comm)
    own = slice(first, first + shares(comm))

    def neighbours(block):
        padded = np.pad(rows(block), ((1, 1), (0, 0)))
        return (2 * padded[1:-1] - padded[2:] - padded[:-2])[own]

    def apply_a(p, block):
        return neighbours(block) + (p["d"].array_r.real ** 2)[:, None] * block

    def vjp(p, left_a, left_b, right):
        g = p["d"].duplicate()
        g.array[:] = 2 * p["d"].array_r.real * (left_a.conj() * right).real.sum(axis=1)
        return {"d": g}

    def jvp(p, p_dot, right):
        factor = 2 * p["d"].array_r.real * p_dot["d"].array_r.real
        return factor[:, None] * right, np.zeros_like(right)

    def preconditioner(p, sigma):
        whole = rows(p["d"].array_r.real[:, None])[:, 0]
        neighbours = 0.9 * np.eye(N, k=1) + 0.5 * np.eye(N, k=-1)
        return matrix(np.diag(2 + whole**2 - sigma) - neighbours, comm)

    return ga.OperatorModel(N, apply_a, vjp, jvp=jvp, preconditioner=preconditioner, comm=comm)


def shares(comm):
    return N // comm.size + (comm.rank < N % comm.size)

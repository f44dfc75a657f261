"""A chain whose matrices are not affine in its parameters, assembled one derivative at a time."""

import numpy as np
from builders import REAL, matrix
from pencils import Problem
from petsc4py import PETSc

import geneig_adjoint as ga

N = 7
IMAGINARY = 0.0 if REAL else 1j


def _sparse(seed):
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(2, N, N)) * (rng.uniform(size=(N, N)) < 0.4)
    return 0.15 * (parts[0] + IMAGINARY * parts[1])


BASE_A = np.diag(np.arange(1.0, N + 1)) + 0.5 * np.eye(N, k=1) + 0.2 * np.eye(N, k=-1) + _sparse(1)
BASE_B = np.eye(N) + 0.2 * _sparse(2)
PART_A = [_sparse(seed) for seed in (3, 4, 5)]
PART_B = [_sparse(seed) for seed in (6, 7)]
P = {"k": np.array([0.7, 1.1, 0.4]), "m": np.array([0.6, 0.3])}
P_DOT = {"k": np.array([0.3, -0.8, 0.5]), "m": np.array([-0.4, 0.9])}
SIZES = {"k": 3, "m": 2}


def dense_pair(p):
    """A = A_0 + k_0^2 D_0 + k_1^2 D_1 + k_2^2 D_2 + k_0 m_0 D_0, B = B_0 + sum m_i^3 E_i."""
    k, m = p["k"], p["m"]
    A = BASE_A + sum(k[i] ** 2 * PART_A[i] for i in range(3)) + k[0] * m[0] * PART_A[0]
    return A, BASE_B + sum(m[i] ** 3 * PART_B[i] for i in range(2))


def dense_derivative(p, name, i):
    k, m = p["k"], p["m"]
    return {
        ("k", 0): ((2 * k[0] + m[0]) * PART_A[0], None),
        ("k", 1): (2 * k[1] * PART_A[1], None),
        ("k", 2): (2 * k[2] * PART_A[2], None),
        ("m", 0): (k[0] * PART_A[0], 3 * m[0] ** 2 * PART_B[0]),
        ("m", 1): (None, 3 * m[1] ** 2 * PART_B[1]),
    }[name, int(i)]


def dense_second(p, d, name, i):
    m = p["m"]
    return {
        ("k", 0): ((2 * d["k"][0] + d["m"][0]) * PART_A[0], None),
        ("k", 1): (2 * d["k"][1] * PART_A[1], None),
        ("k", 2): (2 * d["k"][2] * PART_A[2], None),
        ("m", 0): (d["k"][0] * PART_A[0], 6 * m[0] * d["m"][0] * PART_B[0]),
        ("m", 1): (None, 6 * m[1] * d["m"][1] * PART_B[1]),
    }[name, int(i)]


class Counted:
    """Makes the model, and remembers which derivatives were asked for and how many were alive."""

    def __init__(self, comm, *, second=True):
        self.world = comm
        self.asked = []
        self.alive = []
        self.most = 0
        options = {"second_derivatives": self.second} if second else {}
        self.model = ga.AssembledModel(self.assemble, self.first, SIZES, comm=comm, **options)

    def matrix(self, array):
        return None if array is None else matrix(array, self.world)

    def assemble(self, p):
        return tuple(self.matrix(array) for array in dense_pair(values(p)))

    def first(self, p, name, numbers):
        for i in numbers:
            yield self.counted((name, int(i)), dense_derivative(values(p), name, i))

    def second(self, p, p_dot, name, numbers):
        for i in numbers:
            yield self.counted((name, int(i)), dense_second(values(p), values(p_dot), name, i))

    def counted(self, place, arrays):
        self.asked.append(place)
        pair = tuple(self.matrix(array) for array in arrays)
        self.alive = [mat for mat in self.alive if mat.handle] + [m for m in pair if m is not None]
        self.most = max(self.most, len(self.alive))
        return pair


def values(p):
    """Return whole arrays of parameters of either kind, on every rank."""
    return {name: whole_vector(value) for name, value in p.items()}


def whole_vector(value):
    if not isinstance(value, PETSc.Vec):
        return np.asarray(value)
    scatter, target = PETSc.Scatter.toAll(value)
    scatter.scatter(value, target)
    found = target.array_r.real.copy()
    for item in (scatter, target):
        item.destroy()
    return found


def known_model(comm):
    """Return a model that has seen its matrices: tests ask for its rows."""
    model = Counted(comm).model
    model.assemble(P).close()
    return model


def assembled_problem():
    """The chain as a problem of the gallery."""
    traits = frozenset({"positive" if REAL else "complex"})
    return Problem("assembled", N, dense_pair, known_model, P, P_DOT, traits)

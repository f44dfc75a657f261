"""Maps and points for the tests of maps, the same serially and on several ranks."""

import numpy as np
import scipy.sparse
from builders import C0, K0, chain, chain_parameters, distributed, shares
from petsc4py import PETSc

import geneig_adjoint as ga

N = 11  # dofs of the chain; N + 1 elements
SIZE = N + 1
BASE = K0 + 0.3 * C0  # not symmetric
RNG = np.random.default_rng(3)
CENTERS = np.column_stack([np.arange(SIZE), RNG.uniform(0, 0.5, SIZE)])
VOLUMES = RNG.uniform(0.5, 2.0, SIZE)
RADIUS = 2.6
WIDE = scipy.sparse.csr_matrix(RNG.uniform(0.1, 1.0, (SIZE, 5)) * (RNG.random((SIZE, 5)) < 0.6))
SQUARE = scipy.sparse.csr_matrix(RNG.normal(size=(SIZE, SIZE)) * (RNG.random((SIZE, SIZE)) < 0.4))
IDS = np.array([0, 1, 2, 3, 2, 1, 0, 4, 4, 3, 1, 0])
IMAGES = np.arange(SIZE)[::-1]
CONE = np.maximum(0, RADIUS - np.linalg.norm(CENTERS[:, None] - CENTERS[None], axis=2)) * VOLUMES
CONE /= CONE.sum(axis=1, keepdims=True)
MIRROR = (np.eye(SIZE) + np.eye(SIZE)[::-1]) / 2


def shared(comm, ranks, array):
    """Return what a map wants: all rows without ranks, else this rank's; not PETSc's split."""
    bounds = np.linspace(0, array.shape[0], comm.size + 1).astype(int)
    own = slice(bounds[comm.rank], bounds[comm.rank + 1])
    return array if ranks is None else array[own]


def linear_maps(comm, ranks):
    """Return name -> (map of "k", dense matrix); ``ranks``: comm, or None for whole data."""
    square, wide, ids, images, centers, volumes = (
        shared(comm, ranks, array) for array in (SQUARE, WIDE, IDS, IMAGES, CENTERS, VOLUMES)
    )
    return {
        "matrix": (ga.LinearMap("k", square, comm=ranks), SQUARE.toarray()),
        "wide": (ga.LinearMap("k", wide, comm=ranks), WIDE.toarray()),
        "petsc": (ga.LinearMap("k", petsc_rows(comm, WIDE.toarray())), WIDE.toarray()),
        "tied": (ga.Tied("k", ids, comm=ranks), np.eye(5)[IDS]),
        "symmetry": (ga.Symmetry("k", images, comm=ranks), MIRROR),
        "filter": (ga.DensityFilter("k", centers, RADIUS, volumes=volumes, comm=ranks), CONE),
    }


LINEAR = ["matrix", "wide", "petsc", "tied", "symmetry", "filter"]


def petsc_rows(comm, array):
    """Return a rectangular dense array as a distributed PETSc matrix."""
    mat = PETSc.Mat().createAIJ(array.shape, nnz=array.shape[1], comm=comm)
    for row in range(*mat.getOwnershipRange()):
        columns = np.flatnonzero(array[row]).astype(PETSc.IntType)
        mat.setValues([row], columns, array[row, columns])
    mat.assemble()
    return mat


def entries(value):
    """Return all entries of a parameter, real, on every rank."""
    if not isinstance(value, PETSc.Vec):
        return np.asarray(value)
    return np.concatenate(value.comm.tompi4py().allgather(value.array_r.real.copy()))


def kinds(comm):
    """Return what makes a parameter out of an array that every rank has."""
    return {"replicated": np.array, "distributed": lambda array: distributed(array, comm)}


class Coupled:
    """A map of a user with two parameters in and two others out; bends, and couples them.

    k_i = s_i^2 t_0 + 0.3 s_i, m_i = exp(0.2 s_i) + t_1.
    """

    def __call__(self, p):
        s, t = p["s"], p["t"]
        return {"k": s**2 * t[0] + 0.3 * s, "m": np.exp(0.2 * s) + t[1]}

    def jvp(self, p, p_dot):
        s, t, ds, dt = p["s"], p["t"], p_dot["s"], p_dot["t"]
        k = (2 * s * t[0] + 0.3) * ds + s**2 * dt[0]
        return {"k": k, "m": 0.2 * np.exp(0.2 * s) * ds + dt[1]}

    def vjp(self, p, q_bar):
        s, t, k, m = p["s"], p["t"], q_bar["k"], q_bar["m"]
        s_bar = (2 * s * t[0] + 0.3) * k + 0.2 * np.exp(0.2 * s) * m
        return {"s": s_bar, "t": np.array([s**2 @ k, m.sum()])}

    def vjp_tangent(self, p, p_dot, q_bar):
        s, t, k, m = p["s"], p["t"], q_bar["k"], q_bar["m"]
        ds, dt = p_dot["s"], p_dot["t"]
        s_bar = 2 * (ds * t[0] + s * dt[0]) * k + 0.04 * np.exp(0.2 * s) * ds * m
        return {"s": s_bar, "t": np.array([(2 * s * ds) @ k, 0.0])}


def composed_cases(comm):
    """Return name -> (maps, p of arrays), for the chain with parameters "k" and "m"."""
    rng = np.random.default_rng(6)
    p = chain_parameters(N)
    few = {"k": rng.uniform(0.6, 1.2, 5), "m": p["m"]}
    unit = {"k": rng.uniform(0.3, 0.9, SIZE), "m": p["m"]}
    whole = linear_maps(comm, None)
    return {
        "none": ([], p),
        "filter": ([whole["filter"][0], ga.Projection("k", beta=3.0, eta=0.4)], unit),
        "tied": ([whole["tied"][0], whole["symmetry"][0]], few),
        "wide": ([whole["wide"][0], ga.Pointwise("k", ga.PowerLaw(1.5, 0.2))], few),
        "kept": (
            [
                ga.DensityFilter("rho", CENTERS, RADIUS, volumes=VOLUMES, output="m"),
                ga.Pointwise("m", np.sqrt, output="k", keep=True),
            ],
            {"rho": unit["k"]},
        ),
        "coupled": (
            [Coupled(), ga.Projection("k", beta=1.5), whole["filter"][0]],
            {"s": rng.uniform(0.4, 0.8, SIZE), "t": np.array([0.9, 0.4])},
        ),
    }


CASES = ["none", "filter", "tied", "wide", "kept", "coupled"]
VECTOR_CASES = [name for name in CASES if name != "coupled"]


def chain_model(comm):
    """Return the nonsymmetric chain of `builders`, elements anywhere."""
    return chain(N, comm, own=shares(SIZE, comm, seed=2), base=BASE)

"""Small element models, nonlinear in p, next to dense assemblies by plain loops."""

from contextlib import contextmanager

import numpy as np
from mpi4py import MPI
from pencils import Array, Problem

import geneig_adjoint as ga

ELEMENTS = 8


def element_ends(count: int, *, last_constrained: bool) -> Array:
    """Two-node elements in a row; the first node is constrained (-1), the last one perhaps."""
    ends = np.column_stack([np.arange(count) - 1, np.arange(count)])
    ends[-1, 1] = -1 if last_constrained else count - 1
    return ends


def add_element(matrix: Array, ends: Array, entries: Array) -> None:
    for i, row in enumerate(ends):
        for j, column in enumerate(ends):
            matrix[row, column] += entries[i, j] * (row >= 0) * (column >= 0)


def shares(comm: MPI.Comm, *arrays: Array) -> tuple[Array, ...]:
    """Every other element on every other rank: most rows are of another rank."""
    return tuple(array[comm.rank :: comm.size] for array in arrays)


def bar_problem(name: str, *, complex_: bool) -> Problem:
    """A bar with a density per pair of elements: A ~ floor + rho^3, B ~ rho, and springs."""
    stiffness = np.linspace(1.0, 2.2, ELEMENTS)
    ends = element_ends(ELEMENTS, last_constrained=False)
    off_diagonal = -1.0 + 0.3j * complex_
    K0 = np.array([[1.2, off_diagonal], [np.conj(off_diagonal), 1.1]])
    K0 = K0 if complex_ else K0.real
    M0 = np.array([[0.35, 0.15], [0.15, 0.3]])
    bases = 6.0 * stiffness[:, None, None] * K0
    ids = np.arange(ELEMENTS) // 2

    def dense(p):
        n = ELEMENTS
        A, B = np.zeros((n, n), dtype=K0.dtype), np.zeros((n, n))
        for e in range(ELEMENTS):
            rho = p["density"][e // 2]
            add_element(A, ends[e], (1e-2 + rho**3) * bases[e])
            add_element(B, ends[e], rho * M0)
        A[2, 2] += p["spring"][0] ** 2
        return A, B

    def spring(spring):
        return (spring**2)[:, None, None]

    @contextmanager
    def model(comm):
        own_ends, own_bases, own_ids = shares(comm, ends, bases, ids)
        sprung = np.full((int(comm.rank == comm.size - 1), 1), 2)
        blocks = [
            ga.ElementBlock(
                "A",
                own_ends,
                ga.ScaledKernel(own_bases, ga.PowerLaw(3.0, floor=1e-2)),
                parameters={"density": own_ids},
            ),
            ga.ElementBlock("B", own_ends, ga.ScaledKernel(M0), parameters={"density": own_ids}),
            ga.ElementBlock(
                "A",
                sprung,
                ga.NumpyKernel(spring),
                parameters={"spring": np.zeros(len(sprung), dtype=int)},
            ),
        ]
        with ga.ElementModel(ELEMENTS, blocks, comm=comm) as made:
            yield made

    p = {"density": np.array([0.7, 0.9, 0.6, 0.8]), "spring": np.array([0.5])}
    p_dot = {"density": np.array([0.4, -0.3, 0.5, 0.2]), "spring": np.array([0.7])}
    traits = {"hermitian", "definite", "positive"} | ({"complex"} if complex_ else {"symmetric"})
    return Problem(name, ELEMENTS, dense, model, p, p_dot, frozenset(traits))


def advection_problem(name: str = "advection", *, traced: bool = False) -> Problem:
    """Advection-diffusion: nodal diffusivities (two per element), one velocity, upwinded mass.

    Traced: the same elements by JAX.
    """
    ends = element_ends(ELEMENTS, last_constrained=True)
    n = ELEMENTS - 1
    laplace, wind = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([[-0.5, 0.5], [-0.5, 0.5]])
    M0 = np.array([[0.4, 0.1], [0.2, 0.3]])
    nodes = np.column_stack([np.arange(ELEMENTS), np.arange(ELEMENTS) + 1]) // 2
    width = np.linspace(0.8, 1.3, ELEMENTS)

    def dense(p):
        A, B = np.zeros((n, n)), np.zeros((n, n))
        for e in range(ELEMENTS):
            left, right = p["diffusion"][nodes[e]]
            K = 4 * (left + 2 * right) * left / width[e] * laplace
            add_element(A, ends[e], K + p["velocity"][0] * wind)
            add_element(B, ends[e], p["capacity"][e % 3] * M0)
        return A, B

    def kernel(diffusion, velocity, width):
        strength = 4 * (diffusion[:, 0] + 2 * diffusion[:, 1]) * diffusion[:, 0] / width
        return strength[:, None, None] * laplace + velocity[:, None, None] * wind

    def one_element(diffusion, velocity, width):
        return kernel(diffusion[None], velocity[None], width[None])[0]

    def one_mass(capacity):
        return capacity * M0

    @contextmanager
    def model(comm):
        own, ids, widths, thirds = shares(comm, ends, nodes, width, np.arange(ELEMENTS) % 3)
        data = {"width": widths}
        transport = ga.JaxKernel(one_element, data) if traced else ga.NumpyKernel(kernel, data)
        storage = ga.JaxKernel(one_mass) if traced else ga.ScaledKernel(M0)
        blocks = [
            ga.ElementBlock(
                "A",
                own,
                transport,
                parameters={"diffusion": ids, "velocity": np.zeros(len(own), dtype=int)},
            ),
            ga.ElementBlock("B", own, storage, parameters={"capacity": thirds}),
        ]
        with ga.ElementModel(n, blocks, comm=comm) as made:
            yield made

    p = {
        "diffusion": np.array([0.7, 0.9, 0.8, 1.0, 0.75]),
        "velocity": np.array([1.4]),
        "capacity": np.array([0.9, 1.1, 1.3]),
    }
    p_dot = {
        "diffusion": np.array([0.2, -0.1, 0.3, 0.1, 0.2]),
        "velocity": np.array([0.6]),
        "capacity": np.array([0.3, -0.2, 0.1]),
    }
    return Problem(name, n, dense, model, p, p_dot, frozenset({"positive"}))

"""A plate of fibre composite with a fibre angle and a thickness per element, written in JAX.

python jax_element.py, or mpirun -n 2 python jax_element.py.  The plate vibrates in its plane and is
clamped at its left edge.  The element routines are those of any textbook, for one element;
nothing is differentiated by hand.  Known answer: A and B are proportional to the thickness, so
sum t_e df/dt_e = 0; and the first derivatives agree with differences of the element matrices.
"""

import jax
import jax.numpy as jnp
import numpy as np
from mpi4py import MPI

import geneig_adjoint as ga

NX, NY, LENGTH, HEIGHT = 16, 8, 0.4, 0.2  # elements, m
E_FIBRE, E_ACROSS, POISSON, G, DENSITY = 138e9, 9e9, 0.3, 7e9, 1600.0  # Pa, kg/m^3
# Constants are NumPy arrays: those of jax.numpy made out here would be single precision.
SIGNS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
GAUSS = SIGNS / np.sqrt(3)
COMPLIANCE = np.array(
    [[1 / E_FIBRE, -POISSON / E_FIBRE, 0], [-POISSON / E_FIBRE, 1 / E_ACROSS, 0], [0, 0, 1 / G]]
)
ALONG_FIBRE = np.linalg.inv(COMPLIANCE)


def elasticity(angle):
    """Return the plane-stress matrix (3, 3) of fibres at an angle to the x axis."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    strain = jnp.array(
        [[c * c, s * s, c * s], [s * s, c * c, -c * s], [-2 * c * s, 2 * c * s, c * c - s * s]]
    )
    return strain.T @ ALONG_FIBRE @ strain


def stiffness(thickness, angle, nodes):
    """Return the stiffness matrix (8, 8) of one four-node element; nodes: (4, 2) in m."""
    D = elasticity(angle)

    def at(point):
        slopes = SIGNS * (1 + SIGNS * point)[:, ::-1] / 4  # in the square [-1, 1]^2
        (a, b), (c, d) = slopes.T @ nodes
        size = a * d - b * c
        dx, dy = jnp.array([[d, -b], [-c, a]]) @ slopes.T / size
        zero = jnp.zeros(4)
        strains = jnp.stack(
            [jnp.stack([dx, zero], 1), jnp.stack([zero, dy], 1), jnp.stack([dy, dx], 1)]
        ).reshape(3, 8)
        return size * strains.T @ D @ strains

    return thickness * jax.vmap(at)(GAUSS).sum(axis=0)


def mass(thickness, nodes):
    """Return the consistent mass matrix (8, 8) of one element."""

    def at(point):
        shapes = jnp.prod(1 + SIGNS * point, axis=1) / 4
        slopes = SIGNS * (1 + SIGNS * point)[:, ::-1] / 4
        return jnp.linalg.det(slopes.T @ nodes) * jnp.outer(shapes, shapes)

    return DENSITY * thickness * jnp.kron(jax.vmap(at)(GAUSS).sum(axis=0), np.eye(2))


def mesh():
    """Return node coordinates (n, 2), in m, and the nodes of every element (m, 4)."""
    number = np.arange((NX + 1) * (NY + 1)).reshape(NX + 1, NY + 1)
    x, y = np.meshgrid(
        np.linspace(0, LENGTH, NX + 1), np.linspace(0, HEIGHT, NY + 1), indexing="ij"
    )
    corners = [number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]]
    return np.stack([x, y], axis=2).reshape(-1, 2), np.stack(corners, axis=2).reshape(-1, 4)


comm = MPI.COMM_WORLD
points, elements = mesh()
mine = np.array_split(np.arange(len(elements)), comm.size)[comm.rank]  # this rank's elements
# Two dofs per node, x and y; the nodes at x = 0 come first and are clamped.
free = 2 * elements[mine][:, :, None] + np.arange(2) - 2 * (NY + 1)
dofs = np.maximum(free, -1).reshape(-1, 8)
coordinates = {"nodes": points[elements[mine]]}
stiff = ga.JaxKernel(stiffness, coordinates)

with ga.abort_on_failure():
    model = ga.ElementModel(
        n=2 * NX * (NY + 1),
        blocks=[
            ga.ElementBlock("A", dofs, stiff, {"thickness": mine, "angle": mine}),
            ga.ElementBlock("B", dofs, ga.JaxKernel(mass, coordinates), {"thickness": mine}),
        ],
        comm=comm,
    )
    middle = points[elements].mean(axis=1)
    p = {
        "thickness": 0.002 + 0.001 * middle[:, 0] / LENGTH,  # m
        "angle": np.pi / 6 * np.cos(3 * middle[:, 1] / HEIGHT),
    }
    report = ga.check_kernels(stiff, None, {name: value[mine] for name, value in p.items()})
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs:
        frequencies = np.sqrt(pairs.values.real) / (2 * np.pi)
        gradient = ga.gradient(model, p, pairs, ga.objectives.Frequency(0))
    terms = gradient["thickness"] * p["thickness"]
    balance = terms.sum()
    if comm.rank == 0:
        print(report)
        best = int(np.argmax(np.abs(gradient["angle"])))
        print("frequencies, Hz", frequencies.round(3))
        print(f"largest df/d angle: {gradient['angle'][best]:.6f} Hz/rad at element {best}")
        print(f"sum t df/dt = {balance:.1e} Hz, of terms up to {terms.max():.1f} Hz")

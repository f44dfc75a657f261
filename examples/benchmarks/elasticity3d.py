"""Time and memory of a whole gradient with and without a factor: 3D elasticity.

    mpirun -n 2 python examples/benchmarks/elasticity3d.py --cells 70 69 68 --solver iterative

A block of trilinear hexahedra with unit edges, clamped at one face, stiffness
(1e-6 + rho^3) K0 and mass rho M0 at a wavy density per element; its lowest modes. Prints
Markdown tables: seconds of each step, wall and CPU (the slowest rank), with the peak of resident
memory so far (sum over the ranks), and what the solver says. ``--save one.npz`` keeps values and
gradients; ``--compare one.npz`` says by how much those of this run differ.
"""

import argparse
import sys

import numpy as np
from mpi4py import MPI
from steps import Steps

import geneig_adjoint as ga

CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])


def hexahedron_matrices(poisson=0.3):
    """Return stiffness and mass, (24, 24) each, of a unit cube (E = rho = 1), by 2^3 points."""
    lame, shear = poisson / ((1 + poisson) * (1 - 2 * poisson)), 0.5 / (1 + poisson)
    elastic = np.diag([2 * shear] * 3 + [shear] * 3)
    elastic[:3, :3] += lame
    signs = 2 * CORNERS - 1
    stiffness, mass = np.zeros((24, 24)), np.zeros((24, 24))
    for point in signs * 3**-0.5:
        factors = (1 + signs * point) / 2
        slopes = np.stack(
            [signs[:, a] * np.delete(factors, a, axis=1).prod(axis=1) for a in range(3)], axis=1
        )
        strain, field = np.zeros((6, 24)), np.zeros((3, 24))
        for a in range(3):
            strain[a, a::3], field[a, a::3] = slopes[:, a], factors.prod(axis=1)
        for row, (a, b) in enumerate([(0, 1), (1, 2), (2, 0)], start=3):
            strain[row, a::3], strain[row, b::3] = slopes[:, b], slopes[:, a]
        stiffness += strain.T @ elastic @ strain / 8
        mass += field.T @ field / 8
    return stiffness, mass


def grid(first, last, ny, nz):
    """Return the indices (i, j, k) of a grid, z fastest, as three flat arrays."""
    parts = np.meshgrid(np.arange(first, last), np.arange(ny), np.arange(nz), indexing="ij")
    return [part.ravel() for part in parts]


def block(cells, comm, *, clamped=True):
    """Return model, parameters and rigid body modes; each rank brings a share of the layers."""
    nx, ny, nz = cells
    first, last = (nx * (comm.rank + i) // comm.size for i in (0, 1))
    layer = (ny + 1) * (nz + 1)  # nodes with equal x
    i, j, k = grid(first, last, ny, nz)
    nodes = [(i + a) * layer + (j + b) * (nz + 1) + k + c for a, b, c in CORNERS]
    dofs = (3 * np.stack(nodes, axis=1)[:, :, None] + np.arange(3)).reshape(-1, 24)
    dofs = np.maximum(dofs - 3 * layer * clamped, -1)  # the face x = 0 is clamped
    ids = (i * ny + j) * nz + k
    stiffness, mass = hexahedron_matrices()
    law = ga.PowerLaw(3.0, floor=1e-6)
    blocks = [
        ga.ElementBlock("A", dofs, ga.ScaledKernel(stiffness, law), {"density": ids}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(mass), {"density": ids}),
    ]
    start = first + 1 if clamped or comm.rank else 0
    points = np.stack(grid(start, last + 1, ny + 1, nz + 1), axis=1)
    model = ga.ElementModel(
        3 * (nx + 1 - clamped) * layer, blocks, comm=comm, n_local=3 * len(points)
    )
    i, j, k = grid(0, nx, ny, nz)
    density = 0.6 + 0.35 * np.sin(0.31 * i + 0.2 * j) * np.cos(0.27 * k + 0.1 * i)
    return model, {"density": density}, ga.rigid_body_modes(points)


def arguments():
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs=3, default=[20, 20, 20])
    parser.add_argument("--solver", choices=["direct", "iterative"], default="iterative")
    parser.add_argument("--strategy", default=None)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--rtol", type=float, default=1e-10, help="of pairs and adjoints")
    parser.add_argument("--save")
    parser.add_argument("--compare")
    return parser.parse_args()


def report(chosen, pairs, gradients):
    """Print what the solver says, and differences from another run."""
    print(f"\neigenvalues {pairs.values.real}")
    print(f"found: {pairs.info.completeness.method}", *pairs.info.notes, sep="; ")
    for name, gradient in gradients.items():
        print(f"estimated error of the gradient, {name}: {gradient.relative_error:.1e}")
    arrays = {name: gradient["density"] for name, gradient in gradients.items()}
    if chosen.save:
        np.savez(chosen.save, values=pairs.values.real, **arrays)
    if chosen.compare:
        other = np.load(chosen.compare)
        print("\n| differs from the other run by | |\n|---|---|")
        print(f"| eigenvalues | {np.abs(pairs.values.real / other['values'] - 1).max():.1e} |")
        for name, array in arrays.items():
            part = np.linalg.norm(array - other[name]) / np.linalg.norm(other[name])
            print(f"| gradient, {name} | {part:.1e} |")


def main():
    """Run the benchmark and print its tables on rank 0."""
    chosen, comm = arguments(), MPI.COMM_WORLD
    cells, count = chosen.cells, chosen.count
    nodes = cells[0] * (cells[1] + 1) * (cells[2] + 1)
    if comm.rank == 0:
        print(f"{chosen.solver}: n = {3 * nodes}, m = {np.prod(cells)}, ranks = {comm.size}\n")
    steps = Steps(comm)
    model, p, modes = steps.run("set up model", lambda: block(cells, comm))
    pencil = steps.run("assemble A and B", lambda: model.assemble(p))
    settings = {"target": 0.0, "solver_parameters": {"eps_tol": chosen.rtol}}
    if chosen.solver == "iterative":
        settings["near_null_space"] = modes
    pairs = steps.run(
        f"{count} eigenpairs", lambda: ga.solve_eigenproblem(pencil, count, **settings)
    )
    weight = np.cos(0.001 * np.arange(*pairs.rows)) ** 2
    objectives = {
        "first eigenvalue": ga.objectives.Eigenvalue(0),
        "all vectors": ga.objectives.QuadraticForm(weight, tuple(range(count))),
    }
    gradients = {}
    for name, objective in objectives.items():
        gradients[name] = steps.run(
            f"gradient, {name}",
            lambda objective=objective: ga.gradient(
                model, p, pairs, objective, rtol=chosen.rtol, strategy=chosen.strategy
            ),
        )
    if comm.rank == 0:
        report(chosen, pairs, gradients)
    pairs.close()
    pencil.close()
    sys.stdout.flush()


if __name__ == "__main__":
    with ga.abort_on_failure():
        main()

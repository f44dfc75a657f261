"""Time and memory of a whole gradient: 2D elasticity with one density per element.

    mpirun -n 2 python examples/benchmarks/elasticity2d.py --columns 500 --rows 300

The default has 300,000 dofs and 150,000 parameters. A cantilever plate of bilinear
squares in plane stress, clamped at its left edge, stiffness (1e-6 + rho^3) K0 and mass
rho M0 at a wavy density; the eight lowest modes. Prints a Markdown table: seconds of each
step, wall and CPU (the slowest rank), and the peak of resident memory so far (sum over the
ranks).
"""

import argparse
import sys

import numpy as np
from mpi4py import MPI
from peers.problems import elastic_matrices
from steps import Steps

import geneig_adjoint as ga


def plate(columns, rows, comm):
    """Return the model and its parameters; each rank brings a share of the columns."""
    first, last = (columns * (comm.rank + i) // comm.size for i in (0, 1))
    i, j = np.meshgrid(np.arange(first, last), np.arange(rows), indexing="ij")
    i, j = i.ravel(), j.ravel()
    nodes = np.stack([i * (rows + 1) + j, (i + 1) * (rows + 1) + j], axis=1)
    nodes = np.column_stack([nodes[:, 0], nodes[:, 1], nodes[:, 1] + 1, nodes[:, 0] + 1])
    dofs = np.stack([2 * nodes, 2 * nodes + 1], axis=-1).reshape(len(nodes), 8)
    dofs = np.maximum(dofs - 2 * (rows + 1), -1)  # the left edge is clamped
    ids = i * rows + j
    stiffness, mass = elastic_matrices(2)
    blocks = [
        ga.ElementBlock(
            "A", dofs, ga.ScaledKernel(stiffness, ga.PowerLaw(3.0, floor=1e-6)), {"density": ids}
        ),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(mass), {"density": ids}),
    ]
    # The numbering runs column by column, so that PETSc's row split follows the elements.
    model = ga.ElementModel(2 * columns * (rows + 1), blocks, comm=comm)
    number = np.arange(columns * rows)
    density = 0.6 + 0.3 * np.sin(0.01 * (number // rows)) * np.cos(0.013 * (number % rows))
    return model, {"density": density}


def main():
    """Run the benchmark and print its table on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=500)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--count", type=int, default=8)
    strategies = ["block-krylov", "ksp", "direct"]
    parser.add_argument("--strategy", choices=strategies, default="block-krylov")
    chosen = parser.parse_args()
    comm = MPI.COMM_WORLD
    steps = Steps(comm)
    model, p = steps.run("set up model", lambda: plate(chosen.columns, chosen.rows, comm))
    pencil = steps.run("assemble A and B", lambda: model.assemble(p))
    pairs = steps.run(
        "eigenpairs", lambda: ga.solve_eigenproblem(pencil, count=chosen.count, target=0.0)
    )
    weight = np.cos(0.001 * np.arange(*pairs.rows)) ** 2
    frequency = ga.objectives.Eigenvalue(0)
    motion = ga.objectives.QuadraticForm(weight, tuple(range(chosen.count)))
    steps.run("gradient, first eigenvalue", lambda: ga.gradient(model, p, pairs, frequency))
    steps.run(
        f"gradient, all {chosen.count} vectors ({chosen.strategy})",
        lambda: ga.gradient(model, p, pairs, motion, strategy=chosen.strategy),
    )
    if comm.rank == 0:
        print(f"\nn = {model.n}, m = {p['density'].size}, ranks = {comm.size}")
    pairs.close()
    pencil.close()
    sys.stdout.flush()


if __name__ == "__main__":
    with ga.abort_on_failure():
        main()

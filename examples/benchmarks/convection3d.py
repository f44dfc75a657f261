"""Memory of ill-conditioned pairs: convection and diffusion in a box.

    python examples/benchmarks/convection3d.py --nodes 34
    MALLOC_MMAP_MAX_=0 python examples/benchmarks/convection3d.py --nodes 34

A coupling from node to node and a loss in each node are the parameters. The flow makes the pairs
so ill-conditioned that a second factor, of a bordered matrix, is made for each of them while the
eigensolver's is there. Prints a Markdown table: seconds of each step, wall and CPU, and the peak
of resident memory so far. The variable of the second line keeps the C library from giving freed
factors back to the system, as SuperLU_DIST would have it, to which Debian's PETSc is linked.
"""

import argparse

import numpy as np
from mpi4py import MPI
from steps import Steps

import geneig_adjoint as ga

STIFFNESS = (1.0, 1.1, 1.3)
"""Of the three directions, so that no value is repeated."""


def box(nodes, flow, comm):
    """Return the model and its parameters; each rank brings the layers that it owns."""
    number = np.arange(nodes**3).reshape(nodes, nodes, nodes)
    first, last = (nodes * (comm.rank + i) // comm.size for i in (0, 1))
    blocks, start = [], 0
    for axis, stiffness in enumerate(STIFFNESS):
        ends = np.moveaxis(number, axis, -1)
        pairs = np.stack([ends[..., :-1], ends[..., 1:]], axis=-1).reshape(-1, 2)
        own = np.flatnonzero((pairs[:, 0] // nodes**2 >= first) & (pairs[:, 0] // nodes**2 < last))
        element = stiffness * np.array([[1.0, flow - 1.0], [-flow - 1.0, 1.0]])
        kernel = ga.ScaledKernel(element)
        blocks.append(ga.ElementBlock("A", pairs[own], kernel, {"coupling": start + own}))
        start += len(pairs)
    own = number[first:last].ravel()
    blocks.append(
        ga.ElementBlock("A", own[:, None], ga.ScaledKernel(np.ones((1, 1))), {"loss": own})
    )
    outside = sum(
        stiffness * (np.isin(place, (0, nodes - 1)))
        for stiffness, place in zip(STIFFNESS, np.indices(number.shape), strict=True)
    )
    loss = outside.ravel() + np.linspace(0.0, 0.01, nodes**3)
    model = ga.ElementModel(nodes**3, blocks, comm=comm)
    return model, {"coupling": np.ones(start), "loss": loss}


def main():
    """Run the benchmark and print its table on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=34, help="per side")
    parser.add_argument("--flow", type=float, default=0.3, help="0: the matrix is symmetric")
    parser.add_argument("--count", type=int, default=4)
    chosen = parser.parse_args()
    comm = MPI.COMM_WORLD
    steps = Steps(comm)
    model, p = steps.run("set up model", lambda: box(chosen.nodes, chosen.flow, comm))
    pencil = steps.run("assemble A", lambda: model.assemble(p))
    pairs = steps.run(
        "eigenpairs, with left vectors",
        lambda: ga.solve_eigenproblem(pencil, count=chosen.count, target=0.0),
    )
    steps.run(
        "gradient, first eigenvalue",
        lambda: ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0)),
    )
    if comm.rank == 0:
        print(f"\nn = {model.n}, ranks = {comm.size}, lam = {pairs.values.real}")
        print(f"condition numbers: {pairs.condition}")
    pairs.close()
    pencil.close()


if __name__ == "__main__":
    with ga.abort_on_failure():
        main()

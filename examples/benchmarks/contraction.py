"""Seconds that elements cost: gathering vectors, the contraction, and products with tangents.

    python examples/benchmarks/contraction.py --elements 1000000 --pairs 8
    mpirun -n 2 python examples/benchmarks/contraction.py --dimension 3 --elements 30000

A grid of squares or cubes with as many displacements per node as dimensions, clamped at one
side, one density per element. Vectors are random: nothing is solved. Prints a Markdown table:
medians of repeated calls on the slowest rank, and the data that must be moved at least once
(vectors, dof numbers, stored matrices, results), all ranks together, per second, in GB and as
a share of what the machine copies in the same run.
"""

import argparse
import statistics
import time

import numpy as np
from mpi4py import MPI

import geneig_adjoint as ga

KERNELS = ("scaled", "stored", "jax", "numpy")


def grid(dimension, elements, comm):
    """Return dofs and numbers of this rank's elements, the free dofs, and all elements."""
    side = max(round(elements ** (1 / dimension)), 1)
    shape = (side,) * dimension
    mine = np.array_split(np.arange(side**dimension), comm.size)[comm.rank]
    places = np.stack(np.unravel_index(mine, shape), axis=-1)
    corners = np.array(list(np.ndindex(*(2,) * dimension)))
    nodes = np.moveaxis(places[:, None, :] + corners, -1, 0)
    numbers = np.ravel_multi_index(tuple(nodes), (side + 1,) * dimension)
    dofs = dimension * numbers[:, :, None] + np.arange(dimension)
    clamped = dimension * (side + 1) ** (dimension - 1)  # the nodes of the first layer
    dofs = np.maximum(dofs.reshape(len(mine), -1) - clamped, -1)
    return dofs, mine, clamped * side, side**dimension


def kernels(kind, nd, count):
    """Return kernels of A and B with matrices of no meaning: symmetric, full."""
    rng = np.random.default_rng(1)
    bases = [base @ base.T for base in rng.normal(size=(2, nd, nd))]
    if kind == "jax":
        K, M = bases
        return ga.JaxKernel(lambda rho: (1e-6 + rho**3) * K), ga.JaxKernel(lambda rho: rho * M)
    if kind == "numpy":
        K, M = bases
        return (
            ga.NumpyKernel(lambda rho: (1e-6 + rho**3)[:, None, None] * K),
            ga.NumpyKernel(lambda rho: rho[:, None, None] * M),
        )
    if kind == "stored":
        bases = [np.repeat(base[None], count, axis=0) for base in bases]
    return ga.ScaledKernel(bases[0], ga.PowerLaw(3.0, floor=1e-6)), ga.ScaledKernel(bases[1])


def seconds(comm, call, repeats):
    """Return medians of CPU and wall seconds, of the slowest rank."""
    call()
    times = []
    for _ in range(repeats):
        comm.Barrier()
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return [comm.allreduce(statistics.median(one), op=MPI.MAX) for one in zip(*times, strict=True)]


def copy_speed(comm, repeats):
    """Return the bytes that all ranks together read and write per second."""
    source, target = np.ones(2**25), np.zeros(2**25)
    wall = seconds(comm, lambda: np.copyto(target, source), repeats)[1]
    return comm.size * 2 * source.nbytes / wall


def measured(arguments, comm):
    """Return rows (step, CPU seconds, wall seconds, bytes)."""
    dofs, mine, n, count = grid(arguments.dimension, arguments.elements, comm)
    pair = kernels(arguments.kernel, dofs.shape[1], len(dofs))
    blocks = [
        ga.ElementBlock(matrix, dofs, kernel, {"rho": mine})
        for matrix, kernel in zip("AB", pair, strict=True)
    ]
    rng = np.random.default_rng(comm.rank)
    p = {"rho": np.linspace(0.2, 1.0, count)}
    with ga.ElementModel(n, blocks, comm=comm) as model:
        shape = (model.rows[1] - model.rows[0], arguments.pairs)
        left_a, left_b, right = (np.asfortranarray(rng.normal(size=shape)) for _ in range(3))
        ghosts = ga.Ghosts(model, dofs)
        calls = {
            "gather one block": lambda: ghosts.gather(right),
            "contraction": lambda: model.contract(p, left_a, left_b, right),
            "tangent": lambda: model.tangent(p, p, right),
        }
        found = {
            name: seconds(comm, call, arguments.repeats) if name in arguments.steps else None
            for name, call in calls.items()
        }
    vector, table = 8 * n * arguments.pairs, 8 * count * dofs.shape[1]
    stored = 16 * count * dofs.shape[1] ** 2 if arguments.kernel == "stored" else 0
    moved = {
        "gather one block": vector + table + table * arguments.pairs,
        "contraction": 3 * vector + table + stored + 8 * count,
        "tangent": 3 * vector + table + stored + 8 * count,
    }
    return [(name, *times, moved[name]) for name, times in found.items() if times]


STEPS = ("gather one block", "contraction", "tangent")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=40_000, help="about so many")
    parser.add_argument("--dimension", type=int, choices=(2, 3), default=2)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--kernel", choices=KERNELS, default="scaled")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    arguments = parser.parse_args()
    comm = MPI.COMM_WORLD
    speed = copy_speed(comm, arguments.repeats)
    rows = measured(arguments, comm)
    if comm.rank > 0:
        return
    print(
        f"{arguments.elements} elements in {arguments.dimension}D, {arguments.pairs} pairs, "
        f"{arguments.kernel} kernel, {comm.size} ranks, copy {speed / 1e9:.1f} GB/s\n"
    )
    print("| step | CPU s | wall s | GB/s | of copy |\n|---|---|---|---|---|")
    for name, cpu, wall, moved in rows:
        share = moved / wall / speed
        print(f"| {name} | {cpu:.4f} | {wall:.4f} | {moved / wall / 1e9:.1f} | {share:.0%} |")


if __name__ == "__main__":
    main()

"""Loads as a script, on any number of ranks: ``python load.py PARAMETERS KIND`` and alike."""

import sys
import time

import numpy as np
from builders import K0, M0, chain_dofs, distributed
from loops import resident

import geneig_adjoint as ga

N = 1000


def many_parameters(comm, count, *, kind):
    """Return seconds and the error of d lam / d k: ``count`` elements, each with its own k.

    Elements beyond the first N + 1 lie on top of them: a closed form by sums over places.
    """
    own = np.arange(comm.rank, count, comm.size)
    place = chain_dofs(N)[own % (N + 1)]
    blocks = [
        ga.ElementBlock("A", place, ga.ScaledKernel(K0), {"k": own}),
        ga.ElementBlock("B", place, ga.ScaledKernel(M0), {"m": own}),
    ]
    model = ga.ElementModel(N, blocks, comm=comm)
    p = {"k": 1.0 + 0.5 * np.sin(np.arange(count)), "m": np.ones(count)}
    make = {"replicated": lambda part: part, "distributed": lambda part: distributed(part, comm)}
    p = {name: make[kind](part) for name, part in p.items()}
    start = time.perf_counter()
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        found = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
        value = pairs.values[0].real
    seconds = time.perf_counter() - start
    # Homogeneous of degree 1 in k and -1 in m: Euler's theorem.
    local = [found[name] if kind == "replicated" else found[name].array_r for name in "km"]
    given = [p[name] if kind == "replicated" else p[name].array_r for name in "km"]
    sums = np.array([np.dot(a, b).real for a, b in zip(local, given, strict=True)])
    if kind == "distributed":
        sums = np.array([comm.allreduce(part) for part in sums])
    return seconds, float(np.abs(sums / value - [1.0, -1.0]).max())


def main():
    """Print seconds, error of Euler's sums and memory in MB of all ranks."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    seconds, error = many_parameters(comm, int(sys.argv[1]), kind=sys.argv[2])
    memory = comm.allreduce(resident())
    if comm.rank == 0:
        print(f"found {seconds:.2f} {error:.1e} {memory:.0f}")


if __name__ == "__main__":
    main()

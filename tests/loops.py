"""Work that is done many times in one process, and how its memory grows.

As a script, on any number of ranks: ``python loops.py NAME ROUNDS`` prints the slopes of all
ranks in MB per round.
"""

import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from builders import C0, K0, chain, chain_parameters, distributed

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 300


def resident():
    """Return the memory of this process in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def slope(sizes):
    """Return by how much a list of sizes grows per entry, by least squares."""
    return float(np.polyfit(np.arange(len(sizes)), sizes, 1)[0])


def measured(once, rounds, warm, every=1):
    """Return the slope of the memory in MB per round, after some rounds to warm up.

    ``every``: rounds between two looks, which take longer than most rounds.
    """
    sizes = []
    gc.collect()
    gc.freeze()  # what is there already would be searched in every round: most of the time
    try:
        for number in range(warm + rounds):
            once(number)
            if number >= warm and number % every == 0:
                sizes.append(resident())
    finally:
        gc.unfreeze()
    return slope(sizes) / every


def weight(rows):
    return 1.0 + 0.5 * np.sin(np.arange(*rows))


def design_loop(comm, n=N):
    model = chain(n, comm)
    p = chain_parameters(n)

    def objective(pairs):
        return obj.QuadraticForm(weight(pairs.rows), (0, 1))(pairs)

    function = ga.value_and_gradient(model, objective, count=3, target=0.0)

    def once(number):
        function({**p, "k": p["k"] * (1 + 1e-3 * np.sin(number))})

    return once


def plain(comm, base=K0, n=N):
    model = chain(n, comm, base=base)
    p = chain_parameters(n)

    def once(_):
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            output = obj.LinearOutput(weight(pairs.rows), 1)
            ga.gradient(model, p, pairs, [output, obj.Eigenvalue(0)])

    return once


def nonsymmetric(comm):
    return plain(comm, K0 + 1e-3 * C0)


def direct(comm):
    model = chain(N, comm, base=K0 + 1e-3 * C0)
    p = chain_parameters(N)

    def once(_):
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            ga.gradient(model, p, pairs, obj.LinearOutput(weight(pairs.rows), 1), strategy="direct")

    return once


def failing(comm):
    """Solves without convergence, wrong parameters, and objectives that raise, in turn."""
    model = chain(N, comm)
    p = chain_parameters(N)

    def explode(pairs):
        raise ArithmeticError("no tip found")

    def once(number):
        few = {"eps_max_it": 1, "eps_ncv": 4} if number % 3 == 0 else {}
        with suppress(ga.GeneigError, ArithmeticError), model.assemble(p) as pencil:
            if number % 3 == 1:
                model.assemble({**p, "k": p["k"] * np.nan})
            target = {"which": "largest_real"} if few else {}
            with ga.solve_eigenproblem(pencil, 3, solver_parameters=few, **target) as pairs:
                ga.gradient(model, p, pairs, explode)

    return once


def vectors(comm):
    """Distributed parameters: gradients are PETSc vectors that the caller destroys."""
    model = chain(N, comm)
    p = {name: distributed(part, comm) for name, part in chain_parameters(N).items()}

    def once(_):
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
            for part in ga.gradient(model, p, pairs, obj.Eigenvalue(1)).values():
                part.destroy()

    return once


LOOPS = {
    "design loop": design_loop,
    "plain": plain,
    "nonsymmetric": nonsymmetric,
    "direct": direct,
    "failing": failing,
    "vectors": vectors,
}


def main(loops):
    """Run one loop; print slopes and sizes of all ranks in MB on rank 0."""
    from mpi4py import MPI

    name, rounds = sys.argv[1], int(sys.argv[2])
    comm = MPI.COMM_WORLD
    warm, every = max(20, rounds // 6), max(1, rounds // 60)
    found = comm.gather(measured(loops[name](comm), rounds, warm, every))
    sizes = comm.gather(resident())
    if comm.rank == 0:
        print("slopes", *found, "sizes", *sizes)


if __name__ == "__main__":
    main(LOOPS)

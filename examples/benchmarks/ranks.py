"""What more ranks give, phase by phase: one rank, all ranks by default, all with MUMPS.

    mpirun -n 2 python examples/benchmarks/ranks.py --columns 280 --rows 140
    mpirun -n 2 python examples/benchmarks/ranks.py --cells 37 15 15
    mpirun -n 2 python examples/benchmarks/ranks.py --reactor 224

The plate of elasticity2d.py, the block of elasticity3d.py with --cells, or, with --reactor, one
pair of the two-group diffusion of the peers, which is not symmetric. All three ways take turns in
one run; while the first rank works alone, the others sleep. Prints a Markdown table: the least
wall seconds of each phase, and how many times faster the default is on all ranks than on one. Two
solves are measured by themselves, with one column and with a block of eight.
"""

import argparse
import functools
import sys
import time

import numpy as np
from elasticity2d import plate
from elasticity3d import block
from messages import STAGES
from mpi4py import MPI
from peers import ours, problems
from petsc4py import PETSc

import geneig_adjoint as ga

COUNTS = {8: "eight pairs", 1: "a pair"}
FACTORS = ("MatCholFctrSym", "MatCholFctrNum", "MatLUFactorSym", "MatLUFactorNum")
MUMPS = {"st_pc_factor_mat_solver_type": "mumps"}


class Phases:
    """Least wall seconds of named phases."""

    def __init__(self, comm):
        self.comm, self.seconds = comm, {}

    def run(self, name, function):
        """Time a function and return its result."""
        self.comm.Barrier()
        start = time.perf_counter()
        result = function()
        self.comm.Barrier()
        self.note(name, time.perf_counter() - start)
        return result

    def note(self, name, seconds):
        """Take a measurement of a phase."""
        self.seconds[name] = min(seconds, self.seconds.get(name, np.inf))


def factoring(comm):
    """Return the seconds the slowest rank has spent in factorisations so far."""
    events = [PETSc.Log.Event(name) for name in FACTORS]
    stages = [0, *(PETSc.Log.Stage(name).id for name in STAGES)]
    spent = sum(event.getPerfInfo(stage)["time"] for event in events for stage in stages)
    return comm.allreduce(spent, op=MPI.MAX)


def gradients(problem, options, phases):
    """Run all phases once; return the gradient of an objective of all vectors."""
    model, p, count = problem
    start = time.perf_counter()
    pencil = phases.run("assemble", lambda: model.assemble(p))
    before = factoring(model.comm)
    pairs = phases.run(
        f"{COUNTS[count]}, with checks",
        lambda: ga.solve_eigenproblem(pencil, count, target=0.0, solver_parameters=options),
    )
    phases.note("- of which factorisations", factoring(model.comm) - before)
    weight = np.cos(0.001 * np.arange(*pairs.rows)) ** 2
    frequency = ga.objectives.Eigenvalue(0)
    phases.run("gradient of a value", lambda: ga.gradient(model, p, pairs, frequency))
    motion = ga.objectives.QuadraticForm(weight, tuple(range(count)))
    gradient = phases.run("gradient of vectors", lambda: ga.gradient(model, p, pairs, motion))
    phases.note("all of it", time.perf_counter() - start)
    for columns in (1, 8):
        right = np.asfortranarray(np.tile(weight[:, None], columns))
        solve = functools.partial(pairs.factor.solve, right)
        for _ in range(3):
            phases.run(f"a solve with {columns}", solve)
    pairs.close()
    pencil.close()
    return np.concatenate(list(gradient.values()))


def sleep_until_all_are_here(comm):
    """Wait without taking part of the machine from those who work."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.01)


def main():
    """Run the benchmark and print its table on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=280)
    parser.add_argument("--rows", type=int, default=140)
    parser.add_argument("--cells", type=int, nargs=3)
    parser.add_argument("--reactor", type=int, metavar="CELLS", help="cells per side")
    parser.add_argument("--repeat", type=int, default=5)
    chosen = parser.parse_args()
    comm = MPI.COMM_WORLD
    PETSc.Log.begin()

    def problem(ranks):
        if chosen.reactor:
            reactor = problems.diffusion("", chosen.reactor)
            return ours.element_model(reactor, ranks), reactor.p, reactor.count
        if chosen.cells:
            return *block(chosen.cells, ranks)[:2], 8
        return *plate(chosen.columns, chosen.rows, ranks), 8

    together = problem(comm)
    alone = problem(MPI.COMM_SELF) if comm.rank == 0 else None
    ways = {"1 rank": Phases(MPI.COMM_SELF), "default": Phases(comm), "MUMPS": Phases(comm)}
    found = {}
    for turn in range(chosen.repeat):
        for way in list(ways)[:: 1 if turn % 2 else -1]:
            if way != "1 rank":
                options = MUMPS if way == "MUMPS" else {}
                found[way] = gradients(together, options, ways[way])
            elif comm.rank == 0:
                found[way] = gradients(alone, {}, ways[way])
            sleep_until_all_are_here(comm)
    if comm.rank == 0:
        report(together, ways, found, comm.size)
    sys.stdout.flush()


def report(problem, ways, found, size):
    """Print the table and how far the gradients differ."""
    model, p, _ = problem
    size_of_p = sum(values.size for values in p.values())
    print(f"n = {model.n}, m = {size_of_p}, ranks = {size}\n")
    print(f"| seconds | 1 rank | {size} ranks | speed-up | {size} ranks, MUMPS |")
    print("|---|---|---|---|---|")
    one, many, mumps = (phases.seconds for phases in ways.values())
    for name in one:
        # A phase may take no time at all, as far as the clock can tell.
        faster = one[name] / many[name] if many[name] else np.nan
        print(f"| {name} | {one[name]:.3f} | {many[name]:.3f} | {faster:.2f} | {mumps[name]:.3f} |")
    scale = np.linalg.norm(found["1 rank"])
    largest = max(np.linalg.norm(other - found["1 rank"]) for other in found.values())
    print(f"\nlargest difference of the gradients: {largest / scale:.0e}")


if __name__ == "__main__":
    with ga.abort_on_failure():
        main()

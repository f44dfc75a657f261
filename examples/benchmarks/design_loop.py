"""What a design loop saves by keeping things from call to call.

    mpirun -n 2 python examples/benchmarks/design_loop.py --columns 260 --rows 150

The cantilever plate of elasticity2d.py: its densities go along the gradient by at most 2 % a
step. Every design is evaluated twice, in alternating order: by one function of
`value_and_gradient` that serves all steps, and by a fresh one. Prints a Markdown table: seconds
of the phases on the slowest rank, of the first call and the median of the later ones, and how
the resident memory grows from the third step to the last.
"""

import argparse
import gc
import os
import sys
import time
from pathlib import Path

import numpy as np
from elasticity2d import plate
from mpi4py import MPI

import geneig_adjoint as ga

PHASES = ("assemble", "eigensolve", "adjoint", "contract", "other")
STEP = 0.02


class Phases:
    """A model and an objective that note when the phases of a gradient begin."""

    def __init__(self, model, objective):
        self.model, self._objective = model, objective
        self._marks = []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def begin(self, phase):
        """Note that a phase begins, on all ranks."""
        self.model.comm.Barrier()
        self._marks.append((phase, time.perf_counter()))

    def assemble(self, p, out=None):
        """Return the pencil; the eigensolve follows."""
        self.begin("assemble")
        pencil = self.model.assemble(p, out=out)
        self.begin("eigensolve")
        return pencil

    def objective(self, pairs):
        """Return value and cotangent; adjoint solves follow."""
        self.begin("other")
        result = self._objective(pairs)
        self.begin("adjoint")
        return result

    def contract(self, *arguments):
        """Return the gradient."""
        self.begin("contract")
        result = self.model.contract(*arguments)
        self.begin("other")
        return result

    def timed(self, function, p):
        """Return the result of one call and the seconds of its phases and of the whole."""
        self._marks.clear()
        self.begin("other")
        result = function(p)
        self.begin("end")
        seconds = dict.fromkeys(PHASES, 0.0)
        for (phase, start), (_, end) in zip(self._marks[:-1], self._marks[1:], strict=True):
            seconds[phase] += end - start
        return result, [*seconds.values(), sum(seconds.values())]


def resident(comm):
    """Return the resident memory of all ranks in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return comm.allreduce(pages * os.sysconf("SC_PAGE_SIZE")) / 1e6


def improved(density, slope):
    """Return densities that went along the gradient, at most a step each, of the same sum."""
    moved = density * (1 + STEP * slope / np.abs(slope).max())
    return np.clip(moved * density.sum() / moved.sum(), 1e-3, 1.0)


def main():
    """Run the loop and print its table on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=260)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--objective", choices=["frequency", "vectors"], default="vectors")
    chosen = parser.parse_args()
    comm = MPI.COMM_WORLD
    model, p = plate(chosen.columns, chosen.rows, comm)
    weight = np.cos(0.001 * np.arange(*model.rows)) ** 2
    objectives = {
        "frequency": ga.objectives.Eigenvalue(0),
        "vectors": ga.objectives.QuadraticForm(weight, tuple(range(chosen.count))),
    }
    phases = Phases(model, objectives[chosen.objective])
    settings = {"count": chosen.count, "target": 0.0}

    def fresh(point):
        with ga.value_and_gradient(phases, phases.objective, **settings) as function:
            return function(point)

    kept = ga.value_and_gradient(phases, phases.objective, **settings)
    seconds, memory, difference = {kept: [], fresh: []}, [], 0.0
    for step in range(chosen.steps):
        found = {}
        for function in (kept, fresh)[:: 1 if step % 2 else -1]:
            found[function], spent = phases.timed(function, p)
            seconds[function].append(spent)
        slope, reference = (found[function][1]["density"] for function in (kept, fresh))
        size = np.linalg.norm(reference)
        difference = max(difference, np.linalg.norm(slope - reference) / size)
        p = {"density": improved(p["density"], slope)}
        memory.append(resident(comm))
    kept.close()
    if comm.rank == 0:
        size = f"n = {model.n}, m = {p['density'].size}, ranks = {comm.size}"
        print(f"\n{size}, objective: {chosen.objective}\n")
        print("| seconds | first call | later, kept | later, fresh |\n|---|---|---|---|")
        first, later, alone = seconds[kept][0], seconds[kept][1:], seconds[fresh][1:]
        columns = (first, np.median(later, axis=0), np.median(alone, axis=0))
        for name, *row in zip((*PHASES, "whole gradient"), *columns, strict=True):
            print(f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |")
        print(f"\nlargest difference of the gradients: {difference:.0e}")
        print(f"resident memory: {memory[2]:.0f} MB after 3 steps, {memory[-1]:.0f} MB at the end")
    sys.stdout.flush()


if __name__ == "__main__":
    with ga.abort_on_failure():
        main()

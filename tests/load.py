"""Loads as a script, on any number of ranks: ``python load.py PARAMETERS KIND [study]``."""

import resource
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from builders import K0, M0, chain_dofs, distributed
from study_files import study_folder

import geneig_adjoint as ga
from geneig_adjoint.cli import main as command_line
from geneig_adjoint.study.signals import StopRequest

N = 1000
BOUNDARY = 4
"""Where a study is stopped: one gradient is in its checkpoint, the other to be contracted."""
MODEL = """
from load import many_parameters

def build(comm, options):
    return many_parameters(comm, options["count"], kind=options["kind"])
"""
STUDY = """
[model]
python = "model.py:build"
options = {{ count = {count}, kind = "{kind}" }}
[solver]
count = 1
[[objective]]
name = "value"
kind = "eigenvalue"
[[objective]]
name = "f"
kind = "frequency"
"""


def many_parameters(comm, count, *, kind):
    """Return a model of ``count`` elements, each with its own k and m, and its parameters.

    Elements beyond the first N + 1 lie on top of them.
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
    return model, {name: make[kind](part) for name, part in p.items()}


def euler_sums(value, found, given):
    """Return sums that are 1 and -1 by Euler's theorem: of degree 1 in k and -1 in m."""
    return np.array([np.dot(found[name], given[name]).real for name in "km"]) / value


def by_hand(comm, count, kind):
    """Solve and differentiate; return Euler's sums, and no file."""
    model, p = many_parameters(comm, count, kind=kind)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        found = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
        value = pairs.values[0].real
    if kind == "replicated":
        return euler_sums(value, found, p), []
    local = [{name: part.array_r for name, part in each.items()} for each in (found, p)]
    return comm.allreduce(euler_sums(value, *local)), []


def by_study(comm, count, kind):
    """Run a study, stopped once and resumed; return Euler's sums and the sizes of its files."""
    with tempfile.TemporaryDirectory() as mine:
        folder = Path(comm.bcast(mine))
        if comm.rank == 0:
            study_folder(folder, STUDY.format(count=count, kind=kind), model=MODEL)
        comm.barrier()
        words = ["run", str(folder / "study.toml")]
        asked = [None] * BOUNDARY + ["SIGUSR1"]
        with mock.patch.object(StopRequest, "agreed", side_effect=asked):
            stopped = command_line(words)
        assert stopped == 75, stopped
        sizes = [(folder / "out" / "checkpoint.h5").stat().st_size]
        comm.barrier()
        ended = command_line([*words, "--resume"])
        assert ended == 0, ended
        names = ("result.h5", "result.json")
        sizes += [(folder / "out" / name).stat().st_size for name in names]
        sums = np.array([1.0, -1.0])
        if comm.rank == 0:
            found = ga.io.read_results(folder / "out")
            sums = euler_sums(found.values[0].real, found.gradients["value"], found.parameters)
        comm.barrier()
    return sums, sizes


def main():
    """Print seconds, error of Euler's sums, peak memory in MB of all ranks, bytes of files."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    how = by_study if sys.argv[3:] else by_hand
    start = time.perf_counter()
    sums, sizes = how(comm, int(sys.argv[1]), sys.argv[2])
    seconds = time.perf_counter() - start
    peaks = comm.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if comm.rank == 0:
        error = np.abs(sums - [1.0, -1.0]).max()
        print(f"found {seconds:.1f} {error:.1e} {sum(peaks):.0f}", *sizes)


if __name__ == "__main__":
    main()

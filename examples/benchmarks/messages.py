"""Messages, reductions and words of a gradient: a model on paper, checked against counts.

    for n in 1 2 3; do mpirun -n $n python examples/benchmarks/messages.py; done

The model counts operations, not ranks: with P strips of a grid whose cut holds `layer` dofs,

    one product with A or B        2 (P - 1) messages of `layer` words, no reduction
    one Krylov-Schur step          2 reductions: Gram-Schmidt, twice
    one solve with MUMPS           P (P - 1) messages and at most n words around it: the solution
                                   comes from wherever MUMPS has it
    one blocked step               as many reductions as on 1 rank, whatever P is
    one contraction                2 (P - 1) messages of 3 k `layer` words, and the gradient

PETSc's log says how many messages and reductions there were, wrapped functions of
geneig_adjoint.reductions how many of the package's own. What MUMPS sends inside of a solve is
counted by neither: the last table has a formula for it. Rank 0 prints Markdown tables, last
the model for 64, 256 and 1024 ranks.
"""

import argparse
import math
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI
from peers import ours
from peers.meter import Meter
from peers.sizes import SIZES, make
from peers.tables import replace_between
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import reductions

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
WORD = np.dtype(PETSc.ScalarType).itemsize
REDUCING = {"allreduce_same": 1, "largest_over_ranks": 1}
LATENCY, PER_WORD = 2e-6, WORD / 10e9
"""Seconds of a message and of a word in it: a usual interconnect."""


class Reductions:
    """Reductions through `geneig_adjoint.reductions`, and their words."""

    def __init__(self):
        self.calls = self.words = 0

    @contextmanager
    def counted(self):
        """Count while the block runs: functions are replaced wherever they were imported."""
        replaced = []
        modules = [m for name, m in sys.modules.items() if name.startswith("geneig_adjoint")]
        for name in REDUCING:
            original = getattr(reductions, name)
            for module in modules:
                if getattr(module, name, None) is original:
                    setattr(module, name, self._counting(original))
                    replaced.append((module, name, original))
        try:
            yield
        finally:
            for module, name, original in replaced:
                setattr(module, name, original)

    def _counting(self, function):
        def counting(comm, local):
            self.calls += 1
            self.words += np.asarray(local).nbytes // 8
            return function(comm, local)

        return counting


@dataclass(frozen=True)
class Counts:
    """What one phase did, over all ranks; products and solves are counted per rank."""

    messages: float
    words: float
    petsc_reductions: float
    own_reductions: int
    own_words: int
    events: dict

    def number(self, *names):
        """Return how often events happened on this rank."""
        return sum(self.events[name][0] for name in names)

    def sent(self, *names):
        """Return messages and words of events over all ranks."""
        return np.sum([self.events[name][1:] for name in names], axis=0)


STAGES = ("assemble", "eigensolve", "left", "adjoint", "contract")
EVENTS = ("MatMult", "MatMultTranspose", "MatSolve", "MatMatSolve", "BVDotVec", "EPSSolve")


def event_totals(comm, name):
    """Return count, and messages and words over all ranks, of an event in all stages."""
    event = PETSc.Log.Event(name)
    stages = [0, *(PETSc.Log.Stage(stage).id for stage in STAGES)]
    infos = [event.getPerfInfo(stage) for stage in stages]
    count = sum(info["count"] for info in infos)
    # Both ends of a message count it half.
    local = [sum(info[key] for info in infos) / 2 for key in ("numMessages", "messageLength")]
    messages, length = comm.allreduce(np.array(local))
    return np.array([count, messages, length / WORD])


def counts(comm, name, function):
    """Run a phase; return its result and its `Counts`."""
    own, event = Reductions(), PETSc.Log.Event(f"messages {name}")
    before = {key: event_totals(comm, key) for key in EVENTS}
    event.begin()
    with own.counted():
        result = function()
    event.end()
    info = event.getPerfInfo(0)
    sums = comm.allreduce(np.array([info["numMessages"], info["messageLength"] / WORD]) / 2)
    events = {key: event_totals(comm, key) - before[key] for key in EVENTS}
    found = Counts(*sums, info["numReductions"], own.calls, own.words, events)
    return result, found


def run(problem, comm):
    """Return the counts of the three phases of a gradient on the ranks of a communicator."""
    model = ours.element_model(problem, comm)
    goals = ours.objectives(problem)
    # In the plane every rank would have a factor, and the messages would be others.
    options = {"st_pc_factor_mat_solver_type": "mumps"} if comm.size > 1 else {}
    settings = {"target": 0.0, "count_check": "off", "solver_parameters": options}
    with model.assemble(problem.p) as pencil:
        pairs, eigensolve = counts(
            comm,
            "eigensolve",
            lambda: ga.solve_eigenproblem(pencil, problem.count, **settings),
        )
        p = problem.p
        _, contraction = counts(
            comm, "contraction", lambda: ga.gradient(model, p, pairs, goals["eigenvalue"])
        )
        _, adjoint = counts(comm, "adjoint", lambda: ga.gradient(model, p, pairs, goals["vectors"]))
        pairs.close()
    return {"eigensolve": eigensolve, "contraction": contraction, "adjoint": adjoint}


def comparison(problem, alone, together, ranks):
    """Return rows (quantity, counted, model), the model knowing operations and one rank only.

    Parameters
    ----------
    problem : Problem
    alone, together : dict of Counts
        On one rank, and on several.
    ranks : int

    """
    cuts = 2 * (ranks - 1)
    rows = []
    for phase in ("eigensolve", "adjoint"):
        counted = together[phase]
        products = counted.number("MatMult", "MatMultTranspose")
        messages, words = counted.sent("MatMult", "MatMultTranspose")
        # SLEPc's operator is a product, in PETSc's log, with the solve inside.
        messages, words = np.array([messages, words]) - counted.sent("MatSolve")
        rows.append((f"{phase}: messages of products", messages, cuts * products))
        rows.append((f"{phase}: words of products", words, cuts * products * problem.layer))
    counted = together["eigensolve"]
    steps = counted.number("MatSolve")
    rows.append(("eigensolve: reductions by SLEPc", counted.number("BVDotVec"), 2 * steps))
    messages, words = counted.sent("MatSolve")
    everybody = ranks * (ranks - 1)
    rows.append(("eigensolve: messages around solves", messages, everybody * steps))
    rows.append(("eigensolve: words around solves", words, (ranks > 1) * problem.n * steps))
    for phase in ("eigensolve", "contraction", "adjoint"):
        counted, single = together[phase], alone[phase]
        rows.append((f"{phase}: own reductions", counted.own_reductions, single.own_reductions))
        rows.append((f"{phase}: words of own reductions", counted.own_words, single.own_words))
    return rows


@dataclass(frozen=True)
class Operations:
    """How often a gradient does what, independent of the number of ranks."""

    steps: int
    products: int
    blocked: int
    reductions: int
    reduced_words: int

    @classmethod
    def of(cls, found):
        """Read them off the counts of one rank."""
        phases = found.values()
        return cls(
            steps=int(found["eigensolve"].number("MatSolve")),
            products=int(sum(p.number("MatMult", "MatMultTranspose") for p in phases)),
            blocked=int(found["adjoint"].number("MatMatSolve")),
            reductions=sum(p.own_reductions for p in phases),
            reduced_words=sum(p.own_words for p in phases),
        )


def extrapolated(operations, n, ranks, count=8):
    """Return what one rank sends in a gradient of 3D elasticity, with seconds, in cubes.

    A cube of n / P dofs has 26 neighbours and a surface of 6 (n / 3P)^(2/3) nodes. Blocks cost
    one message per neighbour and column, as products are counted now. A triangular solve climbs
    the log2 P upper levels of the elimination tree and comes down again: on level l a separator
    of (n / 3 2^l)^(2/3) nodes is shared by P / 2^l ranks (subtree to subcube), each of which
    sends its share to a parent, with a message per rank of the parent's square grid.
    Solutions come from all other ranks.
    """
    surface = 3 * 6 * (n / (3 * ranks)) ** (2 / 3)
    halo = operations.products * np.array([26, surface])
    reductions = 2 * operations.steps + operations.reductions
    levels = np.arange(int(math.log2(ranks)))
    shared = ranks / 2.0**levels
    per_solve = 2 * np.array(
        [np.sqrt(shared).sum(), (3 * (n / 3 / 2**levels) ** (2 / 3) / np.sqrt(shared)).sum()]
    )
    solves = operations.steps * per_solve
    blocks = operations.blocked * per_solve * np.array([1, count])
    messages, words = halo + solves + blocks
    columns = operations.steps + operations.blocked * count
    messages += (operations.steps + operations.blocked) * (ranks - 1)
    words += columns * n / ranks
    seconds = (
        messages * LATENCY,
        reductions * math.log2(ranks) * LATENCY,
        (words + operations.reduced_words * math.log2(ranks)) * PER_WORD,
    )
    return [messages, reductions, words, *seconds]


def table(head, rows):
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def texts(problem, alone, together, ranks):
    """Return both tables."""
    rows = [
        (name, f"{counted:.0f}", f"{model:.0f}", f"{counted / model:.2f}" if model else "-")
        for name, counted, model in comparison(problem, alone, together, ranks)
    ]
    first = table(["", "counted", "model", "counted / model"], rows)
    operations = Operations.of(alone)
    rows = []
    for many in (64, 256, 1024):
        messages, reductions, words, *seconds = extrapolated(operations, 10_000_000, many)
        numbers = f"{messages:.0f}", f"{reductions:.0f}", f"{words:.1e}"
        rows.append((str(many), *numbers, *(f"{value:.3f}" for value in seconds)))
    head = ["ranks", "messages", "reductions", "words", "s, messages", "s, reductions", "s, words"]
    return first, table(head, rows)


def main():
    """Count on one rank and on all of them, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problem", choices=SIZES, default="elasticity3d", help="elasticity3d")
    parser.add_argument("--size", default="8k", help="such as tiny, 8k (the default), 28k")
    parser.add_argument(
        "--update-docs", action="store_true", help="tables of the documentation, too"
    )
    chosen = parser.parse_args()
    if chosen.size not in SIZES[chosen.problem]:
        parser.error(f"--size must be one of {', '.join(SIZES[chosen.problem])}, got {chosen.size}")
    world = MPI.COMM_WORLD
    PETSc.Log.begin()
    problem = make(chosen.problem, chosen.size)
    warm_up = make(chosen.problem, "tiny")
    # What is imported while functions are replaced would keep those that count.
    ours.gradients(warm_up, ours.prepare(warm_up), Meter())
    # Every rank for itself: the same numbers everywhere.
    alone, together = run(problem, MPI.COMM_SELF), run(problem, world)
    first, second = texts(problem, alone, together, world.size)
    if world.rank == 0:
        head = f"{problem.name} {problem.size}, n = {problem.n}, {world.size} ranks"
        paper = "On paper: a gradient of 3D elasticity with 10,000,000 dofs, per rank"
        print(f"{head}\n\n{first}\n{paper}\n\n{second}")
        if chosen.update_docs:
            replace_between(PAGE, f"{head}\n\n{first}", "counts")
            replace_between(PAGE, second, "paper")


if __name__ == "__main__":
    with ga.abort_on_failure():
        main()

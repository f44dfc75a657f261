"""Will a study fit into memory? What a run will need, and what the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from geneig_adjoint.factor_estimate import FactorEstimate, factor_estimate
from geneig_adjoint.machine.memory import free_memory, left_for_process, resident
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.wanted import Wanted

ENTRY, INDEX = np.dtype(PETSc.ScalarType).itemsize, np.dtype(PETSc.IntType).itemsize
NAMES = {
    "cholmod": "CHOLMOD",
    "mumps": "MUMPS",
    "petsc": "PETSc's LU",
    "groups": "groups of unknowns at most",
}
"""How packages are written; others are named as in the options."""
LOOSE = 1.5
"""What the estimate may be wrong by: where there is less room than that, nobody can be sure."""
ADJOINT, PER_PAIR = 40, 12
"""Columns of the adjoint solve, and more of them for each pair: eight pairs have a basis of some
70 vectors, and as many columns again of right-hand sides, solutions, products and residuals."""
MULTIGRID = 0.6
"""Memory of coarse matrices and of what couples them, relative to that of the matrix."""

Line = tuple[str, str]


@dataclass(frozen=True)
class Room:
    """What the ranks of one node need beyond what they have, and what is free there; bytes."""

    needed: float
    free: float
    ranks: int

    @property
    def verdict(self) -> str:
        """Whether that fits; "" where nobody tells what is free."""
        if np.isinf(self.free):
            return ""
        if self.needed > self.free:
            return "DOES NOT FIT"
        return "fits" if LOOSE * self.needed <= self.free else "may not fit"


def memory_lines(pencil: Pencil, wanted: Wanted) -> list[Line]:
    """Return lines of a table: factor, vectors, memory in all, and remedies where it is scarce.

    Collective. What the process has now (model and matrices) is measured, what a solve and its
    gradients add is estimated. Nothing is solved or factored.
    """
    now, estimate = resident(), factor_estimate(pencil, wanted)
    columns = _columns(pencil, wanted)
    vectors = float(columns * pencil.n_local * ENTRY)
    factor = _beside_a_factor(pencil) if estimate is None else estimate.memory
    counting = 0.0 if estimate is None else estimate.counting
    # The second factor is gone when the basis of the adjoint solve grows.
    more = factor + max(counting, vectors)
    sums = pencil.comm.allreduce(np.array([factor, counting, vectors, now, now + more]))
    largest = pencil.comm.allreduce(now + more, op=MPI.MAX)
    room = least_room(pencil.comm, more)
    lines = [*_factor_lines(pencil, estimate, sums)]
    lines.append(("vectors", f"about {columns} columns, {in_bytes(sums[2])}"))
    each = f" ({in_bytes(largest)} on the largest rank)" if pencil.comm.size > 1 else ""
    text = f"about {in_bytes(sums[4])} at the peak{each}, {in_bytes(sums[3])} now"
    lines.append(("memory", text))
    if room.verdict:
        of = f" of {room.ranks} ranks" if pencil.comm.size > 1 else ""
        text = f"{in_bytes(room.free)} here for {in_bytes(room.needed)} more{of}: {room.verdict}"
        lines.append(("free", text))
    if room.verdict not in {"", "fits"}:
        lines += [("", f"-> {text}") for text in _remedies(pencil, estimate, sums)]
    return lines


def least_room(comm: MPI.Comm, needed: float) -> Room:
    """Return the node with the least room for what its ranks need.  (Collective.)"""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        free = free_memory()
        shared = node.allreduce(np.inf if free is None else free, op=MPI.MIN)
        own = node.allreduce(left_for_process(), op=MPI.MIN)
        room = Room(
            needed=node.allreduce(needed),
            free=min(shared, own * node.size),
            ranks=node.size,
        )
    finally:
        node.Free()
    return min(comm.allgather(room), key=lambda item: item.free - item.needed)


def in_bytes(count: float) -> str:
    """Return a number of bytes for people."""
    units = [
        (name, size) for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if count >= size
    ]
    name, size = units[0] if units else ("bytes", 1.0)
    return f"{count / size:.3g} {name}"


def _columns(pencil: Pencil, wanted: Wanted) -> int:
    """Return how many vectors eigensolve and adjoint solve hold.  (Not collective.)"""
    count = wanted.count
    basis = int(wanted.option("eps_ncv", wanted.options) or max(2 * count, count + 15))
    columns = min(pencil.n, basis) + 1 + ADJOINT + PER_PAIR * count
    return columns * (1 if pencil.hermitian else 2)  # left vectors


def _beside_a_factor(pencil: Pencil) -> float:
    """Return the bytes on this rank of what takes the place of a factor.  (Not collective.)"""
    mat = pencil.preconditioner
    if pencil.near_null_space is None or not isinstance(mat, PETSc.Mat):
        return 0.0
    entries = float(mat.getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"])
    return MULTIGRID * entries * (ENTRY + INDEX)


def _factor_lines(pencil: Pencil, estimate: FactorEstimate | None, sums: Any) -> Iterator[Line]:
    if estimate is not None:
        each = ", one on each rank" if estimate.whole else ""
        maker = NAMES.get(estimate.package, estimate.package)
        text = f"about {estimate.entries:.3g} numbers by {maker}{each}, {in_bytes(sums[0])}"
        known = estimate.package != ""
        yield "factor", f"{text}, {estimate.operations:.2g} operations" if known else "none"
        if sums[1]:
            which = "a second one" if known else "one"
            yield "", f"{in_bytes(sums[1])} for {which}, while pairs are counted"
        if known and not pencil.definite:
            yield "", f"{in_bytes(sums[0])} for one more, where pairs are ill-conditioned"
    elif pencil.near_null_space is not None:
        yield "factor", f"none: multigrid, {in_bytes(sums[0])}"
    elif pencil.factorable and not PETSc.Sys.hasExternalPackage("mumps"):
        yield "factor", "not counted: this takes MUMPS, which PETSc was built without"
    else:
        yield "factor", "none, or one of options or of a preconditioner, which is not counted"


def _remedies(pencil: Pencil, estimate: FactorEstimate | None, sums: Any) -> Iterator[str]:
    """Give what helps against too little memory, what helps most first."""
    factor, counting, vectors = sums[:3]
    if estimate is not None and estimate.whole:
        yield 'solver.options: st_pc_factor_mat_solver_type = "mumps": the ranks share one factor'
    if counting > vectors:
        yield f'solver.count_check = "off": {in_bytes(counting - vectors)} less, nothing is counted'
    if estimate is not None and factor > vectors and pencil.hermitian:
        yield "near_null_space in place of the factor (examples/docs/large_problems.md)"
    if vectors > factor:
        yield "a smaller solver.count, or eps_ncv in solver.options"
    yield "nodes with more memory, or more nodes: each rank has its share of all but the model's p"

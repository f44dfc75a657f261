"""The distributed matrix r^2 K + M of cells with linear shape functions, and their loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.assembly import Pattern, own_rows
from geneig_adjoint.cells import cell_batches
from geneig_adjoint.exchange import row_ranges
from geneig_adjoint.ghosts import Ghosts

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass(frozen=True)
class Layout:
    """A contiguous distribution of rows, as `Ghosts` wants it."""

    comm: MPI.Comm
    rows: tuple[int, int]


def numbered(comm: MPI.Comm, nodes: Block) -> tuple[Block, Layout]:
    """Give the nodes that occur numbers without gaps, equally many per rank.

    Collective.

    Parameters
    ----------
    comm
        The ranks.
    nodes
        Numbers that this rank's cells use, distinct.

    Returns
    -------
    numbers : ndarray
        New ones of the nodes.
    layout : Layout
        Rows of the new numbers.

    """
    size = max(comm.allgather(int(nodes.max(initial=-1)) + 1))
    rows = own_rows(comm, size, None)
    ghosts = Ghosts(Layout(comm, rows), nodes)
    users = np.zeros((rows[1] - rows[0], 1), dtype=np.int64)
    ghosts.add(np.ones((nodes.size, 1), dtype=np.int64), users)
    used = users > 0
    counts = comm.allgather(int(used.sum()))
    numbers = sum(counts[: comm.rank]) + np.cumsum(used, axis=0) - 1
    found = ghosts.gather(numbers.astype(np.int64))[:, 0]
    return found, Layout(comm, own_rows(comm, sum(counts), None))


def integrated(
    places: Block, coordinates: Block, radius: float, count: int
) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    """Return T (nodes, cells) and this rank's r^2 K + M (nodes, nodes), in local numbers."""
    loads = np.empty(places.shape)
    factor = radius**2 / 12
    sums: list[scipy.sparse.csr_matrix] = []
    for index, (rows, found) in enumerate(cell_batches(coordinates), start=1):
        loads[rows] = found.loads
        matrices = factor * found.stiffness + found.mass
        row, column = np.broadcast_arrays(places[rows, :, None], places[rows, None])
        entries = (matrices.ravel(), (row.ravel(), column.ravel()))
        sums.append(scipy.sparse.csr_matrix(entries, shape=(count, count)))
        # Sums of 1, 2, 4 ... batches are pending: few at a time, and none is added to often.
        for _ in range((index & -index).bit_length() - 1):
            sums.append(sums.pop() + sums.pop())
    total = sum(sums, start=scipy.sparse.csr_matrix((count, count)))
    numbers = np.repeat(np.arange(len(places)), places.shape[1])
    T = scipy.sparse.csr_matrix(
        (loads.ravel(), (places.ravel(), numbers)), shape=(count, len(places))
    )
    return T, total


def assembled(layout: Layout, numbers: Block, local: scipy.sparse.csr_matrix) -> PETSc.Mat:
    """Return the distributed sum of the ranks' matrices.  (Collective.)"""
    comm, rows = layout.comm, layout.rows
    entries = local.tocoo()
    ranges = row_ranges(comm, rows)
    places = (numbers[entries.row], numbers[entries.col])
    pattern = Pattern(comm, ranges, (rows[1] - rows[0], int(ranges[-1])), [places])
    sums = pattern.sums()
    pattern.collect(sums, 0, slice(None), entries.data)
    mat = pattern.matrix(sums)
    for option in (PETSc.Mat.Option.SYMMETRIC, PETSc.Mat.Option.HERMITIAN, PETSc.Mat.Option.SPD):
        mat.setOption(option, True)
    return mat

"""Point-to-point exchange between the owners of rows and those who need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block

if TYPE_CHECKING:
    from mpi4py import MPI


class Exchange:
    """Point-to-point plan: this rank asks owners for entries, owners answer.

    Collective. Only neighbours exchange messages. Contributions are added in the
    order of ranks, so that results do not depend on the arrival of messages.

    Parameters
    ----------
    comm
        Communicator.
    requests
        For every rank, the indices this rank wants from it (empty for itself).

    """

    def __init__(self, comm: MPI.Comm, requests: list[Block]) -> None:
        self.comm = comm
        answers = comm.alltoall([request if request.size else None for request in requests])
        self.asked = {rank: r for rank, r in enumerate(requests) if r.size and rank != comm.rank}
        self.answers = {
            rank: found
            for rank, found in enumerate(answers)
            if found is not None and rank != comm.rank
        }

    def forward(self, owned: dict[int, Block], like: Block) -> dict[int, Block]:
        """Send ``owned[rank]`` to those who asked; return what was asked for.  (Collective.)"""
        sizes = {rank: request.size for rank, request in self.asked.items()}
        return self._exchange(owned, sizes, like)

    def reverse(self, asked: dict[int, Block], like: Block) -> dict[int, Block]:
        """Send ``asked[rank]`` back to the owners; return what came in.  (Collective.)"""
        sizes = {rank: answer.size for rank, answer in self.answers.items()}
        return self._exchange(asked, sizes, like)

    def _exchange(
        self, outgoing: dict[int, Block], sizes: dict[int, int], like: Block
    ) -> dict[int, Block]:
        incoming = {
            rank: np.empty((size, *like.shape[1:]), dtype=like.dtype)
            for rank, size in sizes.items()
        }
        buffers = [np.ascontiguousarray(part) for part in outgoing.values()]
        requests = [self.comm.Irecv(part, source=rank) for rank, part in incoming.items()]
        requests += [
            self.comm.Isend(part, dest=rank) for rank, part in zip(outgoing, buffers, strict=True)
        ]
        for request in requests:
            request.Wait()
        return dict(sorted(incoming.items()))


def row_ranges(comm: MPI.Comm, rows: tuple[int, int]) -> Block:
    """Return the first row of every rank and, last, the global size.  (Collective.)"""
    return np.array([0, *comm.allgather(rows[1])], dtype=np.int64)


def as_range(rows: Block) -> Block | slice:
    """Return increasing, distinct numbers as a slice if none between them is missing.

    Not collective. What a slice selects is copied without reading an index for every number.
    """
    if rows.size and int(rows[-1]) - int(rows[0]) == rows.size - 1:
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows

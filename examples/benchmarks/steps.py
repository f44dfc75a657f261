"""Wall time of the steps of a script."""

import time

from mpi4py import MPI


class Steps:
    """Wall time of each step on the slowest rank."""

    def __init__(self, comm):
        self.comm = comm
        self.rows = []

    def run(self, name, function):
        """Time a function and return its result."""
        self.comm.Barrier()
        start = time.perf_counter()
        result = function()
        seconds = self.comm.allreduce(time.perf_counter() - start, op=MPI.MAX)
        self.rows.append((name, seconds))
        return result

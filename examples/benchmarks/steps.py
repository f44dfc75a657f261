"""A table of the steps of a script: time and memory."""

import resource
import time

from mpi4py import MPI


def peak_memory(comm):
    """Return the peak resident memory of this job so far, in GB, summed over the ranks."""
    return comm.allreduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1e6


class Steps:
    """Prints wall and CPU time of each step on the slowest rank, and the memory after it."""

    def __init__(self, comm):
        self.comm = comm
        self._print("| step | seconds | CPU seconds | peak memory so far, GB |\n|---|---|---|---|")

    def run(self, name, function):
        """Time a function and return its result."""
        self.comm.Barrier()
        start, busy = time.perf_counter(), time.process_time()
        result = function()
        busy = self.comm.allreduce(time.process_time() - busy, op=MPI.MAX)
        seconds = self.comm.allreduce(time.perf_counter() - start, op=MPI.MAX)
        self._print(f"| {name} | {seconds:.2f} | {busy:.2f} | {peak_memory(self.comm):.2f} |")
        return result

    def _print(self, text):
        if self.comm.rank == 0:
            print(text, flush=True)

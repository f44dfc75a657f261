"""A study that takes its time, says where it is and signals itself, as the environment wants."""

# SIGNAL_AT="1:3" sends SIGUSR1 to rank 1 in its fourth contraction; SLOW=0.2 makes steps last.
SLOW_MODEL = """
import os
import signal
import time
import numpy as np
import geneig_adjoint as ga
from builders import chain, chain_parameters

class Slow:
    def __init__(self, model):
        self.model, self.calls, self.comm = model, 0, model.comm
        self.tangent = model.tangent

    def assemble(self, p, out=None):
        time.sleep(float(os.environ.get("SLOW", "0")))
        return self.model.assemble(p, out=out)

    def contract(self, p, *vectors):
        rank, _, call = os.environ.get("SIGNAL_AT", "").partition(":")
        if rank == str(self.comm.rank) and int(call) == self.calls:
            os.kill(os.getpid(), signal.SIGUSR1)
            if "TWICE" in os.environ:
                os.kill(os.getpid(), signal.SIGTERM)
        self.calls += 1
        time.sleep(float(os.environ.get("SLOW", "0")))
        return self.model.contract(p, *vectors)

def build(comm, options):
    n = options.get("n", 40)
    return Slow(chain(n, comm)), chain_parameters(n)
"""
SLOW_TEXT = """
[model]
python = "model.py:build"
[solver]
count = 4
""" + "".join(
    f"""
[[objective]]
name = "o{j}"
kind = "quadratic"
rows = [{j}, {j + 3}]
pairs = [{j % 4}]
"""
    for j in range(5)
)

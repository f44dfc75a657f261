"""Searches for tests: the chain, whose best stiffness is known from SciPy on dense matrices."""

import json
from functools import cache

import h5py
import numpy as np
import scipy.optimize
from study_files import MODEL, P, chain_derivatives, study_folder
from sweeps import ONE

SEARCH = """
[[objective]]
name = "second"
kind = "eigenvalue"
pair = 1
[optimize]
objective = "f1"
sense = "max"
method = "mma"
parameters = ["k"]
max_iterations = 60
tolerance = 1e-7
[optimize.bounds]
k = [0.1, 3.0]
[[optimize.constraints]]
mean = "k"
max = 1.0
"""
BELOW = '[[optimize.constraints]]\nobjective = "second"\nmax = 0.22\n'
OWN = (ONE + SEARCH + BELOW).replace(
    'kind = "eigenvalue"\npair = 1', 'python = "model.py:stopping"'
)
STOPPING = """
import os, pathlib, signal


def stopping(model):
    marker = pathlib.Path(__file__).with_name("marker")
    calls = []
    def objective(pairs):
        calls.append(1)
        if len(calls) == 3 and not marker.exists():
            model.comm.barrier()
            if model.comm.rank == model.comm.size - 1:
                marker.touch()
                ACTION
        return ga.objectives.Eigenvalue(1)(pairs)
    return objective
"""


def stopping(action="os.kill(os.getpid(), signal.SIGUSR1)"):
    """Return a model whose objective acts when first called a third time, on the last rank."""
    return MODEL + STOPPING.replace("ACTION", action)


def search_folder(folder, text=ONE + SEARCH, **modules):
    """Write a study with a search; return the study file."""
    return study_folder(folder, text, **{"model": MODEL, **modules})


def frequency_and_slope(k):
    """Return f1 and its derivatives in k, dense."""
    lam, slopes = chain_derivatives({**P, "k": k}, 0)
    f = np.sqrt(lam) / (2 * np.pi)
    return f, slopes["k"] / (8 * np.pi**2 * f)


@cache
def best_chain(second=None):
    """Return the largest f1 with k in [0.1, 3], mean at most 1, and the second value bounded."""
    constraints = [{"type": "ineq", "fun": lambda k: 1 - k.mean()}]
    constraints += [
        {
            "type": "ineq",
            "fun": lambda k: second - chain_derivatives({**P, "k": k}, 1)[0],
            "jac": lambda k: -chain_derivatives({**P, "k": k}, 1)[1]["k"],
        }
        for _ in range(second is not None)
    ]
    found = scipy.optimize.minimize(
        lambda k: tuple(-part for part in frequency_and_slope(k)),
        np.full(9, 1.0),
        jac=True,
        method="SLSQP",
        bounds=[(0.1, 3.0)] * 9,
        constraints=constraints,
        options={"ftol": 1e-13, "maxiter": 200},
    )
    assert found.success
    return -found.fun


def history(folder):
    """Return the rows of history.jsonl."""
    lines = (folder / "out" / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def summary(folder):
    return json.loads((folder / "out" / "optimize.json").read_text())


def best_design(folder, name="k"):
    with h5py.File(folder / "out" / "design.h5") as file:
        return file[f"parameters/{name}"][()]

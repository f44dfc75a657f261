"""Studies that are stopped between two steps and go on, and what they must give in the end."""

import h5py
import numpy as np
from study_files import DAMPED, DAMPED_MODEL, MODEL, PYTHON, result

from geneig_adjoint.study.signals import StopRequest

# Row 3 of left vectors, and a part that depends on the parameters directly.
OWN = """
import numpy as np
import geneig_adjoint as ga
from geneig_adjoint.parameters import is_distributed, local_values

def left_row(model):
    def objective(pairs):
        first, last = pairs.rows
        at = np.arange(first, last) == 3
        y = pairs.left[:, 0]
        bar = np.zeros(pairs.left.shape, dtype=complex)
        bar[at, 0] = 2 * y[at]
        if not np.iscomplexobj(pairs.left):
            bar = bar.real
        return pairs.comm.allreduce(float(np.abs(y[at] ** 2).sum())), ga.EigenCotangent(left=bar)
    return objective

def explicit(model):
    def objective(pairs, p):
        part = {name: value.duplicate() if is_distributed(value) else np.zeros(len(value))
                for name, value in p.items()}
        for name, value in p.items():
            local = part[name].array if is_distributed(value) else part[name]
            local[:] = 2 * np.asarray(local_values(value))
        total = sum(float(v.dot(v).real if is_distributed(v) else v @ v) for v in p.values())
        bar = np.zeros(pairs.count)
        bar[1] = 1.0
        value = total + pairs.values[1].real
        return value, ga.EigenCotangent(values=bar, parameters=part)
    return objective
"""
OWN_TABLES = """
[[objective]]
name = "left row"
python = "own.py:left_row"
[[objective]]
name = "explicit"
python = "own.py:explicit"
"""
DISTRIBUTED = MODEL.replace("chain_parameters\n", "chain_parameters, distributed\n").replace(
    "chain_parameters(n)", "{k: distributed(v, comm) for k, v in chain_parameters(n).items()}"
)
# Conjugate pairs in the real build, complex matrices in the complex one.
GENERAL = """
import numpy as np
import geneig_adjoint as ga
from builders import REAL, mass, matrix, nonsymmetric

def build(comm, options):
    n = 12
    shift = 0.0 if REAL else 0.4j
    A = matrix(nonsymmetric(n) + shift * np.eye(n, k=2), comm)
    dA = matrix(np.diag(np.arange(1.0, n + 1)) + np.eye(n, k=1), comm)
    dB = matrix(np.eye(n, k=-1) / 5, comm)
    return ga.MatrixModel(A, matrix(mass(n), comm), {"p": [(dA, None), (None, dB)]}), {
        "p": np.array([0.2, 0.1])
    }
"""
GENERAL_TEXT = """
[model]
python = "model.py:build"
[solver]
count = 3
target = 2.0
[[objective]]
name = "real"
kind = "eigenvalue"
[[objective]]
name = "imaginary"
kind = "eigenvalue"
part = "imag"
pair = 1
[[objective]]
name = "size"
kind = "quadratic"
rows = [1, 4]
pairs = [1]
"""
STUDIES = {
    "symmetric": (PYTHON, MODEL),
    "distributed": (PYTHON + OWN_TABLES, DISTRIBUTED),
    "nonsymmetric": (GENERAL_TEXT + OWN_TABLES, GENERAL),
    "quadratic": (DAMPED + OWN_TABLES, DAMPED_MODEL),
}
ALIKE = 1e-9
"""The promise; the adjoint's rtol is 1e-10, and its estimates are on the safe side."""


def stop_at(monkeypatch, place):
    """Let a run find at its n-th boundary, on every rank, that it is to stop."""
    visits = iter(range(1000))
    monkeypatch.setattr(
        StopRequest, "agreed", lambda _: "SIGUSR1" if next(visits) == place else None
    )


def outcome_of(folder):
    """Return the numbers of result.json and result.h5 that must not depend on interruptions."""
    content = result(folder)
    with h5py.File(folder / "result.h5") as file:
        found = {name: file[name][()] for name in ("values", "right", "left")}
        for objective, parameters in content["gradients"].items():
            for name, entry in parameters.items():
                found[f"gradient of {objective} by {name}"] = file[entry["path"]][()]
    for name, value in content["objectives"].items():
        found[f"value of {name}"] = np.asarray(value)
    return found


def assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = np.abs(value).max(initial=1e-3)
        np.testing.assert_allclose(found[name], value, rtol=0, atol=ALIKE * scale, err_msg=name)

"""Distributed derivatives an objective returns are freed, and those it keeps are not."""

from pathlib import Path

import numpy as np
import pytest
from builders import chain, chain_parameters, distributed
from petsc4py import PETSc

import geneig_adjoint as ga

N = 7
ENTRIES = 400_000
"""Of a parameter of which 8 are used: 3.2 MB, or 6.4 MB of complex numbers."""
LIMIT = 2.5 * ENTRIES * np.dtype(PETSc.ScalarType).itemsize
"""Two of them may be waiting to be freed."""


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.fixture
def job(comm):
    p = {**chain_parameters(N)}
    p["m"] = np.concatenate([p["m"], np.zeros(ENTRIES - p["m"].size)])
    p = {name: distributed(value, comm) for name, value in p.items()}
    model = chain(N, comm)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        yield model, p, pairs
    for vec in p.values():
        vec.destroy()


def square(pairs, p):
    """lam_0 + |m|^2, with a new vector in every call."""
    explicit = p["m"].copy()
    explicit.scale(2.0)
    value = pairs.values[0].real + p["m"].norm() ** 2
    return value, ga.EigenCotangent(values=np.eye(pairs.count)[0], parameters={"m": explicit})


CALLS = {
    "gradient": ga.gradient,
    "hessian": lambda model, p, pairs, g: ga.hessian_vector_product(model, p, pairs, g, p),
}


@pytest.mark.parametrize("call", CALLS)
def test_memory_does_not_grow(job, call):
    def once():
        for vec in CALLS[call](*job, square).values():
            vec.destroy()

    once()
    before = resident()
    for _ in range(5):
        once()
    assert resident() - before < LIMIT


@pytest.mark.parametrize("call", CALLS)
def test_vectors_that_are_kept_survive(job, call):
    model, p, pairs = job
    kept = p["m"].duplicate()
    kept.set(3.0)

    def linear(pairs, p):
        return 3 * float(p["m"].sum().real), ga.EigenCotangent(parameters={"m": kept})

    for _ in range(3):
        for vec in CALLS[call](model, p, pairs, linear).values():
            vec.destroy()
    assert kept.norm(PETSc.NormType.INFINITY) == 3.0
    kept.destroy()

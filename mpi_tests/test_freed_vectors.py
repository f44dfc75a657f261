"""Distributed derivatives that an objective forgets are freed on all ranks together."""

import numpy as np
from builders import chain, chain_parameters, distributed
from petsc4py import PETSc
from test_forgotten_vectors import resident, square

import geneig_adjoint as ga

N = 7
ENTRIES = 400_000


def test_memory_does_not_grow(comm):
    p = {**chain_parameters(N)}
    p["m"] = np.concatenate([p["m"], np.zeros(ENTRIES - p["m"].size)])
    p = {name: distributed(value, comm) for name, value in p.items()}
    model = chain(N, comm)

    def once():
        for vec in ga.hessian_vector_product(model, p, pairs, square, p).values():
            vec.destroy()

    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        once()
        before = resident()
        for _ in range(5):
            once()
        grown = comm.allreduce(resident() - before)
    # Two vectors may be waiting to be freed; without freeing there are 60 of them.
    assert grown < 5 * ENTRIES * np.dtype(PETSc.ScalarType).itemsize
    for vec in p.values():
        vec.destroy()

"""geneig_adjoint on any number of ranks."""

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc
from slepc4py import SLEPc

import geneig_adjoint as ga

comm = MPI.COMM_WORLD
LIBRARIES = {
    "geneig_adjoint": ga.__version__,
    "PETSc": ".".join(map(str, PETSc.Sys.getVersion())),
    "SLEPc": ".".join(map(str, SLEPc.Sys.getVersion())),
}


def element_model(problem, comm=comm):
    """Return the model of a problem: each rank brings a share of the elements."""
    blocks = []
    for term in problem.terms:
        m = len(term.dofs)
        own = slice(m * comm.rank // comm.size, m * (comm.rank + 1) // comm.size)
        law = ga.PowerLaw(term.exponent, floor=term.floor)
        kernel = ga.ScaledKernel(term.K0, law)
        blocks.append(
            ga.ElementBlock(term.side, term.dofs[own], kernel, {term.parameter: term.places[own]})
        )
    return ga.ElementModel(problem.n, blocks, comm=comm)


def objectives(problem):
    """Return the objectives of a problem in this package's form."""

    def eigenvalue(pairs):
        lam_bar = np.zeros(pairs.count)
        lam_bar[: problem.count] = problem.eigenvalue.weights(problem.count)
        return float(lam_bar @ pairs.values.real), ga.EigenCotangent(values=lam_bar)

    def vectors(pairs):
        value, x_bar = problem.vector_objective(
            pairs.right[:, : problem.count], slice(*pairs.rows), pairs.comm.allreduce
        )
        full = np.zeros(pairs.right.shape, dtype=x_bar.dtype)
        full[:, : problem.count] = x_bar
        return value, ga.EigenCotangent(right=full)

    return {"eigenvalue": eigenvalue, "vectors": vectors}


def prepare(problem, comm=comm):
    """Return the model and its pencil."""
    model = element_model(problem, comm)
    return model, model.assemble(problem.p)


def gradients(problem, prepared, meter, *, solver=(), adjoint=(), **solve):
    """Return the gradients of both objectives, the pencil closed."""
    model, pencil = prepared
    options = {"solver_parameters": dict(solver), **solve}
    with meter.phase("eigensolve"):
        pairs = ga.solve_eigenproblem(pencil, problem.count, target=0.0, **options)
    found = {}
    for name, objective in objectives(problem).items():
        with meter.phase(name):
            found[name] = dict(ga.gradient(model, problem.p, pairs, objective, **dict(adjoint)))
    pairs.close()
    pencil.close()
    return found


def over_ranks(report):
    """Return the report of all ranks on rank 0: the slowest wall time, sums of the rest."""
    every = comm.gather(report)
    if comm.rank:
        return None
    for name in report["wall"]:
        report["wall"][name] = max(other["wall"][name] for other in every)
        report["cpu"][name] = sum(other["cpu"][name] for other in every)
    report["memory"] = sum(other["memory"] for other in every)
    return report

"""pyMOTO 2.0.1: its EigenSolve module between two signals, its contraction of dyads."""

import numpy as np
import pymoto
import scipy.sparse

from peers.matrices import sparse

PACKAGES = ("pyMOTO", "mkl", "scipy", "numpy")


def prepare(problem):
    """Return A and B."""
    from pymoto.solvers import SolverSparsePardiso

    # Each solver's own format: SuperLU would convert.
    kind = scipy.sparse.csr_matrix if SolverSparsePardiso.defined else scipy.sparse.csc_matrix
    return sparse(problem, "A", kind), sparse(problem, "B", kind)


def gradients(problem, matrices, meter):
    """Return the gradients of both objectives."""
    A, B = (pymoto.Signal(name, state=item) for name, item in zip("AB", matrices, strict=True))
    with meter.phase("eigensolve"):
        solver = pymoto.EigenSolve(nmodes=problem.count, sigma=0.0, hermitian=True)
        values, vectors = solver(A, B)
    found = {}
    with meter.phase("eigenvalue"):
        values.sensitivity = problem.eigenvalue.weights(problem.count)
        found["eigenvalue"] = _backward(problem, solver, A, B)
    solver.reset()
    values.reset()
    with meter.phase("vectors"):
        vectors.sensitivity = problem.vector_objective(vectors.state)[1]
        found["vectors"] = _backward(problem, solver, A, B)
    return found


def _backward(problem, solver, A, B):
    solver.sensitivity()
    total = {name: np.zeros(len(values)) for name, values in problem.p.items()}
    for side, signal in (("A", A), ("B", B)):
        dyads = signal.sensitivity
        # One zero behind the last entry stands for all constrained dofs.
        padded = pymoto.DyadicMatrix(
            [np.append(u, 0.0) for u in dyads.u], [np.append(v, 0.0) for v in dyads.v]
        )
        for term in [term for term in problem.terms if term.side == side]:
            sums = padded.contract(term.K0, term.dofs, term.dofs)
            np.add.at(total[term.parameter], term.places, sums * term.slope(problem.p))
    return total

"""The derivative of the eigenvalue of A = p p^T, with A known only by its products.

python rank_one.py, or mpirun -n 3 python rank_one.py.  Known answer: lam = p . p with
the gradient 2 p.  A rank holds some rows of every vector, so sums over rows are allreduces.
"""

import numpy as np
from mpi4py import MPI

import geneig_adjoint as ga

P = np.array([-1.5621152096320876, 3.0824487193542387, -0.8345846981100772])
VALUE, GRADIENT = 12.638225653931972, [-3.1242304192641748, 6.164897438708478, -1.6691693962201561]
comm = MPI.COMM_WORLD
rows = np.array_split(np.arange(3), comm.size)[comm.rank]  # PETSc's default split


def apply_a(p, block):
    """Return this rank's rows of A @ block = p (p^T block)."""
    return np.outer(p["p"][rows], comm.allreduce(p["p"][rows] @ block))


def vjp(p, left_a, left_b, right):
    """Return Re sum_j left_j^H (dA/dp_i) right_j, where dA/dp_i = e_i p^T + p e_i^T."""
    p_left, p_right = comm.allreduce(p["p"][rows] @ np.stack([left_a, right]))
    total = np.zeros(3)
    total[rows] = (left_a.conj() @ p_right + right @ p_left.conj()).real
    return {"p": comm.allreduce(total)}


with ga.abort_on_failure():
    model, p = ga.OperatorModel(n=3, apply_a=apply_a, vjp=vjp, comm=comm), {"p": P}
    pairs = ga.solve_eigenproblem(model.assemble(p), count=1, which="largest_real")
    gradient = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))["p"]
    if comm.rank == 0:
        print("lam     ", pairs.values[0].real, "  error", abs(pairs.values[0] - VALUE))
        print("gradient", gradient, "  error", abs(gradient - GRADIENT).max())

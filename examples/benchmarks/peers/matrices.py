"""The matrices of a problem for peers that live on SciPy's sparse matrices."""

import numpy as np
import scipy.sparse


def sparse(problem, side, kind=scipy.sparse.csc_matrix):
    """Return A or B of a problem."""
    total = kind((problem.n, problem.n))
    for term in problem.terms:
        if term.side == side:
            total = total + _summed(problem, term, kind)
    total.sum_duplicates()
    return total


def _summed(problem, term, kind):
    values = term.factor(problem.p)[:, None, None] * term.K0
    rows = np.broadcast_to(term.dofs[:, :, None], values.shape)
    columns = np.broadcast_to(term.dofs[:, None, :], values.shape)
    kept = (rows >= 0) & (columns >= 0) & (term.K0 != 0.0)
    places = rows[kept].astype(np.int32), columns[kept].astype(np.int32)
    return kind((values[kept], places), shape=(problem.n, problem.n))


def eigenvalue_gradient(problem, values, vectors):
    """Return the gradient of the objective of eigenvalues: x^T (dA - lam dB) x for x^T B x = 1."""
    lam_bar = problem.eigenvalue.weights(len(values))
    touched = np.flatnonzero(lam_bar)
    left = vectors[:, touched] * lam_bar[touched]
    return problem.contract({"A": left, "B": -left * values[touched]}, vectors[:, touched])

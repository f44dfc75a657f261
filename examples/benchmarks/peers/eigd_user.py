"""eigd 1.0.0 as its documentation shows it: ARPACK, then a Krylov method for the adjoints."""

from functools import partial

import eigd
import numpy as np
import scipy.sparse.linalg

from peers.matrices import eigenvalue_gradient, sparse

PACKAGES = ("eigd", "scikit-sparse", "scipy", "numpy")


class Cholmod(scipy.sparse.linalg.LinearOperator):
    """The inverse of a symmetric positive definite matrix by CHOLMOD."""

    def __init__(self, matrix):
        from sksparse.cholmod import cholesky

        self.factor = cholesky(matrix)
        super().__init__(matrix.dtype, matrix.shape)

    def _matvec(self, x):
        return self.factor(x)

    def _matmat(self, block):
        return self.factor(block)


def prepare(problem):
    """Return A and B."""
    return sparse(problem, "A"), sparse(problem, "B")


def gradients(problem, matrices, meter, *, cholmod=False):
    """Return the gradients of both objectives."""
    A, B = matrices
    with meter.phase("eigensolve"):
        factor = Cholmod(A) if cholmod else eigd.SpLuOperator(A)
        solver = eigd.IRAM(N=problem.count)
        values, vectors = solver.solve(A, B, factor, 0.0)
    with meter.phase("eigenvalue"):
        of_value = eigenvalue_gradient(problem, values, vectors)
    with meter.phase("vectors"):
        _, x_bar = problem.vector_objective(vectors)
        # The better one of its methods, tried: pcpg for planes, sibk for solids.
        method = "sibk" if problem.name == "elasticity3d" else "pcpg"
        adjoint, corrections = solver.solve_adjoint(x_bar, method=method)
        of_vectors = _total(problem, solver, x_bar, adjoint, corrections)
    return {"eigenvalue": of_value, "vectors": of_vectors}


def _total(problem, solver, x_bar, adjoint, corrections):
    """Return what eigd adds up, with a contraction for all modes and parameters at once."""
    names, sizes = list(problem.p), [len(values) for values in problem.p.values()]

    def products(side, left, right):
        found = problem.contract({side: left}, right)
        return np.concatenate([found[name] for name in names])

    total = solver.add_total_derivative(
        np.zeros(problem.count),
        x_bar,
        adjoint,
        partial(products, "A"),
        partial(products, "B"),
        np.zeros(sum(sizes)),
        adj_corr_data=corrections,
        deriv_type="tensor",
    )
    return dict(zip(names, np.split(total, np.cumsum(sizes)[:-1]), strict=True))

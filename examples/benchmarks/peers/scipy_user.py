"""SciPy with adjoints written by hand, as a user who knows the literature would.

Symmetric: eigsh in shift-and-invert mode on one splu in symmetric mode, and for every mode
conjugate gradients in the complement of the computed modes, preconditioned by that factor
(K. F. Alvin, AIAA J. 35, 1997). Nonsymmetric: eigs on A^-1 B, then one splu of the bordered
matrix next to the eigenvalue, which serves left vector and adjoint.
"""

import numpy as np
import scipy.sparse
import scipy.sparse.linalg as sla

from peers.matrices import eigenvalue_gradient, sparse

PACKAGES = ("scipy", "numpy")
TOLERANCE = 1e-10
MOST_STEPS = 200
# Orderings of A + A^T, without pivoting: far less fill than SciPy's default.
SYMMETRIC = {
    "permc_spec": "MMD_AT_PLUS_A",
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}
STRUCTURALLY = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.01}


def prepare(problem):
    """Return A and B."""
    return sparse(problem, "A"), sparse(problem, "B")


def gradients(problem, matrices, meter):
    """Return the gradients of both objectives."""
    return (_symmetric if problem.symmetric else _nonsymmetric)(problem, *matrices, meter)


def _symmetric(problem, A, B, meter):
    with meter.phase("eigensolve"):
        lu = sla.splu(A, **SYMMETRIC)
        inverse = sla.LinearOperator(A.shape, lu.solve, dtype=float)
        values, X = sla.eigsh(A, problem.count, B, sigma=0.0, OPinv=inverse, tol=1e-12)
    with meter.phase("eigenvalue"):
        of_value = eigenvalue_gradient(problem, values, X)
    with meter.phase("vectors"):
        _, X_bar = problem.vector_objective(X)
        BX = B @ X
        left_a, left_b = _within(values, X, X_bar)
        for j in np.flatnonzero(np.any(X_bar, axis=0)):
            psi = _outside(A, B, lu, (values[j], X, BX), -X_bar[:, j])
            left_a[:, j] += psi
            left_b[:, j] -= values[j] * psi
        of_vectors = problem.contract({"A": left_a, "B": left_b}, X)
    return {"eigenvalue": of_value, "vectors": of_vectors}


def _within(values, X, X_bar):
    """Return the adjoints' parts in the span of the modes, known without a solve.

    x_i^T dx_j = x_i^T (dA - lam_j dB) x_j / (lam_j - lam_i), and -x_j^T dB x_j / 2 for i = j.
    Copies of a multiple value: g depends on the whole span only, and half of -x_i^T dB x_j is
    what is left of both quotients.
    """
    G = X.T @ X_bar
    gaps = values[None, :] - values[:, None]
    near = np.abs(gaps) < 1e-6 * values.max()
    weights = np.where(near, 0.0, G / np.where(near, 1.0, gaps))
    return X @ weights, -X @ (weights * values[None, :] + np.where(near, G / 2, 0.0))


def _outside(A, B, lu, modes, rhs):
    """Solve (A - lam B) psi = rhs in the complement of all modes, where it is definite."""
    lam, X, BX = modes

    def projected(r):
        return r - BX @ (X.T @ r)

    r = projected(rhs)
    psi, stop = np.zeros_like(r), TOLERANCE * np.linalg.norm(r)
    z = lu.solve(r)
    z -= X @ (BX.T @ z)
    d, rho = z, r @ z
    for _ in range(MOST_STEPS):
        q = A @ d - lam * (B @ d)
        alpha = rho / (d @ q)
        psi += alpha * d
        r = projected(r - alpha * q)
        if np.linalg.norm(r) <= stop:
            return psi
        z = lu.solve(r)
        z -= X @ (BX.T @ z)
        rho, last = r @ z, rho
        d = z + (rho / last) * d
    raise RuntimeError(f"conjugate gradients must reach {stop:.1e}, got {np.linalg.norm(r):.1e}")


def _fundamental(A, B, count):
    """Return the value nearest to 0 and its vector.

    eigs with a matrix M needs a definite one: this is the inverse problem in standard form.
    """
    lu = sla.splu(A, **STRUCTURALLY)
    operator = sla.LinearOperator(A.shape, lambda x: lu.solve(B @ x), dtype=float)
    mu, X = sla.eigs(operator, count, tol=1e-12)
    x = X[:, 0].real
    return 1.0 / mu[0].real, x / np.linalg.norm(x)


def _nonsymmetric(problem, A, B, meter):
    with meter.phase("eigensolve"):
        lam, x = _fundamental(A, B, problem.count)
        # [A - lam B, Bx; e^T, 0] is regular; its left null direction is the left vector.
        Bx = B @ x
        largest = int(np.argmax(np.abs(x)))
        row = scipy.sparse.csc_matrix(([1.0], ([0], [largest])), shape=(1, problem.n))
        column = scipy.sparse.csc_matrix(Bx[:, None])
        bordered = scipy.sparse.bmat([[A - lam * B, column], [row, None]], format="csc")
        near = sla.splu(bordered, **STRUCTURALLY)
        y = near.solve(np.append(np.zeros(problem.n), 1.0), trans="T")[:-1]
        y /= y @ Bx
    with meter.phase("eigenvalue"):
        left = problem.eigenvalue.weights(1)[0] * y[:, None]
        of_value = problem.contract({"A": left, "B": -lam * left}, x[:, None])
    with meter.phase("vectors"):
        # The objective does not depend on the length of x: x_k is held.
        x_bar = problem.vector_objective(x[:, None])[1][:, 0]
        psi = -near.solve(np.append(x_bar, 0.0), trans="T")[:-1, None]
        of_vectors = problem.contract({"A": psi, "B": -lam * psi}, x[:, None])
    return {"eigenvalue": of_value, "vectors": of_vectors}

"""The Laplacian of a square grid: exact double eigenvalues with known vectors.

With orthonormal eigenvectors q_j and a set P of whole clusters, first-order perturbation theory
(Kato, Perturbation Theory for Linear Operators, II.2) moves the projector onto P, so that

    d/dA_kk sum_{i in P} (w.q_i)^2
        = 2 sum_{i in P, j not in P} (w.q_i) (w.q_j) q_ki q_kj / (l_i - l_j).
"""

from contextlib import contextmanager

import numpy as np
from builders import stiffness
from pencils import petsc_matrix

import geneig_adjoint as ga

SIDE = 20
SITES = (0, 41, 187, 399)


def exact_pairs():
    """Return all values and vectors of the five-point stencil, sorted by value."""
    i = np.arange(1, SIDE + 1)
    line = 2 - 2 * np.cos(i * np.pi / (SIDE + 1))
    modes = np.sqrt(2 / (SIDE + 1)) * np.sin(np.outer(i, i) * np.pi / (SIDE + 1))
    values = np.add.outer(line, line).ravel()
    order = np.argsort(values, kind="stable")
    return values[order], np.kron(modes, modes)[:, order]


def exact_slopes(w, count):
    """Return the derivative of sum_{i < count} (w.q_i)^2 in A_kk for k in SITES."""
    values, Q = exact_pairs()
    parts = w @ Q
    inside, outside = slice(0, count), slice(count, None)
    gaps = values[inside, None] - values[None, outside]
    weights = np.outer(parts[inside], parts[outside]) / gaps
    rows = Q[list(SITES)]
    return 2 * np.einsum("ij,ki,kj->k", weights, rows[:, inside], rows[:, outside])


def projection(w, members):
    """Return the objective sum_{i in members} |w^H x_i|^2 for this rank's rows of w."""

    def objective(pairs):
        parts = pairs.inner(w[:, None], pairs.right[:, members])[0]
        x_bar = np.zeros_like(pairs.right)
        x_bar[:, members] = 2 * np.outer(w, parts)
        return float((np.abs(parts) ** 2).sum()), ga.EigenCotangent(right=x_bar)

    return objective


@contextmanager
def grid_model(comm):
    """A = the stencil + sum_k p_k e_k e_k^T, standard problem."""
    line, eye = stiffness(SIDE), np.eye(SIDE)
    units = [np.diag((np.arange(SIDE**2) == k).astype(float)) for k in SITES]
    stencil = np.kron(line, eye) + np.kron(eye, line)
    mats = [petsc_matrix(comm, dense) for dense in (stencil, *units)]
    with ga.MatrixModel(mats[0], None, {"site": [(mat, None) for mat in mats[1:]]}) as model:
        yield model
    for mat in mats:
        mat.destroy()


def weight_vector():
    return np.random.default_rng(8).uniform(-1.0, 1.0, SIDE**2)

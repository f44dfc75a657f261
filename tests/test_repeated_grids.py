"""Repeated eigenvalues of square grids: closed forms, elements, complex vectors everywhere."""

import numpy as np
import scipy.linalg
from builders import C0, K0, shares, stiffness
from pencils import petsc_matrix
from test_repeated import sorted_like

import geneig_adjoint as ga


def test_square_grid_splits_as_its_closed_form_says(comm):
    # A = a X + b Y: (i, j) has a k_i + b k_j, k_i = 2 - 2 cos(i pi / (n + 1)); along a: k_1, k_2.
    n = 10
    line, eye = stiffness(n), np.eye(n)
    mats = [petsc_matrix(comm, np.kron(*pair)) for pair in ((line, eye), (eye, line))]
    zero = petsc_matrix(comm, np.zeros((n * n, n * n)))
    p, p_dot = {"ab": np.ones(2)}, {"ab": np.array([1.0, 0.0])}
    with (
        ga.MatrixModel(zero, None, {"ab": [(mat, None) for mat in mats]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=2) as pairs,
    ):
        mu = ga.directional_derivatives(model, p, pairs, 1, p_dot)
    expected = 2 - 2 * np.cos(np.array([1, 2]) * np.pi / (n + 1))
    np.testing.assert_allclose(mu, expected, rtol=1e-9)  # eps_tol 1e-12 of the vectors


SIDE = 5
LINE_DOFS = np.stack([np.arange(SIDE + 1) - 1, np.r_[np.arange(SIDE), -1]], axis=1)


def flow_dofs():
    """Return the two-node elements of a grid, those along x first; -1 beyond its rim."""
    inner, end = np.arange(SIDE)[:, None, None], LINE_DOFS[None] < 0
    along_x = np.where(end, -1, LINE_DOFS[None] * SIDE + inner)
    along_y = np.where(end, -1, LINE_DOFS[None] + inner * SIDE)
    return np.concatenate([along_x.reshape(-1, 2), along_y.reshape(-1, 2)])


def flow_model(comm):
    """Return diffusion and convection on a grid: not symmetric, with repeated eigenvalues."""
    dofs = flow_dofs()
    own = shares(len(dofs), comm)
    kernel = ga.ScaledKernel(K0 + 0.8 * C0)
    return ga.ElementModel(
        SIDE**2, [ga.ElementBlock("A", dofs[own], kernel, {"s": own})], comm=comm
    )


def flow_matrices():
    """Return D_i from the closed form of the vectors: Kronecker products of those of a line."""
    values, left, right = scipy.linalg.eig(line_matrix(K0 + 0.8 * C0), left=True)
    order = np.argsort(values.real)
    pairs = ((order[0], order[1]), (order[1], order[0]))
    X = np.stack([np.kron(right[:, i], right[:, j]) for i, j in pairs], axis=1)
    Y = np.stack([np.kron(left[:, i], left[:, j]) for i, j in pairs], axis=1)
    Y = Y / np.sum(Y.conj() * X, axis=0).conj()
    # Row -1 is the rim.
    X, Y = (np.vstack([block, np.zeros((1, 2))]) for block in (X, Y))
    return np.array([Y[e].conj().T @ (K0 + 0.8 * C0) @ X[e] for e in flow_dofs()])


def line_matrix(element):
    whole = np.zeros((SIDE + 1, SIDE + 1))
    for dofs in LINE_DOFS:
        whole[np.ix_(dofs, dofs)] += element
    return whole[:SIDE, :SIDE]


def check_flow(comm, container):
    """Compare elements, complex vectors in every build, with the closed form."""
    count = len(flow_dofs())
    s, direction = np.ones(count), np.cos(1.0 + np.arange(count))
    p, p_dot = {"s": container(s)}, {"s": container(direction)}
    with (
        flow_model(comm) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=3) as pairs,
    ):
        mu = ga.directional_derivatives(model, p, pairs, 2, p_dot)
        D = ga.cluster_derivatives(model, p, pairs, 1).matrices["s"]
    assert pairs.clusters == ((0,), (1, 2))
    expected = np.linalg.eigvals(np.einsum("i,ikj->kj", direction, flow_matrices()))
    # eps_tol 1e-12 of the vectors
    np.testing.assert_allclose(sorted_like(expected, mu), mu, atol=1e-9)
    return D, mu, direction


def test_elements_of_a_nonsymmetric_problem(comm):
    D, mu, direction = check_flow(comm, np.asarray)
    values = np.linalg.eigvals(np.einsum("i,ikj->kj", direction, D))
    np.testing.assert_allclose(sorted_like(values, mu), mu, atol=1e-12)  # rounding

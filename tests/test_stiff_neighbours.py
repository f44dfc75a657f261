"""Slender beams: near eigenvalues of planes that do not couple, inexact by the stiffness."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
from petsc4py import PETSc
from test_clusters import Cluster

import geneig_adjoint as ga

ELEMENTS = 100
LENGTH, SIDE, E, DENSITY = 1000.0, 20.0, 210000.0, 7.85e-9  # mm, N, t


def plane(thickness):
    """Return K and M of the bending of a cantilever in one plane, dofs (w, theta) per node."""
    h = LENGTH / ELEMENTS
    k = np.array(
        [
            [12, 6 * h, -12, 6 * h],
            [6 * h, 4 * h**2, -6 * h, 2 * h**2],
            [-12, -6 * h, 12, -6 * h],
            [6 * h, 2 * h**2, -6 * h, 4 * h**2],
        ]
    )
    m = np.array(
        [
            [156, 22 * h, 54, -13 * h],
            [22 * h, 4 * h**2, 13 * h, -3 * h**2],
            [54, 13 * h, 156, -22 * h],
            [-13 * h, -3 * h**2, -22 * h, 4 * h**2],
        ]
    )
    K, M = (scipy.sparse.lil_matrix((2 * ELEMENTS + 2,) * 2) for _ in range(2))
    for e in range(ELEMENTS):
        rows = slice(2 * e, 2 * e + 4)
        K[rows, rows] += E * SIDE * thickness**3 / 12 / h**3 * k
        M[rows, rows] += DENSITY * SIDE * thickness * h / 420 * m
    return K.tocsr()[2:, 2:], M.tocsr()[2:, 2:]


class Beam:
    """Two planes whose values differ by a gap, turned by an angle; p: stiffness of each, mass."""

    def __init__(self, comm, gap, angle):
        first, M = plane(SIDE)
        second = (1 + gap) * first
        c, s = np.cos(angle), np.sin(angle)
        turn = scipy.sparse.kron(np.array([[c, s], [-s, c]]), scipy.sparse.eye(M.shape[0])).tocsr()
        zero = 0 * M
        parts = [(first, zero), (zero, second), (M, M)]
        K1, K2, M = (turn.T @ scipy.sparse.block_diag(pair).tocsr() @ turn for pair in parts)
        self.mats = [sparse(comm, S) for S in (K1 + K2, M, K1, K2, M)]
        A, B, *slopes = self.mats
        ders = [(slopes[0], None), (slopes[1], None), (None, slopes[2])]
        self.model, self.p = ga.MatrixModel(A, B, {"p": ders}), {"p": np.zeros(3)}

    def close(self):
        self.model.close()
        for mat in self.mats:
            mat.destroy()


def sparse(comm, S):
    S = scipy.sparse.csr_matrix((S + S.T) / 2)
    mat = PETSc.Mat().createAIJ(S.shape, comm=comm)
    mat.setUp()
    own = S[slice(*mat.getOwnershipRange())]
    mat.setPreallocationCSR((own.indptr.astype("i4"), own.indices.astype("i4"), own.data))
    return mat


@pytest.fixture
def beam(comm):
    made = []

    def make(*arguments):
        made.append(Beam(comm, *arguments))
        return made[-1]

    yield make
    for item in made:
        item.close()


EXACT = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])
"""Of lam_j: homogeneous in the stiffness of its plane and in the mass, relative to lam_j."""


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_values_that_do_not_mix_have_gradients(beam, gap):
    case = beam(gap, 0.0)
    with (
        case.model.assemble(case.p) as pencil,
        ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs,
    ):
        scale = pencil.norms[0] / pencil.norms[1]
        assert scale > 1e8 * pairs.values[0].real  # the entries say nothing about lam
        found = [
            ga.gradient(case.model, case.p, pairs, ga.objectives.Eigenvalue(j)) for j in (0, 1)
        ]
        lam = pairs.values.real[:2]
    for gradient, exact, value in zip(found, EXACT, lam, strict=True):
        true = np.abs(gradient["p"] / value - exact).max()
        # vectors are right to eps ||A|| / lam = 1e-7 at worst; the bound is not far from that
        assert true < 1e-8
        assert true <= gradient.relative_error < 1e-6


def test_values_that_mix_are_refused(beam):
    case = beam(1e-5, 0.5)  # rounding couples the planes in turned coordinates
    with (
        case.model.assemble(case.p) as pencil,
        ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs,
    ):
        assert pairs.clusters == ((0,), (1,), (2,), (3,))
        with pytest.raises(ga.DegenerateEigenvalueError, match="different weights"):
            ga.gradient(case.model, case.p, pairs, ga.objectives.Eigenvalue(0))


@pytest.mark.parametrize("gap", [4e-7, 4e-5])  # a cluster, and none
def test_the_estimate_notices_members_that_are_mixed(comm, gap):
    case, angle = Cluster(comm, gap, 1.0), 3e-8
    with (
        case.model.assemble(case.p) as pencil,
        ga.solve_eigenproblem(pencil, 3) as pairs,
    ):
        right = pairs.right.copy()
        right[:, 1] += angle * pairs.right[:, 2]
        right[:, 2] -= angle * pairs.right[:, 1]
        mixed = dataclasses.replace(pairs, right=right, left=right)
        objectives = [ga.objectives.Eigenvalue(1), whole_sum]
        sharp = ga.gradient(case.model, case.p, pairs, objectives)
        blurred = ga.gradient(case.model, case.p, mixed, objectives)
    case.close()
    single, whole = (
        np.abs(a["p"] - b["p"]).max() / np.abs(a["p"]).max()
        for a, b in zip(sharp, blurred, strict=True)
    )
    assert angle / 10 < single <= blurred[0].relative_error < 100 * angle
    assert whole <= blurred[1].relative_error < 1e-9
    assert sharp[0].relative_error < angle  # 4 eps / gap and the rounding of the pairs


def whole_sum(pairs):
    return float(pairs.values.real.sum()), ga.EigenCotangent(values=np.ones(3))


def test_a_neighbour_that_was_not_kept_counts(comm):
    case = Cluster(comm, 1e-4, 1.0)
    with (
        case.model.assemble(case.p) as pencil,
        ga.solve_eigenproblem(pencil, 2) as pairs,
    ):
        near = dataclasses.replace(pairs, gaps=np.array([1.0, 2e-4]))
        far = dataclasses.replace(pairs, gaps=np.array([1.0, 1.0]))
        estimates = [
            ga.gradient(case.model, case.p, item, ga.objectives.Eigenvalue(1)).relative_error
            for item in (near, far)
        ]
    case.close()
    assert estimates[0] > 100 * estimates[1]

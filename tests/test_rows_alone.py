"""Which rows count as constrained: alone in A and in B, of the value 1 or one that many share."""

import numpy as np
import pytest
from builders import matrix, stiffness

import geneig_adjoint as ga

N = 16
ROWS = (0, 7, 11, 13)


def replaced(values, coupling=0.0):
    """Return A and B with the first of ROWS as constraints of these values, coupled in B to row 3.

    The free rows have eigenvalues of their own.
    """
    A, B = stiffness(N), 0.7 * np.eye(N)
    for i, value in zip(ROWS, values, strict=False):
        A[i, :] = A[:, i] = B[i, :] = B[:, i] = 0.0
        A[i, i], B[i, i] = value, 1.0
        B[i, 3] = B[3, i] = coupling
    return A, B


def solved(comm, matrices, **wanted):
    return ga.solve_eigenproblem(ga.Pencil(*(matrix(M, comm) for M in matrices)), **wanted)


@pytest.mark.parametrize(("value", "rows"), [(3.1, 4), (0.3, 4), (1.0, 1), (1.0, 2)])
def test_rows_that_share_a_value_or_have_the_usual_one(comm, value, rows):
    with solved(comm, replaced([value] * rows), count=4, target=0.997 * value) as pairs:
        spurious = np.flatnonzero(np.isclose(pairs.values, value, rtol=1e-9))
        assert pairs.info.constrained == tuple(spurious)
        assert len(spurious) >= min(rows, 2)
        assert any(f"belong to {rows} constrained rows" in note for note in pairs.info.notes)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_few_rows_with_a_value_of_their_own_are_modes(comm, rows):
    # A mass on equal springs has two or three of them.
    with solved(comm, replaced([3.1] * rows), count=5, target=3.09) as pairs:
        assert np.isclose(pairs.values, 3.1, rtol=1e-9).sum() == rows
        assert pairs.info.constrained == ()


@pytest.mark.parametrize(("distance", "alike"), [(1e-10, True), (1e-4, False)])
def test_values_are_the_same_up_to_rounding(comm, distance, alike):
    values = 3.1 * (1 + distance * np.array([-1.0, -0.5, 0.5, 1.0]))
    with solved(comm, replaced(values), count=6, target=3.09) as pairs:
        near = np.isclose(pairs.values, 3.1, rtol=1e-3)
        assert near.sum() == len(ROWS)
        assert pairs.info.constrained == tuple(np.flatnonzero(near * alike))


def test_rows_coupled_in_b_are_parts_of_the_problem(comm):
    # A v = lam B v with v = e_0 - e_7: both rows meet row 3 alike, so that 1 stays exactly.
    with solved(comm, replaced((1.0, 1.0), coupling=0.2), count=4, target=1.001) as pairs:
        [j] = np.flatnonzero(np.isclose(pairs.values, 1.0, rtol=1e-9))
        x = pairs.right[:, j]
        np.testing.assert_allclose(x[7], -x[0], rtol=1e-9)
        assert pairs.info.constrained == ()


def test_rows_coupled_in_b_have_a_derivative(comm):
    A, B = replaced((1.0, 1.0), coupling=0.2)
    slope = np.diag(np.eye(N)[0])
    model = ga.MatrixModel(matrix(A, comm), matrix(B, comm), {"p": [(matrix(slope, comm), None)]})
    p = {"p": np.zeros(1)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, target=1.001) as pairs:
        [j] = np.flatnonzero(np.isclose(pairs.values, 1.0, rtol=1e-9))
        found = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(int(j)))["p"]
    # x = (e_0 - e_7) / sqrt(2), x^H B x = 1: x_0^2 = 1/2
    np.testing.assert_allclose(found, [0.5], rtol=1e-9)


# -- clusters of such rows --


@pytest.fixture
def cluster(comm):
    """Two constrained rows of the value 1, a cluster, beside modes; p shifts A on these."""
    A, B = replaced((1.0, 1.0))
    slope = np.diag(np.where(np.isin(np.arange(N), ROWS[:2]), 0.0, 1.0))
    model = ga.MatrixModel(matrix(A, comm), matrix(B, comm), {"p": [(matrix(slope, comm), None)]})
    p = {"p": np.zeros(1)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, target=1.01) as pairs:
        assert len(pairs.info.constrained) == 2
        assert pairs.info.constrained in pairs.clusters
        yield model, p, pairs


CALLS = {
    "direction": lambda *job: ga.directional_derivatives(*job, {"p": np.ones(1)}),
    "matrices": ga.cluster_derivatives,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("member", [0, 1])
def test_their_clusters_have_no_derivatives(cluster, call, member):
    model, p, pairs = cluster
    j = pairs.info.constrained[member]
    with pytest.raises(ga.ConstrainedRowError, match=r"modes of the problem.*leave") as caught:
        CALLS[call](model, p, pairs, j)
    assert set(caught.value.members) == set(pairs.info.constrained)


def test_modes_beside_them_have_their_derivatives(cluster):
    model, p, pairs = cluster
    for j in set(range(pairs.count)) - set(pairs.info.constrained):
        mu = ga.directional_derivatives(model, p, pairs, j, {"p": np.ones(1)})
        # B is 0.7 and dA 1 on all free rows: dlam = 1 / 0.7
        np.testing.assert_allclose(mu, [1 / 0.7], rtol=1e-9)

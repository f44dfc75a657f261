"""Equations and unknowns in mixed units: the units must not be seen in the results."""

import numpy as np
import pytest
import scipy.linalg
from builders import matrix, whole
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga
from geneig_adjoint.equilibration import equilibration

VELOCITIES, PRESSURES = 24, 6
N = VELOCITIES + PRESSURES
NUMBER = {True: 1j, False: 1.0}[COMPLEX_BUILD]


def flow(density):
    """Return a linearised incompressible flow, momentum rows times density, and a parameter's dA.

    The gradient of the pressure is not scaled: pressures grow with the density.
    """
    rng = np.random.default_rng(2)
    one = np.eye(VELOCITIES)
    L = -2 * one + 1.3 * np.eye(VELOCITIES, k=1) + 0.7 * np.eye(VELOCITIES, k=-1)
    L = L + 0.04 * rng.standard_normal(L.shape)
    G, D = (rng.standard_normal((VELOCITIES, PRESSURES)) for _ in range(2))
    A = np.block([[density * L, -G], [D.T, np.zeros((PRESSURES, PRESSURES))]])
    B, dA = np.zeros((2, N, N))
    B[:VELOCITIES, :VELOCITIES] = density * one
    dA[:VELOCITIES, :VELOCITIES] = density * np.diag(rng.random(VELOCITIES))
    return A, B, dA


def finite(A, B):
    """Return the finite eigenpairs, in units where the density is 1."""
    values, left, right = scipy.linalg.eig(A, B, left=True)
    kept = np.abs(values) < 1e3
    values, left, right = values[kept], left[:, kept], right[:, kept]
    order = np.argsort(np.abs(values))
    return values[order], left[:, order], right[:, order]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("left", ["auto", False])
@pytest.mark.parametrize("density", [1.0, 1e3, 1e6, 1e9])
def test_values_and_gradient_of_a_flow(comm, density, left, count):
    values, y, x = finite(*flow(1.0)[:2])
    A, B, dA = flow(density)
    dA_one, B_one = flow(1.0)[2], flow(1.0)[1]
    mats = [matrix(array, comm) for array in (A, B, dA)]
    with ga.MatrixModel(mats[0], mats[1], {"p": [(mats[2], None)]}) as model:
        p = {"p": np.zeros(1)}
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, count, target=0.0, left=left) as pairs,
        ):
            wanted = [ga.objectives.Eigenvalue(j) for j in range(pairs.count)]
            gradients = ga.gradient(model, p, pairs, wanted)
            for value, found in zip(pairs.values, gradients, strict=True):
                i = np.argmin(np.abs(values - value))
                assert abs(value - values[i]) <= 1e-10 * abs(value)
                slope = (y[:, i].conj() @ dA_one @ x[:, i]) / (y[:, i].conj() @ B_one @ x[:, i])
                assert abs(found["p"][0] - slope.real) <= 1e-8 * abs(slope)
                assert found.relative_error <= 1e-7


@pytest.mark.parametrize("symmetric", [False, True])
def test_factors_are_powers_of_two_and_keep_a_symmetry(comm, symmetric):
    rng = np.random.default_rng(1)
    units = 10.0 ** rng.uniform(-5, 5, 12)
    A, B = rng.standard_normal((2, 12, 12))
    if symmetric:
        A, B = A + A.T + NUMBER * (A + A.T) ** 2, B + B.T
    with ga.Pencil(
        matrix(units[:, None] * A * units, comm), matrix(units[:, None] * B * units, comm)
    ) as pencil:
        scaling = equilibration(pencil)
        assert scaling is not None
        for factors in (scaling.rows, scaling.columns):
            np.testing.assert_array_equal(np.log2(factors) % 1.0, 0.0)
        assert symmetric <= np.array_equal(scaling.rows, scaling.columns)
        with scaling.applied(pencil) as scaled:
            assert scaled.problem_type == pencil.problem_type
            assert scaled.symmetric == pencil.symmetric
            # Comparable: the units span ten decades, the largest entries of rows one.
            largest = np.abs(scaled.multiply_a(np.eye(12))).max(axis=1)
            assert largest.max() < 30 * largest.min()


@pytest.mark.parametrize("kind", ["nonsymmetric", "symmetric"])
def test_left_vectors_and_factor_are_in_the_users_units(comm, kind):
    rng = np.random.default_rng(4)
    units = 10.0 ** rng.uniform(-4, 4, 14)
    A, B = rng.standard_normal((2, 14, 14)) + 4 * np.diag(rng.choice([-1.0, 1.0], (14,)))
    if kind == "symmetric":
        A, B = A + A.T, B + B.T
    A, B = (units[:, None] * array * units for array in (A, B))
    with (
        ga.Pencil(matrix(A, comm), matrix(B, comm)) as pencil,
        ga.solve_eigenproblem(pencil, 3, target=0.1) as pairs,
    ):
        assert any("were scaled for the solve" in note for note in pairs.info.notes)
        x, y = whole(pairs, pairs.right), whole(pairs, pairs.left)
        np.testing.assert_allclose(np.diag(y.conj().T @ B @ x), np.ones(pairs.count), rtol=1e-9)
        for j, value in enumerate(pairs.values):
            for M, v in ((A - value * B, x[:, j]), ((A - value * B).conj().T, y[:, j])):
                # Row by row: no unit hides another.
                assert (np.abs(M @ v) <= 1e-9 * (np.abs(M) @ np.abs(v))).all()
        rhs = pencil.multiply_b(pairs.right[:, :1])
        solved = pairs.factor.solve(rhs) * (pairs.values[0] - pairs.factor.sigma)
        np.testing.assert_allclose(solved, pairs.right[:, :1], rtol=1e-6)


def test_results_that_miss_a_target_are_in_the_users_units(comm):
    A, B, _ = flow(1e6)
    with (
        ga.Pencil(matrix(A, comm), matrix(B, comm)) as pencil,
        pytest.raises(ga.ConvergenceError, match=r"must give|infinite") as caught,
    ):
        ga.solve_eigenproblem(pencil, 20, target=0.0)
    pairs = caught.value.pairs
    x = whole(pairs, pairs.right)
    finite_ones = np.flatnonzero(np.abs(pairs.values) < 1e3)
    assert finite_ones.size >= 10
    for j in finite_ones:
        M = A - pairs.values[j] * B
        assert (np.abs(M @ x[:, j]) <= 1e-6 * (np.abs(M) @ np.abs(x[:, j]))).all()


def test_start_vectors_of_another_solve_fit(comm):
    A, B, _ = flow(1e6)
    with ga.Pencil(matrix(A, comm), matrix(B, comm)) as pencil:
        with ga.solve_eigenproblem(pencil, 2, target=0.0) as first:
            pass
        with ga.solve_eigenproblem(pencil, 2, target=0.0, like=first) as again:
            np.testing.assert_allclose(again.values, first.values, rtol=1e-11)
            np.testing.assert_allclose(np.abs(again.right), np.abs(first.right), rtol=1e-6)

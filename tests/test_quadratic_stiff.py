"""Low modes of stiff quadratic problems: what is reported of them and what is refused."""

import numpy as np
import pytest
import scipy.linalg
from beams import assembled, bending, inertia, rayleigh_quotients
from builders import matrix
from mpi4py import MPI

import geneig_adjoint as ga
from geneig_adjoint.errors import DefectiveEigenvalueError

COMM = MPI.COMM_WORLD
COUNT = 100
LENGTH = 1 / COUNT
SPLIT = 1e-3
"""Of the bending stiffnesses of the two planes."""


def rod():
    """Return K and M of a clamped rod that bends in two planes, and the dK of half of one."""
    planes = [assembled(bending(LENGTH) / LENGTH**3, COUNT, range(k)) for k in (COUNT, COUNT // 2)]
    M = assembled(inertia(LENGTH), COUNT, range(COUNT))
    K = scipy.linalg.block_diag(planes[0], (1 + SPLIT) * planes[0])
    dK = scipy.linalg.block_diag(planes[1], 0 * planes[1])
    return [matrix(array, COMM) for array in (K, scipy.linalg.block_diag(M, M), dK)]


@pytest.fixture(params=["companion", "symmetric"])
def stiff(request):
    """Return pairs of the rod as a quadratic problem, the model and the plain one."""
    K, M, dK = rod()
    model = ga.QuadraticMatrixModel(K, None, M, {"p": [(dK, None, None)]}, form=request.param)
    plain = ga.MatrixModel(K, M, {"p": [(dK, None)]})
    p = {"p": np.zeros(1)}
    with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 4, target=0.0) as pairs:
        yield model, plain, p, pairs
    for mat in (K, M, dK):
        mat.destroy()


def test_near_modes_of_a_stiff_rod_are_no_exceptional_point(stiff):
    model, plain, p, pairs = stiff
    weights = np.zeros(4 * COUNT)
    weights[COUNT : 2 * COUNT : 2] = 1.0  # deflections of the outer half, first plane
    own = slice(*pairs.rows)
    chosen = ga.objectives.QuadraticForm(weights[own], (0, 1))
    found = ga.gradient(model, p, pairs, chosen)["p"]
    with (
        plain.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 2, target=0.0, normalization="2") as simple,
    ):
        omega = np.sqrt(rayleigh_quotients(simple))
        assert (np.abs(simple.values.real - omega**2) <= simple.errors).all()
        expected = ga.gradient(plain, p, simple, ga.objectives.QuadraticForm(weights[own], (0,)))[
            "p"
        ]
    assert pairs.clusters == ((0,), (1,), (2,), (3,))
    assert pairs.condition.max() < 3.0  # (rotations are not measured as deflections are)
    # Conjugate pairs have the same x. Vectors are mixed by eps (g / omega)^2 / SPLIT = 1e-4.
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-3)
    # The estimate holds, not by luck, and leaves the planes, 2e-3 apart, distinct.
    error = np.abs(np.abs(pairs.values.imag) - np.repeat(omega, 2))
    assert (error <= pairs.errors).all()
    assert pairs.errors.max() < 5e-5


@pytest.mark.parametrize("form", ["companion", "symmetric"])
@pytest.mark.parametrize("count", [60, 100])
def test_errors_of_values_are_not_underestimated(form, count):
    """A residual through the factor is a sample of rounding, which may be small by luck."""
    K = assembled(bending(1 / count) * count**3, count, range(count))
    M = assembled(inertia(1 / count), count, range(count))
    for seed in range(3):
        stiff = K * (1 + 0.1 * np.random.default_rng(seed).random())
        mats = [matrix(array, COMM) for array in (stiff, M)]
        with (
            ga.QuadraticPencil(mats[0], None, mats[1], form=form) as pencil,
            ga.solve_quadratic(pencil, 2, target=0.0) as pairs,
            ga.Pencil(*mats, owned=True) as plain,
            ga.solve_eigenproblem(plain, 1, target=0.0) as simple,
        ):
            omega = np.sqrt(rayleigh_quotients(simple)[0])
            wrong = np.hypot(np.abs(pairs.values.imag) - omega, pairs.values.real)
            assert (wrong <= pairs.errors).all()
            assert (pairs.errors <= 1e-7 * omega).all()


def test_free_structures_without_damping_are_defective_at_0():
    n = 12
    K = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    K[0, 0] = K[-1, -1] = 1.0
    mats = [matrix(array, COMM) for array in (K, np.diag(1 + 0.1 * np.arange(n)))]
    slope = matrix(np.diag(np.arange(float(n))), COMM)
    model = ga.QuadraticMatrixModel(mats[0], None, mats[1], {"p": [(slope, None, None)]})
    p = {"p": np.zeros(1)}
    with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 4, target=0.0) as pairs:
        assert pairs.clusters[0] == (0, 1)
        assert pairs.condition[:2].min() > 1e6  # sqrt(eps) apart
        assert pairs.condition[2:].max() < 2.0
        for chosen in (ga.objectives.Eigenvalue(0), ga.objectives.DecayRate(1)):
            with pytest.raises(DefectiveEigenvalueError, match="must be simple"):
                ga.gradient(model, p, pairs, chosen)
        vibration = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(2, "imag"))
    assert abs(vibration["p"][0]) > 1.0
    for mat in (*mats, slope):
        mat.destroy()

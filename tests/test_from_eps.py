"""`Eigenpairs.from_eps`: the pairs of an EPS that the user has set up and solved."""

import numpy as np
import pytest
from builders import generalized, matrix, stiffness
from slepc4py import SLEPc
from test_ill_conditioned_mass import saddle

import geneig_adjoint as ga


def assert_same_values(found, expected):
    # both solved to eps_tol 1e-12, condition numbers below 100
    assert np.allclose(found, expected, rtol=1e-9, atol=1e-9), (found, expected)


def own_eps(pencil, kind="sinvert", shift=0.3, **options):
    eps = SLEPc.EPS().create(pencil.comm)
    eps.setOperators(pencil.A, pencil.B)
    eps.setProblemType(SLEPc.EPS.ProblemType.GNHEP if pencil.B else SLEPc.EPS.ProblemType.NHEP)
    eps.setTolerances(tol=1e-12)
    eps.setDimensions(nev=2)
    eps.setWhichEigenpairs(getattr(SLEPc.EPS.Which, options.get("which", "TARGET_MAGNITUDE")))
    eps.setTarget(shift)
    eps.getST().setType(kind)
    return eps


@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric", "singular_B"])
def test_pairs_of_an_eps_equal_those_of_a_solve(comm, kind):
    with generalized(9, comm, kind) as pencil:
        eps = own_eps(pencil)
        eps.solve()
        pairs = ga.Eigenpairs.from_eps(eps, pencil, count=2)
        ours = ga.solve_eigenproblem(pencil, 2, target=0.3)
        assert_same_values(pairs.values, ours.values)
        # eigenvectors: eps_tol over the gap
        assert np.allclose(pairs.right, ours.right, rtol=1e-7, atol=1e-7)
        assert np.allclose(pairs.left, ours.left, rtol=1e-7, atol=1e-7)
        pairs.close()
        assert eps.getConverged() >= 2  # still the user's
        eps.destroy()


@pytest.mark.parametrize(
    "which", ["LARGEST_REAL", "LARGEST_MAGNITUDE", "SMALLEST_REAL", "SMALLEST_MAGNITUDE"]
)
def test_plain_eps(comm, which):
    with generalized(9, comm, "nonsymmetric") as pencil:
        eps = own_eps(pencil, kind="shift", shift=0.0, which=which)
        eps.solve()
        pairs = ga.Eigenpairs.from_eps(eps, pencil)
        ours = ga.solve_eigenproblem(pencil, 2, which=which.lower())
        assert_same_values(pairs.values[:2], ours.values[:2])
        assert pairs.info.left_residuals.max() < 1e-8  # the package's own gate


def test_eps_of_other_matrices(comm):
    with generalized(5, comm, "symmetric") as pencil, generalized(5, comm, "symmetric") as other:
        eps = own_eps(other)
        eps.solve()
        with pytest.raises(ga.InputError, match=r"matrices of the pencil.*getOperators"):
            ga.Eigenpairs.from_eps(eps, pencil)


def test_eps_that_was_not_solved(comm):
    pencil = generalized(5, comm, "symmetric")
    with pytest.raises(ga.ConvergenceError, match=r"got none; call eps.solve\(\)"):
        ga.Eigenpairs.from_eps(own_eps(pencil), pencil)


def test_eps_without_converged_pairs(comm):
    pencil = ga.Pencil(matrix(stiffness(200), comm))
    eps = own_eps(pencil, kind="shift", shift=0.0, which="SMALLEST_REAL")
    eps.setDimensions(nev=1, ncv=3)
    eps.setTolerances(tol=1e-14, max_it=1)
    eps.solve()
    with pytest.raises(ga.ConvergenceError, match=r"must hold converged pairs, got none"):
        ga.Eigenpairs.from_eps(eps, pencil)


def test_eps_with_fewer_pairs_than_asked_for(comm):
    with generalized(9, comm, "symmetric") as pencil:
        eps = own_eps(pencil)
        eps.setDimensions(nev=1, ncv=4)
        eps.solve()
        with pytest.raises(ga.ConvergenceError, match=r"must give 9 pairs") as caught:
            ga.Eigenpairs.from_eps(eps, pencil, count=9)
        assert caught.value.pairs.count >= 1


def test_finite_pairs_of_an_eps_with_infinite_ones_are_in_the_error(comm):
    A, B, exact = saddle()
    with ga.Pencil(matrix(A, comm), matrix(B, comm)) as pencil:
        eps = own_eps(pencil, shift=0.1)
        eps.setDimensions(nev=5)
        ksp = eps.getST().getKSP()  # PETSc's own LU wants entries on the diagonal
        ksp.setType("preonly")
        ksp.getPC().setType("lu")
        ksp.getPC().setFactorSolverType("mumps")
        eps.solve()
        with pytest.raises(ga.ConvergenceError, match="infinite to working accuracy") as caught:
            ga.Eigenpairs.from_eps(eps, pencil, count=5)
        pairs = caught.value.pairs
        assert isinstance(pairs, ga.Eigenpairs)
        assert pairs.count == 4
        assert np.abs(pairs.values[:, None] - exact).min(axis=0).max() < 1e-8
        eps.destroy()

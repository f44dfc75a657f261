"""Pairs of a user's EPS come in the order of the EPS, whatever that is."""

import numpy as np
import pytest
from builders import matrix
from pencils import COMPLEX_BUILD
from slepc4py import SLEPc

import geneig_adjoint as ga

N = 24
rng = np.random.default_rng(5)
A = np.diag(np.linspace(-2.0, 2.0, N)) + 1.2 * rng.standard_normal((N, N)) / np.sqrt(N)
WHICH = SLEPc.EPS.Which
# SLEPc knows distances of imaginary parts with complex scalars only.
ORDERS = [WHICH.TARGET_MAGNITUDE, WHICH.TARGET_REAL, WHICH.TARGET_IMAGINARY][: 2 + COMPLEX_BUILD]


def upper(values):
    return np.real(values) + 1j * np.abs(np.imag(values))


def solved(mat, which, target):
    eps = SLEPc.EPS().create(mat.comm)
    eps.setOperators(mat)
    eps.setProblemType(SLEPc.EPS.ProblemType.NHEP)
    eps.setWhichEigenpairs(which)
    eps.setTarget(target)
    eps.getST().setType(SLEPc.ST.Type.SINVERT)
    eps.setDimensions(nev=3)
    eps.setTolerances(tol=1e-12)
    eps.solve()
    return eps


@pytest.mark.parametrize("count", [1, 2, None])
@pytest.mark.parametrize("which", ORDERS)
def test_first_pairs_are_those_of_the_eps(comm, which, count):
    mat = matrix(A, comm)
    eps = solved(mat, which, 0.7)
    with ga.Pencil(mat) as pencil, ga.Eigenpairs.from_eps(eps, pencil, count=count) as pairs:
        wanted = count or 3
        assert wanted <= pairs.count
        expected = np.array([complex(eps.getEigenvalue(i)) for i in range(wanted)])
        # Of conjugates, which are at the same distance, either may come first.
        assert upper(pairs.values[0]) == pytest.approx(upper(expected[0]), rel=1e-9)
        for value in expected:
            assert np.abs(upper(pairs.values) - upper(value)).min() < 1e-9
        exact = np.linalg.eigvals(A)
        assert all(np.abs(exact - value).min() < 1e-9 for value in pairs.values)
        np.testing.assert_allclose(
            np.diag(pairs.inner(pairs.left, pairs.right)), np.ones(pairs.count), rtol=1e-9
        )
    eps.destroy()
    mat.destroy()

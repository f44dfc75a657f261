"""Other pencils than the block of hexahedra without a factor, and what is left open."""

import numpy as np
import pytest
import scipy.linalg
from builders import matrix, nonsymmetric
from hexahedra import solved

import geneig_adjoint as ga
from geneig_adjoint.near_null_space import NearNullSpace


# eps_tol 1e-12 for pairs, whose vectors carry it over gaps of a tenth; adjoints 1e-10, times ten.
@pytest.mark.parametrize("singular", [False, True])
def test_scalar_problem_with_masses_here_and_there(comm, singular):
    """A membrane: constants are the near-null space; B may have rows without mass."""
    n = 12
    line = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    A = np.kron(line, np.eye(n)) + np.kron(np.eye(n), 1.3 * line)
    B = np.diag(1.0 + np.arange(n * n) % 3 * (np.arange(n * n) % 4 > 0))
    B[::5, ::5] *= 1.0 - singular
    pencil = ga.Pencil(matrix(A, comm), matrix(B, comm), owned=True)
    exact = 1 / scipy.linalg.eigh(B, A, eigvals_only=True)[:-5:-1]
    with pencil, solved(pencil, NearNullSpace(np.ones((n * n, 1))), 4) as pairs:
        assert np.allclose(pairs.values, exact, rtol=1e-11, atol=0)
        assert pairs.residuals.max() < 1e-12
        assert any("Davidson" in note for note in pairs.info.notes)


def test_nonsymmetric_pencil_without_a_factor(comm):
    n = 40
    A = nonsymmetric(n) + 5 * np.eye(n)
    space = NearNullSpace(np.ones((n, 1)))
    with ga.Pencil(matrix(A, comm), owned=True) as pencil, solved(pencil, space, 2) as pairs:
        assert np.abs(np.linalg.eigvals(A) - pairs.values[0]).min() < 1e-9
        with pytest.raises(ga.InputError, match=r'"deflated-cg" needs a Hermitian pencil'):
            ga.gradient(None, {}, pairs, ga.objectives.Eigenvalue(0), strategy="deflated-cg")

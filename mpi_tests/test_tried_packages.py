"""Whether CHOLMOD is tried on several ranks: all of them must come to the same answer."""

import numpy as np
import pytest
from builders import matrix, stiffness
from mpi4py import MPI
from pencils import HAS_CHOLMOD

import geneig_adjoint as ga
from geneig_adjoint import cholesky
from geneig_adjoint.wanted import Wanted

COMM = MPI.COMM_WORLD
N = 12


@pytest.mark.parametrize("target", [0.0, -0.3])
@pytest.mark.parametrize(("place", "positive"), [(0, False), (N - 1, False), ([], True)])
def test_a_negative_diagonal_on_one_rank_is_seen_by_all(monkeypatch, target, place, positive):
    """Otherwise one rank goes on with CHOLMOD, the others with MUMPS, and both wait."""
    monkeypatch.setattr(cholesky, "has_flat_graph", lambda _: True)
    well = np.zeros(N)
    well[place] = -3.0
    with ga.Pencil(matrix(stiffness(N) + np.diag(well), COMM), owned=True) as pencil:
        tried = cholesky.tries_cholmod(pencil, Wanted(count=1, target=target), target)
        assert COMM.allgather(tried) == COMM.size * [positive and HAS_CHOLMOD]
        with ga.solve_eigenproblem(pencil, 2, target=target, left=False) as pairs:
            dense = np.linalg.eigvalsh(stiffness(N) + np.diag(well))
            near = dense[np.argsort(np.abs(dense - target))][:2]
            np.testing.assert_allclose(pairs.values.real, near, atol=1e-12)  # of norm 5

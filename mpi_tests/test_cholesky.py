"""Which package factors, and what elements prove: the same on all ranks."""

import numpy as np
import pytest
from builders import chain, chain_parameters
from mpi4py import MPI
from pencils import HAS_CHOLMOD

import geneig_adjoint as ga

COMM = MPI.COMM_WORLD
N = 12
# CHOLMOD works on one rank.
PACKAGE = ["mumps", "cholmod"][COMM.size == 1 and HAS_CHOLMOD]


def test_package():
    with (
        chain(N, COMM).assemble(chain_parameters(N)) as pencil,
        ga.solve_eigenproblem(pencil, 3) as pairs,
    ):
        assert pairs.factor.eps.getST().getKSP().getPC().getFactorSolverType() == PACKAGE


@pytest.mark.parametrize("element", [0, N])
def test_negative_mass_of_one_rank_is_known_to_all(element):
    p = chain_parameters(N)
    p["m"] -= 2.0 * (np.arange(N + 1) == element)
    with chain(N, COMM).assemble(p) as pencil:
        assert COMM.allgather(pencil.B_proved) == [False] * COMM.size


def test_proof_is_known_to_all():
    with chain(N, COMM).assemble(chain_parameters(N)) as pencil:
        assert COMM.allgather(pencil.B_proved) == [True] * COMM.size

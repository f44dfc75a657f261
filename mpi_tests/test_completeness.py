"""Missed copies: counted and found on every number of ranks, the same pairs on all of them."""

import numpy as np
import pytest
from mpi4py import MPI
from pencils import COMPLEX_BUILD, petsc_matrix
from ranks import raised_everywhere
from test_completeness import exact_values, grid

import geneig_adjoint as ga
from geneig_adjoint import completeness as module

COMM = MPI.COMM_WORLD
METHOD = ["inertia", "second start"][COMPLEX_BUILD]


@pytest.mark.parametrize("count", [2, 4, 5])
@pytest.mark.parametrize("n", [7, 10])
def test_both_copies(n, count):
    A = petsc_matrix(COMM, grid(n))
    exact = exact_values(n)
    with ga.solve_eigenproblem(ga.Pencil(A), count) as pairs:
        assert np.allclose(pairs.values, exact[: pairs.count], rtol=1e-10)
        assert pairs.count >= count
        assert not np.isclose(exact[pairs.count], exact[pairs.count - 1])
        assert pairs.info.completeness.method == METHOD
        assert len(set(COMM.allgather(pairs.values.tobytes()))) == 1
    A.destroy()


@pytest.mark.parametrize("count", [1, 4])
def test_nonsymmetric_copies(count):
    rng = np.random.default_rng(0)
    lam = np.r_[1.0, 1.0, 2.0, 3.0, 3.0, 3.0, np.arange(5.0, 29.0)]
    S = np.eye(30) + 0.2 * rng.standard_normal((30, 30))
    A = petsc_matrix(COMM, S @ np.diag(lam) @ np.linalg.inv(S))
    with ga.solve_eigenproblem(ga.Pencil(A), count) as pairs:
        assert np.allclose(pairs.values, lam[: {1: 2, 4: 6}[count]], rtol=1e-8)
        gram = pairs.inner(pairs.left, pairs.right)
    assert np.allclose(gram, np.eye(pairs.count), atol=1e-9)
    A.destroy()


def test_missing_ones_are_an_error_on_all_ranks(monkeypatch):
    def nothing(eps, pencil, wanted, pool, **_):
        return pool[0][:0], pool[1][:, :0]

    monkeypatch.setattr(module, "_search", nothing)
    monkeypatch.setattr(module.Counter, "inside", lambda self, cut: 5)
    A = petsc_matrix(COMM, grid(10))
    error = raised_everywhere(
        COMM,
        ga.MissingEigenvaluesError,
        "all 5 eigenvalues",
        ga.solve_eigenproblem,
        ga.Pencil(A),
        2,
    )
    error.pairs.close()
    A.destroy()

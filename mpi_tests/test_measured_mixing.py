"""Verdicts about clusters and estimated errors on several ranks: the same numbers on all."""

import numpy as np
import pytest
from mpi4py import MPI
from ranks import raised_everywhere
from test_cluster_safety import Grid
from test_spectral_differences import ZEROS, Spectrum
from test_stiff_neighbours import EXACT, Beam

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

COMM = MPI.COMM_WORLD


def same_everywhere(*numbers):
    return len(set(COMM.allgather(np.array(numbers).tobytes()))) == 1


def test_functions_of_zeros():
    case = Spectrum(COMM, ZEROS)
    found, estimate = case.gradient(3, lambda x: x)
    V, zeros = case.V, np.arange(len(ZEROS)) < 3
    # sum lam x^H D x around zeros: tr(D X X^H dA)
    D = V.conj().T @ (case.weight[:, None] * V)
    dA, _ = (V.conj().T @ M @ V for M in case.direction)
    exact = np.sum((D.T * dA)[np.ix_(zeros, zeros)]).real
    case.close()
    assert same_everywhere(found, estimate)
    assert found == pytest.approx(exact, rel=1e-11)
    assert estimate < 1e-9


def test_squared_lengths():
    case = Grid(COMM, with_b=True)
    found = case.gradient(lambda pairs: obj.QuadraticForm(np.ones(pairs.pencil.n_local), (1, 2)))
    exact = case.inside([1, 2], np.ones(len(case.dB)))

    def one_member(pairs):
        return obj.QuadraticForm(np.ones(pairs.pencil.n_local), (1,))

    raised_everywhere(
        COMM, ga.DegenerateEigenvalueError, "different weights", case.gradient, one_member
    )
    case.close()
    assert same_everywhere(found)
    assert found == pytest.approx(exact, rel=1e-10)


def test_near_values_of_a_stiff_matrix():
    case = Beam(COMM, 1e-3, 0.0)
    with (
        case.model.assemble(case.p) as pencil,
        ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs,
    ):
        found = ga.gradient(case.model, case.p, pairs, obj.Eigenvalue(0))
        true = np.abs(found["p"] / pairs.values[0].real - EXACT[0]).max()
    case.close()
    assert same_everywhere(found.relative_error, *found["p"])
    assert true <= found.relative_error < 1e-6

"""Factors of Jacobians of states: analysed once for one pattern, and never stale."""

from contextlib import nullcontext

import numpy as np
import pytest
from base_flows import flow
from builders import REAL, matrix, nonsymmetric, stiffness
from counted_factorisations import factorisation_counter

import geneig_adjoint as ga
from geneig_adjoint.state_solver import JacobianSolver, KeptJacobian

N = 12


@pytest.fixture
def factorisations():
    return factorisation_counter()


def test_newton_analyses_one_pattern_once(comm, factorisations):
    with flow(comm, "bratu", 8)[1] as state:
        factorisations()
        first = state({"strength": np.full(8, 1.0)})
        symbolic, numeric = factorisations()
        assert symbolic == 1 < numeric
        second = state({"strength": np.full(8, 1.4)})
        assert factorisations()[0] == 0
    with flow(comm, "bratu", 8)[1] as fresh:
        expected = fresh({"strength": np.full(8, 1.4)})
    np.testing.assert_allclose(second["state"].array, expected["state"].array, rtol=1e-9)
    for made in (first, second, expected):
        made["state"].destroy()


def test_a_jacobian_of_another_pattern_gets_its_own_factor(comm, factorisations):
    arrays = [stiffness(N) + np.eye(N), nonsymmetric(N), nonsymmetric(N) + np.eye(N, k=3)]
    arrays += [2.0 * arrays[-1], stiffness(N)]
    mats = [matrix(array, comm) for array in arrays]
    rows = slice(*mats[0].getOwnershipRange())
    kept = KeptJacobian()
    rhs = np.cos(np.arange(N))
    counts = []
    for array, mat in zip(arrays, mats, strict=True):
        found = kept.factored(mat).solve(rhs[rows])
        np.testing.assert_allclose(found, np.linalg.solve(array, rhs)[rows], rtol=1e-10)
        counts.append(factorisations())
        mat.destroy()
    kept.close()
    assert counts == [(1, 1), (0, 1), (1, 1), (0, 1), (1, 1)]


def test_after_a_singular_jacobian_the_next_one_is_solved_with(comm, factorisations):
    kept = KeptJacobian()
    rhs = np.cos(np.arange(N))
    good = matrix(stiffness(N), comm)
    bad = good.copy()
    bad.scale(0.0)  # of the same pattern
    rows = slice(*good.getOwnershipRange())
    expected = np.linalg.solve(stiffness(N), rhs)[rows]
    np.testing.assert_allclose(kept.factored(good).solve(rhs[rows]), expected, rtol=1e-10)
    with pytest.raises(ga.ConvergenceError, match="must be regular"):
        kept.factored(bad).solve(rhs[rows])
    factorisations()
    np.testing.assert_allclose(kept.factored(good).solve(rhs[rows]), expected, rtol=1e-10)
    assert factorisations() == (1, 1)
    kept.close()
    for mat in (good, bad):
        mat.destroy()


# Entries have no imaginary parts in the real build.
TURN = 1.0 if REAL else 1 + 0.1j
REFUSED = nullcontext() if REAL else pytest.raises(ga.InputError, match="must be real")


def test_complex_jacobians_are_refused_at_any_time(comm):
    first, second = matrix(stiffness(N), comm), matrix(TURN * stiffness(N), comm)
    with JacobianSolver(first) as solver, REFUSED:
        solver.refill(second)
    for mat in (first, second):
        mat.destroy()

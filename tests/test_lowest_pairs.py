"""The path without a factor: what start vectors and units of the preconditioner must not do."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
from builders import matrix, stiffness

import geneig_adjoint as ga
from geneig_adjoint.near_null_space import NearNullSpace

HALF = 40


def chains(comm, first, second):
    """Return two chains on springs that nothing couples, as array and pencil."""
    chain = stiffness(HALF) + 0.3 * np.eye(HALF)
    array = scipy.linalg.block_diag(first * chain, second * chain)
    return array, ga.Pencil(matrix(array, comm), owned=True)


def lowest(pencil, count, **changes):
    """Return pairs without a factor, nothing counted, unless it is asked for."""
    space = NearNullSpace(np.ones((pencil.n_local, 1)))
    settings = {"target": 0.0, "near_null_space": space, "count_check": "off", **changes}
    found = ga.solve_eigenproblem(pencil, count, **settings)
    assert any("Davidson" in note for note in found.info.notes)
    return found


@pytest.mark.parametrize("second", [1.0, 12.0])
@pytest.mark.parametrize(("known", "count"), [(4, 4), (8, 2), (2, 8)])
def test_pairs_that_the_start_vectors_do_not_hold(comm, second, known, count):
    """Exact modes of one chain are the start; the other chain's have come below or between."""
    _, before = chains(comm, 10.0, 9000.0)
    array, now = chains(comm, 10.0, second)
    options = {"st_pc_type": "jacobi"}  # which brings new directions slowly
    with (
        before,
        now,
        lowest(before, known, solver_parameters=options) as first,
        lowest(now, count, like=first, solver_parameters=options) as found,
    ):
        assert np.allclose(found.values, np.linalg.eigvalsh(array)[:count], rtol=1e-11, atol=0)
        assert found.residuals.max() < 1e-12  # eps_tol


@pytest.mark.parametrize("noise", [0.3, 1e-2, 1e-4])
def test_late_pairs_are_as_exact_as_those_that_come_first(comm, noise):
    """The lowest one comes when others, which it moves up by a place, have converged."""
    array, pencil = chains(comm, 10.0, 3.0)
    exact = np.linalg.eigvalsh(array)[:6]
    disturbance = np.cos(np.arange(2 * HALF) ** 2)[:, None] * [1.0, -1.0]
    with pencil, ga.solve_eigenproblem(pencil, 6, target=0.0) as pairs:
        block = pairs.right[:, 1:].copy()
        block[:, 3:] += noise * np.abs(block).max() * disturbance[slice(*pairs.rows)]
        start = dataclasses.replace(pairs, right=block)
        with chains(comm, 10.0, 3.0)[1] as again, lowest(again, 6, like=start) as found:
            assert np.allclose(found.values, exact, rtol=1e-11, atol=0)
            assert found.residuals.max() < 5e-13  # below eps_tol, 1e-12


@pytest.mark.parametrize("units", [1e-9, 1.0, 1e7])
def test_preconditioner_in_other_units_than_the_matrix(comm, units):
    """The identity beside A of any size; eps_tol bounds errors of vectors in the energy norm."""
    array = units * (stiffness(HALF) + np.diag(np.linspace(1.0, 3.0, HALF)))
    _, exact = np.linalg.eigh(array)
    options = {"st_pc_type": "none"}
    pencil = ga.Pencil(matrix(array, comm), owned=True)
    with pencil, lowest(pencil, 3, solver_parameters=options) as pairs:
        outside = pairs.right - exact[:, :3] @ (exact[:, :3].T @ pairs.right)
        # 1e-12, or rounding, which is 30 eps; a bound leaves some room for what was not seen.
        assert np.linalg.norm(outside, axis=0).max() < 1e-11


@pytest.mark.parametrize("units", [1e-9, 1.0, 1e7])
@pytest.mark.parametrize("rtol", [1e-6, 1e-12])
def test_estimated_errors_of_adjoints_whatever_the_units_are(comm, units, rtol):
    array = units * (stiffness(HALF) + np.diag(np.linspace(1.0, 3.0, HALF)))
    slope = units * np.diag(np.cos(np.arange(HALF)))
    objective = ga.objectives.QuadraticForm(np.linspace(0.0, 1.0, HALF), (0, 1, 2))
    model = ga.MatrixModel(matrix(array, comm), None, {"p": [(matrix(slope, comm), None)]})
    p, options = {"p": np.zeros(1)}, {"st_pc_type": "none"}
    with (
        model.assemble(p) as A,
        model.assemble(p) as B,
        ga.solve_eigenproblem(A, 3, target=0.0) as direct,
        lowest(B, 3, solver_parameters=options) as pairs,
    ):
        exact = ga.gradient(model, p, direct, objective, strategy="direct", rtol=1e-11)
        found = ga.gradient(model, p, pairs, objective, strategy="deflated-cg", rtol=rtol)
        error = np.abs(found["p"] / exact["p"] - 1).max()
        # (the second part: those of the pairs, 1e-12, over gaps of a tenth)
        assert error < found.relative_error + 1e-11 < 100 * rtol + 1e-10

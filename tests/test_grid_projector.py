"""Projectors onto clusters of the square-grid Laplacian against their closed form."""

import numpy as np
import pytest
from grid_projector import SITES, exact_pairs, exact_slopes, grid_model, projection, weight_vector

import geneig_adjoint as ga

P0 = {"site": np.zeros(len(SITES))}


# 1 | 2 3 | 4 | 5 6 | 7 8: counts that cut no double value
@pytest.mark.parametrize("count", [1, 3, 4, 6])
@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_projector_onto_the_lowest_modes(comm, count, strategy):
    w = weight_vector()
    with (
        grid_model(comm) as model,
        model.assemble(P0) as pencil,
        ga.solve_eigenproblem(pencil, count=count) as pairs,
    ):
        rows = w[slice(*pairs.rows)]
        found = ga.gradient(
            model, P0, pairs, projection(rows, list(range(count))), strategy=strategy
        )
        np.testing.assert_allclose(pairs.values.real, exact_pairs()[0][:count], rtol=1e-12)
    expected = exact_slopes(w, count)
    # rtol 1e-10 of the solves, eps_tol 1e-12 of the vectors
    np.testing.assert_allclose(found["site"], expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    assert found.relative_error <= 1e-8


def test_a_count_that_cuts_a_pair_is_completed(comm):
    w = weight_vector()
    with (
        grid_model(comm) as model,
        model.assemble(P0) as pencil,
        ga.solve_eigenproblem(pencil, count=2) as pairs,
    ):
        assert pairs.clusters == ((0,), (1, 2))
        found = ga.gradient(model, P0, pairs, projection(w[slice(*pairs.rows)], [1, 2]))
    expected = exact_slopes(w, 3) - exact_slopes(w, 1)
    # rtol 1e-10 of the solves, eps_tol 1e-12 of the vectors
    np.testing.assert_allclose(found["site"], expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_half_of_a_double_value_is_refused(comm):
    w = weight_vector()
    with (
        grid_model(comm) as model,
        model.assemble(P0) as pencil,
        ga.solve_eigenproblem(pencil, count=3) as pairs,
        pytest.raises(ga.DegenerateEigenvalueError, match=r"pairs \[1, 2\]"),
    ):
        ga.gradient(model, P0, pairs, projection(w[slice(*pairs.rows)], [0, 1]))

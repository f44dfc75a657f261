"""The projector of the square-grid Laplacian on several ranks."""

import numpy as np
import pytest
from grid_projector import SITES, exact_slopes, grid_model, projection, weight_vector

import geneig_adjoint as ga


@pytest.mark.parametrize("count", [3, 6])
def test_projector_equals_its_closed_form(comm, count):
    w, p = weight_vector(), {"site": np.zeros(len(SITES))}
    with (
        grid_model(comm) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=count) as pairs,
    ):
        objective = projection(w[slice(*pairs.rows)], list(range(count)))
        found = ga.gradient(model, p, pairs, objective)["site"]
    expected = exact_slopes(w, count)
    # rtol 1e-10 of the solves, eps_tol 1e-12 of the vectors
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())

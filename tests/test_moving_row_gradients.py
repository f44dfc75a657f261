"""Derivatives of modes that live in rows of their own with the value of a constrained row."""

import numpy as np
import pytest
from test_moving_rows import CHAIN, Constrained, N, model_of, own, solved

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

SKEW = [0.0, 3.0]


def total(pairs):
    return float(pairs.values.real.sum()), ga.EigenCotangent(values=np.ones(pairs.count))


@pytest.mark.parametrize("skew", SKEW)
def test_oscillator_with_the_value_one_has_its_derivative(comm, skew):
    model, p = model_of(comm, [3.3e5], [3.3e5], {own(0): 1e5}, CHAIN, skew=skew)
    pairs = solved(model, p, 2)
    assert pairs.info.constrained == (0,)
    found = ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    np.testing.assert_allclose(found["p"], [1 / 3.3, 0.0], rtol=1e-10, atol=1e-12)
    tangent = ga.jvp(model, p, pairs, {"p": np.ones(2)}, columns=[0])
    assert tangent.values[0] == pytest.approx(1 / 3.3, rel=1e-10)
    mu = ga.directional_derivatives(model, p, pairs, 0, {"p": np.ones(2)})
    assert mu == pytest.approx([1 / 3.3], rel=1e-10)
    second = ga.hessian_vector_product(model, p, pairs, obj.Eigenvalue(0), {"p": np.ones(2)})
    np.testing.assert_allclose(second["p"], 0.0, atol=1e-10)
    assert ga.verify_gradient(model, p, obj.Eigenvalue(0), count=2, target=0.1).passed


@pytest.mark.parametrize("skew", SKEW)
def test_cluster_of_point_masses(comm, skew):
    slopes = [{own(i): 0.1 * (i + 1)} for i in range(6)]
    model, p = model_of(comm, [3.0] * 6, [1.0] * 6, *slopes, skew=skew)
    pairs = solved(model, p, 6)
    assert pairs.info.constrained == tuple(range(6))
    found = ga.gradient(model, p, pairs, total)["p"]
    np.testing.assert_allclose(found, 0.1 * np.arange(1.0, 7.0), rtol=1e-10)
    with pytest.raises(ga.DegenerateEigenvalueError, match="cluster alike"):
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    mu = ga.directional_derivatives(model, p, pairs, 0, {"p": np.ones(6)})
    np.testing.assert_allclose(np.sort(mu.real), 0.1 * np.arange(1.0, 7.0), rtol=1e-10)


@pytest.mark.parametrize("skew", SKEW)
def test_constrained_rows_are_refused_whatever_the_contraction_says(comm, skew):
    model, p = model_of(comm, [7.0, 8.0], [2.0, 2.0], {own(0): 1.0, own(1): 1.0}, CHAIN, skew=skew)
    user = Constrained(model, np.array([N, N + 1], dtype="i"))
    pairs = solved(user, p, 2)
    for objective in (total, obj.Eigenvalue(0)):
        with pytest.raises(ga.ConstrainedRowError, match="modes of the problem"):
            ga.gradient(user, p, pairs, objective)

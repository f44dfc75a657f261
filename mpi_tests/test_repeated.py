"""Derivatives of repeated eigenvalues on several ranks, for distributed parameters too."""

import numpy as np
import pytest
from builders import distributed
from test_repeated import DIRECTION, KINDS, case, moved_values, sorted_like

import geneig_adjoint as ga


@pytest.mark.parametrize("kind", KINDS)
def test_directional_derivatives_equal_differences_of_lapack(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        mu = ga.directional_derivatives(model, p, pairs, 1, {"p": DIRECTION})
        D = ga.cluster_derivatives(model, p, pairs, 1).matrices["p"]
    t = 5e-4
    plus, minus = (
        sorted_like((moved_values(kind, DIRECTION, s * t) - 2) / (s * t), mu) for s in (1, -1)
    )
    # Central differences: t^2
    np.testing.assert_allclose(mu, (plus + minus) / 2, rtol=0, atol=1e-4 * np.abs(mu).max())
    assert len(set(comm.allgather((mu.tobytes(), D.tobytes())))) == 1


def test_distributed_parameters_hold_their_own_matrices(comm):
    with case("symmetric", comm) as (model, p, pairs):
        whole = ga.cluster_derivatives(model, p, pairs, 1).matrices["p"]
        vec = distributed(p["p"], comm)
        pairs.pencil.point = None  # the same numbers in another container
        own = ga.cluster_derivatives(model, {"p": vec}, pairs, 1).matrices["p"]
        first, last = vec.getOwnershipRange()
        np.testing.assert_allclose(own, whole[first:last], rtol=0, atol=1e-13)
        vec.destroy()

"""Derivatives of repeated eigenvalues on several ranks, for distributed parameters too."""

import numpy as np
import pytest
from builders import distributed
from test_repeated import DIRECTION, KINDS, case, copy_of, differences, invariants, sorted_like
from test_repeated_grids import check_flow

import geneig_adjoint as ga


@pytest.mark.parametrize("kind", KINDS)
def test_directional_derivatives_equal_differences_of_lapack(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        pair = copy_of(kind, pairs)
        mu = ga.directional_derivatives(model, p, pairs, pair, {"p": DIRECTION})
        D = ga.cluster_derivatives(model, p, pairs, pair).matrices["p"]
    # t^4, and LAPACK's 1e-14 / t
    np.testing.assert_allclose(mu, differences(kind, mu), atol=1e-7 * np.abs(mu).max())
    values = np.linalg.eigvals(np.einsum("i,ikj->kj", DIRECTION, D))
    np.testing.assert_allclose(sorted_like(values, mu), mu, atol=1e-11 * np.abs(D).max())
    assert len(set(comm.allgather((mu.tobytes(), D.tobytes())))) == 1


def own_invariants(comm, own, first, direction):
    """Return those of this rank's matrices; they are of another solve, with another basis."""
    combined = np.einsum("i,ikj->kj", direction[first : first + len(own)], own)
    return invariants(own, comm.allreduce(combined))


@pytest.mark.parametrize("kind", KINDS)
def test_distributed_parameters_hold_their_own_matrices(kind, comm):
    with case(kind, comm) as (model, p, pairs):
        pair = copy_of(kind, pairs)
        whole = ga.cluster_derivatives(model, p, pairs, pair).matrices["p"]
        expected = ga.directional_derivatives(model, p, pairs, pair, {"p": DIRECTION})
    p_dot = {"p": distributed(DIRECTION, comm)}
    with case(kind, comm, container=lambda p: distributed(p, comm)) as (model, p, pairs):
        first, last = p["p"].getOwnershipRange()
        own = ga.cluster_derivatives(model, p, pairs, copy_of(kind, pairs)).matrices["p"]
        mu = ga.directional_derivatives(model, p, pairs, copy_of(kind, pairs), p_dot)
    assert len(own) == last - first
    reference = invariants(whole, np.einsum("i,ikj->kj", DIRECTION, whole))
    found = own_invariants(comm, own, first, DIRECTION)
    # eps_tol 1e-12 of the vectors
    np.testing.assert_allclose(found, reference[first:last], atol=1e-9 * np.abs(reference).max())
    np.testing.assert_allclose(mu, expected, atol=1e-9 * np.abs(expected).max())
    assert len(set(comm.allgather(mu.tobytes()))) == 1


def test_elements_with_replicated_parameters(comm):
    D, mu, direction = check_flow(comm, np.asarray)
    assert D.shape == (len(direction), 2, 2)
    assert len(set(comm.allgather((mu.tobytes(), D.tobytes())))) == 1


def test_elements_with_distributed_parameters(comm):
    whole, _, direction = check_flow(comm, np.asarray)
    own, _, _ = check_flow(comm, lambda values: distributed(values, comm))
    sizes = comm.allgather(len(own))
    first = sum(sizes[: comm.rank])
    assert sum(sizes) == len(whole)
    reference = invariants(whole, np.einsum("i,ikj->kj", direction, whole))
    found = own_invariants(comm, own, first, direction)
    # eps_tol 1e-12 of the vectors
    np.testing.assert_allclose(found, reference[first : first + len(own)], atol=1e-10)


@pytest.mark.parametrize("arguments", [(), ({"p": DIRECTION},)], ids=["matrices", "direction"])
def test_pairs_that_differ_between_ranks(arguments, comm):
    call = {0: ga.cluster_derivatives, 1: ga.directional_derivatives}[len(arguments)]
    beyond = 4  # on one rank alone it does not exist, which must not leave the others waiting
    pair = beyond if comm.rank == comm.size - 1 else 1
    with (
        case("symmetric", comm) as (model, p, pairs),
        pytest.raises(ga.InputError, match="pair must be"),
    ):
        call(model, p, pairs, pair, *arguments)

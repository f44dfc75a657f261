"""Clusters: the ladder of gaps on several ranks, the same numbers on all of them."""

import numpy as np
import pytest
from mpi4py import MPI
from ranks import raised_everywhere
from test_clusters import Cluster, one_member, whole_sum

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

COMM = MPI.COMM_WORLD


@pytest.mark.parametrize(
    ("gap", "strategy"), [(1e-3, "ksp"), (1e-7, "direct"), (1e-12, "ksp"), (0.0, "direct")]
)
def test_functions_of_the_whole_cluster(gap, strategy):
    made = Cluster(COMM, gap, 1.0)
    weight = made.weight[slice(*made.mats[0].getOwnershipRange())]
    objectives = [
        obj.QuadraticForm(weight, pairs=(0, 1, 2)),
        obj.SpectralFunction(weight, np.exp),
        whole_sum,
    ]
    found = made.gradients(objectives, strategy=strategy)
    expected = [made.spectral(np.ones_like, np.zeros_like), made.spectral(np.exp, np.exp)]
    for gradient, exact in zip(found, expected, strict=False):
        assert np.abs(gradient - exact).max() < 1e-8 * np.abs(exact).max()
    assert len(set(COMM.allgather(np.concatenate(found).tobytes()))) == 1
    with pytest.raises(ValueError, match="span"):
        made.gradients([lambda pairs: (0.0, ga.EigenCotangent(span=(np.eye(2), np.eye(3))))])
    made.close()


def test_one_member_is_refused_on_all_ranks():
    made = Cluster(COMM, 0.0, 1.0)
    weight = made.weight[slice(*made.mats[0].getOwnershipRange())]
    error = raised_everywhere(
        COMM, ga.DegenerateEigenvalueError, "cluster", made.gradients, [one_member(weight)]
    )
    assert set(error.members) == {1, 2}
    made.close()

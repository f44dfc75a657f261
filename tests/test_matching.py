"""Groups of what is near each other, through others too, and one partner for each."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from geneig_adjoint.matching import assigned, linked

pytestmark = pytest.mark.any_scalars


@pytest.mark.parametrize(
    ("positions", "groups"),
    [
        ([], []),
        ([5, 1, 9], [[0], [1], [2]]),
        ([0, 5, 1, 4, 9], [[0, 2], [1, 3], [4]]),
        ([2, 8, 0, 6, 3, 7, 1, 4, 5], [[0, 1, 2, 3, 4, 5, 6, 7, 8]]),
        ([4, 0, 6, 1, 5, 2], [[0, 2, 4], [1, 3, 5]]),
    ],
    ids=["none", "apart", "pairs", "one chain", "two chains"],
)
def test_groups_are_chains_in_the_order_of_their_first_members(positions, groups):
    place = np.array(positions, dtype=float)
    assert linked(np.abs(place[:, None] - place) <= 1) == groups


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (2, 5), (4, 4), (5, 3)], ids=str)
@pytest.mark.parametrize("shared", [0.0, 2.0], ids=["each its own", "all the same"])
def test_the_sum_of_costs_is_smallest(shape, shared):
    cost = np.abs(np.subtract.outer(np.arange(shape[0]), np.arange(shape[1]) + 0.25))
    cost = np.random.default_rng(3).permutation(cost, axis=1) + shared * np.arange(shape[1])
    rows, columns = assigned(cost)
    best = linear_sum_assignment(cost)
    assert (rows.tolist(), columns.tolist()) == (best[0].tolist(), best[1].tolist())


def test_costs_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="invalid numeric entries"):
        assigned(np.array([[np.nan, 1.0], [0.0, 2.0]]))

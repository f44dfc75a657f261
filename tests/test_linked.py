"""Groups of what is near each other, through others too, as clusters of eigenvalues are."""

import numpy as np
import pytest

from geneig_adjoint.eigenspaces import linked

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

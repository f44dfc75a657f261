"""Places of modes after a step: used ones are kept, lost ones are filled by others."""

from types import SimpleNamespace

import numpy as np
import pytest

from geneig_adjoint.tracking import MINIMUM, Tracking, changes, places

SIX = SimpleNamespace(count=6, values=10 * np.arange(1.0, 7.0), errors=np.zeros(6))
LOST = Tracking((0, 4, 2), np.array([1.0, 0.1, 1.0]), (1,))


def test_lost_modes_that_nobody_uses_give_up_their_places():
    # Not to pair 4, which is their poor continuation, but to the next free one
    assert places(LOST, SIX, {0}, 3) == (0, 1, 2)


def test_lost_modes_that_are_used_keep_their_places():
    assert places(LOST, SIX, {1}, 3) == (0, 4, 2)


def test_lost_modes_are_not_said_to_have_changed_places():
    assert changes(LOST, (0, 1, 2)) == ("modes 1 are lost: others have their places",)
    # Where a used mode goes to its poor continuation both are true.
    assert changes(LOST, (0, 4, 2))[0] == "modes 1 changed places: confidence 0.10"


def test_confidence_below_which_a_mode_is_lost_is_what_the_readme_says():
    assert pytest.approx(0.6) == MINIMUM

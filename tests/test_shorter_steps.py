"""Differences with shorter steps, where entries are large for what they do."""

import numpy as np
import pytest

from geneig_adjoint.verification import _comparison

ONE = {"x": np.ones(1)}


def compared(function, slope, noise):
    """Compare a slope at 0 with differences of a function."""
    gradient = {"x": np.array([slope])}
    return _comparison(
        "x", gradient, ONE, lambda step, along: function(step * along["x"][0]), noise
    )


def test_short_waves_need_short_steps():
    # fourth order: (2e-3 * 30)^4 * 4 / 120 = 4e-7 and less; of 60 it is 16 times that
    for rate in (30.0, 60.0, 100.0):
        found = compared(lambda x, rate=rate: np.sin(rate * x), rate, 1e-13)
        assert found.agrees
        assert found.noise < 1e-8


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_wrong_slopes_do_not_hide_in_the_noise_of_short_steps(noise):
    found = compared(lambda x: x, 1 + 5e-6, noise)
    assert not found.agrees
    assert found.noise == pytest.approx(1.5 * noise / 2e-3, rel=1e-4)

"""The drum of the examples becomes round."""

import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "shape" / "drum.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def test_best_drum_is_round_and_its_tone_known(example):
    history = example["main"](None)
    values = [value for _, value in history]
    radii = history[int(np.argmin(values))][0]
    # A polygon of 48 corners, 12 rings of linear triangles: 0.2 % above pi j^2
    assert min(values) == pytest.approx(np.pi * example["BESSEL"] ** 2, rel=3e-3)
    assert min(values) > np.pi * example["BESSEL"] ** 2
    assert np.ptp(radii) < 1e-3
    assert values[0] > 26


def test_area_and_its_derivative(example):
    radii = 1 + 0.3 * np.cos(np.arange(example["DIRECTIONS"]))
    cells, W = example["rays"]()
    points = (W @ radii).reshape(-1, 2)
    size, growth = example["area"](radii)
    assert example["mass"](points[cells]).sum() == pytest.approx(size, rel=1e-13)
    moved = [example["area"](radii + 1j * 1e-30 * unit)[0].imag for unit in np.eye(len(radii))]
    np.testing.assert_allclose(growth, np.array(moved) / 1e-30, rtol=1e-13)

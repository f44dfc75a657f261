"""The composite plate of the examples: its elements, its numbers, its derivatives."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import geneig_adjoint as ga

pytestmark = pytest.mark.any_scalars

EXAMPLE = Path(__file__).parents[1] / "examples" / "jax_element.py"
STEP = 1e-3


@pytest.fixture(scope="module")
def plate():
    return runpy.run_path(str(EXAMPLE))


def frequency(plate, p):
    with plate["model"].assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, target=0.0) as one:
        return np.sqrt(one.values[0].real) / (2 * np.pi)


def test_elements_know_rigid_motions_and_the_mass_of_a_skew_square(plate):
    nodes = np.array([[0.0, 0.1], [1.1, 0.0], [1.4, 0.9], [0.2, 1.2]])
    x, y = nodes.T
    area = 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))
    rigid = np.stack([np.tile([1, 0], 4), np.tile([0, 1], 4), np.stack([-y, x], 1).ravel()], 1)
    values, rows = {"thickness": np.array([0.003]), "angle": np.array([0.4])}, slice(0, 1)
    stiff = ga.JaxKernel(plate["stiffness"], {"nodes": nodes[None]}).matrices(values, rows)[0]
    assert np.abs(stiff @ rigid).max() <= 1e-13 * np.abs(stiff).max()
    # Three strains: a matrix of rank 5 with 2 x 2 points.
    strengths = np.linalg.eigvalsh(stiff)
    assert np.sum(strengths > 1e-10 * strengths.max()) == 5
    mass = ga.JaxKernel(plate["mass"], {"nodes": nodes[None]})
    total = mass.matrices({"thickness": values["thickness"]}, rows)[0]
    expected = plate["DENSITY"] * 0.003 * area
    assert rigid[:, 0] @ total @ rigid[:, 0] == pytest.approx(expected, rel=1e-13)


def test_numbers_are_known(plate):
    known = [970.034, 2584.805, 3588.383, 5239.127]
    np.testing.assert_allclose(plate["frequencies"][:4], known, atol=1e-3)
    assert plate["report"].passed
    # Euler: A and B are both of degree 1 in the thickness.
    assert abs(plate["balance"]) <= 1e-8 * np.abs(plate["terms"]).max()


@pytest.mark.parametrize("name", ["angle", "thickness"])
def test_gradient_agrees_with_differences(plate, name):
    p = plate["p"]
    direction = p[name] * np.cos(np.arange(len(p[name])))

    def at(step):
        return frequency(plate, p | {name: p[name] + step * direction})

    near, far = at(STEP) - at(-STEP), at(2 * STEP) - at(-2 * STEP)
    difference = (8 * near - far) / (12 * STEP)
    # values to 1e-12, divided by the step
    assert plate["gradient"][name] @ direction == pytest.approx(difference, rel=1e-6)

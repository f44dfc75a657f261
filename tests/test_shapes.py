"""Coordinates as parameters: ids, kernels of both kinds, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from meshes import boxes
from moving_shapes import KERNELS, disk, disk_membrane, numpy_mass, triangle

import geneig_adjoint as ga


def jax_stiffness(coordinates):
    products, double = triangle(jnp, coordinates)
    return products / (2 * double)


def jax_mass(coordinates):
    return triangle(jnp, coordinates)[1] / 24 * (1 + np.eye(3))


TRACED = (ga.JaxKernel(jax_stiffness), ga.JaxKernel(jax_mass))


def test_ids_of_coordinates_pick_them():
    points, cells = boxes(np.linspace(0, 1, 4), np.linspace(0, 2, 3), np.linspace(0, 1, 2))
    ids = ga.coordinate_ids(cells, 3)
    assert ids.shape == (len(cells), 8, 3)
    np.testing.assert_array_equal(points.ravel()[ids], points[cells])
    assert ga.coordinate_ids(np.zeros((0, 3), int), 2).shape == (0, 3, 2)
    assert ga.coordinate_ids(cells, 3.0).dtype == np.int64


@pytest.mark.parametrize(
    ("cells", "dim", "match"),
    [
        (np.ones((2, 3)), 2, r"integers \(m, nodes\), got dtype float64, shape \(2, 3\)"),
        (np.ones(3, int), 2, r"got dtype int64, shape \(3,\)"),
        (np.array([[0, 1], [1, -1]]), 2, "not be negative, got -1 in element 1; mark constrained"),
        (np.ones((2, 3), int), 4, "dim must be .*1, 2 or 3, got 4"),
        (np.ones((2, 3), int), None, "dim must be .*got None"),
    ],
)
def test_ids_of_what_is_no_mesh(cells, dim, match):
    with pytest.raises(ga.InputError, match=match):
        ga.coordinate_ids(cells, dim)


@pytest.mark.parametrize("index", [0, 1])
def test_kernels_in_numpy_and_jax_agree(index):
    points, cells = disk(3)
    shaken = points + 0.02 * np.random.default_rng(2).normal(size=points.shape)
    values = {"coordinates": shaken[cells]}
    first, second = KERNELS[index], TRACED[index]
    report = ga.check_kernels(first, second, values)
    assert report.passed, str(report)
    exact = [one for one in report.comparisons if not one.quantity.startswith("vjp_tangent")]
    assert max(one.relative_error for one in exact) <= 1e-12, str(report)
    assert len(exact) == 1 + 3 * 6


@pytest.mark.parametrize("index", [0, 1])
def test_second_derivatives_of_kernels_agree(index):
    points, cells = disk(3)
    rng = np.random.default_rng(3)
    values = {"coordinates": points[cells]}
    dots = {"coordinates": rng.normal(size=(len(cells), 3, 2))}
    left, right = rng.normal(size=(2, len(cells), 3, 2))
    rows = slice(0, len(cells))
    bends = [
        kernels[index].vjp_tangent(values, dots, left, right, rows)["coordinates"]
        for kernels in (KERNELS, TRACED)
    ]
    size = np.abs(bends[1]).max()
    # NumPy: differences of complex steps
    np.testing.assert_allclose(bends[0], bends[1], rtol=0, atol=1e-10 * size)


def test_membrane_of_jax_elements(comm):
    # lam is of degree -2 in all coordinates X: g X = -2 lam and H X = -3 g (Euler).
    model, points = disk_membrane(comm, 3, TRACED)
    p, objective = {"coordinates": points.ravel()}, ga.objectives.Eigenvalue(0)
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs:
        g = ga.gradient(model, p, pairs, objective)["coordinates"]
        hp = ga.hessian_vector_product(model, p, pairs, objective, p)["coordinates"]
    assert g @ points.ravel() == pytest.approx(-2 * pairs.values[0].real, rel=1e-12)
    np.testing.assert_allclose(hp, -3 * g, rtol=0, atol=1e-11 * np.abs(g).max())


def test_area_of_the_disk():
    # A polygon of 6 n corners; sum of mass entries: its area.
    points, cells = disk(5)
    total = numpy_mass(points[cells]).sum()
    assert total == pytest.approx(15 * np.sin(2 * np.pi / 30), rel=1e-13)


@pytest.mark.parametrize(
    ("offset", "match"),
    [
        (np.ones(2), r"one per row of the matrix \(3\), got dtype float64, shape \(2,\)"),
        (np.array([0.0, np.nan, 1.0]), "the offset must be finite real numbers"),
        (1j * np.ones(3), "got dtype complex128"),
    ],
)
def test_offsets_that_do_not_fit(offset, match):
    with pytest.raises(ga.InputError, match=match):
        ga.LinearMap("s", scipy.sparse.csr_matrix(np.ones((3, 2))), offset=offset)

"""The Helmholtz filter next to solutions of its differential equation, and meshes it refuses."""

import math

import numpy as np
import pytest
from maps_of_tests import chain_model
from meshes import bent, boxes, filter_matrix, line_matrices, lines, simplices
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint.cells import cell_batches

# -- closed forms --


def step(x, r, a=0.4):
    """Return the antiderivative of the smoothed step at a.

    Outside of a, u'' = (u - p) / r^2; u and u' are continuous there, and u' = 0 at both ends: for
    x < a, u = sinh((1 - a) / r) cosh(x / r) / sinh(1 / r), and the mirror image of it beyond.
    """
    left = r * np.sinh((1 - a) / r) * np.sinh(np.minimum(x, a) / r) / np.sinh(1 / r)
    beyond = np.maximum(x, a)
    tail = np.sinh((1 - beyond) / r) - np.sinh((1 - a) / r)
    return left + (beyond - a) + r * np.sinh(a / r) * tail / np.sinh(1 / r)


def slope(x, r):
    """Return the antiderivative of the smoothed p = x.

    u = x - r sinh(x / r) + r tanh(1 / (2 r)) cosh(x / r).
    """
    return x**2 / 2 - r**2 * np.cosh(x / r) + r**2 * np.tanh(1 / (2 * r)) * np.sinh(x / r)


FIELDS = {
    "step": (step, lambda x: x > 0.4),
    "linear": (slope, lambda x: x),
}


def error_on_interval(name, count, radius=0.7):
    exact, p = FIELDS[name]
    points, cells = lines(np.linspace(0, 1, count + 1))
    means = np.diff(exact(points[:, 0], radius / (2 * np.sqrt(3)))) * count
    with ga.HelmholtzFilter("p", cells, points[cells], radius) as chosen:
        middle = points[cells].mean(axis=1)[:, 0]
        return np.abs(chosen({"p": 1.0 * p(middle)})["p"] - means).max()


@pytest.mark.parametrize("name", FIELDS)
def test_intervals_converge_with_second_order(name):
    errors = [error_on_interval(name, count) for count in (80, 160, 320)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert errors[-1] < 1e-4
    np.testing.assert_allclose(orders, 2.0, atol=0.04)


def wave(points):
    return np.cos(np.pi * points).prod(axis=-1)


KINDS = {
    "quadrilaterals": (boxes, 2, (8, 16, 32)),
    "hexahedra": (boxes, 3, (5, 10, 20)),
    "triangles": (simplices, 2, (8, 16, 32)),
    "tetrahedra": (simplices, 3, (5, 10, 20)),
}


@pytest.mark.parametrize("name", KINDS)
def test_distorted_cells_converge_with_second_order(name):
    # Of p = prod cos(pi x_i) on the unit box the solution is p / (1 + d pi^2 r^2).
    mesh, dim, counts = KINDS[name]
    radius, errors = 0.7, []
    for count in counts:
        points, cells = mesh(*[np.linspace(0, 1, count + 1)] * dim)
        points = bent(points)
        with ga.HelmholtzFilter("p", cells, points[cells], radius) as chosen:
            p = wave(points[cells]).mean(axis=1)
            found = chosen({"p": p})["p"] * (1 + dim * np.pi**2 * radius**2 / 12)
            errors.append(np.sqrt(chosen.sizes @ (found - p) ** 2))
            assert chosen.sizes.sum() == pytest.approx(1.0, rel=1e-12)
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    # 2 in the limit; coarse meshes are on their way to it
    assert orders[-1] == pytest.approx(2.0, abs=0.2), errors


def test_radius_is_that_of_a_cone_of_equal_spread():
    # The weights 1/(2 r) exp(-|x| / r) have variance 2 r^2 = R^2 / 6, those of a cone too.
    count, radius = 401, 0.3
    points, cells = lines(np.linspace(-1, 1, count + 1))
    unit = np.eye(count)[count // 2]
    middle = points[cells].mean(axis=1)[:, 0]
    cone = ga.DensityFilter("p", middle, radius)({"p": unit})["p"]
    with ga.HelmholtzFilter("p", cells, points[cells], radius) as chosen:
        smooth = chosen({"p": unit})["p"]
    spreads = [weights @ middle**2 for weights in (cone, smooth)]
    # Widths of elements squared, and what lies beyond the ends
    np.testing.assert_allclose(spreads, radius**2 / 6, rtol=2e-3)


def test_a_large_radius_leaves_the_mean():
    points, cells = boxes(np.linspace(0, 1, 9) ** 2, np.linspace(0, 2, 5))
    x = np.sin(np.arange(len(cells)))
    with ga.HelmholtzFilter("p", cells, points[cells], 1e3) as chosen:
        found = chosen({"p": x})["p"]
        mean = chosen.sizes @ x / 2
    np.testing.assert_allclose(found, mean, rtol=0, atol=1e-4)  # 12 (2 / pi / 1e3)^2 and more


@pytest.mark.parametrize("radius", [1e-6, 0.05, 20.0])
def test_any_radius_gives_the_dense_matrix(radius):
    x = np.array([0.0, 0.1, 0.3, 0.35, 0.7, 1.0])
    points, cells = lines(x)
    dense = filter_matrix(line_matrices(x), radius)
    with ga.HelmholtzFilter("p", cells, points[cells], radius) as chosen:
        found = [chosen({"p": unit})["p"] for unit in np.eye(5)]
    # (20 / 0.05)^2 / 12 times rounding
    np.testing.assert_allclose(np.transpose(found), dense, rtol=0, atol=1e-11)


@pytest.mark.parametrize("radius", [1.0, 50.0])
def test_iterations_do_not_depend_on_the_mesh(radius):
    found = []
    for count in (16, 64):
        points, cells = boxes(*[np.linspace(0, 1, count + 1)] * 2)
        with ga.HelmholtzFilter("p", cells, points[cells], radius) as chosen:
            chosen({"p": np.sin(np.arange(len(cells)))})
            found.append(chosen.iterations)
    assert max(found) < 30  # 1e-13 with multigrid


def test_gradient_of_a_filtered_model_is_verified(comm):
    points, cells = lines(np.linspace(0, 1, 13) ** 1.5)
    p = {"k": np.linspace(0.4, 0.9, 12), "m": np.linspace(1.2, 0.7, 12)}
    with ga.HelmholtzFilter("k", cells, points[cells], 0.4, comm=comm) as chosen:
        model = ga.Composed(chain_model(comm), [chosen, ga.Projection("k", beta=3.0)])
        report = ga.verify_gradient(model, p, ga.objectives.Eigenvalue(1), count=3, target=0.0)
    assert report.passed, str(report)
    assert max(report.orders) >= 1.95
    assert report.dot_product_error < 1e-10  # solves to 1e-13, one direct factor


def test_output_and_the_parameter_kept():
    points, cells = lines([0.0, 1.0, 3.0])
    x = np.array([1.0, 0.0])
    with ga.HelmholtzFilter("p", cells, points[cells], 1.0, output="q", keep=True) as chosen:
        q = chosen({"p": x})
        assert q["p"] is x
        assert list(q) == ["p", "q"]
        one = chosen.vjp({"p": x}, {"p": x, "q": 0 * x})["p"]
        np.testing.assert_array_equal(one, x)


# -- what is refused --

LINE, EDGES = lines([0.0, 1.0, 3.0])
SQUARE, QUAD = boxes([0.0, 1.0], [0.0, 1.0])
CUBE, BRICK = boxes(*[[0.0, 1.0]] * 3)
SHEARED = CUBE + 3.0 * (np.arange(8) == 7)[:, None] * np.array([-1.0, -1.0, 0.0])
BAD = {
    "radius": ((EDGES, LINE[EDGES], 0.0), "radius must be positive and finite, got 0.0"),
    "endless": ((EDGES, LINE[EDGES], np.inf), "radius must be positive and finite, got inf"),
    "floats": ((1.0 * EDGES, LINE[EDGES], 1.0), "integers .* got dtype float64"),
    "flat list": ((EDGES[0], LINE[EDGES[0]], 1.0), r"got dtype int64, shape \(2,\)"),
    "points": ((EDGES, LINE, 1.0), r"of shape \(2, 2, 'dim'\).* pass points\[cells\]"),
    "complex": ((EDGES, 1j * LINE[EDGES], 1.0), "real numbers of shape .* complex128"),
    "unknown": ((np.zeros((1, 6), int), np.zeros((1, 6, 2)), 1.0), r"known kind .*got \(6, 2\)"),
    "negative": ((EDGES - 1, LINE[EDGES], 1.0), r"not be negative, got \[-1 +0\] in cell 0"),
    "none": ((EDGES[:0], LINE[EDGES[:0]], 1.0), "needs cells, got none on any rank"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_mesh(case):
    arguments, match = BAD[case]
    with pytest.raises(ga.InputError, match=match):
        ga.HelmholtzFilter("p", *arguments)


def nan_at(points, node):
    points = points.copy()
    points[node] = np.nan
    return points


TANGLED = {
    "NaN": (EDGES, nan_at(LINE, 2), "line must have finite coordinates.* in cell 1"),
    "point": (
        EDGES,
        np.array([[0.0], [1.0], [1.0]]),
        r"line must have an extent.*\[1, 2\].*cell 1",
    ),
    "bow tie": (QUAD[:, [0, 2, 1, 3]], SQUARE, "quadrilateral must have an extent, the same side"),
    "triangle of 4": (QUAD, SQUARE * [[1, 1], [1, 1], [1, 1], [0.5, 0.5]], "in cell 0"),
    "not convex": (QUAD, SQUARE * [[1, 1], [1, 1], [1, 1], [0.4, 0.4]], "in cell 0"),
    "collinear": (np.array([[0, 1, 2]]), LINE * [[1.0, 2.0]], "every triangle must have"),
    "flat": (np.array([[0, 1, 2, 3]]), np.c_[SQUARE, SQUARE[:, 0]], "every tetrahedron must"),
    "twisted": (BRICK[:, [0, 1, 2, 3, 6, 7, 4, 5]], CUBE, "every hexahedron must have"),
    "inverted corner": (BRICK, SHEARED, "every hexahedron must have"),
}


@pytest.mark.parametrize("case", TANGLED)
def test_cells_without_extent_or_inside_out(case):
    cells, points, match = TANGLED[case]
    with pytest.raises(ga.InputError, match=match):
        ga.HelmholtzFilter("p", cells, points[cells], 1.0)


def test_mirrored_cells_are_the_same():
    x = np.arange(2.0)
    with (
        ga.HelmholtzFilter("p", EDGES, LINE[EDGES], 1.0) as chosen,
        ga.HelmholtzFilter("p", EDGES, -LINE[EDGES] + 1e5, 1.0) as mirrored,
    ):
        # Digits of the offset
        np.testing.assert_allclose(chosen({"p": x})["p"], mirrored({"p": x})["p"], rtol=1e-10)


def test_slender_cells_are_accepted_as_far_as_digits_go():
    points = SQUARE * [1.0, 1e-4]
    with ga.HelmholtzFilter("p", QUAD, points[QUAD], 1.0) as chosen:
        # (1 / 1e-4)^2 / 12 times the rounding of a matrix entry
        assert chosen({"p": np.ones(1)})["p"] == pytest.approx(1.0, abs=1e-8)
    points = SQUARE * [1.0, 1e-8]
    match = "constant field must stay constant up to 1e-06, got an error of .* by rounding"
    with pytest.raises(ga.InputError, match=match):
        ga.HelmholtzFilter("p", QUAD, points[QUAD], 1.0)


def test_solver_that_stops_too_early_is_found_out(comm):
    points, cells = lines(np.linspace(0, 1, 31))
    # A preconditioner that solves exactly would leave nothing to be found.
    options = {"ga_filter_ksp_rtol": "1e-3", "ga_filter_pc_type": "jacobi"}
    for name, value in options.items():
        PETSc.Options().setValue(name, value)
    try:
        smooth = ga.HelmholtzFilter("a", cells, points[cells], 0.3, comm=comm)
    finally:
        for name in options:
            PETSc.Options().delValue(name)
    with pytest.raises(ga.ConvergenceError, match=r"relative residual of 1e-11, got .*CONVERGED"):
        smooth({"a": np.arange(30.0)})
    smooth.close()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_masses_of_simplices(dim):
    corners = np.vstack([np.zeros(dim), np.eye(dim)])
    _, found = next(cell_batches(corners[None]))
    size = 1 / math.factorial(dim)
    # of degree 2, integrated exactly: size (1 + delta) / ((dim + 1) (dim + 2))
    expected = size * (1 + np.eye(dim + 1)) / ((dim + 1) * (dim + 2))
    np.testing.assert_allclose(found.mass[0], expected, rtol=1e-14)

"""Derivatives with respect to nodal coordinates: closed forms of beams and membranes."""

import numpy as np
import pytest
import scipy.sparse
from maps_of_tests import entries, kinds
from moving_shapes import (
    BETA_L,
    EI,
    RHO_A,
    MeanOf,
    cantilever,
    disk_membrane,
    stretched,
)
from scipy.special import jn_zeros

import geneig_adjoint as ga


@pytest.fixture(params=["replicated", "distributed"])
def made(request, comm):
    """Make a parameter of an array that every rank has."""
    return kinds(comm)[request.param]


# -- cantilever: omega_i = (beta_i L)^2 sqrt(EI / (rho A)) / L^2 --


def omega(pair):
    def objective(pairs):
        bar = np.zeros(len(pairs.values))
        value = np.sqrt(pairs.values[pair].real)
        bar[pair] = 0.5 / value
        return float(value), ga.EigenCotangent(values=bar)

    return objective


def test_longer_cantilevers_vibrate_more_slowly(comm):
    length = 1.7
    exact = BETA_L**2 * np.sqrt(EI / RHO_A) / length**2
    errors = []
    for count in (8, 16):
        model = ga.Composed(cantilever(comm, count), [stretched("L", np.linspace(0, 1, count + 1))])
        p = {"L": np.array([length])}
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 3, target=0.0) as pairs:
            found = ga.gradient(model, p, pairs, [omega(i) for i in range(3)])
            values = np.sqrt(pairs.values.real)
        slopes = np.array([one["L"][0] for one in found])
        # Every omega of the discrete beam goes with 1 / L^2 exactly; stiffness 1e6 x lam_0
        np.testing.assert_allclose(slopes, -2 * values / length, rtol=1e-8)
        np.testing.assert_allclose(slopes, -2 * exact / length, rtol=5e-3)
        errors.append(slopes / (-2 * exact / length) - 1)
    # Cubic elements: errors of h^4, down to what is left of 8 digits of BETA_L
    orders = np.log2(errors[0] / errors[1])[1:]
    np.testing.assert_allclose(orders, 4.0, atol=0.2)


# -- disk: lam = (j_mk / R)^2, d lam / d R = -2 lam / R, d^2 lam / d R^2 = 6 lam / R^2 --

ZEROS = [jn_zeros(m, 1)[0] for m in (0, 1, 1, 2, 2)] + [jn_zeros(0, 2)[1]]


def by_radius(comm, rings):
    model, points = disk_membrane(comm, rings)
    return ga.Composed(model, [stretched("R", points)])


def test_larger_disks_vibrate_more_slowly(comm):
    radius = 1.3
    exact = (np.array(ZEROS) / radius) ** 2
    errors = []
    for rings in (8, 16):
        model, p = by_radius(comm, rings), {"R": np.array([radius])}
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 6, target=0.0) as pairs:
            objectives = [ga.objectives.Eigenvalue(0), MeanOf([1, 2]), MeanOf([3, 4])]
            found = ga.gradient(model, p, pairs, [*objectives, ga.objectives.Eigenvalue(5)])
            values = pairs.values.real[[0, 1, 3, 5]]
        slopes = np.array([one["R"][0] for one in found])
        np.testing.assert_allclose(slopes, -2 * values / radius, rtol=1e-10)  # exact for the mesh
        errors.append(slopes / (-2 * exact[[0, 1, 3, 5]] / radius) - 1)
    assert np.abs(errors[1]).max() < 0.05
    np.testing.assert_allclose(np.log2(np.divide(*errors)), 2.0, atol=0.1)


def test_both_copies_of_a_double_value_go_together(comm, made):
    model, p = by_radius(comm, 6), {"R": made(np.array([1.3]))}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 6, target=0.0) as pairs:
        assert [list(cluster) for cluster in pairs.clusters if len(cluster) > 1] == [[1, 2], [3, 4]]
        along = {"R": made(np.ones(1))}
        mu = ga.directional_derivatives(model, p, pairs, 1, along)
        np.testing.assert_allclose(mu, -2 * pairs.values[[1, 2]].real / 1.3, rtol=1e-10)
        with pytest.raises(ga.DegenerateEigenvalueError, match="directional_derivatives"):
            ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(1))


# Kinds of parameters in turns: radius and coordinates take the same way through the elements.
def test_second_derivative_along_the_radius(comm):
    model, radius = by_radius(comm, 4), 1.3
    p, along = {"R": np.array([radius])}, {"R": np.array([1.0])}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 6, target=0.0) as pairs:
        for pair in (0, 5):
            objective = ga.objectives.Eigenvalue(pair)
            found = ga.hessian_vector_product(model, p, pairs, objective, along)
            expected = 6 * pairs.values[pair].real / radius**2
            # Differences of complex steps: 1e-11 or so
            assert entries(found["R"])[0] == pytest.approx(expected, rel=1e-9)


def test_second_derivative_of_all_coordinates_along_a_scaling(comm):
    made = kinds(comm)["distributed"]
    # lam is of degree -2 in all coordinates X: H X = -3 g (Euler).
    model, points = disk_membrane(comm, 3)
    p = {"coordinates": made(points.ravel())}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs:
        objective = ga.objectives.Eigenvalue(0)
        g = entries(ga.gradient(model, p, pairs, objective)["coordinates"])
        hp = entries(ga.hessian_vector_product(model, p, pairs, objective, p)["coordinates"])
    np.testing.assert_allclose(hp, -3 * g, rtol=0, atol=1e-8 * np.abs(g).max())
    assert g @ points.ravel() == pytest.approx(-2 * pairs.values[0].real, rel=1e-10)


# -- Hadamard's formula --


def test_motion_of_the_boundary_by_hadamards_formula(comm):
    # d lam = -int |du/dn|^2 V ds for the normal motion V of the boundary (J. Hadamard, 1908; A.
    # Henrot, Extremum Problems for Eigenvalues of Elliptic Operators, 2006, th. 2.5.1; J.
    # Sokolowski, J.-P. Zolesio, Introduction to Shape Optimization, 1992). On the unit disk
    # u_0 = J_0(j r) / (sqrt(pi) J_1(j)): |du/dn|^2 = j^2 / pi.
    j, errors = jn_zeros(0, 1)[0], []
    expected = -(j**2) / np.pi * (3 * np.pi / 4)  # int (1 + cos t)^2 / 4 = 3 pi / 4
    for rings in (8, 16, 32):
        model, points = disk_membrane(comm, rings)
        p = {"coordinates": points.ravel()}
        normals = points[-6 * rings :]
        V = (1 + normals[:, 0]) ** 2 / 4
        moved = np.zeros(points.shape)
        moved[-6 * rings :] = V[:, None] * normals  # nodes inside stay where they are
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1, target=0.0) as pairs:
            g = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))["coordinates"]
        errors.append(abs(g @ moved.ravel() / expected - 1))
    assert errors[-1] < 0.05
    assert np.log2(np.divide(errors[:-1], errors[1:])).min() > 0.9, errors


# -- all coordinates, on any number of ranks --


def shaken_disk(comm):
    """Elements are dealt to ranks at random: all nodes are shared."""
    model, points = disk_membrane(comm, 2)
    return model, points.ravel() + 0.02 * np.cos(3 * np.arange(points.size))


def test_all_coordinates_agree_with_differences(comm, made):
    model, points = shaken_disk(comm)
    p = {"coordinates": made(points)}
    weights = np.linspace(1.0, 2.0, model.n)[slice(*model.rows)]
    output = ga.objectives.LinearOutput(weights, 0)
    report = ga.verify_gradient(model, p, output, count=2, target=0.0)
    assert report.passed, str(report)
    assert max(report.orders) >= 1.95
    assert report.dot_product_error < 1e-10  # one direct factor


def test_single_coordinates_of_shared_nodes(comm):
    model, points = shaken_disk(comm)
    lowest = ga.objectives.Eigenvalue(0)

    def value(at):
        with (
            model.assemble({"coordinates": at}) as pencil,
            ga.solve_eigenproblem(pencil, 1, target=0.0) as pairs,
        ):
            return pairs.values[0].real

    p = {"coordinates": points}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1, target=0.0) as pairs:
        g = ga.gradient(model, p, pairs, lowest)["coordinates"]
    chosen = [0, 7, 30]  # of the node in the middle, one inside, one at the boundary
    h, expected = 1e-3, []
    for i in chosen:
        unit = h * (np.arange(points.size) == i)
        near = value(points + unit) - value(points - unit)
        far = value(points + 2 * unit) - value(points - 2 * unit)
        expected.append((8 * near - far) / (12 * h))
    # h^4 / 30 times fifth derivatives of 1 / h_e^2: some 1e6
    np.testing.assert_allclose(g[chosen], expected, rtol=0, atol=1e-6 * np.abs(g).max())


def test_gradients_have_the_same_bits_on_all_ranks(comm):
    model, points = disk_membrane(comm, 3)
    p = {"coordinates": points.ravel()}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1, target=0.0) as pairs:
        g = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))["coordinates"]
    assert comm.allgather(g.tobytes()) == [g.tobytes()] * comm.size


# -- W p + offset --


@pytest.mark.parametrize("kind", ["whole", "shares"])
def test_offset_of_a_linear_map(comm, kind, made):
    rng = np.random.default_rng(3)
    W, offset = rng.normal(size=(12, 5)), rng.normal(size=12)
    ranks = {"whole": None, "shares": comm}[kind]
    bounds = {"whole": [0, 12], "shares": np.linspace(0, 12, comm.size + 1).astype(int)}[kind]
    rank = {"whole": 0, "shares": comm.rank}[kind]
    own = slice(bounds[rank], bounds[rank + 1])
    rows = scipy.sparse.csr_matrix(W[own])
    chosen = ga.LinearMap("s", rows, offset=offset[own], comm=ranks)
    x = rng.normal(size=5)
    p = {"s": made(x)}
    q = chosen(p)
    # Sums of 5 products in another order than NumPy's
    np.testing.assert_allclose(entries(q["s"]), W @ x + offset, rtol=0, atol=1e-14)
    np.testing.assert_allclose(entries(chosen.jvp(p, p)["s"]), W @ x, rtol=0, atol=1e-14)
    pulled = entries(chosen.vjp(p, q)["s"])
    np.testing.assert_allclose(pulled, W.T @ (W @ x + offset), rtol=0, atol=1e-13)
    assert not entries(chosen.vjp_tangent(p, p, q)["s"]).any()

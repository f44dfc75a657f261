"""Exceptional points of follower-force problems: right next to them, refused at them.

Ziegler's double pendulum (Ing.-Arch. 20, 1952) with m1 = 2 m2 flutters at P l / c = 7/2 - sqrt(2),
Beck's cantilever (ZAMP 3, 1952) at P L^2 / EI = 20.05 with omega = 11.02 sqrt(EI / m L^4); two
eigenvalues and their vectors coalesce there (Bolotin, Nonconservative Problems of the Theory of
Elastic Stability, 1963).
"""

from contextlib import contextmanager

import numpy as np
import pytest
import scipy.linalg
from pencils import petsc_matrix

import geneig_adjoint as ga

FLUTTER = 3.5 - np.sqrt(2.0)
M_ZIEGLER = np.array([[3.0, 1.0], [1.0, 1.0]])
K_ZIEGLER = np.array([[2.0, -1.0], [-1.0, 1.0]])
LOAD_ZIEGLER = np.array([[-1.0, 1.0], [0.0, 0.0]])


@contextmanager
def solved(comm, arrays, load, **solver):
    """K + load L, M with their pairs; the load is the parameter."""
    K, L, M = (petsc_matrix(comm, array) for array in arrays)
    p = {"load": np.array([load])}
    with (
        ga.MatrixModel(K, M, {"load": [(L, None)]}) as model,
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, **solver) as pairs,
    ):
        yield model, p, pairs


def ziegler(comm, load, **changes):
    solver = {"count": 2, "target": 0.1, **changes}
    return solved(comm, (K_ZIEGLER, LOAD_ZIEGLER, M_ZIEGLER), load, **solver)


@pytest.mark.parametrize("load", [0.5, FLUTTER - 1e-3, FLUTTER - 1e-6])
def test_ziegler_below_flutter(comm, load):
    with ziegler(comm, load) as (model, p, pairs):
        values = pairs.values.copy()
        objectives = [ga.objectives.Eigenvalue(j) for j in range(2)]
        slopes = [g["load"][0] for g in ga.gradient(model, p, pairs, objectives)]
    # 2 lam^2 + (2 p - 7) lam + 1 = 0
    b, root = 2 * load - 7, np.sqrt((2 * load - 7) ** 2 - 8)
    lam = np.array([-b - root, -b + root]) / 4
    rounding = 1e-14 / (lam[1] - lam[0])  # an error of A moves values by its size over their gap
    np.testing.assert_allclose(values, lam, rtol=0, atol=10 * rounding)
    np.testing.assert_allclose(slopes, -2 * lam / (b + 4 * lam), rtol=100 * rounding / root + 1e-12)


@pytest.mark.parametrize("part", ["real", "imag"])
def test_ziegler_beyond_flutter(comm, part):
    load = FLUTTER + 0.3
    with ziegler(comm, load) as (model, p, pairs):
        values = pairs.values.copy()
        objectives = [ga.objectives.Eigenvalue(j, part=part) for j in range(2)]
        slopes = [g["load"][0] for g in ga.gradient(model, p, pairs, objectives)]
    b, root = 2 * load - 7, 1j * np.sqrt(8 - (2 * load - 7) ** 2)
    lam = np.array([-b + root, -b - root]) / 4
    np.testing.assert_allclose(values, lam, rtol=1e-12)
    np.testing.assert_allclose(slopes, getattr(-2 * lam / (b + 4 * lam), part), rtol=1e-11)


OBJECTIVES = {
    "eigenvalue": ga.objectives.Eigenvalue(0),
    "vector": ga.objectives.QuadraticForm(np.array([1.0, 2.0]), (0,)),
    "petermann": ga.objectives.PetermannFactor(1),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ziegler_at_flutter_is_refused(comm, objective):
    with (
        ziegler(comm, FLUTTER) as (model, p, pairs),
        pytest.raises(ga.DefectiveEigenvalueError, match="exceptional point") as caught,
    ):
        ga.gradient(model, p, pairs, OBJECTIVES[objective])
    assert caught.value.condition > 1e4


def test_tangents_and_second_derivatives_are_refused_at_flutter(comm):
    with ziegler(comm, FLUTTER) as (model, p, pairs):
        with pytest.raises(ga.DefectiveEigenvalueError, match="exceptional point"):
            ga.jvp(model, p, pairs, p)
        with pytest.raises(ga.DefectiveEigenvalueError, match="exceptional point"):
            ga.hessian_vector_product(model, p, pairs, ga.objectives.Eigenvalue(0), p)


@pytest.mark.parametrize("objective", ["eigenvalue", "vector"])
def test_ziegler_at_flutter_is_refused_without_left_vectors(comm, objective):
    # No condition number is known then; the bordered system must give it away.
    with (
        ziegler(comm, FLUTTER, left=False) as (model, p, pairs),
        pytest.raises((ga.DefectiveEigenvalueError, ga.DegenerateEigenvalueError)),
    ):
        ga.gradient(model, p, pairs, OBJECTIVES[objective])


# -- Beck's column --

ELEMENTS = 12


def beck_arrays():
    """Hermite beam elements on [0, 1], clamped at 0: stiffness, load per P, mass."""
    h, n = 1.0 / ELEMENTS, 2 * (ELEMENTS + 1)
    bending = np.array(
        [[12, 6 * h, -12, 6 * h], [6 * h, 4 * h**2, -6 * h, 2 * h**2],
         [-12, -6 * h, 12, -6 * h], [6 * h, 2 * h**2, -6 * h, 4 * h**2]]
    ) / h**3  # fmt: skip
    geometric = np.array(
        [[36, 3 * h, -36, 3 * h], [3 * h, 4 * h**2, -3 * h, -(h**2)],
         [-36, -3 * h, 36, -3 * h], [3 * h, -(h**2), -3 * h, 4 * h**2]]
    ) / (30 * h)  # fmt: skip
    mass = np.array(
        [[156, 22 * h, 54, -13 * h], [22 * h, 4 * h**2, 13 * h, -3 * h**2],
         [54, 13 * h, 156, -22 * h], [-13 * h, -3 * h**2, -22 * h, 4 * h**2]]
    ) * (h / 420)  # fmt: skip
    K, G, M = np.zeros((3, n, n))
    for e in range(ELEMENTS):
        part = slice(2 * e, 2 * e + 4)
        for whole, local in ((K, bending), (G, geometric), (M, mass)):
            whole[part, part] += local
    load = -G
    load[n - 2, n - 1] += 1.0  # the force follows the slope of the tip
    return tuple(array[2:, 2:] for array in (K, load, M))


BECK = beck_arrays()


def beck(comm, load, **changes):
    return solved(comm, BECK, load, count=2, target=100.0, **changes)


def oscillates(comm, load):
    with beck(comm, load, left=False) as (_, _, pairs):
        return bool(np.all(np.abs(pairs.values.imag) == 0))


@pytest.fixture(scope="module")
def critical_load(comm):
    low, high = 15.0, 25.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if oscillates(comm, middle) else (low, middle)
    return low


def test_beck_flutters_at_its_critical_load(comm, critical_load):
    assert critical_load == pytest.approx(20.05, abs=0.01)
    with beck(comm, critical_load - 1e-6) as (_, _, pairs):
        # The two values are sqrt(1e-6) apart, times a slope of order 100.
        np.testing.assert_allclose(np.sqrt(pairs.values.real), 11.02, atol=0.05)


def test_beck_slopes_grow_like_the_inverse_root(comm, critical_load):
    slopes = []
    for distance in (4e-4, 1e-4):
        load = critical_load - distance
        with beck(comm, load) as (model, p, pairs):
            slope = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))["load"][0]
            here = pairs.values[0].real
        K, L, M = BECK
        h = 1e-2 * distance
        near = [
            min(scipy.linalg.eigvals(K + (load + s * h) * L, M), key=lambda v: abs(v - here)).real
            for s in (-2, -1, 1, 2)
        ]
        difference = (8 * (near[2] - near[1]) - (near[3] - near[0])) / (12 * h)
        # LAPACK: 1e-16 times the largest value of 1e7 and the condition of 1e2, over the step
        assert slope == pytest.approx(difference, rel=1e-2)
        slopes.append(slope)
    assert slopes[1] / slopes[0] == pytest.approx(2.0, rel=0.02)


def test_beck_at_its_critical_load_is_refused(comm, critical_load):
    with (
        beck(comm, critical_load) as (model, p, pairs),
        pytest.raises(ga.DefectiveEigenvalueError, match="exceptional point"),
    ):
        ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))

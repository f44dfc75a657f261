"""All pairs of an interval, and targets in the complex plane."""

import numpy as np
import pytest
from builders import (
    generalized,
    mass,
    rotation,
    stiffness,
)
from test_eigensolver import assert_same_values, pencil_of, reference

import geneig_adjoint as ga


def all_pairs_inside(pencil, interval):
    pairs = ga.solve_eigenproblem(pencil, interval=interval)
    values = np.sort(reference(stiffness(8), mass(8)).real)
    inside = values[(values >= interval[0]) & (values <= interval[1])]
    assert pairs.values.shape == inside.shape
    assert_same_values(pairs.values, inside)


def emptiness_is_said(pencil, interval):
    with pytest.raises(ga.ConvergenceError, match=r"no eigenvalue.*50.*60"):
        ga.solve_eigenproblem(pencil, interval=interval)


def interval_is_refused(pencil, interval):
    with pytest.raises(ga.InputError, match=r"real symmetric pencil.* build; use target="):
        ga.solve_eigenproblem(pencil, interval=interval)


INTERVALS = {
    "some": ((0.5, 3.0), all_pairs_inside),
    "one": ((0.0, 0.3), all_pairs_inside),
    "all": ((-1.0, 20.0), all_pairs_inside),
    "none": ((50.0, 60.0), emptiness_is_said),
}


@pytest.mark.parametrize("case", INTERVALS)
def test_interval(comm, scalar_build, case):
    interval, check = INTERVALS[case]
    with generalized(8, comm, "symmetric") as pencil:
        {"real": check, "complex": interval_is_refused}[scalar_build](pencil, interval)


def ends_are_inside(pencil, interval, expected):
    pairs = ga.solve_eigenproblem(pencil, interval=interval)
    assert_same_values(pairs.values, expected)


def ends_are_refused(pencil, interval, expected):
    interval_is_refused(pencil, interval)


@pytest.mark.parametrize(
    ("interval", "expected"), [((2, 5), [2, 3, 4, 5]), ((1, 2), [1, 2]), ((6, 7.5), [6, 7])]
)
def test_ends_of_an_interval_belong_to_it(comm, scalar_build, interval, expected):
    check = {"real": ends_are_inside, "complex": ends_are_refused}[scalar_build]
    check(pencil_of(comm, np.diag(np.arange(1.0, 10))), interval, expected)


def test_interval_of_a_nonsymmetric_pencil(comm):
    with generalized(8, comm, "nonsymmetric") as pencil:
        interval_is_refused(pencil, (0.0, 1.0))


@pytest.mark.parametrize("interval", [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0, 2.0)])
def test_interval_must_have_two_ends(comm, interval):
    with pytest.raises(ga.InputError, match=r"interval must be \(a, b\) with a < b"):
        ga.solve_eigenproblem(pencil_of(comm, stiffness(6)), interval=interval)


def complex_target_is_refused(pencil):
    with pytest.raises(ga.InputError, match=r"target=\(2\+1.9j\) must be real.*complex build"):
        ga.solve_eigenproblem(pencil, 2, target=2 + 1.9j)


def complex_target_is_used(pencil):
    pairs = ga.solve_eigenproblem(pencil, 2, target=2 + 1.9j)
    assert_same_values(pairs.values, [2 + 2j, 1 + 1j])


def test_complex_target(comm, scalar_build):
    check = {"real": complex_target_is_refused, "complex": complex_target_is_used}
    check[scalar_build](pencil_of(comm, rotation(6)))


# -- what does not converge --

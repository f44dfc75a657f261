"""What must not change, or change in a known way, on random pencils of either kind."""

import os
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from builders import K0, M0, chain_dofs, chain_parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_pencils import KINDS, SEEDS, SIZES, Case, numbers, random_case, solved

import geneig_adjoint as ga

# The same cases every time, or as many others as a long campaign asks for.
EXAMPLES = os.environ.get("PROPERTY_EXAMPLES", "")
profile = settings(
    max_examples=int(EXAMPLES or 25),
    derandomize=not EXAMPLES,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
scales = st.floats(-3, 3).map(lambda exponent: 10.0**exponent)


def assert_same(found, expected):
    # eps_tol and rtol 1e-10, times conditions below 1e3 of both matrices; gaps are above 0.5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)


class Draws(NamedTuple):
    """A case, what a solve of it gives, and the numbers by which it is changed."""

    case: Case
    known: tuple
    seed: int
    scales: tuple[float, float]
    shift: float
    random: Random


def scales_of_a_and_b(comm, draws):
    (a, b), (values, slopes, sizes) = draws.scales, draws.known
    scaled = solved(comm, draws.case.changed(lambda M: a * M, lambda M: b * M))
    assert_same((scaled[0] * b / a, scaled[1] * b / a, scaled[2]), (values, slopes, sizes))


def numbers_of_unknowns(comm, draws):
    n = len(draws.case.c)
    order = draws.random.sample(range(n), n)
    other = draws.case.changed(lambda M: M[np.ix_(order, order)], c=draws.case.c[order])
    assert_same(solved(comm, other), draws.known)


def phases_or_signs_of_unknowns(comm, draws):
    case = draws.case
    turns = numbers(np.random.default_rng(draws.seed), len(case.c))
    turns = turns / np.abs(turns)
    # c is real: only signs leave the second objective as it is.
    real = np.sign(turns.real)
    other = case.changed(lambda M: turns[:, None] * M * turns.conj())
    assert_same(solved(comm, other)[:2], draws.known[:2])
    other = case.changed(lambda M: real[:, None] * M * real, c=real * case.c)
    assert_same(solved(comm, other), draws.known)


def conjugation(comm, draws):
    other = solved(comm, draws.case.changed(np.conj))
    assert_same((other[0].conj(), *other[1:]), draws.known)


def multiple_of_b_shifts_values_and_leaves_the_rest(comm, draws):
    case, shift = draws.case, draws.shift
    other = case.changed(lambda M: M)
    other.A = case.A + shift * case.B
    other.dA = [a + shift * b for a, b in zip(case.dA, case.dB, strict=True)]
    values, *rest = solved(comm, other, target=shift)
    assert_same((values - shift, *rest), draws.known)


def order_of_parameters(comm, draws):
    values, slopes, sizes = draws.known
    other = draws.case.changed(lambda M: M)
    other.dA, other.dB = other.dA[::-1], other.dB[::-1]
    assert_same(solved(comm, other), (values, slopes[::-1], sizes[::-1]))


def sum_of_two_parameters_is_linear(comm, draws):
    case, (_, slopes, sizes) = draws.case, draws.known
    other = case.changed(lambda M: M)
    other.dA = [case.dA[0] + 2 * case.dA[1], case.dA[1] * 0]
    other.dB = [case.dB[0] + 2 * case.dB[1], case.dB[1] * 0]
    expected = [[part[0] + 2 * part[1], 0.0] for part in (slopes, sizes)]
    assert_same(solved(comm, other)[1:], expected)


PROPERTIES = [
    scales_of_a_and_b,
    numbers_of_unknowns,
    phases_or_signs_of_unknowns,
    conjugation,
    multiple_of_b_shifts_values_and_leaves_the_rest,
    order_of_parameters,
    sum_of_two_parameters_is_linear,
]


@pytest.mark.parametrize("kind", KINDS)
@profile
@given(
    SEEDS, SIZES, st.tuples(scales, scales), st.floats(-0.2, 5.0), st.randoms(use_true_random=False)
)
def test_properties(comm, kind, seed, n, scales, shift, random):
    case = random_case(seed, n, kind)
    draws = Draws(case, solved(comm, case), seed, scales, shift, random)
    for holds in PROPERTIES:
        holds(comm, draws)


@profile
@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_numbers_of_elements(comm, n, random):
    p = chain_parameters(n)

    def gradient(order):
        blocks = [
            ga.ElementBlock("A", chain_dofs(n)[order], ga.ScaledKernel(K0), {"k": order}),
            ga.ElementBlock("B", chain_dofs(n)[order], ga.ScaledKernel(M0), {"m": order}),
        ]
        model = ga.ElementModel(n, blocks, comm=comm)
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
            found = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
        return np.concatenate([found["k"], found["m"]])

    shuffled = np.array(random.sample(range(n + 1), n + 1))
    assert_same([gradient(shuffled)], [gradient(np.arange(n + 1))])

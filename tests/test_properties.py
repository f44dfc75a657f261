"""What must not change, or change in a known way, on random pencils of either kind."""

import os

import numpy as np
import pytest
from builders import K0, M0, chain_dofs, chain_parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_pencils import KINDS, SEEDS, SIZES, numbers, random_case, solved

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
kinds = pytest.mark.parametrize("kind", KINDS)
scales = st.floats(-3, 3).map(lambda exponent: 10.0**exponent)


def assert_same(found, expected):
    # eps_tol and rtol 1e-10, times conditions below 1e3 of both matrices; gaps are above 0.5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7)


@kinds
@profile
@given(SEEDS, SIZES, scales, scales)
def test_scales_of_a_and_b(comm, kind, seed, n, a, b):
    case = random_case(seed, n, kind)
    values, slopes, sizes = solved(comm, case)
    scaled = solved(comm, case.changed(lambda M: a * M, lambda M: b * M))
    assert_same((scaled[0] * b / a, scaled[1] * b / a, scaled[2]), (values, slopes, sizes))


@kinds
@profile
@given(SEEDS, SIZES, st.randoms(use_true_random=False))
def test_numbers_of_unknowns(comm, kind, seed, n, random):
    case = random_case(seed, n, kind)
    order = random.sample(range(n), n)
    other = case.changed(lambda M: M[np.ix_(order, order)], c=case.c[order])
    assert_same(solved(comm, other), solved(comm, case))


@kinds
@profile
@given(SEEDS, SIZES)
def test_phases_or_signs_of_unknowns(comm, kind, seed, n):
    case = random_case(seed, n, kind)
    turns = numbers(np.random.default_rng(seed), n)
    turns = turns / np.abs(turns)
    # c is real: only signs leave the second objective as it is.
    real = np.sign(turns.real)
    other = case.changed(lambda M: turns[:, None] * M * turns.conj())
    assert_same(solved(comm, other)[:2], solved(comm, case)[:2])
    other = case.changed(lambda M: real[:, None] * M * real, c=real * case.c)
    assert_same(solved(comm, other), solved(comm, case))


@kinds
@profile
@given(SEEDS, SIZES)
def test_conjugation(comm, kind, seed, n):
    case = random_case(seed, n, kind)
    values, slopes, sizes = solved(comm, case)
    other = solved(comm, case.changed(np.conj))
    assert_same((other[0].conj(), *other[1:]), (values, slopes, sizes))


@kinds
@profile
@given(SEEDS, SIZES, st.floats(-0.2, 5.0))
def test_multiple_of_b_shifts_values_and_leaves_the_rest(comm, kind, seed, n, shift):
    case = random_case(seed, n, kind)
    other = case.changed(lambda M: M)
    other.A = case.A + shift * case.B
    other.dA = [a + shift * b for a, b in zip(case.dA, case.dB, strict=True)]
    values, *rest = solved(comm, other, target=shift)
    assert_same((values - shift, *rest), solved(comm, case))


@kinds
@profile
@given(SEEDS, SIZES)
def test_order_of_parameters(comm, kind, seed, n):
    case = random_case(seed, n, kind)
    values, slopes, sizes = solved(comm, case)
    other = case.changed(lambda M: M)
    other.dA, other.dB = other.dA[::-1], other.dB[::-1]
    assert_same(solved(comm, other), (values, slopes[::-1], sizes[::-1]))


@kinds
@profile
@given(SEEDS, SIZES)
def test_sum_of_two_parameters_is_linear(comm, kind, seed, n):
    case = random_case(seed, n, kind)
    _, slopes, sizes = solved(comm, case)
    other = case.changed(lambda M: M)
    other.dA = [case.dA[0] + 2 * case.dA[1], case.dA[1] * 0]
    other.dB = [case.dB[0] + 2 * case.dB[1], case.dB[1] * 0]
    expected = [[part[0] + 2 * part[1], 0.0] for part in (slopes, sizes)]
    assert_same(solved(comm, other)[1:], expected)


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

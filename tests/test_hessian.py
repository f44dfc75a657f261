"""Hessian-vector products: every problem class x normalization x objective, in four ways.

Against differences of dense reference gradients, symmetry, third-order Taylor remainders, and
agreement of the strategies.
"""

from typing import NamedTuple

import numpy as np
import pytest
from pencils import flat, moved
from scenarios import STEP, Chain, Scenario, fourth_order_difference, scenarios, solved
from sums_of_objectives import Sum, sums_of

import geneig_adjoint as ga

CHAINS = scenarios("B", "2", "component", "linear", "bilinear")


class Products(NamedTuple):
    """A chain, and the products with its direction, which several tests ask for."""

    chain: Chain
    rows: np.ndarray


class SumProducts(NamedTuple):
    """A chain, sums of its objectives of one kind each, and their products with its direction."""

    chain: Chain
    sums: list[Sum]
    rows: np.ndarray


@pytest.fixture(scope="module", params=CHAINS, ids=str)
def known(request, comm):
    with solved(request.param, comm) as chain:
        # The least that `sizes` returns: an error of a sum is one of every objective in it.
        sums = sums_of(chain, 0.1 * chain.sizes).objectives
        yield SumProducts(chain, sums, products(chain, chain.problem.p_dot, sums))


@pytest.fixture(scope="module", params=scenarios("default"), ids=str)
def default_known(request, comm):
    with solved(request.param, comm) as chain:
        yield Products(chain, products(chain, chain.problem.p_dot))


@pytest.fixture
def default_chain(default_known):
    return default_known.chain


def products(chain, p_dot, objectives=None, **settings) -> np.ndarray:
    """Return one row H p_dot per objective: all of the chain, or those given."""
    settings = {"strategy": "direct", **settings}
    return np.array(
        [
            flat(
                ga.hessian_vector_product(
                    chain.model, chain.problem.p, chain.pairs, objective, p_dot, **settings
                )
            )
            for objective in objectives or chain.objectives
        ]
    )


def other_direction(p):
    rng = np.random.default_rng(5)
    return {name: rng.uniform(-1.0, 1.0, value.size) for name, value in p.items()}


def gradients_at(chain, step, objectives=None) -> np.ndarray:
    """Return the gradients a step further; phases and order follow the pairs at p."""
    p = moved(chain.problem.p, step, chain.problem.p_dot)
    pairs = chain.pairs if step == 0 else chain.solved(p, like=chain.pairs)
    objectives = objectives or chain.objectives
    found = ga.gradient(chain.model, p, pairs, objectives, strategy="direct")
    return np.array([flat(item) for item in found])


def sizes(chain, rows) -> np.ndarray:
    """Return the size of second derivatives, at least that of the first ones' terms."""
    return np.maximum(np.abs(rows).max(axis=1), 0.1 * chain.sizes)


def test_product_of_each_objective_equals_differences_of_gradients(default_known):
    chain, found = default_known
    expected = fourth_order_difference(lambda k: gradients_at(chain, k * STEP))
    errors = np.abs(found - expected).max(axis=1) / sizes(chain, expected)
    # Gradients are exact to 1e-11 of their terms, divided by the step; its fourth power is less.
    assert chain.named(errors, ~(errors <= 1e-7)) == {}


def test_product_equals_differences_of_gradients(known):
    chain, sums, found = known
    # Shorter steps: sums are told apart from the smallest of their terms.
    expected = 4 * fourth_order_difference(lambda k: gradients_at(chain, k * STEP / 4, sums))
    # As for each objective: the weights are at least 1 / the sizes.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def test_hessian_is_symmetric(known):
    chain, sums, Hu = known
    u, v = chain.problem.p_dot, other_direction(chain.problem.p)
    Hv = products(chain, v, sums)
    np.testing.assert_allclose(Hu @ flat(v), Hv @ flat(u), rtol=0, atol=1e-8)


def test_remainder_with_second_derivatives_is_of_third_order(default_known):
    (chain, rows), steps = default_known, np.array([4e-3, 2e-3])
    slopes = gradients_at(chain, 0.0) @ flat(chain.problem.p_dot)
    curvatures = rows @ flat(chain.problem.p_dot)
    start = chain.values(chain.pairs, chain.problem.p)
    remainders = []
    for step in steps:
        p = moved(chain.problem.p, step, chain.problem.p_dot)
        values = chain.values(chain.solved(p, like=chain.pairs), p)
        remainders.append(np.abs(values - start - step * slopes - step**2 / 2 * curvatures))
    big, small = remainders
    # Values are exact to 1e-13 of the terms; smaller remainders are rounding.
    rounding = big <= 1e-12 * np.maximum(chain.sizes, np.abs(start))
    tiny = np.finfo(float).tiny
    orders = np.where(rounding, np.inf, np.log2((big + tiny) / (small + tiny)))
    assert chain.named(orders, ~(orders >= 2.9)) == {}


def test_strategies_agree(default_known):
    chain, direct = default_known
    sums = sums_of(chain, sizes(chain, direct))
    ksp = products(chain, chain.problem.p_dot, sums.objectives, strategy="ksp")
    # rtol 1e-10 of the solves, one fed into the next
    np.testing.assert_allclose(sums.weights @ direct, ksp, rtol=0, atol=1e-8)


def test_product_is_linear_in_the_direction(default_known):
    chain, single = default_known
    sums = sums_of(chain, sizes(chain, single))
    p_dot = {name: -300.0 * value for name, value in chain.problem.p_dot.items()}
    scaled = products(chain, p_dot, sums.objectives)
    np.testing.assert_allclose(scaled / -300.0, sums.weights @ single, rtol=0, atol=1e-9)


def test_product_with_no_direction_is_zero(default_known):
    chain, rows = default_known
    p_dot = {name: 0.0 * value for name, value in chain.problem.p.items()}
    sums = sums_of(chain, sizes(chain, rows))
    np.testing.assert_array_equal(products(chain, p_dot, sums.objectives), 0.0)


@pytest.mark.parametrize("phase", ["largest", None])
def test_product_of_phase_free_objectives(phase, comm):
    for scenario in scenarios("default"):
        with solved(scenario, comm) as chain:
            kept = chain.solved(chain.problem.p, phase=phase)
            D = np.arange(1.0, 1.0 + chain.problem.n)[slice(*kept.rows)]
            objective = ga.objectives.QuadraticForm(D, (1,))
            found, expected = (
                flat(
                    ga.hessian_vector_product(
                        chain.model, chain.problem.p, pairs, objective, chain.problem.p_dot
                    )
                )
                for pairs in (kept, chain.pairs)
            )
            # rtol 1e-10 of the solves, one fed into the next
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * np.abs(expected).max())


# -- objectives with and without a tangent of their own --


def fit(chain: Chain):
    """Half the squared distance of the second value to what it is: zero slope, H = g g^T."""
    best = chain.pairs.values[1].real

    def objective(pairs):
        rest = pairs.values[1].real - best
        lam_bar = np.zeros(pairs.count)
        lam_bar[1] = rest
        return rest**2 / 2, ga.EigenCotangent(values=lam_bar)

    return objective


def test_fit_at_its_best_has_curvature_though_no_slope(default_chain):
    chain, p_dot = default_chain, default_chain.problem.p_dot
    slope = flat(
        ga.gradient(chain.model, chain.problem.p, chain.pairs, ga.objectives.Eigenvalue(1))
    )
    found = ga.hessian_vector_product(
        chain.model, chain.problem.p, chain.pairs, fit(chain), p_dot, strategy="direct"
    )
    # Differences of the cotangent: 1e-11
    np.testing.assert_allclose(
        flat(found), slope * (slope @ flat(p_dot)), rtol=0, atol=1e-8 * np.abs(slope).max() ** 2
    )


class WithTangent:
    """(Re lam_0)^2 sum_i p_i^2, with or without its own tangent."""

    def __call__(self, pairs, p):
        lam, total = pairs.values[0].real, sum((v**2).sum() for v in p.values())
        bar = np.zeros(pairs.count)
        bar[0] = 2 * lam * total
        explicit = {name: 2 * lam**2 * v for name, v in p.items()}
        return lam**2 * total, ga.EigenCotangent(values=bar, parameters=explicit)


class WithOwnTangent(WithTangent):
    def tangent(self, pairs, tangent, p, p_dot):
        lam, rate = pairs.values[0].real, tangent.values[0].real
        total = sum((v**2).sum() for v in p.values())
        total_dot = 2 * sum(v @ p_dot[name] for name, v in p.items())
        bar = np.zeros(pairs.count)
        bar[0] = 2 * rate * total + 2 * lam * total_dot
        explicit = {name: 4 * lam * rate * v + 2 * lam**2 * p_dot[name] for name, v in p.items()}
        return ga.EigenCotangent(values=bar, parameters=explicit)


def test_own_tangent_replaces_the_differences(default_chain):
    chain, p_dot = default_chain, default_chain.problem.p_dot
    found, expected = (
        flat(
            ga.hessian_vector_product(
                chain.model, chain.problem.p, chain.pairs, objective, p_dot, strategy="direct"
            )
        )
        for objective in (WithOwnTangent(), WithTangent())
    )
    # Sixth-order differences with a step of 5e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_spectral_function_of_simple_pairs(comm):
    scenario = Scenario(CHAINS[0].problem, "B")
    with solved(scenario, comm) as chain:
        weight = np.linspace(0.5, 2.0, chain.problem.n)
        spectral = ga.objectives.SpectralFunction(weight, np.exp)
        found = ga.hessian_vector_product(
            chain.model, chain.problem.p, chain.pairs, spectral, chain.problem.p_dot
        )

        def slopes(k):
            p = moved(chain.problem.p, k * STEP, chain.problem.p_dot)
            pairs = chain.solved(p, like=chain.pairs)
            return flat(ga.gradient(chain.model, p, pairs, spectral))

        expected = fourth_order_difference(slopes)
    # Gradients are exact to 1e-11, divided by the step.
    np.testing.assert_allclose(flat(found), expected, rtol=0, atol=1e-7 * np.abs(expected).max())

"""Gradients and tangents (jvp): every problem class x normalization x objective x strategy.

Proved in five ways: against a dense reference, Taylor remainders and fourth-order differences of
the whole chain, and by the dot-product identity of tangents and gradients.  Ranks are in mpi_tests,
single terms in test_gradient_terms.py.  One file: its tests share what they solve.
"""

import numpy as np
import pytest
from pencils import flat
from scenarios import fourth_order_difference, scenarios, solved

CHAINS = scenarios("B", "2", "component", "linear", "bilinear")
PARTS = ["values", "right", "left"]

# The adjoint's rtol is 1e-10 and the gallery's bordered systems have conditions below 10.
EXACT = 1e-9


@pytest.fixture(scope="module", params=CHAINS, ids=str)
def chain(request, comm):
    with solved(request.param, comm) as found:
        yield found


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_gradient_equals_dense_reference(chain, strategy):
    errors = chain.gradients(strategy) - chain.reference_gradients
    assert chain.too_large(errors, EXACT) == {}


def test_objective_values_equal_dense_formulas(chain):
    expected = [spec.dense(chain.problem, chain.reference.state) for spec in chain.specs]
    # Relative to each value: formulas of vectors that agree to 1e-13.
    np.testing.assert_allclose(chain.around[0], expected, rtol=1e-10, atol=1e-11)


def test_gradient_has_second_order_taylor_remainder(chain):
    orders = chain.taylor_orders(chain.slopes)
    assert chain.named(orders, ~(orders >= 1.95)) == {}


def test_gradient_equals_fourth_order_differences_of_the_chain(chain):
    differences = fourth_order_difference(lambda k: chain.around[k])
    assert chain.too_large(chain.slopes - differences, 1e-7) == {}


def test_blocks_are_real_iff_pencil_and_build_are(chain):
    assert chain.pairs.right.dtype == chain.pairs.pencil.block_dtype
    assert chain.pairs.left.dtype == chain.pairs.pencil.block_dtype


# -- tangents of values, right and left vectors --


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_tangent_equals_dense_reference(chain, strategy):
    found, expected = (
        chain.tangent(strategy),
        chain.reference.tangent(chain.problem.p_dot),
    )
    for part in PARTS:
        size = np.linalg.norm(getattr(expected, part))
        # rtol 1e-10 of the solves, conditions below 10
        np.testing.assert_allclose(
            getattr(found, part), getattr(expected, part), atol=1e-9 * size, err_msg=part
        )


def test_tangent_equals_fourth_order_differences(chain):
    found = chain.tangent()
    for part in PARTS:
        differences = fourth_order_difference(
            lambda k, part=part: getattr(chain.neighbours[k], part)
        )
        # Vectors are accurate to 1e-13 x condition, divided by the step 1e-3
        np.testing.assert_allclose(
            getattr(found, part),
            differences,
            atol=1e-7 * np.linalg.norm(differences),
            err_msg=part,
        )


def test_tangent_has_the_types_of_the_pairs(chain):
    found = chain.tangent()
    assert found.right.dtype == chain.pairs.right.dtype
    assert found.left.dtype == chain.pairs.left.dtype
    assert found.right.shape == chain.pairs.right.shape


# One factor serves both ways: rounding.  Krylov methods: 100 x their rtol of 1e-10.
@pytest.mark.parametrize(("strategy", "limit"), [("direct", 1e-12), ("ksp", 1e-8)])
def test_gradient_and_tangent_are_dual(chain, strategy, limit):
    tangent = chain.tangent(strategy)
    forward = [chain.along(tangent, cotangent) for cotangent in chain.cotangents()]
    backward = chain.gradients(strategy) @ flat(chain.problem.p_dot)
    assert chain.too_large(backward - forward, limit) == {}

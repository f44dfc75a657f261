"""Kept factors of bordered matrices, on several ranks."""

import pytest
from scenarios import solved
from test_near_factors import (
    CHAINS,
    counted,
    free_factors,
    test_conjugates_share_a_factor_where_the_matrix_is_real,
    test_factors_are_freed_with_the_pairs,
    test_gradient_equals_dense_reference,
    test_one_factor_serves_left_vector_adjoints_and_tangents,
    test_vectors_of_another_direction_do_not_meet_a_kept_factor,
)

__all__ = [
    "counted",
    "free_factors",
    "test_conjugates_share_a_factor_where_the_matrix_is_real",
    "test_factors_are_freed_with_the_pairs",
    "test_gradient_equals_dense_reference",
    "test_one_factor_serves_left_vector_adjoints_and_tangents",
    "test_vectors_of_another_direction_do_not_meet_a_kept_factor",
]
FEW = [item for item in CHAINS if str(item) in {"nonsymmetric-2", "complex_pair-2", "two_group-2"}]


@pytest.fixture(scope="module", params=FEW, ids=str)
def chain(request, comm):
    with solved(request.param, comm) as found:
        # Every kind of cotangent; each objective by itself does not know of factors.
        found.objectives, found.specs = found.objectives[1::4], found.specs[1::4]
        yield found

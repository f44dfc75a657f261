"""Completeness by the factors of left vectors, on several ranks."""

from test_simple_pairs import (
    free_factors,
    test_conjugates_need_one_factor_where_the_matrix_is_real,
    test_missed_copies_are_still_found,
    test_near_neighbours_are_looked_for,
    test_other_ritz_values_as_near_to_the_target_are_looked_for,
    test_simple_pairs_need_no_second_start,
)

__all__ = [
    "free_factors",
    "test_conjugates_need_one_factor_where_the_matrix_is_real",
    "test_missed_copies_are_still_found",
    "test_near_neighbours_are_looked_for",
    "test_other_ritz_values_as_near_to_the_target_are_looked_for",
    "test_simple_pairs_need_no_second_start",
]

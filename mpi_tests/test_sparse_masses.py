"""The pattern of B on several ranks: entries of one rank come from elements of others."""

from test_sparse_masses import (
    test_a_base_of_every_element_has_the_entries_of_all,
    test_a_base_that_loses_its_zeros_is_an_error,
    test_loops_find_what_they_find_with_a_full_pattern,
    test_masses_of_components_have_their_own_pattern,
    test_shifted_matrices_have_all_entries,
    test_what_is_not_known_to_be_zero_stays,
)

__all__ = [
    "test_a_base_of_every_element_has_the_entries_of_all",
    "test_a_base_that_loses_its_zeros_is_an_error",
    "test_loops_find_what_they_find_with_a_full_pattern",
    "test_masses_of_components_have_their_own_pattern",
    "test_shifted_matrices_have_all_entries",
    "test_what_is_not_known_to_be_zero_stays",
]

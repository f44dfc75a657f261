"""Factors of Jacobians of states, on several ranks: tests of one rank again."""

from test_kept_jacobians import (
    factorisations,
    test_a_jacobian_of_another_pattern_gets_its_own_factor,
    test_after_a_singular_jacobian_the_next_one_is_solved_with,
)

__all__ = [
    "factorisations",
    "test_a_jacobian_of_another_pattern_gets_its_own_factor",
    "test_after_a_singular_jacobian_the_next_one_is_solved_with",
]

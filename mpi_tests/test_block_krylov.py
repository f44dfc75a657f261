"""Blocked solves with the eigensolver's factor, on several ranks."""

from test_block_krylov import (
    test_all_strategies_give_the_same_gradient,
    test_columns_that_stall_are_left_to_other_strategies,
    test_right_sides_may_be_so_small_that_their_squares_vanish,
    test_solutions_are_those_of_the_dense_bordered_matrices,
    test_solutions_that_are_not_finite_leave_no_trace,
)

__all__ = [
    "test_all_strategies_give_the_same_gradient",
    "test_columns_that_stall_are_left_to_other_strategies",
    "test_right_sides_may_be_so_small_that_their_squares_vanish",
    "test_solutions_are_those_of_the_dense_bordered_matrices",
    "test_solutions_that_are_not_finite_leave_no_trace",
]

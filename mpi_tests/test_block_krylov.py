"""Blocked solves with the eigensolver's factor, on several ranks."""

import test_block_krylov as serial
from pencils import COMPLEX_BUILD
from ranks import with_cases
from test_block_krylov import (
    test_all_strategies_give_the_same_gradient,
    test_columns_that_stall_are_left_to_other_strategies,
    test_right_sides_may_be_so_small_that_their_squares_vanish,
)

__all__ = [
    "test_all_strategies_give_the_same_gradient",
    "test_columns_that_stall_are_left_to_other_strategies",
    "test_right_sides_may_be_so_small_that_their_squares_vanish",
]
# Every kind in one direction, those whose left vectors differ from the right ones in both.
FORWARD = ["symmetric", "standard", "nonsymmetric", "definite by A"] + ["complex"] * COMPLEX_BUILD
TRANSPOSED = ["interior shift", "singular B", "nonsymmetric", "nonsymmetric, singular B"]
TRANSPOSED += ["Hermitian", "complex"] * COMPLEX_BUILD
test_solutions_are_those_of_the_dense_bordered_matrices = with_cases(
    serial.test_solutions_are_those_of_the_dense_bordered_matrices,
    ("kind", "transposed"),
    [*((kind, False) for kind in FORWARD), *((kind, True) for kind in TRANSPOSED)],
)
test_solutions_that_are_not_finite_leave_no_trace = with_cases(
    serial.test_solutions_that_are_not_finite_leave_no_trace,
    ("kind", "when"),
    [("symmetric", 1), ("nonsymmetric", 2), ("symmetric", 3)],
)

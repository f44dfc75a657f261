"""Rows that stand alone, spread over the ranks; rivals and noise of replicated decisions."""

from test_moving_rows import (
    test_columns_of_constrained_rows_may_move,
    test_constrained_rows_are_equal_up_to_rounding,
    test_derivatives_left_in_constrained_rows_prove_nothing,
    test_distributed_parameters,
    test_left_vectors_of_rows,
    test_one_parameter_for_one_of_two_springs_is_enough,
)
from test_tracking_rivals import (
    test_a_loop_through_an_exceptional_point_is_refused,
    test_the_better_of_two_partners_above_one_is_taken,
)
from test_verification_noise import test_terms_and_noise_of_a_hand_made_cotangent

__all__ = [
    "test_a_loop_through_an_exceptional_point_is_refused",
    "test_columns_of_constrained_rows_may_move",
    "test_constrained_rows_are_equal_up_to_rounding",
    "test_derivatives_left_in_constrained_rows_prove_nothing",
    "test_distributed_parameters",
    "test_left_vectors_of_rows",
    "test_one_parameter_for_one_of_two_springs_is_enough",
    "test_terms_and_noise_of_a_hand_made_cotangent",
    "test_the_better_of_two_partners_above_one_is_taken",
]

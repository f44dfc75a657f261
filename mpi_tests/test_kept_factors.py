"""What is kept from call to call of a loop, on several ranks: the tests of one rank again."""

from test_kept_factors import (  # noqa: F401  (collected here)
    factorisations,
    pencil,
    test_a_closed_pencil_keeps_nothing,
    test_a_failed_call_leaves_nothing_stale,
    test_a_jacobian_of_another_pattern_gets_its_own_factor,
    test_a_loop_analyses_its_matrices_once_and_equals_fresh_calls,
    test_a_new_entry_means_a_new_analysis,
    test_a_shift_on_an_eigenvalue_is_moved_and_the_next_one_is_not,
    test_after_a_singular_jacobian_the_next_one_is_solved_with,
    test_each_solve_has_the_shift_it_asks_for,
    test_newton_analyses_one_pattern_once,
    test_open_pairs_keep_their_factor_to_themselves,
    test_other_options_are_obeyed,
)

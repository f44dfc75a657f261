"""What is kept from call to call of a loop, on several ranks: tests of one rank again."""

import pytest
import test_kept_factors as on_one_rank
from test_kept_factors import (  # noqa: F401  (collected here)
    factorisations,
    pencil,
    test_a_matrix_replaced_in_place_means_a_new_analysis,
    test_a_new_entry_means_a_new_analysis,
    test_only_a_solver_of_the_same_pattern_is_given,
    test_open_pairs_keep_their_factor_to_themselves,
    test_other_options_are_obeyed,
)


@pytest.mark.parametrize(("kind", "target"), [("symmetric", 0.0), ("nonsymmetric", 0.7)])
def test_a_loop_analyses_its_matrices_once(comm, kind, target, factorisations):  # noqa: F811
    test = on_one_rank.test_a_loop_analyses_its_matrices_once_and_equals_fresh_calls
    test(comm, kind, target, factorisations)

"""What blocked adjoints cost on several ranks: as many columns, products and reductions."""

from test_block_costs import (
    counts,
    test_a_gradient_of_four_vectors_has_fixed_costs,
    test_later_gradients_continue_the_space,
    test_vectors_that_depend_on_others_keep_the_basis_orthonormal,
    test_what_is_known_wrongly_is_mended_without_a_solve,
)

__all__ = [
    "counts",
    "test_a_gradient_of_four_vectors_has_fixed_costs",
    "test_later_gradients_continue_the_space",
    "test_vectors_that_depend_on_others_keep_the_basis_orthonormal",
    "test_what_is_known_wrongly_is_mended_without_a_solve",
]

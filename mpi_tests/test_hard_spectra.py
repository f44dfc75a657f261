"""Copies, moved shifts, mixed units and windows of the count, on every number of ranks."""

from test_counting_windows import (  # noqa: F401  (collected here, too)
    test_dense_spectrum_at_an_offset,
    test_largest_magnitudes_down_to_zero,
)
from test_ill_conditioned_mass import (  # noqa: F401
    test_definite_mass_counts_as_definite,
    test_infinite_values_never_come_back,
)
from test_left_vectors import test_rows_in_other_units  # noqa: F401
from test_many_copies import (  # noqa: F401
    test_complex_pairs,
    test_hermitian_pencils,
    test_nonsymmetric_pencils,
)
from test_mixed_units import (  # noqa: F401
    test_left_vectors_and_factor_are_in_the_users_units,
    test_results_that_miss_a_target_are_in_the_users_units,
    test_start_vectors_of_another_solve_fit,
    test_values_and_gradient_of_a_flow,
)
from test_moved_shift import (  # noqa: F401
    test_elastic_modes_beside_a_defective_zero,
    test_ends_of_the_imaginary_axis,
    test_values_are_nearest_to_the_target_not_to_the_shift,
)

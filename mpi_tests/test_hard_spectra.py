"""Copies, moved shifts, mixed units and windows of the count, on every number of ranks."""

import test_ill_conditioned_mass
import test_left_vectors
import test_many_copies
import test_mixed_units
import test_moved_shift
from ranks import with_cases
from test_counting_windows import (  # noqa: F401  (collected here, too)
    test_dense_spectrum_at_an_offset,
    test_largest_magnitudes_down_to_zero,
)
from test_ill_conditioned_mass import test_infinite_values_never_come_back  # noqa: F401
from test_many_copies import test_complex_pairs, test_hermitian_pencils  # noqa: F401
from test_mixed_units import (  # noqa: F401
    test_left_vectors_and_factor_are_in_the_users_units,
    test_results_that_miss_a_target_are_in_the_users_units,
    test_start_vectors_of_another_solve_fit,
)
from test_moved_shift import (  # noqa: F401
    test_ends_of_the_imaginary_axis,
    test_values_are_nearest_to_the_target_not_to_the_shift,
)

# Masses of every condition, some with fewer rows than three ranks could share out well.
test_definite_mass_counts_as_definite = with_cases(
    test_ill_conditioned_mass.test_definite_mass_counts_as_definite,
    ("seed", "condition", "n"),
    [(0, 1e2, 6), (1, 1e4, 6), (2, 1e6, 6), (2, 1e2, 30), (0, 1e4, 30), (1, 1e6, 30)],
)
test_rows_in_other_units = with_cases(
    test_left_vectors.test_rows_in_other_units,
    ("seed", "decades"),
    [(0, 5), (1, 7), (2, 9), (3, 11)],
)
# Fewer and more pairs than copies, with and without left vectors.
test_nonsymmetric_pencils = with_cases(
    test_many_copies.test_nonsymmetric_pencils,
    ("copies", "count", "left"),
    [(2, 1, "auto"), (3, 3, False), (3, 4, "auto"), (5, 1, False), (6, 6, "auto"), (9, 1, False)],
)
# The pencil is scaled for the solve from 1e3 on.
test_values_and_gradient_of_a_flow = with_cases(
    test_mixed_units.test_values_and_gradient_of_a_flow,
    ("density", "left", "count"),
    [(1.0, "auto", 4), (1e3, False, 4), (1e6, "auto", 2), (1e9, "auto", 4), (1e9, False, 2)],
)
test_elastic_modes_beside_a_defective_zero = with_cases(
    test_moved_shift.test_elastic_modes_beside_a_defective_zero,
    ("count", "target", "damping"),
    [
        (2, 0.0, 0.0),
        (4, 0.0, 0.01),
        (5, 0.01, 0.0),
        (2, 0.01, 0.01),
        (4, -0.3, 0.0),
        (5, -0.3, 0.01),
    ],
)

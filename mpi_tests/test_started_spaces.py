"""What adjoint spaces begin with, on several ranks."""

from test_started_spaces import (
    test_a_basis_beside_the_eigenvectors_is_added_to_them,
    test_a_basis_far_from_orthonormal_is_made_so,
    test_the_basis_of_the_eigensolver_is_the_first_part_of_the_space,
    ways,
)

__all__ = [
    "test_a_basis_beside_the_eigenvectors_is_added_to_them",
    "test_a_basis_far_from_orthonormal_is_made_so",
    "test_the_basis_of_the_eigensolver_is_the_first_part_of_the_space",
    "ways",
]

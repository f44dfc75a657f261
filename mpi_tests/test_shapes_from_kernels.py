"""Kernels of users that return odd shapes: refused on all ranks alike."""

from test_shapes_from_kernels import (
    test_there_must_be_a_matrix_for_every_element,
    test_there_must_be_a_number_for_every_value,
)

__all__ = [
    "test_there_must_be_a_matrix_for_every_element",
    "test_there_must_be_a_number_for_every_value",
]

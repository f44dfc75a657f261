"""Refilled pencils on several ranks: where patterns differ on one rank only, too."""

from test_refilled_pencils import (
    test_a_pencil_of_an_equal_model_is_refilled,
    test_a_pencil_of_another_model_is_not_refilled,
    test_a_pencil_with_an_entry_more_is_not_refilled,
)

__all__ = [
    "test_a_pencil_of_an_equal_model_is_refilled",
    "test_a_pencil_of_another_model_is_not_refilled",
    "test_a_pencil_with_an_entry_more_is_not_refilled",
]

"""Sums of entries into sparse matrices, on several ranks: the tests of one rank again."""

from test_patterns import test_batches_are_summed_where_they_belong  # noqa: F401

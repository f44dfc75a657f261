"""Indices of pairs as users give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from geneig_adjoint.errors import ArgumentError, InputError


def index_error(count: int, indices: Any, what: str = "pairs") -> InputError | None:
    """Return an error unless every item is the index of a pair.  (Not collective.)

    Parameters
    ----------
    count
        Number of pairs there are.
    indices
        Integers in 0 ... count - 1, Python's or NumPy's; no numbers of other kinds, which
        would be cut to integers, no truth values.
    what
        What the message calls them.

    """
    if isinstance(indices, str | bytes) or not isinstance(indices, Iterable):
        return ArgumentError(
            f"{what} must be a sequence of indices in 0 ... {count - 1}, got {indices!r}; write "
            "(0,) for the first pair alone"
        )
    given = list(indices)
    if all(is_index(count, j) for j in given):
        return None
    return ArgumentError(
        f"{what} must be indices in 0 ... {count - 1}, got {given}; raise count in the solve"
    )


def single_index_error(count: int, pair: Any) -> InputError | None:
    """Return an error unless this is the index of a pair.  (Not collective.)"""
    if is_index(count, pair):
        return None
    return ArgumentError(
        f"pair must be in 0 ... {count - 1}, got {pair!r}; raise count in the solve"
    )


def is_index(count: int, j: Any) -> bool:
    """Tell whether this is an integer in 0 ... count - 1, and no truth value."""
    whole = isinstance(j, int | np.integer) and not isinstance(j, bool)
    return whole and bool(0 <= j < count)

"""Gradients with respect to distributed parameters: every rank keeps its own entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.reductions import allreduce_same


@dataclass(frozen=True)
class Spread:
    """Entries of a gradient, spread over the ranks as those of the parameter are.

    Attributes
    ----------
    rows : tuple of int
        The first entry of this rank, and the first of the next one.
    local : ndarray
        The entries of this rank.
    size : int
        How many all ranks have.
    norm : float
        Of all entries.

    """

    rows: tuple[int, int]
    local: Block
    size: int
    norm: float

    def __len__(self) -> int:
        return self.size


def spread(vec: Any, local: Block | None = None) -> Spread:
    """Return entries that are spread as a vector is; those of the vector, unless others are given.

    Collective. The entries are copied.
    """
    first, last = vec.getOwnershipRange()
    mine = np.array(params.local_values(vec) if local is None else local, dtype=float)
    square = allreduce_same(vec.comm.tompi4py(), np.array([mine @ mine]))
    return Spread((int(first), int(last)), mine, int(vec.getSize()), float(np.sqrt(square[0])))


def norm_of(part: Any) -> float:
    """Return the norm of a gradient with respect to one parameter.  (Not collective.)"""
    return part.norm if isinstance(part, Spread) else float(np.linalg.norm(part))

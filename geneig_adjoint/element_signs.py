"""What the elements of a matrix prove about its signs, so that nothing need be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.linalg

from geneig_adjoint._types import Block
from geneig_adjoint.element_blocks import ElementBlock
from geneig_adjoint.kernels import ScaledKernel
from geneig_adjoint.reductions import largest_over_ranks

if TYPE_CHECKING:
    from mpi4py import MPI

CERTAIN = 1e-10
"""Smallest eigenvalue of K0, relative to the largest, that is positive beyond rounding."""


class HasBlocks(Protocol):
    """A model of element blocks on a communicator."""

    comm: MPI.Comm
    blocks: list[ElementBlock]


def sum_is_positive(model: HasBlocks, matrix: str, values: Sequence[Mapping[str, Block]]) -> bool:
    """Tell whether a sum of element matrices is positive semidefinite for certain.

    Collective. So is every sum of s_e K0 with s_e >= 0 and K0 symmetric positive definite;
    a K0 that is semidefinite, or not the same for all elements, proves nothing here: False
    then means unknown.

    Parameters
    ----------
    model
        Whose elements are asked, this rank's.
    matrix
        "A" or "B".
    values
        Parameters of the elements of every block.

    """
    unknown = any(
        block.matrix == matrix and not _is_positive(block, mine)
        for block, mine in zip(model.blocks, values, strict=True)
    )
    return not largest_over_ranks(model.comm, np.array([float(unknown)]))[0]


def _is_positive(block: ElementBlock, values: Mapping[str, Block]) -> bool:
    kernel = block.kernel
    if not len(block.dofs):
        return True  # nor is the law asked for values of no elements
    # A class made of it may have other matrices.
    if type(kernel) is not ScaledKernel or kernel.base.ndim != 2:
        return False
    base = kernel.base
    if np.iscomplexobj(base) or not np.array_equal(base, base.T):
        return False
    eigenvalues = scipy.linalg.eigvalsh(base)
    if not eigenvalues[0] > CERTAIN * eigenvalues[-1]:
        return False
    return bool((kernel.factors(values) >= 0).all())

"""Nodal coordinates as parameters."""

from __future__ import annotations

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError


def coordinate_ids(cells: Block, dim: int) -> Block:
    """Return which entries of a parameter of all nodes' coordinates every cell needs.

    Not collective. The parameter is ``points.ravel()`` with points (n_nodes, dim), or a
    PETSc.Vec of the same order. A kernel gets the coordinates of its element as a value of the
    shape (nodes, dim), with the batch in front for a `NumpyKernel`. What elements of any rank
    add to a node they share is summed.

    Parameters
    ----------
    cells
        Node numbers of every element, (m, nodes), counted from 0 over all ranks; constrained
        nodes have coordinates, too.
    dim
        Coordinates per node: 1, 2 or 3.

    Returns
    -------
    ndarray
        Ids (m, nodes, dim) for the ``parameters`` of an `ElementBlock`.

    Raises
    ------
    InputError
        Cells or a dimension of the wrong kind.

    """
    cells = np.asarray(cells)
    if cells.ndim != 2 or cells.dtype.kind not in "iu":
        raise InputError(
            f"cells must be the node numbers of every element, integers (m, nodes), got dtype "
            f"{cells.dtype}, shape {cells.shape}; pass one row per element"
        )
    if cells.size and cells.min() < 0:
        raise InputError(
            f"node numbers must not be negative, got {cells.min()} in element "
            f"{int(np.argmin(cells.min(axis=1)))}; mark constrained rows in dofs only, their "
            "nodes have coordinates"
        )
    if dim not in {1, 2, 3}:
        raise InputError(
            f"dim must be the number of coordinates per node, 1, 2 or 3, got {dim!r}; pass "
            "points.shape[1]"
        )
    dim = int(dim)
    return np.asarray(dim * cells.astype(np.int64)[:, :, None] + np.arange(dim))

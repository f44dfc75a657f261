"""The sparse matrices with columns (dA/dp_i) x and (dB/dp_i) x, from products of elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.assembly import Pattern
from geneig_adjoint.directions import unit_directions
from geneig_adjoint.element_blocks import ElementBlock, batches, check_shape, cut
from geneig_adjoint.exchange import row_ranges
from geneig_adjoint.ghosts import HasRows


def column_numbers(size: int, indices: Block | None) -> Block:
    """Return the column of every parameter entry, -1 for those not asked for.

    One entry more, -1, is what the id -1 finds.
    """
    column_of = np.full(size + 1, -1)
    chosen = np.arange(size) if indices is None else np.asarray(indices)
    column_of[chosen] = np.arange(len(chosen))
    return column_of


def element_columns(
    blocks: Sequence[ElementBlock],
    name: str,
    values: Sequence[Mapping[str, Block]],
    vector_of: Callable[[int], Block],
) -> list[tuple[str, Block, Block, Block]]:
    """Return (matrix, dofs, ids, (dK_e/dp_i) x_e) for every id of an element.

    Not collective.

    Parameters
    ----------
    blocks, values
        All blocks, and the parameters of their elements.
    name
        The parameter.
    vector_of
        ``vector_of(number)`` -> x at the dofs of a block, (n_elements, nd).

    """
    found = []
    for index, block in enumerate(blocks):
        if name not in block.parameters:
            continue
        ids = np.asarray(block.parameters[name])
        ids = ids.reshape(len(ids), math.prod(ids.shape[1:]))
        local = vector_of(index)
        for column in range(ids.shape[1]):
            products = _column_products(index, block, (name, column), values[index], local)
            found.append((block.matrix, block.dofs, ids[:, [column]], products))
    return found


def _column_products(
    index: int,
    block: ElementBlock,
    one: tuple[str, int],
    values: Mapping[str, Block],
    local: Block,
) -> Block:
    """Return (dK_e/dp_i) x_e for the parameter entry that ``one`` (name, column) names."""
    products = np.zeros(block.dofs.shape, dtype=np.result_type(local.dtype, PETSc.ScalarType))
    for rows in batches(block.dofs.shape):
        here = cut(values, rows)
        derivative = np.asarray(block.kernel.derivative(here, unit_directions(here, *one), rows))
        check_shape(derivative, index, block.dofs.shape, rows)
        products[rows] = np.einsum("edf,ef->ed", derivative, local[rows])
    return products


def matrices_of_columns(
    layout: HasRows,
    columns: tuple[int, int],
    column_of: Block,
    products: Sequence[tuple[str, Block, Block, Block]],
) -> tuple[PETSc.Mat, PETSc.Mat]:
    """Return the sparse matrices of A and of B from what `element_columns` has found.

    Collective.

    Parameters
    ----------
    layout
        Who owns which rows.
    columns
        Local and global number of columns.
    column_of
        The column of every id, as `column_numbers` returns it.
    products
        Of this rank's elements.

    """
    of_a, of_b = (
        [(dofs, column_of[ids], found) for side, dofs, ids, found in products if side == matrix]
        for matrix in "AB"
    )
    return _matrix(layout, columns, of_a), _matrix(layout, columns, of_b)


def _matrix(
    layout: HasRows,
    columns: tuple[int, int],
    products: Sequence[tuple[Block, Block, Block]],
) -> PETSc.Mat:
    """Return the sparse matrix summed from (dofs, columns, values) of blocks.  (Collective.)

    Shapes (n, nd), (n, 1), (n, nd); -1: dropped.
    """
    pattern = Pattern(
        layout.comm,
        row_ranges(layout.comm, layout.rows),
        columns,
        [np.broadcast_arrays(dofs, ids) for dofs, ids, _ in products],  # type: ignore[misc]
    )
    sums = pattern.sums(PETSc.ScalarType)
    for group, (_, _, values) in enumerate(products):
        pattern.collect(sums, group, slice(None), values)
    return pattern.matrix(sums)

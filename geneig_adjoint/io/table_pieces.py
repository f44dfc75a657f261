"""Pieces of an open element table, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError
from geneig_adjoint.io.hdf5_probe import probe_error
from geneig_adjoint.io.mesh import Mesh
from geneig_adjoint.io.table_layout import Table, TableBlock, read_mesh


def check_readable(path: str | Path) -> None:
    """Raise unless HDF5 can read a file, which is tried in another process.  (Not collective.)"""
    _raise(probe_error(path))


def read_places(group: Any, block: TableBlock, table: Table, rows: slice) -> tuple[Block, Block]:
    """Return dofs and ids of some elements.

    Not collective.

    Raises
    ------
    InputError
        When some are out of range, with the first such element.

    """
    dofs, ids = _signed(group["dofs"][rows]), _signed(group["ids"][rows])
    _raise(_places_error(block, rows.start, dofs, ids, table))
    return dofs, ids


def read_matrices(group: Any, block: TableBlock, rows: slice) -> Block:
    """Return the matrices of some elements.

    Not collective.

    Raises
    ------
    InputError
        When one has NaN or Inf.

    """
    matrices: Block = group["matrices"][rows]
    _raise(_matrices_error(block, rows.start, matrices))
    return matrices


def read_shared_matrix(group: Any, block: TableBlock) -> Block:
    """Return the matrix that all elements of a block share.

    Not collective.

    Raises
    ------
    InputError
        When it has NaN or Inf.

    """
    matrix: Block = group["matrices"][()]
    _raise(_matrices_error(block, 0, matrix))
    return matrix


def read_parameter(dataset: Any, name: str, rows: slice) -> Block:
    """Return some entries of a parameter.

    Not collective.

    Raises
    ------
    InputError
        When one is NaN or Inf.

    """
    values: Block = dataset[rows].astype(float)
    _raise(_parameter_error(name, rows.start, values))
    return values


def read_mesh_of(file: Any, table: Table) -> Mesh | None:
    """Return the mesh of a table, None without one.

    Not collective.

    Raises
    ------
    InputError
        When something is missing, of another kind, or out of range.

    """
    mesh = read_mesh(file)
    _raise(None if mesh is None else mesh.error(table.n))
    return mesh


def _places_error(
    block: TableBlock, first: int, dofs: Block, ids: Block, table: Table
) -> InputError | None:
    """Return what is wrong with dofs or ids of elements from ``first`` on.  (Not collective.)"""
    wrong = ((dofs < -1) | (dofs >= table.n)).any(axis=1)
    size = table.sizes[block.parameter]
    outside = (ids < 0) | (ids >= size)
    if not (wrong | outside).any():
        return None
    at = int(np.argmax(wrong | outside))
    if wrong[at]:
        bad = next(int(dof) for dof in dofs[at] if not -1 <= dof < table.n)
        return InputError(
            f"dofs must lie in -1 ... {table.n - 1}, got {bad} at element {first + at} of "
            f"{block.name}{_and_more(wrong)}; count the free dofs from 0"
        )
    return InputError(
        f"ids of {block.parameter!r} must lie in 0 ... {size - 1}, as /parameters/"
        f"{block.parameter} has {size} entries, got {ids[at]} at element {first + at} of "
        f"{block.name}{_and_more(outside)}; extend the parameter or renumber the ids"
    )


def _and_more(bad: Block) -> str:
    return f" and {np.count_nonzero(bad) - 1} more of those read with it"


def _matrices_error(block: TableBlock, first: int, matrices: Block) -> InputError | None:
    """Return what is wrong with matrices of elements from ``first`` on.  (Not collective.)"""
    if np.isfinite(matrices).all():
        return None
    if block.shared:
        where = f"in the one that all elements of {block.name} share"
    else:
        bad = ~np.isfinite(matrices).all(axis=(1, 2))
        where = f"at element {first + int(np.argmax(bad))} of {block.name}{_and_more(bad)}"
    return InputError(
        f"element matrices must be finite, got NaN or Inf {where}; check geometry and material "
        "of this element"
    )


def _parameter_error(name: str, first: int, values: Block) -> InputError | None:
    """Return what is wrong with entries of a parameter.  (Not collective.)"""
    bad = np.flatnonzero(~np.isfinite(values))
    if not bad.size:
        return None
    return InputError(
        f"parameter {name!r} must be finite, got {values[bad[0]]} at entry {first + bad[0]} of "
        f"/parameters/{name} and {bad.size - 1} more; correct it"
    )


def _signed(numbers: Block) -> Block:
    """Return numbers of any integer type as those the package works with."""
    if numbers.dtype.kind == "u" and numbers.size and numbers.max() > np.iinfo(np.int64).max:
        return np.where(numbers > np.iinfo(np.int64).max, -2, numbers.astype(np.int64))
    return numbers.astype(np.int64, copy=False)


def _raise(error: InputError | None) -> None:
    """Raise an error if there is one.  (Not collective.)"""
    if error is not None:
        raise error

"""`ElementBlock`: elements of one kind, and what can be wrong with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.compiled_kernels import CompiledKernel
from geneig_adjoint.differenced_kernels import Differenced
from geneig_adjoint.errors import InputError
from geneig_adjoint.ghosts import dof_range_error
from geneig_adjoint.jax_kernels import JaxKernel
from geneig_adjoint.kernels import Kernel, NumpyKernel, ScaledKernel
from geneig_adjoint.parameters import IdAccess

if TYPE_CHECKING:
    from mpi4py import MPI

BATCH_ENTRIES = 4_000_000
"""Element-matrix entries evaluated at once: 32 MB per real array."""


@dataclass(frozen=True)
class ElementBlock:
    """Elements of one kind that this rank owns.

    Parameters
    ----------
    matrix
        ``"A"`` or ``"B"``: where the element matrices are added.
    dofs
        Global row numbers (n_elements, nd), of any rank's rows; -1: constrained.
    kernel
        The element matrices as functions of the parameters.
    parameters
        Name -> index of the element's entry in that parameter, (n_elements,), or
        (n_elements, q) for kernels that take q entries of it, or (n_elements, nodes, dim) for
        kernels that take coordinates (`coordinate_ids`): values have the shape of the ids.
        In tables with several ids per element -1 stands for no entry, the value 0, as at
        the constrained dofs of a state.

    """

    matrix: str
    dofs: Block
    kernel: Kernel
    parameters: Mapping[str, Block] = field(default_factory=dict)


class ElementIds:
    """The entries of one parameter at the ids of a block; -1: none, the value 0.

    Parameters
    ----------
    ids
        Indices, any shape.

    """

    def __init__(self, ids: Block) -> None:
        self.shape = ids.shape
        self._used = np.flatnonzero(ids.ravel() >= 0) if np.any(ids < 0) else None
        self._access = IdAccess(ids if self._used is None else ids.ravel()[self._used])

    @property
    def smallest_length(self) -> int:
        """Length a parameter needs so that every id exists."""
        return self._access.smallest_length

    def gather(self, value: Any) -> Block:
        """Return the entries at the ids, in their shape.  (Collective for a PETSc.Vec.)"""
        found = self._access.gather(value)
        if self._used is None:
            return found
        entries = np.zeros(math.prod(self.shape))
        entries[self._used] = found
        return entries.reshape(self.shape)

    def add(self, total: Any, contributions: Block) -> None:
        """Add contributions (shape of the ids) to a gradient entry; see `IdAccess.add`."""
        if self._used is not None:
            contributions = contributions.ravel()[self._used]
        self._access.add(total, contributions)


def smallest_lengths(comm: MPI.Comm, access: Sequence[Mapping[str, ElementIds]]) -> dict[str, int]:
    """Return name -> entries that the parameter must have for all ranks' ids.  (Collective.)"""
    local: dict[str, int] = {}
    for ids_of in access:
        for name, ids in ids_of.items():
            local[name] = max(local.get(name, 0), ids.smallest_length)
    everywhere = comm.allgather(local)
    return {name: max(other[name] for other in everywhere) for name in local}


def first_block_error(blocks: Sequence[ElementBlock], n: int) -> InputError | None:
    """Return what is wrong with this rank's blocks, None if nothing is.  (Not collective.)"""
    if not any(block.matrix == "A" for block in blocks):
        return InputError(
            'the blocks must fill A, got none with matrix="A"; name the matrix of each ElementBlock'
        )
    for index, block in enumerate(blocks):
        error = _block_error(index, block) or dof_range_error(block.dofs, n)
        if error is not None:
            error.add_note(f"in element block {index}")
            return error
    return None


def _block_error(index: int, block: ElementBlock) -> InputError | None:
    where = f"element block {index}"
    if block.matrix not in {"A", "B"}:
        return InputError(f'{where}: matrix must be "A" or "B", got {block.matrix!r}; correct it')
    if not isinstance(block.dofs, np.ndarray) or block.dofs.ndim != 2:
        return InputError(
            f"{where}: dofs must be an array of shape (n_elements, nd), got "
            f"{type(block.dofs).__name__} of shape {np.shape(block.dofs)}; "
            "pass one row per element"
        )
    count, nd = block.dofs.shape
    for name, given in block.parameters.items():
        ids = np.asarray(given)
        if ids.dtype.kind not in "iu" or ids.shape[:1] != (count,):
            return InputError(
                f"{where}: ids of {name!r} must be integers, one row per element ({count}), got "
                f"shape {ids.shape} and dtype {ids.dtype}; pass the index of the parameter's entry"
            )
        lowest = 0 if ids.ndim == 1 else -1
        if ids.size and ids.min() < lowest:
            row = int(np.argmin(ids.reshape(count, -1).min(axis=1)))
            return InputError(
                f"{where}: ids of {name!r} must not be negative, got {ids.min()} at element {row}; "
                "number parameters from 0 (-1, for the value 0, in tables with several ids per "
                "element only)"
            )
    return _kernel_error(where, block, count, nd)


def _kernel_error(where: str, block: ElementBlock, count: int, nd: int) -> InputError | None:
    kernel = block.kernel.kernel if isinstance(block.kernel, Differenced) else block.kernel
    if isinstance(kernel, ScaledKernel):
        shape = kernel.base.shape
        if shape not in {(nd, nd), (count, nd, nd)}:
            return InputError(
                f"{where}: K0 must have shape {(nd, nd)} or {(count, nd, nd)}, got {shape}; "
                "its size is set by the columns of dofs"
            )
        ids = [np.ndim(found) for found in block.parameters.values()]
        if ids != [1]:
            return InputError(
                f"{where}: a ScaledKernel takes one parameter with one id per element, got "
                f"{sorted(block.parameters)}; use a NumpyKernel or a JaxKernel for more"
            )
    if isinstance(kernel, NumpyKernel | JaxKernel | CompiledKernel):
        for name, array in kernel.data.items():
            if np.shape(array)[:1] != (count,):
                return InputError(
                    f"{where}: data {name!r} must have {count} rows, one per element, got shape "
                    f"{np.shape(array)}; repeat constants per element or bind them in the function"
                )
    return None


def first_order_error(blocks: Sequence[ElementBlock]) -> InputError | None:
    """Return an error for the first kernel without second derivatives.  (Not collective.)"""
    for index, block in enumerate(blocks):
        if not hasattr(block.kernel, "vjp_tangent"):
            return InputError(
                "second derivatives need kernels with vjp_tangent(values, dots, left, right, "
                f"rows), got {type(block.kernel).__name__} without in element block {index}; add "
                "it, or let it return "
                "geneig_adjoint.kernels.differenced_vjp(self, values, dots, (left, right), rows)"
            )
    return None


def check_shape(found: Block, index: int, shape: tuple[int, ...], rows: slice) -> None:
    """Raise unless there is one matrix for each of some elements.  (Not collective.)

    ``index``: of the block. ``shape``: of its dofs.
    """
    count, nd = len(range(*rows.indices(shape[0]))), shape[1]
    if found.shape != (count, nd, nd):
        raise InputError(
            f"the kernel of element block {index} must return shape {(count, nd, nd)}, got "
            f"{found.shape}; the first axis is the element"
        )


def distinct_dofs(comm: MPI.Comm, blocks: Sequence[ElementBlock]) -> tuple[list[Block], list[int]]:
    """Return the different dof tables, and for each block which one it uses, alike everywhere.

    Collective.
    """
    tables: list[Block] = []
    mesh_of: list[int] = []
    for block in blocks:
        same = [int(np.array_equal(block.dofs, table)) for table in tables]
        everywhere = np.min(comm.allgather(same), axis=0) if same else np.zeros(0)
        found = np.flatnonzero(everywhere)
        if not found.size:
            tables.append(block.dofs)
        mesh_of.append(int(found[0]) if found.size else len(tables) - 1)
    return tables, mesh_of


def batches(shape: tuple[int, ...], columns: int = 0) -> Iterator[slice]:
    """Yield slices of elements with at most BATCH_ENTRIES entries of matrices or of vectors."""
    count, nd = shape
    step = max(1, BATCH_ENTRIES // max(nd * max(nd, columns), 1))
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def cut(values: Mapping[str, Block], rows: slice) -> dict[str, Block]:
    """Return the values of some elements."""
    return {name: value[rows] for name, value in values.items()}


def orphan_error(rows: tuple[int, int], touched: Block) -> InputError | None:
    """Return an error for the first row of this rank that no element touches."""
    missing = np.setdiff1d(np.arange(*rows), touched)
    if missing.size == 0:
        return None
    return InputError(
        f"every dof must belong to an element, got dof {missing[0]} and {missing.size - 1} "
        "more of this rank's that no element touches; renumber the free dofs without gaps"
    )

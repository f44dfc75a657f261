"""`ElementModel`: A(p) and B(p) summed from element matrices, and their derivatives, in parallel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import Pattern, equal_layout
from geneig_adjoint.collective import check_equal_input, guard, raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.exchange import row_ranges
from geneig_adjoint.ghosts import Ghosts, dof_range_error
from geneig_adjoint.kernels import Kernel, NumpyKernel, ScaledKernel, unit_directions
from geneig_adjoint.parameters import (
    Gradient,
    IdAccess,
    Parameters,
    check_parameters,
    finish,
    is_distributed,
    length,
    zeros_like,
)
from geneig_adjoint.pencil import Pencil

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
        (n_elements, q) for kernels that take q entries of it.

    """

    matrix: str
    dofs: Block
    kernel: Kernel
    parameters: Mapping[str, Block] = field(default_factory=dict)


class ElementModel:
    """A(p) and B(p) as sums of element matrices.

    Collective. Each rank brings the elements it owns, in any distribution.

    Parameters
    ----------
    n
        Global number of (free) dofs.
    blocks
        This rank's element blocks: the same list of kinds on every rank; a rank
        without elements of a kind passes empty arrays.
    comm
        Communicator; default ``MPI.COMM_WORLD``.
    n_local
        Rows this rank owns in the FE code's numbering; None: PETSc's default.

    Raises
    ------
    InputError
        Dofs out of range, dofs that no element touches, shapes that do not fit,
        block lists or row counts that contradict each other between ranks.

    """

    def __init__(
        self,
        n: int,
        blocks: Sequence[ElementBlock],
        *,
        comm: MPI.Comm | None = None,
        n_local: int | None = None,
    ) -> None:
        self.comm = _world() if comm is None else comm
        self.blocks = list(blocks)
        self.n = n
        check_equal_input(self.comm, "n", n)
        kinds = [(block.matrix, sorted(block.parameters)) for block in self.blocks]
        check_equal_input(self.comm, "the kinds of element blocks (matrix, parameters)", kinds)
        self.rows = _own_rows(self.comm, n, n_local)
        raise_together(self.comm, _first_error(self.blocks, n))
        self._access = [
            {name: IdAccess(np.asarray(ids)) for name, ids in block.parameters.items()}
            for block in self.blocks
        ]
        self.parameter_sizes = self._smallest_lengths()
        self._meshes, self._mesh_of = _distinct_dofs(self.comm, self.blocks)
        self._ghosts = [Ghosts(self, dofs) for dofs in self._meshes]
        self._pattern = Pattern(
            self.comm,
            row_ranges(self.comm, self.rows),
            (self.rows[1] - self.rows[0], n),
            [_pairs(dofs) for dofs in self._meshes],
            with_diagonal=True,
        )
        raise_together(self.comm, self._orphan_error())

    def assemble(self, p: Parameters, out: Pencil | None = None) -> Pencil:
        """Return the pencil at p, or refill ``out`` with it.

        Collective.

        Parameters
        ----------
        p
            Parameters in the structure the blocks name. Not changed.
        out
            A pencil of this model to refill; its version rises, and eigenpairs
            computed before stop answering.

        Returns
        -------
        Pencil
            Fresh matrices that belong to the caller (close it), or ``out``.

        Raises
        ------
        InputError
            Parameters of the wrong structure, or non-finite element matrices, with
            the first offending element.

        """
        check_parameters(self.comm, p, self.parameter_sizes)
        with _petsc.log_stage("ga assemble"):
            A = self._assembled("A", p, None if out is None else out.A)
            has_b = any(block.matrix == "B" for block in self.blocks)
            B = self._assembled("B", p, None if out is None else out.B) if has_b else None
        if out is not None:
            out.entries_changed()
            return out
        return Pencil(A, B, owned=True)

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return Re sum_j left_a_j^H A_i right_j + left_b_j^H B_i right_j for every parameter.

        Collective. Off-rank rows are fetched once, elements are evaluated in batches,
        and the sums are added into the parameters once; no n x m array exists.

        Parameters
        ----------
        p
            Point of linearisation.
        left_a, left_b, right
            This rank's rows, (n_local, k).

        Returns
        -------
        dict
            Structure of p, finished sums; PETSc vectors belong to the caller.

        """
        total = zeros_like(p)
        k = right.shape[1]
        with _petsc.log_stage("ga contract"):
            stacked = np.hstack([left_a, left_b, right])
            tables = [ghosts.table(stacked) for ghosts in self._ghosts]
            values = [self._values(index, p) for index in range(len(self.blocks))]
            sums = [
                {name: np.zeros(ids.shape) for name, ids in access.items()}
                for access in self._access
            ]
            with guard(self.comm):
                for index, rows in self._batches():
                    local = self._ghosts[self._mesh_of[index]].at(
                        tables[self._mesh_of[index]], rows
                    )
                    first = 0 if self.blocks[index].matrix == "A" else k
                    parts = self.blocks[index].kernel.vjp(
                        _cut(values[index], rows),
                        local[:, :, first : first + k],
                        local[:, :, 2 * k :],
                        rows,
                    )
                    for name, part in parts.items():
                        sums[index][name][rows] = part
            for index, access in enumerate(self._access):
                for name, ids in access.items():
                    ids.add(total[name], sums[index][name])
            return finish(self.comm, total)

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot, or the products with dA^H, dB^H.

        Collective.

        Parameters
        ----------
        p, p_dot
            Point and direction, in the same structure.
        right
            This rank's rows, (n_local, k).
        hermitian
            Multiply with the Hermitian transposes.

        Returns
        -------
        tuple of ndarray
            Two blocks in the layout of ``right``.

        """
        products = np.zeros((2, *right.shape), dtype=right.dtype)
        tables = [ghosts.table(right) for ghosts in self._ghosts]
        values = [self._values(index, p) for index in range(len(self.blocks))]
        dots = [self._values(index, p_dot) for index in range(len(self.blocks))]
        results = [
            np.zeros((*block.dofs.shape, right.shape[1]), dtype=right.dtype)
            for block in self.blocks
        ]
        with guard(self.comm):
            for index, rows in self._batches():
                mesh = self._mesh_of[index]
                derivative = self.blocks[index].kernel.derivative(
                    _cut(values[index], rows), _cut(dots[index], rows), rows
                )
                if hermitian:
                    derivative = derivative.conj().transpose(0, 2, 1)
                results[index][rows] = derivative @ self._ghosts[mesh].at(tables[mesh], rows)
        for index, block in enumerate(self.blocks):
            side = products[0 if block.matrix == "A" else 1]
            self._ghosts[self._mesh_of[index]].add(results[index], side)
        return np.asfortranarray(products[0]), np.asfortranarray(products[1])

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the sparse matrices with columns (dA/dp_i) x and (dB/dp_i) x.

        Collective. See `geneig_adjoint.derivative_products`.
        """
        size = length(p[name]) or 0
        column_of = _column_numbers(size, indices)
        count = size if indices is None else len(indices)
        columns = equal_layout(self.comm, count)
        if indices is None and is_distributed(p[name]):
            columns = p[name].getSizes()
        products = self._element_products(p, x, name)
        result = []
        for matrix in ("A", "B"):
            chosen = [
                (dofs, column_of[ids], values)
                for (block, dofs, ids, values) in products
                if block.matrix == matrix
            ]
            pattern = Pattern(
                self.comm,
                row_ranges(self.comm, self.rows),
                columns,
                [np.broadcast_arrays(dofs, ids) for dofs, ids, _ in chosen],  # type: ignore[misc]
            )
            sums = pattern.sums(x.dtype)
            for group, (_, _, values) in enumerate(chosen):
                pattern.collect(sums, group, slice(None), values)
            result.append(pattern.matrix(sums))
        return result[0], result[1]

    def close(self) -> None:
        """Release what the model holds; it holds no PETSc objects.  (Collective.)"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _element_products(
        self, p: Parameters, x: Block, name: str
    ) -> list[tuple[ElementBlock, Block, Block, Block]]:
        """Return (block, dofs, ids, (dK_e/dp_i) x_e) with a common shape (ne, nd) each."""
        found = []
        tables = [ghosts.table(x) for ghosts in self._ghosts]
        values = [self._values(index, p) for index in range(len(self.blocks))]
        with guard(self.comm):
            for index, block in enumerate(self.blocks):
                if name not in block.parameters:
                    continue
                ids = np.asarray(block.parameters[name])
                mesh = self._mesh_of[index]
                columns = ids.reshape(ids.shape[0], -1).shape[1] if ids.ndim > 1 else 1
                for column in range(columns):
                    out = np.zeros(block.dofs.shape, dtype=x.dtype)
                    for rows in _slices(block.dofs):
                        cut = _cut(values[index], rows)
                        dots = unit_directions(cut, name, column)
                        derivative = block.kernel.derivative(cut, dots, rows)
                        local = self._ghosts[mesh].at(tables[mesh], rows)
                        out[rows] = np.einsum("edf,ef->ed", derivative, local)
                    column_ids = ids if ids.ndim == 1 else ids.reshape(ids.shape[0], -1)[:, column]
                    found.append((block, block.dofs, column_ids[:, None], out))
        return found

    def _assembled(self, matrix: str, p: Parameters, out: PETSc.Mat | None) -> PETSc.Mat:
        sums = self._pattern.sums(PETSc.ScalarType)
        values = [self._values(index, p) for index in range(len(self.blocks))]
        with guard(self.comm):
            for index, rows in self._batches():
                block = self.blocks[index]
                if block.matrix != matrix:
                    continue
                matrices = block.kernel.matrices(_cut(values[index], rows), rows)
                _check_matrices(matrices, index, block, rows)
                self._pattern.collect(sums, self._mesh_of[index], rows, matrices)
        return self._pattern.matrix(sums, out)

    def _values(self, index: int, p: Parameters) -> dict[str, Block]:
        return {name: access.gather(p[name]) for name, access in self._access[index].items()}

    def _batches(self) -> Iterator[tuple[int, slice]]:
        for index, block in enumerate(self.blocks):
            for rows in _slices(block.dofs):
                yield index, rows

    def _smallest_lengths(self) -> dict[str, int]:
        local: dict[str, int] = {}
        for access in self._access:
            for name, ids in access.items():
                local[name] = max(local.get(name, 0), ids.smallest_length)
        everywhere = self.comm.allgather(local)
        return {name: max(other[name] for other in everywhere) for name in local}

    def _orphan_error(self) -> InputError | None:
        missing = np.setdiff1d(np.arange(*self.rows), self._pattern.touched_rows)
        if missing.size == 0:
            return None
        return InputError(
            f"every dof must belong to an element, got dof {missing[0]} and {missing.size - 1} more "
            "of this rank's that no element touches; renumber the free dofs without gaps"
        )


def _world() -> MPI.Comm:
    from mpi4py import MPI

    return MPI.COMM_WORLD


def _own_rows(comm: MPI.Comm, n: int, n_local: int | None) -> tuple[int, int]:
    given = comm.allgather(n_local)
    counts = [equal_layout_of(n, comm.size, r) if g is None else g for r, g in enumerate(given)]
    if sum(counts) != n or len({g is None for g in given}) > 1:
        raise InputError(
            f"n_local must add up to n = {n} over the ranks (or be None on all), got {given}; "
            "pass the number of rows each rank owns"
        )
    first = sum(counts[: comm.rank])
    return first, first + counts[comm.rank]


def equal_layout_of(n: int, size: int, rank: int) -> int:
    """Return the rows PETSc's default split gives to a rank.  (Not collective.)"""
    return n // size + (rank < n % size)


def _first_error(blocks: Sequence[ElementBlock], n: int) -> InputError | None:
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
    if block.dofs.ndim != 2:
        return InputError(
            f"{where}: dofs must have shape (n_elements, nd), got {block.dofs.shape}; "
            "pass one row per element"
        )
    count, nd = block.dofs.shape
    for name, ids in block.parameters.items():
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iu" or ids.shape[:1] != (count,):
            return InputError(
                f"{where}: ids of {name!r} must be integers, one row per element ({count}), got "
                f"shape {ids.shape} and dtype {ids.dtype}; pass the index of the parameter's entry"
            )
        if ids.size and ids.min() < 0:
            row = int(np.argmin(ids.reshape(count, -1).min(axis=1)))
            return InputError(
                f"{where}: ids of {name!r} must not be negative, got {ids.min()} at element {row}; "
                "number parameters from 0"
            )
    return _kernel_error(where, block, count, nd)


def _kernel_error(where: str, block: ElementBlock, count: int, nd: int) -> InputError | None:
    kernel = block.kernel
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
                f"{sorted(block.parameters)}; use a NumpyKernel for more"
            )
    if isinstance(kernel, NumpyKernel):
        for name, array in kernel.data.items():
            if np.shape(array)[:1] != (count,):
                return InputError(
                    f"{where}: data {name!r} must have {count} rows, one per element, got shape "
                    f"{np.shape(array)}; repeat constants per element or bind them in the function"
                )
    return None


def _check_matrices(matrices: Block, index: int, block: ElementBlock, rows: slice) -> None:
    nd = block.dofs.shape[1]
    count = len(range(*rows.indices(block.dofs.shape[0])))
    if matrices.shape != (count, nd, nd):
        raise InputError(
            f"the kernel of element block {index} must return shape {(count, nd, nd)}, got "
            f"{matrices.shape}; the first axis is the element"
        )
    if np.iscomplexobj(matrices) and _petsc.REAL_SCALARS:
        raise _petsc.real_scalar_error(f"the matrices of element block {index}")
    bad = np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))
    if bad.size:
        raise InputError(
            f"element matrices must be finite, got NaN or Inf in {bad.size} elements of block "
            f"{index}, the first is element {rows.start + int(bad[0])} of this rank; "
            "check its geometry and its parameters"
        )


def _distinct_dofs(
    comm: MPI.Comm, blocks: Sequence[ElementBlock]
) -> tuple[list[Block], list[int]]:
    """Return the different dof tables, and for each block which one it uses, alike on all ranks."""
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


def _pairs(dofs: Block) -> tuple[Block, Block]:
    count, nd = dofs.shape
    shape = (count, nd, nd)
    return np.broadcast_to(dofs[:, :, None], shape), np.broadcast_to(dofs[:, None, :], shape)


def _slices(dofs: Block) -> Iterator[slice]:
    count, nd = dofs.shape
    step = max(1, BATCH_ENTRIES // max(nd * nd, 1))
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def _cut(values: Mapping[str, Block], rows: slice) -> dict[str, Block]:
    return {name: value[rows] for name, value in values.items()}


def _column_numbers(size: int, indices: Block | None) -> Block:
    """Return the column of every parameter entry, -1 for those not asked for."""
    if indices is None:
        return np.arange(size)
    column_of = np.full(size, -1)
    column_of[np.asarray(indices)] = np.arange(len(indices))
    return column_of

"""Element matrices summed into sparse ones: which entries there are, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import Part, Pattern
from geneig_adjoint.collective import guard
from geneig_adjoint.element_blocks import ElementBlock, batches, check_shape, cut
from geneig_adjoint.errors import InputError
from geneig_adjoint.exchange import row_ranges
from geneig_adjoint.kernels import ScaledKernel

if TYPE_CHECKING:
    from mpi4py import MPI


class ElementMatrices:
    """The sums over all elements of A and of B, in one nonzero pattern.

    Collective.

    Parameters
    ----------
    comm
        Communicator.
    blocks
        This rank's element blocks.
    meshes, mesh_of
        The different dof tables, and for each block which one it uses.
    rows, n
        Row range of this rank, global number of rows.

    """

    def __init__(
        self,
        comm: MPI.Comm,
        blocks: Sequence[ElementBlock],
        meshes: tuple[Sequence[Block], Sequence[int]],
        rows: tuple[int, int],
        n: int,
    ) -> None:
        self.comm, self.blocks = comm, blocks
        tables, self._mesh_of = meshes
        self._pattern = Pattern(
            comm,
            row_ranges(comm, rows),
            (rows[1] - rows[0], n),
            [_dof_pairs(dofs) for dofs in tables],
            with_diagonal=True,
        )
        self._part: list[Part | None] = []  # what `part_of_b` has found, once it has

    @property
    def touched_rows(self) -> Block:
        """Rows of this rank that an element touches.  (Not collective.)"""
        return self._pattern.touched_rows

    def assembled(
        self, matrix: str, values: Sequence[Mapping[str, Block]], out: PETSc.Mat | None
    ) -> PETSc.Mat:
        """Return the sum of the element matrices of A or of B, or fill ``out`` with it.

        Collective. The caller destroys a new matrix. values: the parameters of every block's
        elements.

        Raises
        ------
        InputError
            Element matrices of a wrong shape or not finite, ``out`` of another pattern.

        """
        sums = self._pattern.sums(PETSc.ScalarType)
        with guard(self.comm):
            for index, block in enumerate(self.blocks):
                for rows in batches(block.dofs.shape) if block.matrix == matrix else ():
                    found = np.asarray(block.kernel.matrices(cut(values[index], rows), rows))
                    _check_matrices(found, index, block, rows)
                    self._pattern.collect(sums, self._mesh_of[index], rows, found)
        return self._pattern.matrix(sums, out, self.part_of_b() if matrix == "B" else None)

    def part_of_b(self) -> Part | None:
        """Return the entries that B may have at any p, None for all of them.  (Collective.)"""
        if not self._part:
            with guard(self.comm):
                marks = self._marks_of_b()
            self._part = [self._pattern.part(marks)]
        return self._part[0]

    def _marks_of_b(self) -> Block:
        """Return sums over the pattern, positive where B may have entries at some p.

        Not collective. Known beforehand is what a K0 decides: the mass matrix of a vector field
        couples no components and fills a third of what the stiffness matrix has in space.
        """
        sums = self._pattern.sums()
        for index, block in enumerate(self.blocks):
            for rows in batches(block.dofs.shape) if block.matrix == "B" else ():
                kernel, (count, nd) = block.kernel, block.dofs[rows].shape
                # A class made of it may have other matrices.
                base = kernel.base_of(rows) if type(kernel) is ScaledKernel else np.ones((nd, nd))
                filled = np.broadcast_to((base != 0).astype(float), (count, nd, nd))
                self._pattern.collect(sums, self._mesh_of[index], rows, filled)
        return sums


def _dof_pairs(dofs: Block) -> tuple[Block, Block]:
    """Return row and column of every entry of the element matrices, (n, nd, nd) each."""
    count, nd = dofs.shape
    shape = (count, nd, nd)
    return np.broadcast_to(dofs[:, :, None], shape), np.broadcast_to(dofs[:, None, :], shape)


def _check_matrices(matrices: Block, index: int, block: ElementBlock, rows: slice) -> None:
    """Raise unless a kernel returned finite matrices of the right shape.  (Not collective.)"""
    check_shape(matrices, index, block.dofs.shape, rows)
    if np.iscomplexobj(matrices) and _petsc.REAL_SCALARS:
        raise _petsc.real_scalar_error(f"the matrices of element block {index}")
    bad = np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))
    if bad.size:
        raise InputError(
            f"element matrices must be finite, got NaN or Inf in {bad.size} elements of block "
            f"{index}, the first is element {rows.start + int(bad[0])} of this rank; "
            "check its geometry and its parameters"
        )

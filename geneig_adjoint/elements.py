"""`ElementModel`: A(p) and B(p) summed from element matrices, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc, contraction
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout, own_rows
from geneig_adjoint.collective import CollectiveContext, check_equal_input, guard, raise_together
from geneig_adjoint.column_derivatives import (
    column_numbers,
    element_columns,
    matrices_of_columns,
)
from geneig_adjoint.element_blocks import (
    ElementBlock,
    ElementIds,
    cut,
    distinct_dofs,
    first_block_error,
    first_order_error,
    orphan_error,
    smallest_lengths,
)
from geneig_adjoint.element_matrices import ElementMatrices
from geneig_adjoint.element_signs import sum_is_positive
from geneig_adjoint.entrance import takes_structures
from geneig_adjoint.errors import InputError
from geneig_adjoint.ghosts import Ghosts
from geneig_adjoint.kernels import Kernel
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    check_parameters,
    digest,
    finish,
    is_distributed,
    length,
    zeros_like,
)
from geneig_adjoint.pencil import Pencil

if TYPE_CHECKING:
    from mpi4py import MPI


@takes_structures
class ElementModel(CollectiveContext):
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
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        self.comm = comm
        self.blocks = list(blocks)
        self.n = n
        check_equal_input(self.comm, "n", n)
        kinds = [(block.matrix, sorted(block.parameters)) for block in self.blocks]
        check_equal_input(self.comm, "the kinds of element blocks (matrix, parameters)", kinds)
        self.rows = own_rows(self.comm, n, n_local)
        error = None
        with guard(self.comm):  # a table may be of any kind: whatever fails, fails everywhere
            error = first_block_error(self.blocks, n)
        raise_together(self.comm, error)
        self._access = [
            {name: ElementIds(np.asarray(ids)) for name, ids in sorted(block.parameters.items())}
            for block in self.blocks
        ]
        self.parameter_sizes = smallest_lengths(self.comm, self._access)
        meshes, self._mesh_of = distinct_dofs(self.comm, self.blocks)
        self._ghosts = [Ghosts(self, dofs) for dofs in meshes]
        self._sums = ElementMatrices(self.comm, self.blocks, (meshes, self._mesh_of), self.rows, n)
        raise_together(self.comm, self._orphan_error())

    def assemble(self, p: Parameters, out: Pencil | None = None) -> Pencil:
        """Return the pencil at p, or refill ``out`` with it.

        Collective.

        Parameters
        ----------
        p
            Parameters in the structure the blocks name. Not changed.
        out
            A pencil of this model, its pattern unchanged, to refill; its version
            rises, and eigenpairs computed before stop answering.

        Returns
        -------
        Pencil
            Fresh matrices that belong to the caller (close it), or ``out``.

        Raises
        ------
        InputError
            Parameters of the wrong structure, non-finite element matrices, with the
            first offending element, or ``out`` of another nonzero pattern.

        """
        check_parameters(self.comm, p, self.parameter_sizes)
        has_b = any(block.matrix == "B" for block in self.blocks)
        if out is not None:
            out.begin_refill(self.rows, with_b=has_b)
        with _petsc.log_stage("assemble"):
            values = self._all_values(p)
            A = self._sums.assembled("A", values, None if out is None else out.A)
            B = None
            if has_b:
                B = self._sums.assembled("B", values, None if out is None else out.B)
        if out is not None:
            out.verify()
        pencil = Pencil(A, B, owned=True) if out is None else out
        pencil.one_pattern = True  # that of the elements
        if has_b and self._sums.part_of_b() is not None:
            pencil.structure = PETSc.Mat.Structure.SUBSET_NONZERO_PATTERN
        pencil.point = digest(p)
        pencil.B_proved = sum_is_positive(self, "B", values)
        return pencil

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
        check_parameters(self.comm, p, self.parameter_sizes)

        def contracted(index: int, rows: slice, *vectors: Block) -> Gradient:
            return contraction.vjp(
                self.blocks[index].kernel, cut(values[index], rows), vectors, rows
            )

        with _petsc.log_stage("contract"):
            values = self._all_values(p)
            return self._summed(p, (left_a, left_b, right), contracted)

    def contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Gradient:
        """Return the derivative of `contract` along p_dot, the blocks held fixed.

        Collective. Needed by Hessian-vector products only.

        Parameters
        ----------
        p, p_dot
            Point and direction, in the same structure.
        left_a, left_b, right
            As in `contract`.

        Returns
        -------
        dict
            As from `contract`.

        Raises
        ------
        InputError
            When the kernel of a block has no ``vjp_tangent``, or a law no second
            derivative at some element.

        """
        check_parameters(self.comm, p, self.parameter_sizes)
        check_parameters(self.comm, p_dot, self.parameter_sizes)
        raise_together(self.comm, first_order_error(self.blocks))

        def contracted(index: int, rows: slice, *vectors: Block) -> Gradient:
            here, there = cut(values[index], rows), cut(dots[index], rows)
            return contraction.vjp_tangent(self.blocks[index].kernel, (here, there), vectors, rows)

        with _petsc.log_stage("contract"):
            values, dots = self._all_values(p), self._all_values(p_dot)
            return self._summed(p, (left_a, left_b, right), contracted)

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
            Two blocks in the layout of ``right``, complex where it or the elements are.

        """
        check_parameters(self.comm, p_dot, self.parameter_sizes)
        dots = self._all_values(p_dot)

        def changes(i: int, values: Mapping[str, Block], rows: slice) -> Block:
            kernel, there = self.blocks[i].kernel, cut(dots[i], rows)
            return contraction.derivative(kernel, values, there, rows)

        return self._products(p, right, changes, hermitian=hermitian)

    def multiply(self, p: Parameters, right: Block) -> tuple[Block, Block]:
        """Return (A @ right, B @ right), element by element: no matrix is assembled.

        Collective. Entries that are not finite are passed on.

        Parameters
        ----------
        p
            Parameters in the structure the blocks name.
        right
            This rank's rows, (n_local, k).

        Returns
        -------
        tuple of ndarray
            Two blocks in the layout of ``right``, complex where it or the elements are.

        """
        check_parameters(self.comm, p, self.parameter_sizes)
        return self._products(
            p, right, lambda i, *at: contraction.matrices(self.blocks[i].kernel, *at)
        )

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the sparse matrices with columns (dA/dp_i) x and (dB/dp_i) x.

        Collective. See `geneig_adjoint.derivative_products`.
        """
        size = length(p[name]) or 0
        count = size if indices is None else len(indices)
        columns = equal_layout(self.comm, count)
        if indices is None and is_distributed(p[name]):
            columns = p[name].getSizes()
        products = self._element_products(p, x, name)
        numbers = column_numbers(size, indices)
        return matrices_of_columns(self, columns, numbers, products)

    def _orphan_error(self) -> InputError | None:
        """Return an error for rows that no element touches; parts of models have their own."""
        return orphan_error(self.rows, self._sums.touched_rows)

    def close(self) -> None:
        """Release what the model holds; it holds no PETSc objects.  (Collective.)"""

    def _products(
        self,
        p: Parameters,
        right: Block,
        factors: Callable[[int, Mapping[str, Block], slice], Block],
        *,
        hermitian: bool = False,
    ) -> tuple[Block, Block]:
        """Multiply with the sums of element matrices; ``factors`` of `element_products`."""
        right = right.astype(np.result_type(right, float), copy=False)
        tables, values = [ghosts.table(right) for ghosts in self._ghosts], self._all_values(p)

        def of_block(index: int, rows: slice) -> Block:
            return factors(index, cut(values[index], rows), rows)

        with guard(self.comm):
            found = [
                contraction.element_products(*at, self._of_mesh(mesh), of_block, hermitian)
                for mesh, at in enumerate(zip(self._ghosts, tables, strict=True))
            ]
        dtype = contraction.products_dtype(self.comm, right, found)
        products = [np.zeros(right.shape, dtype=dtype, order="F") for _ in "AB"]
        for ghosts, of_mesh in zip(self._ghosts, found, strict=True):
            for matrix in sorted(of_mesh):
                ghosts.add(of_mesh.pop(matrix), products["AB".index(matrix)])
        return products[0], products[1]

    def _of_mesh(self, mesh: int) -> list[tuple[int, str, Kernel]]:
        """Return number, matrix and kernel of the blocks of a mesh."""
        chosen = [i for i, other in enumerate(self._mesh_of) if other == mesh]
        return [(i, self.blocks[i].matrix, self.blocks[i].kernel) for i in chosen]

    def _summed(
        self,
        p: Parameters,
        vectors: tuple[Block, Block, Block],
        contracted: Callable[..., Gradient],
    ) -> Gradient:
        """Sum what batches contribute: ``contracted(index, rows, *vectors)`` of one of them."""
        total, columns = zeros_like(p), 3 * vectors[2].shape[1]
        reduced = contraction.sides(self.comm, *vectors)
        sums = [{name: np.zeros(ids.shape) for name, ids in of.items()} for of in self._access]
        for mesh, ghosts in enumerate(self._ghosts):
            blocks = self._of_mesh(mesh)
            local = reduced.at_elements(ghosts, {matrix for _, matrix, _ in blocks})
            with guard(self.comm):
                for index, rows, *arrays in local.contracted_with(blocks, columns):
                    for name, part in contracted(index, rows, *arrays).items():
                        sums[index][name][rows] = part
        for access, found in zip(self._access, sums, strict=True):
            for name, ids in access.items():
                ids.add(total[name], found[name])
        return finish(self.comm, total)

    def _element_products(
        self, p: Parameters, x: Block, name: str
    ) -> list[tuple[str, Block, Block, Block]]:
        """Return (matrix, dofs, ids, (dK_e/dp_i) x_e) for every id of an element."""
        tables = [ghosts.table(x) for ghosts in self._ghosts]
        values = self._all_values(p)

        def vector_of(index: int) -> Block:
            mesh = self._mesh_of[index]
            return self._ghosts[mesh].at(tables[mesh], slice(None))[:, :, 0]

        with guard(self.comm):
            return element_columns(self.blocks, name, values, vector_of)

    def _all_values(self, p: Parameters) -> list[dict[str, Block]]:
        """Return, for every block, the parameters of its elements.  (Collective.)"""
        return [
            {name: ids.gather(p[name]) for name, ids in access.items()} for access in self._access
        ]

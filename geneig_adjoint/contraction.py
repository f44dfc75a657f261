"""Vectors on their way to the elements: fewer ones, gathered once for all blocks of a mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.element_blocks import batches, check_shape
from geneig_adjoint.energies import cached, energies, products
from geneig_adjoint.errors import InputError
from geneig_adjoint.ghosts import Ghosts
from geneig_adjoint.kernels import Kernel, ScaledKernel
from geneig_adjoint.observers import report

if TYPE_CHECKING:
    from mpi4py import MPI

PROBES = 64
"""Rows that tell most columns apart, and most of those that are not zero or not real."""


@dataclass(frozen=True)
class Sides:
    """Left vectors of A and of B, and the right vectors that belong to both.

    Attributes
    ----------
    left
        Rows (n_local, k) by matrix; one whose left vectors are zero on all ranks is missing.
    right
        Rows (n_local, k), of the same type, all columns different.

    """

    left: Mapping[str, Block]
    right: Block

    def at_elements(self, ghosts: Ghosts, matrices: set[str]) -> ElementSides:
        """Return what the elements of a mesh need for blocks of these matrices.

        Collective. All of it travels in one message per neighbour.
        """
        used = {name: block for name, block in self.left.items() if name in matrices}
        names = [*used, "right"] if used else []
        tables = ghosts.tables([*used.values(), self.right]) if used else []
        return ElementSides(ghosts, dict(zip(names, tables, strict=True)), self.right[:0])


@dataclass(frozen=True)
class ElementSides:
    """Left and right vectors at the elements of one mesh.

    Attributes
    ----------
    ghosts
        Of the mesh.
    tables
        Rows to be found by ``ghosts.at``, by matrix and, under "right", for all; none where
        they are zero.
    like
        Shape and type of a row.

    """

    ghosts: Ghosts
    tables: Mapping[str, Block]
    like: Block

    def contracted_with(
        self, blocks: Sequence[tuple[int, str, Kernel]], columns: int
    ) -> Iterator[tuple[Any, ...]]:
        """Yield (number, elements, vectors...) for (number, matrix, kernel), in batches.

        Not collective. The vectors are left and right ones, (batch, nd, k), or the energies of
        the elements if `is_scaled`. ``columns``: how many vectors limit a batch.
        """
        scaled = [(i, matrix, kernel) for i, matrix, kernel in blocks if is_scaled(kernel)]
        found = self.energies([(matrix, kernel.base) for _, matrix, kernel in scaled])  # type: ignore[attr-defined]
        energy_of = dict(zip([i for i, *_ in scaled], found, strict=True))
        for rows in batches(self.ghosts.shape, columns):
            for i, matrix, _ in blocks:
                if i in energy_of:
                    yield i, rows, energy_of[i][rows]
                else:  # arrays of its own: a kernel of a user may change them
                    yield i, rows, self._at(matrix, rows), self._at("right", rows)
            report("contraction", elements=rows.stop, total=self.ghosts.shape[0])

    def energies(self, terms: Sequence[tuple[str, Block]]) -> list[Block]:
        """Return Re sum_j left_j^H K right_j of every element, for several blocks.

        Not collective. Vectors are gathered once for all blocks, in batches that stay in the
        cache. ``terms``: (matrix, K), with K for all elements or (n_elements, nd, nd).
        """
        count, nd = self.ghosts.shape
        found = [np.zeros(count) for _ in terms]
        wanted = {matrix for matrix, _ in terms} & set(self.tables)
        for rows in cached(slice(0, count if wanted else 0), nd * doubles_of(self.like)):
            at = {name: self._at(name, rows) for name in (*wanted, "right")}
            for (matrix, base), energy in zip(terms, found, strict=True):
                if matrix in wanted:
                    K = base if base.ndim == 2 else base[rows]
                    energy[rows] = energies(K, at[matrix], at["right"])
        return found

    def _at(self, name: str, rows: slice) -> Block:
        if name in self.tables:
            return self.ghosts.at(self.tables[name], rows)
        count, nd = self.ghosts.shape
        return np.zeros(
            (len(range(*rows.indices(count))), nd, *self.like.shape[1:]), self.like.dtype
        )


def vjp(
    kernel: Any, values: Mapping[str, Block], vectors: Sequence[Block], rows: slice
) -> dict[str, Block]:
    """Return what ``kernel.vjp`` does, from what `ElementSides.contracted_with` yields."""
    if is_scaled(kernel):
        return dict(kernel.vjp_of_energies(values, *vectors))
    return _one_for_each(kernel.vjp(values, *vectors, rows), values, kernel)


def vjp_tangent(
    kernel: Any,
    values: tuple[Mapping[str, Block], Mapping[str, Block]],
    vectors: Sequence[Block],
    rows: slice,
) -> dict[str, Block]:
    """Return what ``kernel.vjp_tangent`` does; ``values``: them and their direction."""
    if is_scaled(kernel):
        return dict(kernel.vjp_tangent_of_energies(*values, *vectors))
    return _one_for_each(kernel.vjp_tangent(*values, *vectors, rows), values[0], kernel)


def _one_for_each(found: Any, values: Mapping[str, Block], kernel: Any) -> dict[str, Block]:
    """Return what a kernel has found, or raise unless it is a real number for every value."""
    result = {name: np.asarray(part) for name, part in dict(found).items()}
    given = {name: (part.shape, part.dtype.kind in "fiu") for name, part in result.items()}
    wanted = {name: (np.shape(value), True) for name, value in values.items()}
    if given != wanted:
        shapes = [{name: shape for name, (shape, _) in of.items()} for of in (wanted, given)]
        kinds = sorted({part.dtype.name for part in result.values()})
        raise InputError(
            f"vjp of a {type(kernel).__name__} must return real numbers in the shapes of the "
            f"values, {shapes[0]}, got {shapes[1]} of {', '.join(kinds) or 'nothing'}; one number "
            "for each value, 0 where the matrices do not depend on it"
        )
    return result


def matrices(kernel: Any, values: Mapping[str, Block], rows: slice) -> Block:
    """Return the matrices of elements, or multiples of K0 if `is_scaled`."""
    found = kernel.factors(values) if is_scaled(kernel) else kernel.matrices(values, rows)
    return np.asarray(found)


def derivative(
    kernel: Any, values: Mapping[str, Block], dots: Mapping[str, Block], rows: slice
) -> Block:
    """Return the derivative of `matrices` along dots."""
    if is_scaled(kernel):
        return np.asarray(kernel.slopes(values, dots))
    return np.asarray(kernel.derivative(values, dots, rows))


def products_dtype(
    comm: MPI.Comm, right: Block, found: Sequence[Mapping[str, Block]]
) -> type[float | complex]:
    """Return the type of products: one rank's elements may be complex, others real.  (Collective.)

    ``found``: what `element_products` returned for every mesh.
    """
    blocks = [right, *(part for of_mesh in found for part in of_mesh.values())]
    return complex if comm.allreduce(int(any(map(np.iscomplexobj, blocks)))) else float


def element_products(
    ghosts: Ghosts,
    table: Block,
    blocks: Sequence[tuple[int, str, Kernel]],
    factors: Callable[[int, slice], Block],
    hermitian: bool,
) -> dict[str, Block]:
    """Return by matrix the products of the elements of a mesh, (n_elements, nd, k).

    Not collective.

    Parameters
    ----------
    ghosts, table
        Of the mesh, and the vectors as `Ghosts.table` returns them.
    blocks
        Number, matrix and kernel of every block.
    factors
        ``factors(number, elements)`` -> what `matrices` or `derivative` return.
    hermitian
        Multiply with the Hermitian transposes.

    """
    found: dict[str, Block] = {}
    for i, matrix, kernel in blocks:
        first = matrix not in found
        if first:  # on a rank without elements, too: others add to the rows it owns
            found[matrix] = np.empty((*ghosts.shape, table.shape[1]), dtype=table.dtype)
        total = found.pop(matrix)
        for many in batches(ghosts.shape, table.shape[1]):
            factor = factors(i, many)
            if not is_scaled(kernel):
                check_shape(factor, i, ghosts.shape, many)
            for rows in cached(many, ghosts.shape[1] * doubles_of(table)):
                one = factor[rows.start - many.start : rows.stop - many.start]
                part = _block_products(kernel, one, rows, ghosts.at(table, rows), hermitian)
                total = total.astype(np.result_type(total, part), copy=False)
                total[rows] = part if first else total[rows] + part
        found[matrix] = total
    return found


def _block_products(
    kernel: Kernel, factor: Block, rows: slice, right: Block, hermitian: bool
) -> Block:
    """Return the products of some elements of a block."""
    scaled = is_scaled(kernel)
    K = kernel.base_of(rows) if scaled else factor  # type: ignore[attr-defined]
    if hermitian:
        K = np.conj(np.swapaxes(K, -1, -2))
    found = products(K, right)
    return factor[:, None, None] * found if scaled else found


def doubles_of(block: Block) -> int:
    """Return the doubles in a row of a block."""
    return block.shape[1] * block.itemsize // 8


def is_scaled(kernel: Any) -> bool:
    """Tell whether derivatives are multiples of energies that do not depend on the parameters.

    Not collective. Classes made from `ScaledKernel` may do something else.
    """
    return type(kernel) is ScaledKernel


def sides(comm: MPI.Comm, left_a: Block, left_b: Block, right: Block) -> Sides:
    """Return the same contraction by fewer and simpler vectors.

    Collective: every rank finds the same. Left vectors of equal right ones are added, complex
    numbers without imaginary parts become real, zero blocks are left out.

    Parameters
    ----------
    comm
        The ranks.
    left_a, left_b, right
        This rank's rows, (n_local, k).

    """
    blocks = [left_a, left_b, right]
    equal, zero, real = _shared_facts(comm, blocks)
    blocks = [
        np.asarray(block.real) if no_imaginary_part else block
        for block, no_imaginary_part in zip(blocks, real, strict=True)
    ]
    dtype = np.dtype(float if real.all() else complex)
    first = np.array([np.argmax(column) for column in equal.T], dtype=int)
    kept = np.flatnonzero(first == np.arange(first.size))
    left = {
        name: _added(block, first, kept).astype(dtype, copy=False)
        for name, block, none in zip("AB", blocks, zero, strict=False)
        if not none
    }
    right = blocks[2] if kept.size == first.size else blocks[2][:, kept]
    return Sides(left, right.astype(dtype, copy=False))


def _shared_facts(comm: MPI.Comm, blocks: Sequence[Block]) -> tuple[Block, Block, Block]:
    """Return equal columns of the last block (k, k), zero blocks and real ones.  (Collective.)"""
    equal = _equal_columns(blocks[-1])
    facts = np.concatenate(
        [
            equal.ravel(),
            [_vanishes(block) for block in blocks],
            [not np.iscomplexobj(block) or _vanishes(block.imag) for block in blocks],
        ]
    ).astype(np.int8)
    if comm.size > 1:  # true is what holds on all ranks
        from mpi4py import MPI

        comm.Allreduce(MPI.IN_PLACE, facts, op=MPI.MIN)
    agreed, zero, real = np.split(facts.astype(bool), [equal.size, equal.size + len(blocks)])
    return agreed.reshape(equal.shape), zero, real


def _added(left: Block, first: Block, kept: Block) -> Block:
    """Return the sums of the columns whose right vectors are equal."""
    if kept.size == first.size:
        return left
    return np.asarray(left @ (first[:, None] == kept).astype(float))


def _equal_columns(block: Block) -> Block:
    """Return which pairs of columns are equal on this rank, (k, k), as truth values."""
    probe = block[:: max(1, len(block) // PROBES)]
    first = np.arange(block.shape[1])
    for j in range(1, first.size):
        for i in range(j):
            if np.array_equal(probe[:, i], probe[:, j]) and np.array_equal(
                block[:, i], block[:, j]
            ):
                first[j] = i
                break
    return np.asarray(first[:, None] == first)


def _vanishes(block: Block) -> bool:
    """Tell whether all entries on this rank are zero."""
    probe = block[:: max(1, len(block) // PROBES)]
    return not np.any(probe) and not np.any(block)

"""Derivative matrices one after the other: checked, used for all vectors, freed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout, matrix_of_entries
from geneig_adjoint.collective import raise_together, users_code
from geneig_adjoint.errors import InputError
from geneig_adjoint.parameters import Gradient, IdAccess, Parameters, finish, zeros_like
from geneig_adjoint.pencil_checks import entries_error

if TYPE_CHECKING:
    from mpi4py import MPI

DerivativePair: TypeAlias = tuple[PETSc.Mat | None, PETSc.Mat | None]
"""(dA_i, dB_i); None: zero."""
Layout: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Local and global number of rows, and of columns: what ``Mat.getSizes`` returns."""
Numbers: TypeAlias = Sequence[int] | np.ndarray[Any, np.dtype[Any]]


class MatrixSource(Protocol):
    """Derivative matrices of named parameters."""

    @property
    def comm(self) -> MPI.Comm:
        """The ranks that share the matrices."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of entries of every parameter."""
        ...

    def each(self, name: str, numbers: Numbers) -> Generator[DerivativePair, None, None]:
        """Give one pair per number; it is valid until the next one is asked for.  (Collective.)"""
        ...


class StoredMatrices:
    """Matrices of a user that are all there, and have been checked."""

    def __init__(self, comm: MPI.Comm, derivatives: Mapping[str, Sequence[DerivativePair]]) -> None:
        self.comm = comm
        self.derivatives = derivatives
        self.sizes = {name: len(pairs) for name, pairs in derivatives.items()}

    def each(self, name: str, numbers: Numbers) -> Generator[DerivativePair, None, None]:
        """Give the pairs with these numbers.  (Not collective.)"""
        for i in numbers:
            yield self.derivatives[name][int(i)]


class GeneratedMatrices:
    """Matrices that a user's generator assembles when they are asked for.

    Parameters
    ----------
    comm
        The ranks that share the matrices.
    sizes
        Number of entries of every parameter.
    generate
        ``generate(name, numbers)``: an iterator that yields one pair per number, in order.
    layout
        Of A.
    with_b
        Whether there is a matrix B.
    keep
        Whether the matrices stay the user's; else each is destroyed before the next one.

    """

    def __init__(
        self,
        comm: MPI.Comm,
        sizes: Mapping[str, int],
        generate: Callable[[str, Numbers], Iterator[DerivativePair]],
        *,
        layout: Layout,
        with_b: bool,
        keep: bool,
    ) -> None:
        self.comm = comm
        self.sizes = sizes
        self._generate = generate
        self._layout = layout
        self._with_b = with_b
        self._keep = keep

    def each(self, name: str, numbers: Numbers) -> Generator[DerivativePair, None, None]:
        """Give one pair per number, and destroy it when the next one is asked for.

        Collective.

        Raises
        ------
        InputError
            Anything but as many pairs of matrices in the layout of A, or None, the same on
            all ranks; NaN or infinite entries.
        Exception
            What the user's code raised on some rank.

        """
        produced = _Produced(self.comm, name, len(numbers))
        with closing(produced):
            produced.start(self._generate, numbers)
            for i in numbers:
                pair = produced.pair(int(i), self._layout, self._with_b)
                try:
                    self._check_entries(name, int(i), pair)
                    yield pair
                finally:
                    if not self._keep:
                        _petsc.destroy(*pair)
                    del pair
            produced.check_end()

    def _check_entries(self, name: str, number: int, pair: DerivativePair) -> None:
        for label, mat in zip(("dA", "dB"), pair, strict=True):
            # The norm is the same number on every rank, and so is the decision.
            if mat is None or _petsc.is_shell(mat):
                continue
            if not np.isfinite(mat.norm(PETSc.NormType.FROBENIUS)):
                raise_together(self.comm, entries_error(f"{label}_{number} of {name!r}", mat))


class _Produced:
    """A user's iterator over pairs, whose failures on some ranks are failures on all."""

    def __init__(self, comm: MPI.Comm, name: str, count: int) -> None:
        self.comm = comm
        self.name = name
        self.count = count
        self._iterator: Iterator[Any] = iter(())

    def start(
        self, generate: Callable[[str, Numbers], Iterator[DerivativePair]], numbers: Numbers
    ) -> None:
        """Ask the user for the iterator.  (Collective.)"""
        with users_code(self.comm):
            try:
                self._iterator = iter(generate(self.name, numbers))
            except TypeError as error:
                error.add_note("derivatives(...) must return an iterator: write it with yield")
                raise

    def pair(self, number: int, layout: Layout, with_b: bool) -> DerivativePair:
        """Return the next pair, valid on all ranks.  (Collective.)"""
        nothing = object()
        with users_code(self.comm):
            item: Any = next(self._iterator, nothing)
            if item is nothing:
                raise InputError(
                    f"derivatives of {self.name!r} must yield {self.count} pairs (dA_i, dB_i), it "
                    f"ended before entry {number}; yield (None, None) where nothing depends on an "
                    "entry"
                )
            error = pair_error((self.name, number), item, layout, with_b=with_b)
            if error is not None:
                raise error
        given = [mat is not None for mat in item]
        everywhere = self.comm.allgather(given)
        if any(other != everywhere[0] for other in everywhere):
            raise InputError(
                f"entry {number} of {self.name!r} must have the same matrices on all ranks, got "
                f"{everywhere} (dA and dB present, by rank); matrices are distributed: a rank "
                "without entries passes its empty part, not None"
            )
        return item[0], item[1]

    def check_end(self) -> None:
        """Let the iterator finish, and raise when it has more to give.  (Collective.)"""
        nothing = object()
        with users_code(self.comm):
            if next(self._iterator, nothing) is not nothing:
                raise InputError(
                    f"derivatives of {self.name!r} must yield {self.count} pairs (dA_i, dB_i), "
                    "got more; yield one per number asked for"
                )

    def close(self) -> None:
        """Let a generator run its own clean-up.  (Collective if that is.)"""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def pair_error(
    place: tuple[str, int], item: Any, layout: Layout, *, with_b: bool
) -> InputError | None:
    """Return an error unless something is a pair of derivative matrices.

    Not collective.

    Parameters
    ----------
    place
        Name of the parameter and number of the entry, for the message.
    item
        What the user gave.
    layout
        Of A.
    with_b
        Whether there is a matrix B.

    """
    name, number = place
    if not isinstance(item, tuple | list) or len(item) != 2:
        got = f"{len(item)} items" if isinstance(item, tuple | list) else type(item).__name__
        return InputError(
            f"derivatives of {name!r} must be pairs (dA_i, dB_i), got {got} "
            f"for entry {number}; write None for a zero matrix"
        )
    errors = (
        _matrix_error(f"{label}_{number} of {name!r}", mat, layout, missing=missing)
        for label, mat, missing in zip(("dA", "dB"), item, (False, not with_b), strict=True)
        if mat is not None
    )
    return next((error for error in errors if error is not None), None)


def _matrix_error(what: str, mat: Any, layout: Layout, *, missing: bool) -> InputError | None:
    if not isinstance(mat, PETSc.Mat) or not mat:
        got = "one that was destroyed" if isinstance(mat, PETSc.Mat) else type(mat).__name__
        return InputError(
            f"{what} must be a PETSc.Mat or None, got {got}; assemble it anew each time, or pass "
            "keep=True if the matrices are to stay"
        )
    if missing:
        return InputError(
            f"{what} needs a matrix B, got B=None; pass the identity as B if B depends on p"
        )
    if mat.getSizes() != layout:
        return InputError(
            f"{what} must have the layout of A, got {mat.getSizes()}, A has {layout}; "
            "create it with the same local and global sizes"
        )
    if not mat.isAssembled():
        return InputError(
            f"{what} must be assembled, got values still in transit; call its assemble()"
        )
    return None


def contracted(
    source: MatrixSource, p: Parameters, left_a: Block, left_b: Block, right: Block
) -> Gradient:
    """Return Re sum_j left_a_j^H dA_i right_j + left_b_j^H dB_i right_j for all entries.

    Collective.

    Parameters
    ----------
    source
        Derivative matrices.
    p
        Structure of the result.
    left_a, left_b, right
        This rank's rows, (n_local, k).

    Returns
    -------
    dict
        Structure of p, finished sums.

    """
    total = zeros_like(p)
    for name, size in sorted(source.sizes.items()):
        sums = np.zeros(size)
        with closing(source.each(name, range(size))) as pairs:
            for i, pair in enumerate(pairs):
                for mat, left in zip(pair, (left_a, left_b), strict=True):
                    if mat is not None:
                        sums[i] += np.vdot(left, _petsc.multiply(mat, right)).real
        IdAccess(np.arange(size)).add(total[name], sums)
    return finish(source.comm, total)


def summed_products(
    source: MatrixSource, weights: Mapping[str, Block], right: Block, *, hermitian: bool
) -> tuple[Block, Block]:
    """Return sum_i w_i dA_i @ right and the same of B, or with the Hermitian transposes.

    Collective. Matrices of zero weights are not asked for.

    Parameters
    ----------
    source
        Derivative matrices.
    weights
        All entries of every parameter, the same on every rank.
    right
        This rank's rows, (n_local, k).
    hermitian
        Multiply with dA_i^H, dB_i^H.

    """
    products = np.zeros((2, *right.shape), dtype=np.result_type(right, PETSc.ScalarType))
    for name, values in sorted(weights.items()):
        chosen = np.flatnonzero(values)
        with closing(source.each(name, chosen)) as pairs:
            for weight, pair in zip(values[chosen], pairs, strict=True):
                for side, mat in enumerate(pair):
                    if mat is not None:
                        product = _petsc.multiply(mat, right, hermitian=hermitian)
                        products[side] += weight * product
    return np.asfortranarray(products[0]), np.asfortranarray(products[1])


def add_weighted(
    source: MatrixSource, weights: Mapping[str, Block], totals: Sequence[PETSc.Mat | None]
) -> None:
    """Add sum_i w_i dA_i and sum_i w_i dB_i to matrices.

    Collective. Zero weights, too: the pattern must not depend on them.
    """
    different = PETSc.Mat.Structure.DIFFERENT_NONZERO_PATTERN
    for name, values in sorted(weights.items()):
        with closing(source.each(name, range(len(values)))) as pairs:
            for weight, pair in zip(values, pairs, strict=True):
                for total, mat in zip(totals, pair, strict=True):
                    if mat is not None and total is not None:
                        total.axpy(weight, mat, structure=different)


def columns(
    source: MatrixSource, rows: tuple[int, int], x: Block, name: str, numbers: Numbers
) -> tuple[PETSc.Mat, PETSc.Mat]:
    """Return the sparse matrices with columns dA_i x and dB_i x.

    Collective. Only the nonzero entries of the products are kept.

    Parameters
    ----------
    source
        Derivative matrices.
    rows
        Row range of this rank.
    x
        This rank's rows of one vector, (n_local, 1).
    name, numbers
        The parameter and its entries, one column each.

    """
    found: list[list[tuple[Block, Block]]] = [[], []]
    with closing(source.each(name, numbers)) as pairs:
        for pair in pairs:
            for side, mat in enumerate(pair):
                column = np.zeros(len(x)) if mat is None else _petsc.multiply(mat, x)[:, 0]
                kept = np.flatnonzero(column)
                found[side].append((kept, column[kept]))
    layout = equal_layout(source.comm, len(numbers))
    first, second = (matrix_of_entries(source.comm, rows, layout, side) for side in found)
    return first, second

"""The `Model` protocol, and models made of given matrices or of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import Pattern, equal_layout
from geneig_adjoint.collective import check_equal_input, raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.exchange import row_ranges
from geneig_adjoint.parameters import (
    Gradient,
    IdAccess,
    Parameters,
    check_parameters,
    finish,
    length,
    zeros_like,
)
from geneig_adjoint.pencil import Pencil

if TYPE_CHECKING:
    from mpi4py import MPI

DerivativePair = tuple[PETSc.Mat | None, PETSc.Mat | None]


@runtime_checkable
class Model(Protocol):
    """What A and B are as functions of named parameters."""

    def assemble(self, p: Parameters) -> Pencil:
        """Return a pencil with fresh matrices.  (Collective.)"""
        ...

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return Re sum_j left_a_j^H A_i right_j + left_b_j^H B_i right_j for all parameters.

        Collective. In the structure of p, summed over the ranks.
        """
        ...


class MatrixModel:
    """A(p) = A + sum_i p_i dA_i and B(p) = B + sum_i p_i dB_i, from matrices of the user.

    Collective. The matrices stay the user's and must not change while the model lives.

    Parameters
    ----------
    A, B
        Matrices at p = 0; B None: the identity (then every dB_i must be None).
    derivatives
        Name -> one pair (dA_i, dB_i) per entry of the parameter; None: zero.

    Raises
    ------
    InputError
        Derivatives in another layout than A, or of a B that does not exist.

    """

    def __init__(
        self,
        A: PETSc.Mat,
        B: PETSc.Mat | None,
        derivatives: Mapping[str, Sequence[DerivativePair]],
    ) -> None:
        self.A = A
        self.B = B
        self.comm: MPI.Comm = A.comm.tompi4py()
        self.derivatives = {name: list(pairs) for name, pairs in derivatives.items()}
        raise_together(self.comm, self._shape_error())
        self.parameter_sizes = {name: len(pairs) for name, pairs in self.derivatives.items()}
        self.rows: tuple[int, int] = A.getOwnershipRange()

    def assemble(self, p: Parameters, out: Pencil | None = None) -> Pencil:
        """Return the pencil at p, or refill ``out``; see `ElementModel.assemble`."""
        check_parameters(self.comm, p, self.parameter_sizes)
        weights = self._weights(p)
        with _petsc.log_stage("ga assemble"):
            A = self._summed(self.A, 0, weights, None if out is None else out.A)
            B = None
            if self.B is not None:
                B = self._summed(self.B, 1, weights, None if out is None else out.B)
        if out is not None:
            out.entries_changed()
            return out
        return Pencil(A, B, owned=True)

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the contraction with every dA_i and dB_i; see `Model.contract`."""
        total = zeros_like(p)
        with _petsc.log_stage("ga contract"):
            for name, pairs in self.derivatives.items():
                access = IdAccess(np.arange(len(pairs)))
                sums = np.zeros(len(pairs))
                for i, (dA, dB) in enumerate(pairs):
                    for mat, left in ((dA, left_a), (dB, left_b)):
                        if mat is not None:
                            sums[i] += np.vdot(left, _petsc.multiply(mat, right)).real
                access.add(total[name], sums)
            return finish(self.comm, total)

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot; see `ElementModel.tangent`."""
        products = np.zeros((2, *right.shape), dtype=np.result_type(right, PETSc.ScalarType))
        for name, weights in self._weights(p_dot).items():
            for weight, pair in zip(weights, self.derivatives[name], strict=True):
                for side, mat in enumerate(pair):
                    if mat is not None and weight != 0:
                        product = _petsc.multiply(mat, right, hermitian=hermitian)
                        products[side] += weight * product
        return np.asfortranarray(products[0]), np.asfortranarray(products[1])

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the matrices with columns dA_i x and dB_i x; see `derivative_products`."""
        del p  # affine: the derivatives do not depend on p
        chosen = np.arange(self.parameter_sizes[name]) if indices is None else np.asarray(indices)
        columns = equal_layout(self.comm, len(chosen))
        rows = np.arange(*self.rows)
        found = []
        for side in (0, 1):
            block = np.zeros((rows.size, len(chosen)), dtype=x.dtype)
            for column, index in enumerate(chosen):
                mat = self.derivatives[name][int(index)][side]
                if mat is not None:
                    block[:, column] = _petsc.multiply(mat, x)[:, 0]
            row, column_of = np.nonzero(block)
            pattern = Pattern(
                self.comm, row_ranges(self.comm, self.rows), columns, [(rows[row], column_of)]
            )
            sums = pattern.sums(x.dtype)
            pattern.collect(sums, 0, slice(None), block[row, column_of])
            found.append(pattern.matrix(sums))
        return found[0], found[1]

    def close(self) -> None:
        """Release what the model holds; the matrices are the user's.  (Collective.)"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _weights(self, p: Parameters) -> dict[str, Block]:
        """Return every parameter's entries on every rank."""
        return {
            name: IdAccess(np.arange(size)).gather(p[name])
            for name, size in self.parameter_sizes.items()
        }

    def _summed(
        self, base: PETSc.Mat, side: int, weights: Mapping[str, Block], out: PETSc.Mat | None
    ) -> PETSc.Mat:
        if out is None:
            total = base.copy()
        else:
            total = out
            total.zeroEntries()
            total.axpy(1.0, base, structure=PETSc.Mat.Structure.SUBSET_NONZERO_PATTERN)
        for name, values in weights.items():
            for weight, pair in zip(values, self.derivatives[name], strict=True):
                mat = pair[side]
                if mat is not None:
                    # Zero weights too: the pattern must not depend on p.
                    total.axpy(weight, mat, structure=PETSc.Mat.Structure.DIFFERENT_NONZERO_PATTERN)
        return total

    def _shape_error(self) -> InputError | None:
        for name, pairs in self.derivatives.items():
            for i, pair in enumerate(pairs):
                if len(pair) != 2:
                    return InputError(
                        f"derivatives of {name!r} must be pairs (dA_i, dB_i), got {len(pair)} items "
                        f"for entry {i}; write None for a zero matrix"
                    )
                for label, mat, base in (("dA", pair[0], self.A), ("dB", pair[1], self.B)):
                    error = _derivative_error(f"{label}_{i} of {name!r}", mat, base)
                    if error is not None:
                        return error
        return None


def _derivative_error(
    label: str, mat: PETSc.Mat | None, base: PETSc.Mat | None
) -> InputError | None:
    if mat is None:
        return None
    if base is None:
        return InputError(
            f"{label} needs a matrix B, got B=None; pass the identity as B if B depends on p"
        )
    if mat.getSizes() != base.getSizes():
        return InputError(
            f"{label} must have the layout of A, got {mat.getSizes()}, A has {base.getSizes()}; "
            "create it with the same local and global sizes"
        )
    return None


ApplyFunction = Callable[[Parameters, Block], Block]


class OperatorModel:
    """A(p) and B(p) as functions that multiply blocks of vectors; no matrix exists.

    Collective.

    Parameters
    ----------
    n
        Global number of rows.
    apply_a
        ``apply_a(p, block)``: this rank's rows of A(p) @ block, (n_local, k) in and out,
        called on every rank together; it communicates as it needs to.
    vjp
        ``vjp(p, left_a, left_b, right)``: Re sum_j left_a_j^H A_i right_j +
        left_b_j^H B_i right_j for every parameter, in the structure of p, summed over
        the ranks.
    apply_b
        Likewise for B; None: the identity.
    apply_a_hermitian, apply_b_hermitian
        Products with A^H, B^H; None: A, B are Hermitian.
    jvp
        ``jvp(p, p_dot, right)``: (dA @ right, dB @ right); needed for tangents only.
    comm
        Communicator; default ``MPI.COMM_WORLD``.
    n_local
        Rows of this rank; None: PETSc's default.

    """

    def __init__(  # noqa: PLR0913  (one keyword per product a user may bring)
        self,
        n: int,
        apply_a: ApplyFunction,
        vjp: Callable[[Parameters, Block, Block, Block], Mapping[str, Any]],
        *,
        apply_b: ApplyFunction | None = None,
        apply_a_hermitian: ApplyFunction | None = None,
        apply_b_hermitian: ApplyFunction | None = None,
        jvp: Callable[[Parameters, Parameters, Block], tuple[Block, Block]] | None = None,
        comm: MPI.Comm | None = None,
        n_local: int | None = None,
    ) -> None:
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        self.comm = comm
        self.n = n
        check_equal_input(comm, "n", n)
        self.n_local = equal_layout(comm, n)[0] if n_local is None else n_local
        if comm.allreduce(self.n_local) != n:
            raise InputError(
                f"n_local must add up to n = {n} over the ranks, got {comm.allgather(n_local)}; "
                "pass the number of rows each rank owns"
            )
        self._a = (apply_a, apply_a_hermitian or apply_a)
        self._b = None if apply_b is None else (apply_b, apply_b_hermitian or apply_b)
        self._vjp = vjp
        self._jvp = jvp

    def assemble(self, p: Parameters) -> Pencil:
        """Return a pencil of operators at p (a copy of the values is kept).  (Collective.)"""
        frozen = {name: value.copy() for name, value in p.items()}
        A = self._shell(frozen, *self._a, name="apply_a")
        B = None if self._b is None else self._shell(frozen, *self._b, name="apply_b")
        return Pencil(A, B, owned=True)

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the user's vjp, checked and made the same on all ranks.  (Collective.)"""
        result: dict[str, Any] = {}
        error: Exception | None = None
        with _petsc.log_stage("ga contract"):
            try:
                result = dict(self._vjp(p, left_a, left_b, right))
                error = _structure_error(p, result)
            except Exception as caught:
                error = caught
            raise_together(self.comm, error)
        # The user's own reduction may differ in the last bits between ranks.
        return {
            name: value
            if isinstance(value, PETSc.Vec)
            else self.comm.bcast(np.asarray(value, dtype=float), root=0)
            for name, value in result.items()
        }

    def tangent(self, p: Parameters, p_dot: Parameters, right: Block) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot by the user's jvp.  (Collective.)

        Raises
        ------
        InputError
            When the model was made without ``jvp``.

        """
        if self._jvp is None:
            raise InputError(
                "tangents need the derivative of the products, got an OperatorModel without jvp; "
                "pass jvp=function(p, p_dot, right) -> (dA @ right, dB @ right)"
            )
        return self._jvp(p, p_dot, right)

    def close(self) -> None:
        """Release what the model holds: nothing.  (Collective.)"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shell(
        self, p: Parameters, apply: ApplyFunction, hermitian: ApplyFunction, name: str
    ) -> PETSc.Mat:
        size = (self.n_local, self.n)
        context = _Product(self.comm, p, (apply, hermitian), name)
        mat = PETSc.Mat().createPython((size, size), context, comm=self.comm)
        mat.setUp()
        return mat


def _structure_error(p: Parameters, result: Mapping[str, Any]) -> InputError | None:
    expected = {name: length(value) for name, value in p.items()}
    got = {
        name: length(value if isinstance(value, PETSc.Vec) else np.asarray(value))
        for name, value in result.items()
    }
    if got == expected:
        return None
    return InputError(
        f"vjp must return the structure of p, {expected} (name: length), got {got}; "
        "return one entry per parameter, zeros where there is no effect"
    )


class _Product:
    """Python context of an operator given by a user's function.

    The function runs inside a PETSc callback: an exception on one rank is shared before
    anyone leaves, or the others would wait in PETSc's next reduction.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        p: Parameters,
        functions: tuple[ApplyFunction, ApplyFunction],
        name: str,
    ) -> None:
        self.comm = comm
        self.p = p
        self.functions = functions
        self.name = name

    def mult(self, _: PETSc.Mat, source: PETSc.Vec, target: PETSc.Vec) -> None:
        self._run(self.functions[0], source, target)

    def multHermitian(self, _: PETSc.Mat, source: PETSc.Vec, target: PETSc.Vec) -> None:
        self._run(self.functions[1], source, target)

    def multTranspose(self, _: PETSc.Mat, source: PETSc.Vec, target: PETSc.Vec) -> None:
        source.conjugate()
        self._run(self.functions[1], source, target)
        source.conjugate()
        target.conjugate()

    def _run(self, function: ApplyFunction, source: PETSc.Vec, target: PETSc.Vec) -> None:
        error: Exception | None = None
        try:
            block = np.array(source.array_r)[:, None]
            result = np.asarray(function(self.p, block))
            error = self._result_error(result, block)
            if error is None:
                target.array[:] = result[:, 0]
        except Exception as caught:
            error = caught
        raise_together(self.comm, error)

    def _result_error(self, result: Block, block: Block) -> InputError | None:
        if result.shape != block.shape:
            return InputError(
                f"{self.name} must return this rank's rows {block.shape}, got {result.shape}; "
                "it gets and returns (n_local, k) blocks"
            )
        if not np.isfinite(result).all():
            return InputError(
                f"{self.name} must return finite numbers, got "
                f"{np.count_nonzero(~np.isfinite(result))} NaN or Inf; check the parameters"
            )
        if _petsc.REAL_SCALARS and np.iscomplexobj(result):
            return _petsc.real_scalar_error(f"the result of {self.name}")
        return None


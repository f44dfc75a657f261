"""The `Model` protocol, and the model made of given matrices."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout, matrix_of_columns
from geneig_adjoint.collective import CollectiveContext, raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.parameters import (
    Gradient,
    IdAccess,
    Parameters,
    check_parameters,
    digest,
    finish,
    zeros_like,
)
from geneig_adjoint.pencil import Pencil

if TYPE_CHECKING:
    from mpi4py import MPI

DerivativePair = tuple[PETSc.Mat | None, PETSc.Mat | None]


@runtime_checkable
class Model(Protocol):
    """What A and B are as functions of named parameters.

    Two methods more are used where they exist: ``tangent(p, p_dot, right, hermitian=False)``
    -> (dA @ right, dB @ right), or with dA^H and dB^H, by `jvp` and verification; and
    ``contract_tangent(p, p_dot, left_a, left_b, right)``, the derivative of ``contract`` along
    p_dot, by `hessian_vector_product`.
    """

    def assemble(self, p: Parameters) -> Pencil:
        """Return a pencil with fresh matrices.  (Collective.)"""
        ...

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return Re sum_j left_a_j^H A_i right_j + left_b_j^H B_i right_j for all parameters.

        Collective. In the structure of p, summed over the ranks.
        """
        ...


def has_hermitian_tangent(model: Any) -> bool:
    """Whether a model's tangent also multiplies with dA^H and dB^H.  (Not collective.)"""
    known = getattr(model, "has_hermitian_tangent", None)
    if known is not None:
        return bool(known)
    return "hermitian" in inspect.signature(model.tangent).parameters


def refills(model: Any) -> bool:
    """Whether a model's assemble takes ``out=``, a pencil to refill.  (Not collective.)"""
    known = getattr(model, "refills", None)
    return "out" in inspect.signature(model.assemble).parameters if known is None else bool(known)


def checked_tangent(
    comm: MPI.Comm,
    model: Any,
    point: tuple[Parameters, Parameters],
    block: Block,
    *,
    hermitian: bool = False,
) -> tuple[Block, Block]:
    """Return (dA @ block, dB @ block) of a model, or with dA^H and dB^H.

    Collective.

    Parameters
    ----------
    comm
        The ranks of the pencil.
    model
        A model with ``tangent``.
    point
        (p, p_dot).
    block
        This rank's rows, (n_local, k).
    hermitian
        Whether the conjugate transposes are meant.

    Raises
    ------
    InputError
        When the model returns anything but two blocks of the shape of ``block``.

    """
    keywords = {"hermitian": True} if hermitian else {}
    result = model.tangent(*point, block, **keywords)
    several = isinstance(result, tuple | list)
    got = [np.shape(part) for part in result] if several else type(result).__name__
    error = None
    if got != [block.shape, block.shape]:
        error = InputError(
            f"the tangent of {type(model).__name__} must return (dA @ right, dB @ right), two "
            f"blocks of shape {block.shape}, got {got}; return this rank's rows, zeros where a "
            "matrix does not move"
        )
    raise_together(comm, error)
    return np.asarray(result[0]), np.asarray(result[1])


class MatrixModel(CollectiveContext):
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
        check_parameters(self.comm, p, self.parameter_sizes, exact=True)
        if out is not None:
            out.begin_refill(self.rows, with_b=self.B is not None)
        weights = self._weights(p)
        with _petsc.log_stage("assemble"):
            A = self._summed(self.A, 0, weights, None if out is None else out.A)
            B = None
            if self.B is not None:
                B = self._summed(self.B, 1, weights, None if out is None else out.B)
        if out is not None:
            out.verify()
        pencil = Pencil(A, B, owned=True) if out is None else out
        pencil.point = digest(p)
        return pencil

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the contraction with every dA_i and dB_i; see `Model.contract`."""
        check_parameters(self.comm, p, self.parameter_sizes, exact=True)
        total = zeros_like(p)
        with _petsc.log_stage("contract"):
            for name, pairs in self.derivatives.items():
                access = IdAccess(np.arange(len(pairs)))
                sums = np.zeros(len(pairs))
                for i, (dA, dB) in enumerate(pairs):
                    for mat, left in ((dA, left_a), (dB, left_b)):
                        if mat is not None:
                            sums[i] += np.vdot(left, _petsc.multiply(mat, right)).real
                access.add(total[name], sums)
            return finish(self.comm, total)

    def contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Gradient:
        """Return zeros: A and B are affine in p; see `ElementModel.contract_tangent`."""
        del left_a, left_b, right
        for given in (p, p_dot):
            check_parameters(self.comm, given, self.parameter_sizes, exact=True)
        return finish(self.comm, zeros_like(p))

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot; see `ElementModel.tangent`."""
        check_parameters(self.comm, p_dot, self.parameter_sizes, exact=True)
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
        found = []
        for side in (0, 1):
            block = np.zeros((len(x), len(chosen)), dtype=np.result_type(x, PETSc.ScalarType))
            for column, index in enumerate(chosen):
                mat = self.derivatives[name][int(index)][side]
                if mat is not None:
                    block[:, column] = _petsc.multiply(mat, x)[:, 0]
            found.append(matrix_of_columns(self.comm, self.rows, columns, list(block.T)))
        return found[0], found[1]

    def close(self) -> None:
        """Release what the model holds; the matrices are the user's.  (Collective.)"""

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
                        f"derivatives of {name!r} must be pairs (dA_i, dB_i), got {len(pair)} "
                        f"items for entry {i}; write None for a zero matrix"
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

"""The `Model` protocol, and the model made of given matrices."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.collective import CollectiveContext, raise_together, users_code
from geneig_adjoint.entrance import takes_structures
from geneig_adjoint.errors import InputError
from geneig_adjoint.matrix_sources import (
    DerivativePair,
    MatrixSource,
    StoredMatrices,
    add_weighted,
    columns,
    contracted,
    pair_error,
    summed_products,
)
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
    with users_code(comm):
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


@takes_structures
class MatrixModel(CollectiveContext):
    """A(p) = A + sum_i p_i dA_i and B(p) = B + sum_i p_i dB_i, from matrices of the user.

    Collective. All matrices exist at the same time; `AssembledModel` is for those that are
    assembled when they are needed. They stay the user's and must not change while the model
    lives.

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
        self._source = StoredMatrices(self.comm, self.derivatives)
        self.parameter_sizes = self._source.sizes
        self.rows: tuple[int, int] = A.getOwnershipRange()

    def assemble(self, p: Parameters, out: Pencil | None = None) -> Pencil:
        """Return the pencil at p, or refill ``out``; see `ElementModel.assemble`."""
        check_parameters(self.comm, p, self.parameter_sizes, exact=True)
        return affine_pencil(self._source, (self.A, self.B), p, out)

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the contraction with every dA_i and dB_i; see `Model.contract`."""
        check_parameters(self.comm, p, self.parameter_sizes, exact=True)
        with _petsc.log_stage("contract"):
            return contracted(self._source, p, left_a, left_b, right)

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
        weights = all_entries(p_dot, self.parameter_sizes)
        return summed_products(self._source, weights, right, hermitian=hermitian)

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the matrices with columns dA_i x and dB_i x; see `derivative_products`."""
        del p  # affine: the derivatives do not depend on p
        chosen = np.arange(self.parameter_sizes[name]) if indices is None else np.asarray(indices)
        return columns(self._source, self.rows, x, name, chosen)

    def close(self) -> None:
        """Release what the model holds; the matrices are the user's.  (Collective.)"""

    def _shape_error(self) -> InputError | None:
        errors = (
            pair_error((name, i), pair, self.A.getSizes(), with_b=self.B is not None)
            for name, pairs in self.derivatives.items()
            for i, pair in enumerate(pairs)
        )
        return next((error for error in errors if error is not None), None)


def all_entries(p: Parameters, sizes: Mapping[str, int]) -> dict[str, Block]:
    """Return all entries of every parameter on every rank.  (Collective for PETSc.Vec.)"""
    return {name: IdAccess(np.arange(size)).gather(p[name]) for name, size in sorted(sizes.items())}


def affine_pencil(
    source: MatrixSource,
    bases: tuple[PETSc.Mat, PETSc.Mat | None],
    p: Parameters,
    out: Pencil | None,
) -> Pencil:
    """Return the pencil A + sum_i p_i dA_i, B + sum_i p_i dB_i, or refill ``out`` with it.

    Collective.

    Parameters
    ----------
    source
        Derivative matrices.
    bases
        A and B at p = 0, not changed.
    p
        Checked parameters.
    out
        A pencil made by this function before, or None.

    """
    if out is not None:
        out.begin_refill(bases[0].getOwnershipRange(), with_b=bases[1] is not None)
    weights = all_entries(p, source.sizes)
    totals: list[PETSc.Mat | None] = []
    try:
        with _petsc.log_stage("assemble"):
            for base, total in zip(bases, (out.A, out.B) if out else (None, None), strict=True):
                totals.append(None if base is None else _started(base, total))
            add_weighted(source, weights, totals)
        pencil = Pencil(totals[0], totals[1], owned=True) if out is None else out
    except BaseException:
        if out is None:
            _petsc.destroy_quietly(*totals)
        raise
    if out is not None:
        out.verify()
    pencil.point = digest(p)
    return pencil


def _started(base: PETSc.Mat, total: PETSc.Mat | None) -> PETSc.Mat:
    """Return a copy of a matrix, or one of the same or a larger pattern filled with it."""
    if total is None:
        return base.copy()
    total.zeroEntries()
    total.axpy(1.0, base, structure=PETSc.Mat.Structure.SUBSET_NONZERO_PATTERN)
    return total

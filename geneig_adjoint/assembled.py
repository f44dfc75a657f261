"""`AssembledModel`: matrices and derivative matrices that functions of the user assemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.collective import CollectiveContext, check_equal_input, users_code
from geneig_adjoint.entrance import called, takes_structures
from geneig_adjoint.errors import InputError
from geneig_adjoint.matrix_sources import (
    DerivativePair,
    GeneratedMatrices,
    Layout,
    Numbers,
    columns,
    contracted,
    summed_products,
)
from geneig_adjoint.models import affine_pencil, all_entries
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    check_parameters,
    digest,
    finish,
    zeros_like,
)
from geneig_adjoint.pencil import Pencil

if TYPE_CHECKING:
    from mpi4py import MPI

Matrices: TypeAlias = tuple[PETSc.Mat, PETSc.Mat | None]
Shape: TypeAlias = tuple[Layout, bool, tuple[int, int]]
"""Sizes, whether there is a B, row range of this rank."""
Assemble: TypeAlias = Callable[[Parameters], Matrices]
Derivatives: TypeAlias = Callable[[Parameters, str, Numbers], Iterator[DerivativePair]]
SecondDerivatives: TypeAlias = Callable[
    [Parameters, Parameters, str, Numbers], Iterator[DerivativePair]
]


@takes_structures
class AssembledModel(CollectiveContext):
    """A(p), B(p) and their derivatives, assembled by the user's code when they are needed.

    Collective. One derivative (dA_i, dB_i) exists at a time: it meets all vectors, is
    destroyed, and only then the next one is asked for.

    Parameters
    ----------
    matrices
        ``matrices(p)`` -> (A, B), fresh matrices that the pencil destroys; B None: the
        identity. Or the pair (A, B) itself for A(p) = A + sum_i p_i dA_i and the same of B:
        these two stay the user's.
    derivatives
        ``derivatives(p, name, numbers)``, a generator: for every number i in ``numbers``
        (ascending or as asked for) it yields (dA/dp_i, dB/dp_i) of the parameter ``name``
        at p, in the layout of A; None: zero. Called on all ranks together.
    sizes
        Name -> number of entries, for all parameters.
    second_derivatives
        ``second_derivatives(p, p_dot, name, numbers)``, the same for the derivatives of
        dA/dp_i and dB/dp_i along p_dot; needed for Hessian-vector products where A(p) or
        B(p) is not affine.
    keep
        True: what the generators yield stays the user's, who may fill one matrix again and
        again. False: it is destroyed.
    comm
        Communicator; default ``MPI.COMM_WORLD``, or that of A.

    """

    def __init__(
        self,
        matrices: Assemble | Matrices,
        derivatives: Derivatives,
        sizes: Mapping[str, int],
        *,
        second_derivatives: SecondDerivatives | None = None,
        keep: bool = False,
        comm: MPI.Comm | None = None,
    ) -> None:
        # A matrix can be called, too: it multiplies.
        function = callable(matrices) and not isinstance(matrices, PETSc.Mat)
        self._bases: Matrices | None = None if function else _pair(matrices)
        self._assemble: Any = matrices if function else None
        if self._bases is not None:
            comm = self._bases[0].comm.tompi4py()
        if comm is None:
            from mpi4py import MPI

            comm = MPI.COMM_WORLD
        self.comm = comm
        self.refills = self._bases is not None
        self.parameter_sizes = dict(sorted(sizes.items()))
        check_equal_input(comm, "sizes", self.parameter_sizes)
        self._derivatives = derivatives
        self._second_derivatives = second_derivatives
        self._keep = keep
        self._known = None if self._bases is None else _shape_of(self._bases)

    @property
    def rows(self) -> tuple[int, int]:
        """First row of this rank and one past its last, once assembled.  (Not collective.)"""
        if self._known is None:
            raise InputError(
                "the rows of an AssembledModel must be known, got a model that has not assembled "
                "its matrices yet; call assemble(p)"
            )
        return self._known[2]

    def assemble(self, p: Parameters, out: Pencil | None = None) -> Pencil:
        """Return the pencil at p; ``out`` is refilled where (A, B) was given.

        Collective.

        Raises
        ------
        InputError
            When the user's function returns anything but (A, B), or the matrices make no
            pencil; ``out`` where a function makes the matrices.

        """
        check_parameters(self.comm, p, self.parameter_sizes, exact=True)
        if self._bases is not None:
            return affine_pencil(self._first_order(p), self._bases, p, out)
        if out is not None:
            raise InputError(
                "out= needs an AssembledModel made of matrices (A, B), got one made of a function, "
                "which returns fresh ones; assemble without out"
            )
        with _petsc.log_stage("assemble"):
            A, B = self._fresh(p)
        try:
            pencil = Pencil(A, B, owned=True)
        except BaseException:
            _petsc.destroy_quietly(A, B)
            raise
        self._known = _shape_of((A, B))
        pencil.point = digest(p)
        return pencil

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the contraction with every dA_i and dB_i, one at a time.

        Collective. See `Model.contract`.
        """
        check_parameters(self.comm, p, self.parameter_sizes, exact=True)
        with _petsc.log_stage("contract"):
            return contracted(self._first_order(p, right), p, left_a, left_b, right)

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot; see `ElementModel.tangent`.

        Collective. Derivatives that meet a zero of p_dot are not asked for.
        """
        for given in (p, p_dot):
            check_parameters(self.comm, given, self.parameter_sizes, exact=True)
        weights = all_entries(p_dot, self.parameter_sizes)
        return summed_products(self._first_order(p, right), weights, right, hermitian=hermitian)

    def contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Gradient:
        """Return the derivative of `contract` along p_dot: zeros for an affine model.

        Collective. See `ElementModel.contract_tangent`.

        Raises
        ------
        InputError
            When A(p) is a function and no ``second_derivatives`` were given.

        """
        for given in (p, p_dot):
            check_parameters(self.comm, given, self.parameter_sizes, exact=True)
        second = self._second_derivatives
        if second is None and self._bases is not None:
            return finish(self.comm, zeros_like(p))
        if second is None:
            raise InputError(
                "second derivatives need those of the matrices, got an AssembledModel without "
                "second_derivatives; pass second_derivatives=generator(p, p_dot, name, numbers)"
            )
        with _petsc.log_stage("contract"):
            source = self._source(
                lambda name, numbers: called(second, p, p_dot, name, numbers), right
            )
            return contracted(source, p, left_a, left_b, right)

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the matrices with columns dA_i x and dB_i x; see `derivative_products`."""
        chosen = np.arange(self.parameter_sizes[name]) if indices is None else np.asarray(indices)
        return columns(self._first_order(p, x), self.rows, x, name, chosen)

    def close(self) -> None:
        """Release what the model holds: no matrices.  (Collective.)"""

    def _first_order(self, p: Parameters, block: Block | None = None) -> GeneratedMatrices:
        return self._source(
            lambda name, numbers: called(self._derivatives, p, name, numbers), block
        )

    def _source(
        self, generate: Callable[[str, Numbers], Iterator[DerivativePair]], block: Block | None
    ) -> GeneratedMatrices:
        if self._known is None:
            # Another model of the same problem has made the pencil: its vectors have the layout.
            assert block is not None
            local, n = len(block), int(self.comm.allreduce(len(block)))
            layout, with_b = ((local, n), (local, n)), True
        else:
            layout, with_b, _ = self._known
        return GeneratedMatrices(
            self.comm,
            self.parameter_sizes,
            generate,
            layout=layout,
            with_b=with_b,
            keep=self._keep,
        )

    def _fresh(self, p: Parameters) -> Matrices:
        """Return what the user's function makes, checked.  (Collective.)"""
        with users_code(self.comm):
            return _pair(called(self._assemble, p))


def _shape_of(matrices: Matrices) -> Shape:
    A, B = matrices
    return A.getSizes(), B is not None, A.getOwnershipRange()


def _pair(made: Any) -> Matrices:
    kinds = (
        [type(item).__name__ for item in made]
        if isinstance(made, tuple | list)
        else type(made).__name__
    )
    if kinds not in (["Mat", "Mat"], ["Mat", "NoneType"]):
        raise InputError(
            f"matrices must be a pair (A, B) of PETSc.Mat, B may be None, or a function of p that "
            f"returns one, got {kinds}; return A, None for a standard problem"
        )
    return made[0], made[1]

"""`OperatorModel`: A(p) and B(p) as functions that multiply; no matrix exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout, matrix_of_columns
from geneig_adjoint.collective import CollectiveContext, check_equal_input, users_code
from geneig_adjoint.entrance import called, takes_structures
from geneig_adjoint.errors import InputError
from geneig_adjoint.models import checked_tangent
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    digest,
    is_distributed,
    length,
    release,
    structure_error,
    unit_direction,
)
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.preconditioners import PreconditionerSource, bound
from geneig_adjoint.structures import carried, given
from geneig_adjoint.symmetry import adjoint_defect

if TYPE_CHECKING:
    from mpi4py import MPI

OPERATOR_TOLERANCE = 1e-10
"""Products of operators may be less exact than those of matrices."""

ApplyFunction = Callable[[Parameters, Block], Block]
TangentFunction = Callable[[Parameters, Parameters, Block], tuple[Block, Block]]


@takes_structures
class OperatorModel(CollectiveContext):
    """A(p) and B(p) as functions that multiply blocks of vectors; no matrix exists.

    Collective.

    Parameters
    ----------
    n
        Global number of rows.
    apply_a
        ``apply_a(p, block)``: this rank's rows of A(p) @ block, (n_local, k) in and out,
        called on every rank together; it communicates as it needs to.
        One column at a time, real in the real build.
    vjp
        ``vjp(p, left_a, left_b, right)``: Re sum_j left_a_j^H A_i right_j +
        left_b_j^H B_i right_j for every parameter, in the structure of p, summed over
        the ranks. Blocks have any number of columns; in the real build they are real (halves
        of complex vectors are columns), as those of the functions below.
    apply_b
        Likewise for B; None: the identity.
    apply_a_hermitian, apply_b_hermitian
        Products with A^H, B^H; None: A, B are Hermitian.
    jvp
        ``jvp(p, p_dot, right)``: (dA @ right, dB @ right); needed for tangents only.
    jvp_hermitian
        Likewise with dA^H, dB^H: for tangents of left vectors and for second derivatives of
        operators that are not Hermitian.
    vjp_tangent
        ``vjp_tangent(p, p_dot, left_a, left_b, right)``: derivative of vjp along p_dot;
        needed for Hessian-vector products only.
    preconditioner
        ``preconditioner(p, sigma)``: a new assembled matrix near A(p) - sigma B(p), in the
        layout of the rows, destroyed after use; or one matrix for every p and target, which
        stays yours. Pairs nearest to a target, inside the spectrum too, need it.
    preconditioner_b
        ``preconditioner_b(p)``: likewise near B(p), for solves with B (``which=``).
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
        jvp: TangentFunction | None = None,
        jvp_hermitian: TangentFunction | None = None,
        vjp_tangent: Callable[..., Mapping[str, Any]] | None = None,
        preconditioner: PreconditionerSource = None,
        preconditioner_b: PreconditionerSource = None,
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
        before = sum(comm.allgather(self.n_local)[: comm.rank])
        self.rows: tuple[int, int] = (before, before + self.n_local)
        self._preconditioners = (preconditioner, preconditioner_b)
        self._a = (apply_a, apply_a_hermitian)
        self._b = None if apply_b is None else (apply_b, apply_b_hermitian)
        self._vjp, self._vjp_tangent = vjp, vjp_tangent
        self._jvp = jvp
        self._jvp_hermitian = jvp_hermitian
        self.has_tangent = jvp is not None
        self.has_hermitian_tangent = jvp_hermitian is not None

    def assemble(self, p: Parameters) -> Pencil:
        """Return a pencil of operators at p (a copy of the values is kept).  (Collective.)"""
        frozen = carried(p, {name: value.copy() for name, value in p.items()}, point=True)
        mats: list[PETSc.Mat] = []
        try:
            for name, functions in (("apply_a", self._a), ("apply_b", self._b)):
                if functions is not None:
                    mats.append(self._shell(frozen, functions, name))
                    self._check_shell(mats[-1], functions[1], name)
            # A is destroyed when nothing that multiplies is left.
            mats[0].getPythonContext().held = frozen
            made, made_b = (bound(source, given(frozen)) for source in self._preconditioners)
            pencil = Pencil(*mats, owned=True, preconditioner=made, preconditioner_b=made_b)
        except BaseException:
            _petsc.destroy_quietly(*mats)
            raise
        pencil.point = digest(p)
        return pencil

    def contract(self, p: Parameters, left_a: Block, left_b: Block, right: Block) -> Gradient:
        """Return the user's vjp, checked and made the same on all ranks.  (Collective.)"""
        vectors = _real_columns(left_a, left_b, right)
        return self._same_everywhere("vjp", p, self._vjp, (p, *vectors))

    def contract_tangent(
        self, p: Parameters, p_dot: Parameters, left_a: Block, left_b: Block, right: Block
    ) -> Gradient:
        """Return the user's vjp_tangent, checked and made the same on all ranks.  (Collective.)

        Raises
        ------
        InputError
            When the model was made without ``vjp_tangent``.

        """
        if self._vjp_tangent is None:
            raise InputError(
                "second derivatives need the derivative of vjp, got an OperatorModel without "
                "vjp_tangent; pass vjp_tangent=function(p, p_dot, left_a, left_b, right)"
            )
        arguments = (p, p_dot, *_real_columns(left_a, left_b, right))
        return self._same_everywhere("vjp_tangent", p, self._vjp_tangent, arguments)

    def _same_everywhere(
        self,
        name: str,
        p: Parameters,
        function: Callable[..., Mapping[str, Any]],
        arguments: tuple[Any, ...],
    ) -> Gradient:
        with _petsc.log_stage("contract"), users_code(self.comm):
            result: dict[str, Any] = dict(called(function, *arguments, what=name))
            error = structure_error(name, p, result)
            if error is not None:
                raise error
        # The user's own reduction may differ in the last bits between ranks.
        return {
            name: result[name]
            if isinstance(result[name], PETSc.Vec)
            else self.comm.bcast(np.asarray(result[name], dtype=float), root=0)
            for name in p
        }

    def tangent(
        self, p: Parameters, p_dot: Parameters, right: Block, *, hermitian: bool = False
    ) -> tuple[Block, Block]:
        """Return (dA @ right, dB @ right) along p_dot by the user's jvp.  (Collective.)

        Raises
        ------
        InputError
            When the model was made without ``jvp``, or ``jvp_hermitian`` where that is
            asked for.

        """
        function = self._jvp_hermitian if hermitian else self._jvp
        if function is None:
            name = "jvp_hermitian" if hermitian else "jvp"
            raise InputError(
                f"tangents need the derivative of the products, got an OperatorModel without "
                f"{name}; pass {name}=function(p, p_dot, right) -> (dA @ right, dB @ right)"
            )
        (block,) = _real_columns(right)
        with users_code(self.comm):
            products: Any = called(function, p, p_dot, block)
        if block is right or not isinstance(products, tuple | list):
            return products  # its shape is checked by whoever asked
        k = right.shape[1]
        dA, dB = (np.asarray(part)[:, :k] + 1j * np.asarray(part)[:, k:] for part in products)
        return dA, dB

    def derivative_products(
        self, p: Parameters, x: Block, name: str, indices: Block | None = None
    ) -> tuple[PETSc.Mat, PETSc.Mat]:
        """Return the matrices with columns (dA/dp_i) x and (dB/dp_i) x.

        Collective. One jvp per column: meant for some indices, see
        `geneig_adjoint.derivative_products`.
        """
        size = length(p[name]) or 0
        chosen = np.arange(size) if indices is None else np.asarray(indices)
        columns = equal_layout(self.comm, len(chosen))
        if indices is None and is_distributed(p[name]):
            columns = p[name].getSizes()
        found: list[tuple[Block, Block]] = []
        for index in chosen:
            unit = unit_direction(p, name, int(index))
            found.append(checked_tangent(self.comm, self, (p, unit), x))
            release(unit)
        dA_x, dB_x = (
            matrix_of_columns(self.comm, self.rows, columns, [pair[side][:, 0] for pair in found])
            for side in (0, 1)
        )
        return dA_x, dB_x

    def close(self) -> None:
        """Release what the model holds: nothing.  (Collective.)"""

    def _shell(
        self,
        p: Parameters,
        functions: tuple[ApplyFunction, ApplyFunction | None],
        name: str,
    ) -> PETSc.Mat:
        apply, hermitian = functions
        size = (self.n_local, self.n)
        context = _Product(self.comm, p, (apply, hermitian or apply), name)
        mat = PETSc.Mat().createPython((size, size), context, comm=self.comm)
        mat.setUp()
        return mat

    def _check_shell(self, mat: PETSc.Mat, hermitian: ApplyFunction | None, name: str) -> None:
        defect = adjoint_defect(mat)
        if defect > OPERATOR_TOLERANCE:
            wrong = f"{name}_hermitian contradicts it" if hermitian else "it is not Hermitian"
            raise InputError(
                f"{name} must belong to a Hermitian operator, or {name}_hermitian give the "
                f"products with its Hermitian transpose: got u^H M v and (M^H u)^H v that differ "
                f"by {defect:.1e}, so {wrong}; pass {name}_hermitian"
            )


def _real_columns(*blocks: Block) -> tuple[Block, ...]:
    """Return blocks as functions of the user get them: real ones in the real build.

    Not collective. With real matrices the halves of complex vectors contribute alike: they
    become columns, (n_local, 2 k), the real parts first.
    """
    if not (_petsc.REAL_SCALARS and any(np.iscomplexobj(block) for block in blocks)):
        return blocks
    return tuple(np.asfortranarray(np.hstack([block.real, block.imag])) for block in blocks)


class _Product(_petsc.Callback):
    """Python context of an operator given by a user's functions for A v and A^H v.

    An exception of the user's code on one rank is shared before any rank leaves, or
    the others would wait in PETSc's next reduction.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        p: Parameters,
        functions: tuple[ApplyFunction, ApplyFunction],
        name: str,
    ) -> None:
        super().__init__(lambda vector: self._checked(functions[0], vector))
        self.comm = comm
        self.p = p
        self.functions = functions
        self.name = name
        self.held: Parameters = {}

    def destroy(self, _: PETSc.Mat) -> None:
        """Free the copies of distributed parameters.  (Collective; PETSc calls it.)"""
        release(self.held)
        self.held = {}

    def multHermitian(  # noqa: N802  (PETSc looks for these names)
        self, _: PETSc.Mat, source: PETSc.Vec, target: PETSc.Vec
    ) -> None:
        self.run(lambda vector: self._checked(self.functions[1], vector), source, target)

    def multTranspose(  # noqa: N802
        self, _: PETSc.Mat, source: PETSc.Vec, target: PETSc.Vec
    ) -> None:
        def action(vector: Block) -> Block:
            return self._checked(self.functions[1], vector.conj()).conj()

        self.run(action, source, target)

    def _checked(self, function: ApplyFunction, vector: Block) -> Block:
        with users_code(self.comm):
            result = np.asarray(called(function, self.p, vector[:, None]))
            error = self._result_error(result, vector[:, None])
            if error is not None:
                raise error
        return result[:, 0]

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

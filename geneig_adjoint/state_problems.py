"""Problems r(u, p) = 0 that fix a state: of the user, linear ones, nonlinear ones of elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.element_blocks import ElementBlock
from geneig_adjoint.elements import ElementModel
from geneig_adjoint.errors import InputError
from geneig_adjoint.jax_kernels import JaxKernel
from geneig_adjoint.models import refills
from geneig_adjoint.parameters import Gradient, Parameters, add_scaled, release
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.state_solver import local_rows, new_vec, vector_error

if TYPE_CHECKING:
    from mpi4py import MPI


@runtime_checkable
class StateProblem(Protocol):
    """What fixes a state: n equations r(u, p) = 0 for n numbers u, all real.

    Vectors that are handed over have the layout ``rows``. Results are PETSc vectors in that
    layout or arrays of this rank's rows; they are read at once and stay the problem's, which
    may use them again, as may the matrix. It is a function of u and p alone.

    One of these two is needed, too::

        def solve(self, p) -> Vec: ...         # the state: your own solver; raise if it fails
        def residual(self, u, p) -> Vec: ...   # r(u, p): for the Newton method of this package;
                                               # with solve: the state is checked

    and for second derivatives, unless differences will do::

        def residual_second(self, u, p, u_dot, p_dot, w): ...
            # (J^T w, (dr/dp)^T w) differentiated along (u_dot, p_dot), w held fixed
    """

    @property
    def comm(self) -> MPI.Comm:
        """The ranks."""
        ...

    @property
    def rows(self) -> tuple[int, int]:
        """First row of the state on this rank and one past its last."""
        ...

    def jacobian(self, u: PETSc.Vec, p: Parameters) -> PETSc.Mat:
        """Return J = dr/du, assembled, or an operator with both products.  (Collective.)"""
        ...

    def residual_vjp(self, u: PETSc.Vec, p: Parameters, w: PETSc.Vec) -> Gradient:
        """Return (dr/dp)^T w in the structure of p, finished; vectors are new.  (Collective.)"""
        ...

    def residual_jvp(self, u: PETSc.Vec, p: Parameters, p_dot: Parameters) -> Any:
        """Return (dr/dp) p_dot.  (Collective.)"""
        ...


def problem_error(problem: Any) -> InputError | None:
    """Return an error unless something is a problem that can be solved.  (Not collective.)"""
    needed = ("comm", "rows", "jacobian", "residual_vjp", "residual_jvp")
    missing = [name for name in needed if not hasattr(problem, name)]
    if not hasattr(problem, "solve") and not hasattr(problem, "residual"):
        missing.append("solve or residual")
    if not missing:
        return None
    return InputError(
        f"a state needs comm, rows, jacobian, residual_vjp, residual_jvp, and solve or residual, "
        f"got {type(problem).__name__} without {missing[0]}; see StateProblem"
    )


class LinearProblem:
    r"""A static problem: A(p) u = load + B(p) field.

    Collective. Derivatives are contractions of the model with w and u.

    Parameters
    ----------
    model
        A model (`ElementModel`, `MatrixModel`, `Composed`): A(p) is the stiffness. Real matrices.
    load
        Constant part of the right-hand side: a PETSc.Vec or this rank's rows; None: zero.
        A Vec stays the user's; it is copied.
    field
        What B(p) is multiplied with, likewise: accelerations where B is the mass matrix, for
        self-weight; None: none.
    names
        Parameters that the model takes; default: those it says (``parameter_sizes``), or all.

    Raises
    ------
    InputError
        Neither load nor field, other rows than the model's, a field without B.

    """

    linear = True

    def __init__(
        self,
        model: Any,
        load: Any = None,
        field: Any = None,
        *,
        names: Sequence[str] | None = None,
    ) -> None:
        self.model = model
        self.comm: MPI.Comm = model.comm
        self.rows: tuple[int, int] = model.rows
        n_local = self.rows[1] - self.rows[0]
        error = None
        if load is None and field is None:
            error = InputError(
                "a linear state needs a load or a field, got none of both; u would be zero"
            )
        for name, given in (("load", load), ("field", field)):
            if given is not None and error is None:
                error = vector_error(name, given, n_local)
        raise_together(self.comm, error)
        zero: Block = np.zeros(n_local)
        self._load = zero if load is None else local_rows(load)
        self._field = None if field is None else local_rows(field)
        self._pencil: Pencil | None = None
        known = names if names is not None else getattr(model, "parameter_sizes", None)
        self.names = None if known is None else set(known)

    def residual(self, u: PETSc.Vec, p: Parameters) -> Block:
        """Return A u - load - B field."""
        pencil = self._assembled(p)
        found = pencil.multiply_a(local_rows(u)[:, None])[:, 0].real - self._load
        if self._field is not None:
            found = found - pencil.multiply_b(self._field[:, None])[:, 0].real
        return np.asarray(found)

    def jacobian(self, u: PETSc.Vec, p: Parameters) -> PETSc.Mat:
        """Return A(p); it is refilled at the next call."""
        del u
        return self._assembled(p).A

    def residual_vjp(self, u: PETSc.Vec, p: Parameters, w: PETSc.Vec) -> Gradient:
        """Return w^T A_i u - w^T B_i field."""
        return self.model.contract(p, *self._sides(local_rows(w), local_rows(u)))

    def residual_jvp(self, u: PETSc.Vec, p: Parameters, p_dot: Parameters) -> Block:
        """Return (A_dot u - B_dot field)."""
        right = local_rows(u)[:, None]
        if self._field is not None:
            right = np.column_stack([right, self._field])
        dA_right, dB_right = self.model.tangent(p, p_dot, right)
        change = dA_right[:, 0]
        if self._field is not None:
            change = change - dB_right[:, 1]
        return np.asarray(change.real)

    def residual_second(
        self, u: PETSc.Vec, p: Parameters, u_dot: PETSc.Vec, p_dot: Parameters, w: PETSc.Vec
    ) -> tuple[Block, Gradient]:
        """Return A_dot^T w, and w^T A_i u_dot + (w^T A_i u - w^T B_i field)_dot."""
        left, zero = local_rows(w), np.zeros((len(local_rows(w)), 1))
        turned = self.model.tangent(p, p_dot, left[:, None], hermitian=True)[0][:, 0]
        total = self.model.contract_tangent(p, p_dot, *self._sides(left, local_rows(u)))
        moved = self.model.contract(p, left[:, None], zero, local_rows(u_dot)[:, None])
        add_scaled(total, 1.0, moved)
        release(moved)
        return np.asarray(turned.real), total

    def close(self) -> None:
        """Free the matrix; the model is the user's.  (Collective.)"""
        if self._pencil is not None:
            self._pencil.close()
        self._pencil = None

    def _assembled(self, p: Parameters) -> Pencil:
        if self._pencil is not None and refills(self.model):
            self._pencil = self.model.assemble(p, out=self._pencil)
        else:
            self.close()
            self._pencil = self.model.assemble(p)
        if self._field is not None and self._pencil.B is None:
            raise InputError(
                "a field needs a model with B, got one without: the load is B(p) field; add "
                'element blocks with matrix="B"'
            )
        return self._pencil

    def _sides(self, w: Block, u: Block) -> tuple[Block, Block, Block]:
        """Return left_a, left_b, right so that the contraction is w^T (A_i u - B_i field)."""
        if self._field is None:
            return w[:, None], np.zeros((len(w), 1)), u[:, None]
        zero = np.zeros(len(w))
        columns = ([w, zero], [zero, -w], [u, self._field])
        left_a, left_b, right = (np.stack(pair, axis=1) for pair in columns)
        return left_a, left_b, right


@dataclass(frozen=True)
class ResidualBlock:
    """Elements of one kind whose residuals make up r(u, p).

    Parameters
    ----------
    dofs
        Global numbers of the state's entries, (n_elements, nd); -1: held at 0. A held value
        other than 0 is data that the function adds.
    function
        ``function(state, **values, **data)`` -> (nd,), the residual of one element in JAX;
        ``state`` is (nd,), values and data as in `JaxKernel`.
    parameters
        Name -> ids, as in `ElementBlock`.
    data
        Arrays with the element as leading axis, as in `JaxKernel`.

    """

    dofs: Block
    function: Callable[..., Any]
    parameters: Mapping[str, Block] = field(default_factory=dict)
    data: Mapping[str, Block] = field(default_factory=dict)

    def linearised(
        self, matrix: str = "A", *, factor: float = 1.0, state: str = "state"
    ) -> ElementBlock:
        """Return elements of an eigenproblem: factor x dr/du at the state.

        Not collective.

        Parameters
        ----------
        matrix
            ``"A"`` or ``"B"``.
        factor
            -1 for growth rates: du/dt = -r(u).
        state
            Name under which the state comes: ``output`` of the `BaseState`.

        """

        def slopes(**given: Any) -> Any:
            import jax

            u = given.pop(state)
            return factor * jax.jacfwd(lambda at: self.function(at, **given))(u)

        return self._block(matrix, slopes, state)

    def forms(self, state: str) -> ElementBlock:
        """Return elements with diag(r_e): times a vector of ones they give the residual.

        Not collective. Contractions, tangents and second derivatives of it with ones at the
        right are then those of w^T r(u, p), with respect to u and p at once.
        """

        def diagonal(**given: Any) -> Any:
            import jax

            return jax.numpy.diag(self.function(given.pop(state), **given))

        return self._block("A", diagonal, state)

    def _block(self, matrix: str, function: Callable[..., Any], state: str) -> ElementBlock:
        kernel = JaxKernel(function, self.data)
        return ElementBlock(matrix, self.dofs, kernel, {**self.parameters, state: self.dofs})


class ElementProblem:
    """r(u, p) summed from the residuals of elements in JAX, with all its derivatives.

    Collective.

    Parameters
    ----------
    n
        Global number of entries of the state.
    blocks
        This rank's elements, as those of an `ElementModel`.
    state
        Name of the state beside the parameters of the blocks.
    comm, n_local
        As of `ElementModel`.

    Raises
    ------
    InputError
        As from `ElementModel`; a parameter with the name of the state.

    """

    def __init__(
        self,
        n: int,
        blocks: Sequence[ResidualBlock],
        *,
        state: str = "state",
        comm: MPI.Comm | None = None,
        n_local: int | None = None,
    ) -> None:
        taken = any(state in block.parameters for block in blocks)
        forms = [block.forms(state) for block in blocks]
        slopes = [block.linearised(state=state) for block in blocks]
        self._forms = ElementModel(n, forms, comm=comm, n_local=n_local)
        self.comm, self.rows, self.n = self._forms.comm, self._forms.rows, n
        error = None
        if taken:
            error = InputError(
                f"the state needs a name that no parameter has, got {state!r} for both; rename one"
            )
        raise_together(self.comm, error)
        self._slopes = ElementModel(n, slopes, comm=self.comm, n_local=n_local)
        self._state = state
        self.names = set(self._forms.parameter_sizes) - {state}
        self._pencil: Pencil | None = None

    def residual(self, u: PETSc.Vec, p: Parameters) -> Block:
        """Return r(u, p); entries may be infinite or NaN."""
        return self._forms.multiply(self._with(p, u), self._ones)[0][:, 0]

    def jacobian(self, u: PETSc.Vec, p: Parameters) -> PETSc.Mat:
        """Return dr/du; it is refilled at the next call."""
        self._pencil = self._slopes.assemble(self._with(p, u), out=self._pencil)
        return self._pencil.A

    def residual_vjp(self, u: PETSc.Vec, p: Parameters, w: PETSc.Vec) -> Gradient:
        """Return (dr/dp)^T w."""
        left = local_rows(w)[:, None]
        found = self._forms.contract(self._with(p, u), left, 0 * left, self._ones)
        found.pop(self._state).destroy()
        return found

    def residual_jvp(self, u: PETSc.Vec, p: Parameters, p_dot: Parameters) -> Block:
        """Return (dr/dp) p_dot."""
        still = new_vec(self.comm, self.rows, self.n)
        at, dots = self._with(p, u), self._with(p_dot, still)
        change = self._forms.tangent(at, dots, self._ones)[0][:, 0]
        still.destroy()
        return change

    def residual_second(
        self, u: PETSc.Vec, p: Parameters, u_dot: PETSc.Vec, p_dot: Parameters, w: PETSc.Vec
    ) -> tuple[Block, Gradient]:
        """Return the derivatives of J^T w and (dr/dp)^T w along (u_dot, p_dot)."""
        left = local_rows(w)[:, None]
        at, dots = self._with(p, u), self._with(p_dot, u_dot)
        found = self._forms.contract_tangent(at, dots, left, 0 * left, self._ones)
        turned = found.pop(self._state)
        rows = local_rows(turned)
        turned.destroy()
        return rows, found

    def close(self) -> None:
        """Free the matrix.  (Collective.)"""
        if self._pencil is not None:
            self._pencil.close()
        self._pencil = None

    @property
    def _ones(self) -> Block:
        return np.ones((self.rows[1] - self.rows[0], 1))

    def _with(self, p: Parameters, u: PETSc.Vec) -> Gradient:
        return {**p, self._state: u}

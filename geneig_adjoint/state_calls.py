"""Calls of a user's `StateProblem`: results checked, errors raised on all ranks or on none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import users_code
from geneig_adjoint.differentiation import EIGHTH, STEP, scale
from geneig_adjoint.errors import InputError
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    is_distributed,
    local_values,
    moved,
    release,
    structure_error,
    zeros_like,
)
from geneig_adjoint.state_solver import local_rows, rows_norm, vector_error

if TYPE_CHECKING:
    from mpi4py import MPI


class Calls:
    """The methods of a problem, with the checks that a user's code needs.

    Collective.

    Parameters
    ----------
    problem
        A `StateProblem`.

    """

    def __init__(self, problem: Any) -> None:
        self.problem = problem
        self.comm: MPI.Comm = problem.comm
        self.n_local = int(problem.rows[1] - problem.rows[0])
        self.n = int(self.comm.allreduce(self.n_local))

    def solve(self, p: Parameters) -> Block:
        """Return this rank's rows of the state."""
        return self._rows("solve", p)

    def residual(self, u: PETSc.Vec, p: Parameters) -> Block:
        """Return this rank's rows of r(u, p), finite or not."""
        return self._rows("residual", u, p, finite=False)

    def residual_jvp(self, u: PETSc.Vec, p: Parameters, p_dot: Parameters) -> Block:
        """Return this rank's rows of (dr/dp) p_dot."""
        return self._rows("residual_jvp", u, p, p_dot)

    def jacobian(self, u: PETSc.Vec, p: Parameters) -> PETSc.Mat:
        """Return dr/du, which stays the problem's."""
        with users_code(self.comm):
            mat = self.problem.jacobian(u, p)
            expected = (self.n_local, self.n)
            sizes = mat.getSizes() if isinstance(mat, PETSc.Mat) else type(mat).__name__
            if sizes != (expected, expected):
                raise InputError(
                    f"jacobian must return a PETSc.Mat with local and global sizes {expected} of "
                    f"rows and of columns, got {sizes}; create it in the layout that rows says"
                )
        return mat

    def residual_vjp(self, u: PETSc.Vec, p: Parameters, w: PETSc.Vec) -> Gradient:
        """Return (dr/dp)^T w; vectors belong to the caller."""
        with users_code(self.comm):
            found = self.problem.residual_vjp(u, p, w)
            error = structure_error("residual_vjp", p, found)
            if error is not None:
                raise error
        return dict(found)

    def residual_second(
        self, u: PETSc.Vec, at: tuple[Parameters, Parameters], u_dot: PETSc.Vec, w: PETSc.Vec
    ) -> tuple[Block, Gradient]:
        """Return the derivatives of J^T w and (dr/dp)^T w along (u_dot, p_dot), at (p, p_dot)."""
        if not hasattr(self.problem, "residual_second"):
            return self.differenced_second(u, at, u_dot, w)
        p, p_dot = at
        with users_code(self.comm):
            turned, found = self.problem.residual_second(u, p, u_dot, p_dot, w)
            error = vector_error("residual_second", turned, self.n_local)
            error = error or structure_error("residual_second", p, found)
            if error is not None:
                raise error
        return local_rows(turned), dict(found)

    def differenced_second(
        self, u: PETSc.Vec, at: tuple[Parameters, Parameters], u_dot: PETSc.Vec, w: PETSc.Vec
    ) -> tuple[Block, Gradient]:
        """Return the same by central differences of eighth order, from Jacobians and vjps."""
        p, p_dot = at
        step = STEP / self._rate(u, at, u_dot)
        turned, total = np.zeros(self.n_local), zeros_like(p)
        for k, weight in [(sign * k, sign * c) for k, c in EIGHTH.items() for sign in (1, -1)]:
            there, v, out = moved(p, k * step, p_dot), u.copy(), w.duplicate()
            v.axpy(k * step, u_dot)
            self.jacobian(v, there).multTranspose(w, out)
            turned += weight / step * local_rows(out)
            found = self.residual_vjp(v, there, w)
            for name, value in found.items():
                if is_distributed(value):
                    total[name].axpy(weight / step, value)
                else:
                    total[name] += weight / step * np.asarray(value)
            release({**there, "v": v, "out": out})
            release(found)
        return turned, total

    def _rate(self, u: PETSc.Vec, at: tuple[Parameters, Parameters], u_dot: PETSc.Vec) -> float:
        """Return how fast values change relative to their size, the largest over all ranks."""
        p, p_dot = at
        changes = [np.abs(local_values(p_dot[name])) / scale(local_values(p[name])) for name in p]
        rate = max((float(part.max(initial=0.0)) for part in changes), default=0.0)
        size = rows_norm(self.comm, local_rows(u)) or 1.0
        rates = [*self.comm.allgather(rate), rows_norm(self.comm, local_rows(u_dot)) / size]
        return max(rates) or 1.0

    def _rows(self, method: str, *arguments: Any, finite: bool = True) -> Block:
        """Return this rank's rows of what a method of the problem returns."""
        with users_code(self.comm):
            result = getattr(self.problem, method)(*arguments)
            error = vector_error(method, result, self.n_local, finite=finite)
            if error is not None:
                raise error
        return local_rows(result)

"""`BaseState`: a map that adds the solution of r(u, p) = 0 to the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import CollectiveContext, users_code
from geneig_adjoint.errors import ConvergenceError, InputError
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    digest,
    is_distributed,
    release,
    zeros_like,
)
from geneig_adjoint.state_calls import Calls
from geneig_adjoint.state_problems import (
    ElementProblem,
    LinearProblem,
    ResidualBlock,
    StateProblem,
    problem_error,
)
from geneig_adjoint.state_solver import (
    JacobianSolver,
    KeptJacobian,
    Newton,
    local_rows,
    new_vec,
    rows_norm,
    vector_error,
)

if TYPE_CHECKING:
    from mpi4py import MPI

UNSOLVED = 1e-6
"""States of a user's solver may be wrong by this, relatively: gradients are wrong as much."""


@dataclass
class Counts:
    """What a `BaseState` has done so far.

    Attributes
    ----------
    states : int
        States solved for.
    factors : int
        Jacobians factored for derivatives, at most one per state.
    solves : int
        Solves with those, forward and transposed.

    """

    states: int = 0
    factors: int = 0
    solves: int = 0


@dataclass
class _Point:
    """A state, what it belongs to, and the factor of its Jacobian once that is needed."""

    key: Any
    u: PETSc.Vec
    solver: JacobianSolver | None = None


class BaseState(CollectiveContext):
    r"""A map p -> p + {"state": u}, where u solves r(u, p) = 0.

    Collective. For pencils that depend on a solved state: prestress, base flows. With J = dr/du,

    .. math::

        \dot u = -J^{-1} \frac{\partial r}{\partial p} \dot p, \qquad
        \bar p = -\Bigl(\frac{\partial r}{\partial p}\Bigr)^T J^{-T} \bar u :

    one transposed solve per objective, whatever the number of parameters. The last state is kept
    until p changes, which is seen by its contents, or until `close`; so is the factor of its
    Jacobian, whose ordering and memory serve the next Jacobian of the same pattern. Options of the
    solves: ``ga_state_``, read when the first one is factored.

    Parameters
    ----------
    problem
        A `StateProblem`.
    output
        Name of the state among the results: a PETSc.Vec.
    drop
        Parameters that are not passed on, since the model behind does not know them.
    guess
        Where Newton's method starts, for problems without ``solve``: a PETSc.Vec, this rank's
        rows, or a function of rows = (first, last + 1) that returns them; None: 0. Later it
        starts from the last state.
    newton
        rtol (1e-10, bound on the last step relative to the state) and max_it (30).
    prefix
        In front of ``ga_state_``.

    Raises
    ------
    InputError
        A problem without what is needed, or a guess in another layout.

    Notes
    -----
    Second derivatives come from ``residual_second`` of the problem; without it J^T w and
    (dr/dp)^T w are differenced at 8 points (eighth order, relative errors near 1e-11 where they
    are smooth on 2 % of the values): 8 Jacobians are evaluated, none is factored.

    """

    def __init__(
        self,
        problem: StateProblem,
        *,
        output: str = "state",
        drop: Sequence[str] = (),
        guess: Any = None,
        newton: Mapping[str, Any] | None = None,
        prefix: str = "",
    ) -> None:
        error = problem_error(problem)
        if error is not None:
            raise error
        self.problem: Any = problem
        self.comm: MPI.Comm = problem.comm
        self.rows = problem.rows
        self.output, self.drop = output, tuple(drop)
        self.counts = Counts()
        self._calls = Calls(problem)
        n_local = self._calls.n_local
        if guess is not None:
            with users_code(self.comm):
                guess = guess(self.rows) if callable(guess) else guess
                raised = vector_error("guess", guess, n_local)
                if raised is not None:
                    raise raised
        self._guess: Block = np.zeros(n_local) if guess is None else local_rows(guess)
        self._newton = Newton(**{"rtol": 1e-10, "max_it": 30, **(newton or {})})
        self._jacobian = KeptJacobian(prefix)
        self._point: _Point | None = None
        self._owned = False

    @classmethod
    def linear(
        cls,
        model: Any,
        load: Any = None,
        *,
        field: Any = None,
        names: Sequence[str] | None = None,
        **options: Any,
    ) -> BaseState:
        """Return the state of a static problem, A(p) u = load + B(p) field.

        Collective.

        Parameters
        ----------
        model, load, field, names
            As of `LinearProblem`.
        **options
            output, drop, prefix of `BaseState`.

        """
        state = cls(LinearProblem(model, load, field, names=names), **options)
        state._owned = True
        return state

    @classmethod
    def of_elements(
        cls,
        n: int,
        blocks: Sequence[ResidualBlock],
        *,
        comm: MPI.Comm | None = None,
        n_local: int | None = None,
        **options: Any,
    ) -> BaseState:
        """Return the state of a nonlinear problem made of elements written in JAX.

        Collective.

        Parameters
        ----------
        n, blocks, comm, n_local
            As of `ElementProblem`.
        **options
            output, drop, guess, newton, prefix of `BaseState`.

        """
        name = options.get("output", "state")
        problem = ElementProblem(n, blocks, state=name, comm=comm, n_local=n_local)
        state = cls(problem, **options)
        state._owned = True
        return state

    def __call__(self, p: Parameters) -> Gradient:
        """Return p with the state; the vector belongs to the caller.  (Collective.)

        Raises
        ------
        ConvergenceError
            No state was found.
        InputError
            Results of the user's problem that cannot be used.

        """
        if self.output in p:
            raise InputError(
                f"the state needs a name of its own, got {self.output!r}, which is a parameter; "
                "choose another output"
            )
        point = self._at(p)
        return {**self._kept(p), self.output: point.u.copy()}

    def jvp(self, p: Parameters, p_dot: Parameters) -> Gradient:
        """Return p_dot with the state's change; see `Map`.  (Collective.)"""
        return {**self._kept(p_dot), self.output: self._vec(self._moving(self._at(p), p, p_dot))}

    def vjp(self, p: Parameters, q_bar: Parameters) -> Gradient:
        """Return the cotangent of p: one transposed solve; see `Map`.  (Collective.)"""
        point = self._at(p)
        w = self._vec(self._solved(point, p, local_rows(q_bar[self.output]), transposed=True))
        found = self._partial(point, p, w)
        w.destroy()
        return self._joined(p, q_bar, found)

    def vjp_tangent(self, p: Parameters, p_dot: Parameters, q_bar: Parameters) -> Gradient:
        """Return the derivative of `vjp` along p_dot, q_bar held fixed; see `Map`.

        Collective. With J^T w = u_bar: J^T w_dot = -(J^T)_dot w, and minus (r_p^T)_dot w + r_p^T
        w_dot comes out.
        """
        point = self._at(p)
        w = self._vec(self._solved(point, p, local_rows(q_bar[self.output]), transposed=True))
        u_dot = self._vec(self._moving(point, p, p_dot))
        at = (self.known(p), self.known(p_dot))
        turned, found = self._calls.residual_second(point.u, at, u_dot, w)
        w_dot = self._vec(-self._solved(point, p, turned, transposed=True))
        more = self._partial(point, p, w_dot)
        total = self._joined(p, {}, found)
        for name in more:
            if is_distributed(more[name]):
                total[name].axpy(-1.0, more[name])
            else:
                total[name] = total[name] - np.asarray(more[name])
        release({**more, "w": w, "u_dot": u_dot, "w_dot": w_dot})
        return total

    def close(self) -> None:
        """Forget the last state and its factor, free the memory.  (Collective.)

        The map can be used again, and solves anew then.
        """
        self._forget()
        self._jacobian.close()
        if self._owned:
            self.problem.close()

    # -- the state --

    def known(self, p: Parameters) -> dict[str, Any]:
        """Return those of the parameters that the problem knows.  (Not collective.)"""
        names = getattr(self.problem, "names", None)
        return {name: value for name, value in p.items() if names is None or name in names}

    def _kept(self, p: Parameters) -> dict[str, Any]:
        return {name: value for name, value in p.items() if name not in self.drop}

    def _at(self, p: Parameters) -> _Point:
        """Return the point at p: the last one, if p has the same entries on all ranks."""
        own = self.known(p)
        key = {name: (is_distributed(own[name]), *found) for name, found in digest(own).items()}
        same = self._point is not None and self._point.key == key
        if self.comm.allreduce(int(not same)) == 0 and self._point is not None:
            return self._point
        self._forget()
        u = self._vec(self._guess)
        try:
            solver = self._solve_for(u, own)
        except BaseException:
            u.destroy()
            raise
        self.counts.states += 1
        self._guess = local_rows(u)
        self._point = _Point(key, u, solver)
        return self._point

    def _solve_for(self, u: PETSc.Vec, own: Parameters) -> JacobianSolver | None:
        """Put the state into u; return the factor, if it is that of the state."""
        if getattr(self.problem, "linear", False):
            u.set(0.0)
            solver = self._factored(u, own)
            u.array[:] = -solver.solve(self._calls.residual(u, own))
            return solver
        if hasattr(self.problem, "solve"):
            u.array[:] = self._calls.solve(own)
            return None
        calls = self._calls
        self._newton.solve(
            u,
            lambda at: calls.residual(at, own),
            lambda at: self._jacobian.factored(calls.jacobian(at, own)),
        )
        return None

    def _forget(self) -> None:
        if self._point is not None:
            self._point.u.destroy()
        self._point = None

    # -- solves with the Jacobian --

    def _solved(
        self, point: _Point, p: Parameters, rhs: Block, *, transposed: bool = False
    ) -> Block:
        if rows_norm(self.comm, rhs) == 0:  # nothing depends on the state
            return np.zeros(len(rhs))
        if point.solver is None:
            own = self.known(p)
            point.solver = self._factored(point.u, own)
            self._check_solved(point, own)
        self.counts.solves += 1
        return point.solver.solve(rhs, transposed=transposed)

    def _factored(self, u: PETSc.Vec, own: Parameters) -> JacobianSolver:
        self.counts.factors += 1
        return self._jacobian.factored(self._calls.jacobian(u, own))

    def _check_solved(self, point: _Point, own: Parameters) -> None:
        """Raise unless a user's state solves its equations: one more Newton step is small."""
        if not (hasattr(self.problem, "solve") and hasattr(self.problem, "residual")):
            return
        assert point.solver is not None
        defect = self._calls.residual(point.u, own)
        step = rows_norm(self.comm, point.solver.solve(defect))
        size = rows_norm(self.comm, local_rows(point.u))
        if not step <= UNSOLVED * size:
            self._forget()
            raise ConvergenceError(
                f"solve(p) of {type(self.problem).__name__} must return a state with r(u, p) = 0, "
                f"got one that a Newton step changes by {step:.1e} of {size:.1e}; tighten its "
                "tolerance, or check residual and jacobian with check_base_state",
                reason="UNSOLVED_STATE",
                residual_norm=rows_norm(self.comm, defect),
            )

    def _moving(self, point: _Point, p: Parameters, p_dot: Parameters) -> Block:
        change = self._calls.residual_jvp(point.u, self.known(p), self.known(p_dot))
        return -self._solved(point, p, change)

    def _partial(self, point: _Point, p: Parameters, w: PETSc.Vec) -> Gradient:
        return self._calls.residual_vjp(point.u, self.known(p), w)

    def _joined(self, p: Parameters, q_bar: Parameters, found: Gradient) -> Gradient:
        """Return q_bar - found in the structure of p; found is used up."""
        result: Gradient = {}
        for name, value in p.items():
            bar = None if name in self.drop else q_bar.get(name)
            if name not in found:
                result[name] = zeros_like({name: value})[name] if bar is None else bar
            elif is_distributed(value):
                found[name].scale(-1.0)
                if bar is not None:
                    found[name].axpy(1.0, bar)
                result[name] = found[name]
            else:
                result[name] = (0.0 if bar is None else np.asarray(bar)) - np.asarray(found[name])
        return result

    def _vec(self, values: Any) -> PETSc.Vec:
        return new_vec(self.comm, self.rows, self._calls.n, values)

"""`check_base_state`: whether what a `StateProblem` says about its derivatives is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._petsc import deterministic_block
from geneig_adjoint._types import Block
from geneig_adjoint.base_states import BaseState
from geneig_adjoint.differentiation import EIGHTH, STEP
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    dot,
    is_distributed,
    moved,
    release,
    zeros_like,
)
from geneig_adjoint.reductions import allreduce_same
from geneig_adjoint.state_calls import Calls
from geneig_adjoint.state_solver import local_rows, new_vec, rows_norm

AGREEMENT = 1e-7
"""Differences of eighth order know 10 digits or so, of states by an iteration fewer."""


@dataclass(frozen=True)
class StateReport:
    """What `check_base_state` found; prints as a table.

    Attributes
    ----------
    errors : dict
        What was compared -> relative difference, the same on every rank.

    """

    errors: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether everything agrees to 1e-7."""
        return all(error <= AGREEMENT for error in self.errors.values())

    @property
    def worst(self) -> str:
        """What agrees least."""
        return max(self.errors, key=lambda name: np.nan_to_num(self.errors[name], nan=np.inf))

    def __str__(self) -> str:
        lines = [f"{name:<58} {error:.1e}" for name, error in self.errors.items()]
        verdict = "passed" if self.passed else f"FAILED: {self.worst}"
        return "\n".join([*lines, f"verdict: {verdict}"])


def check_base_state(state: BaseState, p: Parameters, *, seed: int = 0) -> StateReport:
    """Compare the derivatives of a state's problem with each other and with differences.

    Collective. At the state that belongs to p, along random directions: the Jacobian against
    differences of ``residual`` (where there is one) and against its own transpose; for each
    parameter ``residual_jvp`` against differences and ``residual_vjp`` against ``residual_jvp``;
    ``residual_second`` against differences. Without ``residual``, the change of the state is
    compared with differences of ``solve``: 8 states more.

    Parameters
    ----------
    state
        The map.
    p
        Where.
    seed
        Of the directions.

    Returns
    -------
    StateReport
        ``report.passed``, and a table when printed.

    """
    check = _Check(state, p, seed)
    try:
        errors = {**check.jacobian(), **check.parameters(), **check.second()}
    finally:
        check.release()
    return StateReport(errors)


class _Check:
    """Point and directions of one check."""

    def __init__(self, state: BaseState, p: Parameters, seed: int) -> None:
        self.state, self.p, self.comm = state, p, state.comm
        self.calls = Calls(state.problem)
        self.own = state.known(p)
        self.u: PETSc.Vec = state(p)[state.output]
        size = rows_norm(self.comm, local_rows(self.u)) or 1.0
        columns = deterministic_block(state.rows, 2, seed + 1) * size / np.sqrt(self.calls.n)
        self.v, self.w = (
            new_vec(self.comm, state.rows, self.calls.n, column) for column in columns.T
        )
        self.still = self.v.duplicate()
        self.still.set(0.0)

    def release(self) -> None:
        for vec in (self.u, self.v, self.w, self.still):
            vec.destroy()

    def jacobian(self) -> dict[str, float]:
        """Compare J v with differences of r, and J^T with J."""
        mat = self.calls.jacobian(self.u, self.own)
        product, turned = self.u.duplicate(), self.u.duplicate()
        mat.mult(self.v, product)
        mat.multTranspose(self.w, turned)
        Jv, sides = local_rows(product), (self.w.dot(product).real, self.v.dot(turned).real)
        size = product.norm() * self.w.norm()
        release({"product": product, "turned": turned})
        errors = {"multTranspose of jacobian against mult": abs(sides[0] - sides[1]) / size}
        if hasattr(self.state.problem, "residual"):
            found = self._difference(lambda t: self._residual(t, self.v, zeros_like(self.own)))
            errors["jacobian against differences of residual"] = self._apart(Jv, found)
        return errors

    def parameters(self) -> dict[str, float]:
        """Compare derivatives with respect to the parameters, name by name."""
        errors = {}
        bars = self.calls.residual_vjp(self.u, self.own, self.w)
        for name in self.own:
            p_dot = self._direction(name)
            change = self.calls.residual_jvp(self.u, self.own, p_dot)
            forward = float(allreduce_same(self.comm, np.array([local_rows(self.w) @ change]))[0])
            backward = dot({name: bars[name]}, {name: p_dot[name]})
            size = max(rows_norm(self.comm, change) * self.w.norm(), abs(backward)) or 1.0
            errors[f"{name}: residual_vjp against residual_jvp"] = abs(forward - backward) / size
            errors.update(self._differenced(name, p_dot, change))
            release(p_dot)
        release(bars)
        return errors

    def second(self) -> dict[str, float]:
        """Compare the user's second derivatives with differences of the first ones."""
        if not hasattr(self.state.problem, "residual_second"):
            return {}
        p_dot = self._direction(*self.own)
        at = (self.own, p_dot)
        one = self.calls.residual_second(self.u, at, self.v, self.w)
        two = self.calls.differenced_second(self.u, at, self.v, self.w)
        errors = {"residual_second, J^T w": self._apart(one[0], two[0])}
        for name in self.own:
            parts = [found[1][name] for found in (one, two)]
            size = max(np.sqrt(dot({name: part}, {name: part})) for part in parts) or 1.0
            gap = moved({name: parts[0]}, -1.0, {name: parts[1]})
            errors[f"residual_second, {name}"] = float(np.sqrt(dot(gap, gap)) / size)
            release(gap)
        for found in (one[1], two[1], p_dot):
            release(found)
        return errors

    def _differenced(self, name: str, p_dot: Gradient, change: Block) -> dict[str, float]:
        if hasattr(self.state.problem, "residual"):
            found = self._difference(lambda t: self._residual(t, self.still, p_dot))
            return {f"{name}: residual_jvp against differences": self._apart(change, found)}
        full = zeros_like(self.p)
        full[name] = p_dot[name]
        moving = self.state.jvp(self.p, full)[self.state.output]
        expected = local_rows(moving)
        moving.destroy()

        def states(t: float) -> Block:
            there = moved(self.own, t, p_dot)
            rows = self.calls.solve(there)
            release(there)
            return rows

        error = self._apart(expected, self._difference(states))
        return {f"{name}: change of the state against differences of solve": error}

    def _residual(self, t: float, v: PETSc.Vec, p_dot: Parameters) -> Block:
        there, at = moved(self.own, t, p_dot), self.u.copy()
        at.axpy(t, v)
        rows = self.calls.residual(at, there)
        release({**there, "at": at})
        return rows

    def _difference(self, function: Callable[[float], Block]) -> Block:
        """Return the derivative of rows along a direction as large as the values."""
        total = np.zeros(self.calls.n_local)
        for k, weight in EIGHTH.items():
            total += weight / STEP * (function(k * STEP) - function(-k * STEP))
        return total

    def _direction(self, *names: str) -> Gradient:
        """Return a change of some parameters, in proportion to their values."""
        p_dot = zeros_like(self.own)
        for name in names:
            value, target = self.own[name], p_dot[name]
            rows = value.getOwnershipRange() if is_distributed(value) else (0, len(value))
            entries = local_rows(value)
            factors = deterministic_block(rows, 1, 7)[:, 0]
            change = np.where(entries == 0, 1.0, entries) * factors
            if is_distributed(target):
                target.array[:] = change
            else:
                target[:] = change
        return p_dot

    def _apart(self, one: Block, two: Block) -> float:
        size = max(rows_norm(self.comm, one), rows_norm(self.comm, two)) or 1.0
        return rows_norm(self.comm, one - two) / size

"""Methods of search: SciPy's and MMA of NLopt, behind one function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import MissingPackageError, StudyError

LARGEST_DENSE = 5000
"""Variables that SLSQP takes: its matrices are dense, time grows with the cube."""


@dataclass(frozen=True)
class Task:
    """Minimise f(z) such that g(z) <= 0 and bounds hold.

    Attributes
    ----------
    function : callable
        z -> (f, df/dz).
    constraints : callable
        z -> (g, dg/dz) of the constraints that are not linear, (c,) and (c, n).
    count : int
        How many those are.
    standing : callable
        () -> the best design so far, and whether it satisfies the constraints.
    linear : tuple
        (matrix, bound) of matrix z <= bound.
    bounds : tuple
        Arrays low and high.
    tolerance : float
        Smallest relative change of f worth going on for.
    max_iterations : int
        Evaluations after which the function raises; methods count for themselves, too.
    options : dict
        Further options of the method.

    """

    function: Callable[[Block], tuple[float, Block]]
    constraints: Callable[[Block], tuple[Block, Block]]
    count: int
    standing: Callable[[], tuple[Block, bool]]
    linear: tuple[Block, Block]
    bounds: tuple[Block, Block]
    tolerance: float
    max_iterations: int
    options: dict[str, Any]


def check_method(method: str) -> None:
    """Raise unless the packages of a method are there.  (Not collective.)

    Raises
    ------
    MissingPackageError
        When NLopt is not installed.

    """
    if method == "mma":
        _nlopt()


def minimize(method: str, task: Task, z: Block) -> str:
    """Search from z and return why the method ended.  (Not collective.)

    What `task.function` raises comes out.

    Raises
    ------
    StudyError
        Too many variables for the method.
    MissingPackageError
        When NLopt is not installed.

    """
    if method == "mma":
        return _mma(task, z)
    if method == "slsqp" and z.size > LARGEST_DENSE:
        raise StudyError(
            f'method "slsqp" must have at most {LARGEST_DENSE} variables, got {z.size}; '
            'choose "mma"'
        )
    return _scipy(method, task, z)


def _scipy(method: str, task: Task, z: Block) -> str:
    import scipy.optimize

    constraints: Any = ()
    if method == "slsqp":
        constraints = _inequalities(task)
    elif method == "trust-constr":
        constraints = _ranges(task)
    names = {"slsqp": "SLSQP", "l-bfgs-b": "L-BFGS-B", "trust-constr": "trust-constr"}
    stop = {"trust-constr": {"gtol": task.tolerance, "xtol": task.tolerance**1.5}}
    options = {"maxiter": 10 * task.max_iterations, **stop.get(method, {"ftol": task.tolerance})}
    result = scipy.optimize.minimize(
        task.function,
        z,
        jac=True,
        method=names[method],
        bounds=scipy.optimize.Bounds(*task.bounds),
        constraints=constraints,
        options={**options, **task.options},
    )
    return str(result.message)


def _inequalities(task: Task) -> list[dict[str, Any]]:
    """Return constraints as SLSQP wants them: c(z) >= 0."""
    matrix, bound = task.linear
    found: list[dict[str, Any]] = []
    if len(bound):
        found.append(
            {"type": "ineq", "fun": lambda z: bound - matrix @ z, "jac": lambda _: -matrix}
        )
    if task.count:
        found.append(
            {
                "type": "ineq",
                "fun": lambda z: -task.constraints(z)[0],
                "jac": lambda z: -task.constraints(z)[1],
            }
        )
    return found


def _ranges(task: Task) -> list[Any]:
    """Return constraints as trust-constr wants them."""
    from scipy.optimize import BFGS, LinearConstraint, NonlinearConstraint

    matrix, bound = task.linear
    found: list[Any] = [LinearConstraint(matrix, -np.inf, bound)] if len(bound) else []
    if task.count:
        found.append(
            NonlinearConstraint(
                lambda z: task.constraints(z)[0],
                -np.inf,
                0.0,
                jac=lambda z: task.constraints(z)[1],
                hess=BFGS(),
            )
        )
    return found


def _mma(task: Task, z: Block) -> str:
    """Search by the globally convergent MMA (Svanberg, SIAM J. Optim. 12(2), 555-573, 2002).

    Where it starts with constraints violated so much that its first subproblems have no solution,
    NLopt's multipliers stay huge and it ends far too early: from the first design that satisfies
    the constraints it is started anew.
    """
    while True:
        task.function(z)
        began = task.standing()[1]
        ended = _mma_from(task, z)
        z, satisfied = task.standing()
        if began or not satisfied:
            return ended


def _mma_from(task: Task, z: Block) -> str:
    nlopt = _nlopt()
    search = nlopt.opt(nlopt.LD_MMA, z.size)
    search.set_lower_bounds(task.bounds[0])
    search.set_upper_bounds(task.bounds[1])
    search.set_ftol_rel(task.tolerance)
    for name, value in task.options.items():
        search.set_param(name, value)
    calls = _Calls(task, nlopt.ForcedStop)
    search.set_min_objective(calls.objective)
    total = len(task.linear[1]) + task.count
    if total:
        search.add_inequality_mconstraint(calls.constraints, np.full(total, 1e-8))
    ended = _ended(search, z, calls.raised)
    if calls.raised:
        raise calls.raised[0]
    return ended


class _Calls:
    """A task as NLopt calls it: results and derivatives are written into arrays.

    NLopt passes exceptions on in some versions only, so that they are kept.
    """

    def __init__(self, task: Task, stop: type[Exception]) -> None:
        self._task, self._stop = task, stop
        self.raised: list[BaseException] = []

    def objective(self, z: Block, slope: Block) -> float:
        """Return f and write its derivatives."""
        with self._kept():
            value, slope[:] = self._task.function(z.copy())
        return value

    def constraints(self, result: Block, z: Block, slope: Block) -> None:
        """Write g and its derivatives, linear ones first."""
        matrix, bound = self._task.linear
        result[: len(bound)] = matrix @ z - bound
        slope[: len(bound)] = matrix
        with self._kept():
            if self._task.count:
                found = self._task.constraints(z.copy())
                result[len(bound) :], slope[len(bound) :] = found

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.raised.append(error)
            raise self._stop from None


def _ended(search: Any, z: Block, raised: list[BaseException]) -> str:
    """Run NLopt and return the name of its reason to end."""
    reasons = {1: "success", 2: "stopval", 3: "ftol reached", 4: "xtol reached"}
    try:
        search.optimize(z)
    except Exception as error:
        return "" if raised else f"{type(error).__name__}: {error}"
    return reasons.get(search.last_optimize_result(), f"code {search.last_optimize_result()}")


def _nlopt() -> Any:
    try:
        return importlib.import_module("nlopt")
    except ImportError as error:
        raise MissingPackageError(
            'method "mma" needs NLopt, got no package nlopt; pip install '
            "'geneig-adjoint[optimize]', or choose another method"
        ) from error

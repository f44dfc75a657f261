"""`JaxMap`: a map written in JAX, from the user's structure to what a model wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.jax_plans import Plan, argument, below, structure_key
from geneig_adjoint.jax_support import jax_module
from geneig_adjoint.maps import like
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    add_scaled,
    is_distributed,
    length,
    local_values,
    zeros_like,
)
from geneig_adjoint.reductions import allreduce_same
from geneig_adjoint.structures import Flat, Structure, flat_like, flatten, kept, rebuilt

if TYPE_CHECKING:
    from mpi4py import MPI


class JaxMap:
    """A function of parameters written in JAX, as a map; its derivatives come from JAX.

    Not collective for replicated parameters; with distributed ones all methods are. Compiled
    once per structure and shapes; all in float64, whatever JAX is set to elsewhere. Nothing
    that is compiled communicates.

    Replicated parameters are computed with on every rank. Of a distributed field (PETSc.Vec)
    the function sees this rank's part, so that what depends on it must have one entry per entry
    of the field, each computed from the same entry of the field alone and from replicated
    parameters: that is checked when it is compiled, by derivatives and by values at moved
    entries. (Numbers of entries, as of ``jnp.arange``, are those of this rank's part.) Derivatives
    of replicated parameters are summed over the ranks.

    Parameters
    ----------
    function
        ``function(p)`` -> a dict or another structure of floats and arrays: what the next map or
        the model wants, under the same names ("core/young" for nested ones). p is what the user
        passes, as long as no map before it has changed names or lengths, else names -> arrays.
        Written with ``jax.numpy``, without side effects; constants are best NumPy arrays.
    parameters
        Names of parameters, or of parts of p with all that is in them: ``function(*values)``,
        and all other parameters pass through untouched. None: ``function(p)``, which returns all
        that the next one wants.
    output
        Name of the result, if it is a number or an array, or to put in front of its names.
        Default: with one name in ``parameters``, that one.
    keep
        With ``parameters``: whether these are passed on too, under their own names.

    Raises
    ------
    MissingPackageError
        When jax is not installed.
    InputError
        On use: a function that JAX cannot trace, results that are no structure of real numbers
        in double precision or have a name that is taken, entries of a distributed field that are
        coupled, derivatives that are not finite.

    """

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: str | Sequence[str] | None = None,
        *,
        output: str | None = None,
        keep: bool = False,
    ) -> None:
        jax_module("JaxMap")
        self.function = function
        self.parameters = [parameters] if isinstance(parameters, str) else parameters
        self.output = output
        self.keep = keep
        self._plans: dict[Any, Plan] = {}
        if keep and parameters is None:
            raise InputError(
                "keep=True needs the names of the parameters, got none: the function makes all "
                "that is passed on; return them, too, or pass parameters=[...]"
            )

    def __call__(self, p: Any) -> Gradient:
        """Return what the function makes of p, names -> 1-D arrays or PETSc.Vec; see `Map`."""
        point = flatten(p)
        plan, found = self._run("value", point, ())
        return self._joined(plan, point, plan.results(point, found))

    def jvp(self, p: Any, p_dot: Any) -> Gradient:
        """Return the direction that p_dot becomes; see `Map`."""
        point = flatten(p)
        dots = flat_like(point, p_dot, "the direction")
        plan, found = self._run("jvp", point, (dots,))
        return self._joined(plan, dots, plan.results(point, found))

    def vjp(self, p: Any, q_bar: Parameters) -> Any:
        """Return the cotangent of p, summed over the ranks; see `Map`."""
        point = flatten(p)
        found = self._pulled("vjp", point, (), q_bar)
        if self.keep:
            add_scaled(found, 1.0, {name: q_bar[name] for name in found})
        passed = {name: found[name] if name in found else q_bar[name] for name in point}
        return rebuilt(p, point, passed)

    def vjp_tangent(self, p: Any, p_dot: Any, q_bar: Parameters) -> Any:
        """Return the derivative of `vjp` along p_dot, q_bar held fixed; see `Map`."""
        point = flatten(p)
        dots = flat_like(point, p_dot, "the direction")
        found = self._pulled("vjp_tangent", point, (dots,), q_bar)
        others = zeros_like({name: point[name] for name in point if name not in found})
        return rebuilt(p, point, {name: found.get(name, others.get(name)) for name in point})

    def _joined(self, plan: Plan, point: Parameters, made: Gradient) -> Gradient:
        """Return results and the parameters that pass through; ``point``: p, or p_dot."""
        if self.parameters is None:
            point_like = getattr(point, "point", True)
            return Flat(made, plan.outcome, point=point_like) if plan.outcome else made
        used = set() if self.keep else set(plan.names)
        taken = sorted(made.keys() & (point.keys() - used))
        if taken:
            raise InputError(
                f"the result of {self._name} needs a name of its own, got {taken[0]!r}, which is "
                "a parameter that passes through; choose another output"
            )
        every = {name: value for name, value in point.items() if name not in used} | made
        joined: Gradient = kept(
            point, {name: every[name] for name in [*point, *made] if name in every}
        )
        return joined

    @property
    def _name(self) -> str:
        return f"the JaxMap of {getattr(self.function, '__name__', type(self.function).__name__)}"

    def _run(
        self, operation: str, point: Parameters, others: tuple[Parameters, ...]
    ) -> tuple[Plan, dict[str, Block]]:
        """Return what an operation gives on this rank; errors of one rank are those of all."""
        comm, error = _comm(point), None
        plan, found = None, {}
        try:
            plan = self._plan(point)
            operands = [plan.locals_of(item) for item in (point, *others)]
            found = plan.run(operation, *operands)
            _check_finite(self._name, operation, found)
        except Exception as caught:
            error = caught
        _raise_together(comm, error)
        assert plan is not None
        return plan, found

    def _pulled(
        self,
        operation: str,
        point: Parameters,
        dots: tuple[Parameters, ...],
        q_bar: Parameters,
    ) -> Gradient:
        """Return cotangents of the parameters of the function.  (Collective for PETSc.Vec.)"""
        comm, error = _comm(point), None
        plan, shares = None, []
        try:
            plan = self._plan(point)
            operands = [plan.locals_of(item) for item in (point, *dots)]
            bars = {name: np.asarray(local_values(q_bar[name]), float) for name in plan.outputs}
            # What depends on a distributed field is a share; the rest is whole on every rank.
            for distributed in (True, False):
                bar = {
                    name: part if (name in plan.layouts) == distributed else np.zeros(part.shape)
                    for name, part in bars.items()
                }
                shares.append(
                    plan.run(operation, *operands, bar) if plan.needs[distributed] else {}
                )
                _check_finite(self._name, operation, shares[-1])
        except Exception as caught:
            error = caught
        _raise_together(comm, error)
        assert plan is not None
        return _summed(comm, plan, point, shares)

    def _plan(self, point: Parameters) -> Plan:
        """Return what is known about the function for such parameters, traced once."""
        names = self._names(point)
        structure = point.structure if isinstance(point, Flat) else None
        shapes = tuple(
            (name, is_distributed(point[name]), length(point[name]), local_values(point[name]).size)
            for name in names
        )
        key = (shapes, structure_key(structure))
        if key not in self._plans:
            plan = Plan(self._name, self._called, names, structure)
            plan.trace(point)
            self._plans[key] = plan
        return self._plans[key]

    def _names(self, point: Parameters) -> list[str]:
        if not isinstance(point, Mapping):
            raise InputError(
                f"{self._name} needs a structure of parameters, got {type(point).__name__}; pass "
                "a dict or a dataclass"
            )
        if self.parameters is None:
            return list(point)
        found = [(part, below(point, part)) for part in self.parameters]
        missing = [part for part, names in found if not names]
        if missing:
            raise InputError(
                f"{self._name} needs the parameter {missing[0]!r}, got {sorted(point)}; correct "
                "the name, or the order of the maps"
            )
        return [name for _, names in found for name in names]

    def _called(self, values: dict[str, Any], structure: Structure | None) -> Any:
        """Return the function's result, in a dict, for names -> arrays."""
        if self.parameters is None:
            arguments = [argument(values, structure, "")]
        else:
            arguments = [argument(values, structure, part) for part in self.parameters]
        result = self.function(*arguments)
        output = self.output
        single = isinstance(result, float) or hasattr(result, "dtype")
        if output is None and single and self.parameters is not None and len(self.parameters) == 1:
            output = self.parameters[0]
        if output is None and (single or isinstance(result, list) or type(result) is tuple):
            raise InputError(
                f"{self._name} must return a dict or another structure with names, got "
                f"{type(result).__name__}; return a dict, or pass output=..."
            )
        return result if output is None else {output: result}


def _comm(point: Any) -> MPI.Comm | None:
    """Return the ranks of the distributed fields, None without."""
    values = point.values() if isinstance(point, Mapping) else ()
    return next((value.comm.tompi4py() for value in values if is_distributed(value)), None)


def _raise_together(comm: MPI.Comm | None, error: Exception | None) -> None:
    if comm is not None:
        raise_together(comm, error)
    elif error is not None:
        raise error


def _summed(
    comm: MPI.Comm | None, plan: Plan, point: Parameters, shares: list[dict[str, Block]]
) -> Gradient:
    """Return cotangents: shares are summed over the ranks, wholes are added.  (Collective.)"""
    share, whole = shares
    replicated = [name for name in plan.names if not is_distributed(point[name])]
    if share and replicated:
        assert comm is not None
        total = allreduce_same(comm, np.concatenate([share[name] for name in replicated]))
        cuts = np.cumsum([share[name].size for name in replicated])[:-1]
        share |= dict(zip(replicated, np.split(total, cuts), strict=True))
    found: Gradient = {}
    for name in sorted(plan.names):
        parts = [part[name] for part in (share, whole) if part]
        entries = sum(parts[1:], start=parts[0])
        found[name] = like(point[name], entries)
    return found


def _check_finite(name: str, operation: str, found: dict[str, Block]) -> None:
    for part, entries in found.items():
        bad = np.flatnonzero(~np.isfinite(entries))
        if not bad.size:
            continue
        if operation == "value":
            raise InputError(
                f"{name} must return finite numbers, got {entries[bad[0]]} at entry {bad[0]} of "
                f"{part!r}; check where it is computed"
            )
        raise InputError(
            f"derivatives of {name} must be finite, got {entries[bad[0]]} at entry {bad[0]} of "
            f"{part!r} and {bad.size - 1} more; keep away from values without a derivative (sqrt "
            "or a power at 0, a norm of zeros), also in the branch that jax.numpy.where does not "
            "take"
        )

"""The `Map` protocol, and maps of one named parameter: laws of every entry, projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.differentiation import (
    check_curvature,
    complex_step,
    law_values,
    second_derivative,
)
from geneig_adjoint.errors import InputError
from geneig_adjoint.laws import Law
from geneig_adjoint.parameters import (
    Gradient,
    Parameters,
    add_scaled,
    is_distributed,
    local_values,
    zeros_like,
)
from geneig_adjoint.structures import kept


@runtime_checkable
class Map(Protocol):
    """A function q = f(p) of named parameters, and its derivatives.

    p and q map names to replicated arrays or PETSc vectors. A result may hold values of its
    arguments as they are, where nothing happens to them; vectors it makes belong to the caller.
    Replicated values must come out the same on every rank.

    One method more is used where it exists: ``vjp_tangent(p, p_dot, q_bar)``, the derivative
    of ``vjp(p, q_bar)`` along p_dot with q_bar held fixed (zero for a linear map), by
    `hessian_vector_product`.
    """

    def __call__(self, p: Parameters) -> Parameters:
        """Return q = f(p).  (Collective.)"""
        ...

    def vjp(self, p: Parameters, q_bar: Parameters) -> Gradient:
        """Return (df/dp)^T q_bar in the structure of p, summed over the ranks.  (Collective.)"""
        ...

    def jvp(self, p: Parameters, p_dot: Parameters) -> Gradient:
        """Return (df/dp) p_dot in the structure of q.  (Collective.)"""
        ...


@runtime_checkable
class ValueMap(Protocol):
    """A function of one value, a replicated array or a PETSc.Vec, for `Named`.

    Results are new, in the kind of the value. For second derivatives a method
    ``vjp_tangent(value, dot, bar)`` too.
    """

    def __call__(self, value: Any) -> Any:
        """Return f(value).  (Collective.)"""
        ...

    def vjp(self, value: Any, bar: Any) -> Any:
        """Return (df/dvalue)^T bar.  (Collective.)"""
        ...

    def jvp(self, value: Any, dot: Any) -> Any:
        """Return (df/dvalue) dot.  (Collective.)"""
        ...


class Named:
    """A function of one parameter as a map; all other parameters pass through untouched.

    Not collective. The ready-made maps are made of it.

    Parameters
    ----------
    parameter
        Name of the parameter that ``function`` is applied to.
    function
        A `ValueMap`.
    output
        Name of the result; None: the name of the parameter.
    keep
        With ``output``: whether the parameter itself is passed on too, under its own name.

    Raises
    ------
    InputError
        A function without derivatives, or ``keep`` without another name for the result.

    """

    def __init__(
        self, parameter: str, function: ValueMap, *, output: str | None = None, keep: bool = False
    ) -> None:
        missing = [name for name in ("vjp", "jvp") if not hasattr(function, name)]
        if missing:
            raise InputError(
                f"the function for {parameter!r} must have __call__, vjp and jvp, got "
                f"{type(function).__name__} without {missing[0]}; for a law of every entry use "
                "Pointwise"
            )
        self.parameter = parameter
        self.function = function
        self.output = parameter if output is None else output
        self.keep = keep
        if keep and self.output == parameter:
            raise InputError(
                f"keep=True needs another name for the result, got {self.output!r} for both; "
                'pass output="..."'
            )

    def __call__(self, p: Parameters) -> Gradient:
        """Return the parameters with the result under its name; see `Map`."""
        value = self._value(p)
        return self._replaced(p, self.function(value))

    def jvp(self, p: Parameters, p_dot: Parameters) -> Gradient:
        """Return the direction that p_dot becomes; see `Map`."""
        value = self._value(p)
        return self._replaced(p_dot, self.function.jvp(value, self._value(p_dot)))

    def vjp(self, p: Parameters, q_bar: Parameters) -> Gradient:
        """Return the cotangent of p; see `Map`."""
        found = self.function.vjp(self._value(p), q_bar[self.output])
        if self.keep:
            total = {self.parameter: found}
            add_scaled(total, 1.0, {self.parameter: q_bar[self.parameter]})
        return {name: found if name == self.parameter else q_bar[name] for name in p}

    def vjp_tangent(self, p: Parameters, p_dot: Parameters, q_bar: Parameters) -> Gradient:
        """Return the derivative of `vjp` along p_dot, q_bar held fixed; see `Map`.

        Raises
        ------
        InputError
            When the function has no ``vjp_tangent``.

        """
        bend = getattr(self.function, "vjp_tangent", None)
        if bend is None:
            raise InputError(
                f"second derivatives need vjp_tangent(value, dot, bar) of the function for "
                f"{self.parameter!r}, got {type(self.function).__name__} without; add it (zeros "
                "for a linear function)"
            )
        found = bend(self._value(p), p_dot[self.parameter], q_bar[self.output])
        others = zeros_like({name: value for name, value in p.items() if name != self.parameter})
        return {name: found if name == self.parameter else others[name] for name in p}

    def _value(self, p: Parameters) -> Any:
        if self.parameter not in p:
            raise InputError(
                f"{type(self).__name__} needs the parameter {self.parameter!r}, got {sorted(p)}; "
                "correct the name, or the order of the maps"
            )
        return p[self.parameter]

    def _replaced(self, p: Parameters, result: Any) -> Gradient:
        if self.output != self.parameter and self.output in p:
            raise InputError(
                f"the result of {type(self).__name__} needs a name of its own, got "
                f"{self.output!r}, which is a parameter; choose another output"
            )
        q: Gradient = {}
        for name, value in p.items():
            if name != self.parameter or self.keep:
                q[name] = value
            if name == self.parameter:
                q[self.output] = result
        whole: Gradient = kept(p, q)
        return whole


class Pointwise(Named):
    """The same law for every entry of a parameter: q_i = s(p_i).

    Not collective; needs no communication, also for a PETSc.Vec.

    Parameters
    ----------
    parameter
        Name of the parameter.
    law
        s: `PowerLaw` or any NumPy function of an array that is analytic (no abs, no
        comparison). Derivatives are methods ``slope(x)`` and ``curvature(x)`` where it has
        them, else a complex step and `second_derivative`.
    output, keep
        As in `Named`.

    """

    def __init__(
        self, parameter: str, law: Law, *, output: str | None = None, keep: bool = False
    ) -> None:
        super().__init__(parameter, Entries(law), output=output, keep=keep)


class Projection(Pointwise):
    r"""Push the entries of a parameter towards 0 and 1 by a smoothed step.

    Not collective; needs no communication, also for a PETSc.Vec.

    .. math::

        q = \frac{\tanh \beta\eta + \tanh \beta (p - \eta)}
                 {\tanh \beta\eta + \tanh \beta (1 - \eta)}

    Parameters
    ----------
    parameter
        Name of the parameter, with entries in [0, 1]: 0 and 1 stay.
    beta
        Sharpness, positive; 0 would be q = p.
    eta
        Threshold in [0, 1].
    output, keep
        As in `Named`.

    Raises
    ------
    InputError
        Numbers out of range.

    References
    ----------
    .. [1] F. Wang, B. S. Lazarov, O. Sigmund, "On projection methods, convergence and robust
       formulations in topology optimization", Struct. Multidiscip. Optim. 43, 767-784, 2011.

    """

    def __init__(
        self,
        parameter: str,
        beta: float,
        eta: float = 0.5,
        *,
        output: str | None = None,
        keep: bool = False,
    ) -> None:
        if not 0 < beta < np.inf:
            raise InputError(f"beta must be positive and finite, got {beta}; 1 ... 64 are usual")
        if not 0 <= eta <= 1:
            raise InputError(f"eta must lie in 0 ... 1, got {eta}; 0.5 is the default")
        super().__init__(parameter, SmoothStep(beta, eta), output=output, keep=keep)


@dataclass(frozen=True)
class SmoothStep:
    """The law of `Projection`."""

    beta: float
    eta: float

    def __call__(self, x: Block) -> Block:
        """Return the smoothed step."""
        offset = np.tanh(self.beta * self.eta)
        return np.asarray((offset + np.tanh(self.beta * (x - self.eta))) / self._height)

    def slope(self, x: Block) -> Block:
        """Return its derivative beta / cosh^2."""
        return np.asarray(self.beta * self._bell(x) / self._height)

    def curvature(self, x: Block) -> Block:
        """Return its second derivative."""
        tilt = np.tanh(self.beta * (x - self.eta))
        return np.asarray(-2 * self.beta**2 * tilt * self._bell(x) / self._height)

    @property
    def _height(self) -> float:
        return float(np.tanh(self.beta * self.eta) + np.tanh(self.beta * (1 - self.eta)))

    def _bell(self, x: Block) -> Block:
        # 1 / cosh^2: no overflow, and no 1 - tanh^2, which loses all digits far from eta.
        decay = np.exp(-2 * np.abs(self.beta * (x - self.eta)))
        return np.asarray(4 * decay / (1 + decay) ** 2)


@dataclass(frozen=True)
class Entries:
    """A law applied to every entry of an array or a PETSc.Vec: what `Pointwise` does."""

    law: Law

    def __call__(self, value: Any) -> Any:
        """Return s(value).  (Not collective but for the memory of a PETSc.Vec.)"""
        return like(value, law_values(self.law, _real(value)))

    def vjp(self, value: Any, bar: Any) -> Any:
        """Return s'(value) bar."""
        return like(value, self._slope(_real(value)) * _real(bar))

    def jvp(self, value: Any, dot: Any) -> Any:
        """Return s'(value) dot."""
        return self.vjp(value, dot)

    def vjp_tangent(self, value: Any, dot: Any, bar: Any) -> Any:
        """Return s''(value) dot bar."""
        entries, weights = _real(value), _real(dot)
        moving = weights != 0
        bend = np.zeros(entries.shape)
        # What stands still stays, even where there is no curvature: x^1.5 at 0.
        bend[moving] = self._curvature(entries[moving]) * weights[moving]
        return like(value, bend * _real(bar))

    def _slope(self, entries: Block) -> Block:
        own = getattr(self.law, "slope", None)
        if own is not None:
            return np.asarray(own(entries))
        return complex_step(self.law, entries, np.ones_like(entries))

    def _curvature(self, entries: Block) -> Block:
        own = getattr(self.law, "curvature", None)
        if own is None:
            return second_derivative(self.law, entries)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.asarray(own(entries))
        if found.size:
            check_curvature(entries, np.isfinite(found))
        return found


def _real(value: Any) -> Block:
    return np.asarray(local_values(value), dtype=float)


def like(value: Any, entries: Block) -> Any:
    """Return this rank's entries in the kind and layout of a value.  (Collective for a Vec.)"""
    if not is_distributed(value):
        return entries
    vec = value.duplicate()
    vec.array[:] = entries
    return vec


def map_error(candidate: Any) -> InputError | None:
    """Return an error unless something is a `Map`.  (Not collective.)"""
    missing = [name for name in ("__call__", "vjp", "jvp") if not hasattr(candidate, name)]
    if not missing:
        return None
    return InputError(
        f"a map must have __call__(p), vjp(p, q_bar) and jvp(p, p_dot), got "
        f"{type(candidate).__name__} without {missing[0]}; for one parameter only use Named or "
        "Pointwise"
    )


def result_error(what: str, result: Any) -> InputError | None:
    """Return an error unless a user's map returned named values.  (Not collective.)"""
    wrong: list[str] = [type(result).__name__]
    if isinstance(result, Mapping):
        wrong = [
            f"{type(value).__name__} for {name!r}"
            for name, value in result.items()
            if not is_distributed(value) and np.ndim(value) != 1
        ]
    if not wrong:
        return None
    return InputError(
        f"{what} must return names -> 1-D arrays or PETSc.Vec, got {wrong[0]}; return a dict"
    )

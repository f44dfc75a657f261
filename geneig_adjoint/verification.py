"""`verify_gradient`: Taylor orders, differences and the dot-product identity of a whole chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent
from geneig_adjoint.entrance import entered
from geneig_adjoint.errors import DefectiveEigenvalueError, DegenerateEigenvalueError
from geneig_adjoint.evaluation import Objective, evaluate, nonzero_pairs
from geneig_adjoint.gradient_reports import LARGEST_DIFFERENCE, Comparison, GradientReport
from geneig_adjoint.models import Model
from geneig_adjoint.noise import terms_and_noise
from geneig_adjoint.parameters import Gradient, Parameters
from geneig_adjoint.reductions import allreduce_same
from geneig_adjoint.sensitivity import agreed_settings, jvp, values_and_gradients
from geneig_adjoint.solve import solve_eigenproblem
from geneig_adjoint.structures import carried, rebuilt
from geneig_adjoint.tracking import followed, places, track_modes

TAYLOR_STEPS = tuple(2e-2 / 2**i for i in range(5))
DIFFERENCE_STEP = 2e-3
"""Fourth-order error h^4 and rounding eps_tol / h meet near here."""
LOWEST_ORDER, LARGEST_DOT_ERROR = 1.95, 1e-8
NOISE = 1e-11
"""Remainders below this, relative to the terms of the value, are noise and carry no order."""


def verify_gradient(
    model: Model,
    p: Parameters,
    objective: Objective,
    *,
    adjoint: Mapping[str, Any] | None = None,
    seed: int = 0,
    **solver: Any,
) -> GradientReport:
    """Test the gradient of a study against everything it can be tested against.

    Collective. Solves about 10 + 4 x (number of parameter names) eigenproblems, all in
    the normalization and with the phase rows of the first; closes all it makes.

    Parameters
    ----------
    model
        The model; with ``tangent`` the dot-product identity is tested too.
    p
        Where to test. Not changed.
    objective
        The objective.
    adjoint
        Keywords of `gradient`.
    seed
        Of the random direction, whose entries are scaled like those of p.
    **solver
        Keywords of `solve_eigenproblem`.

    Returns
    -------
    GradientReport
        ``report.passed``, and a table when printed. PETSc vectors in
        ``report.gradient`` belong to the caller.

    Raises
    ------
    InputError, ConvergenceError, DegenerateEigenvalueError, GaugeError
        As in `solve_eigenproblem` and `gradient`.

    """
    chosen, as_given = dict(adjoint or {}), p
    model, p = entered(getattr(model, "comm", None), model, p)
    direction = random_direction(p, seed)
    with model.assemble(p) as pencil, solve_eigenproblem(pencil, **solver) as pairs:
        settings = agreed_settings(pairs.comm, **chosen)
        value, gradient = values_and_gradients(model, p, pairs, [objective], settings)[0]
        cotangent = evaluate(objective, pairs, p)[1]
        used = np.flatnonzero(nonzero_pairs(pairs, cotangent))
        tangent = _tangent(model, p, pairs, direction, {**chosen, "columns": used})
        terms, noise = terms_and_noise(pairs, value, cotangent)
        dot_error = _dot_error(pairs, cotangent, tangent, (gradient, direction), (terms, noise))
        value_at = _values_along(model, p, objective, (pairs, _tracked(objective, used)), solver)
        slope = params.dot(gradient, direction)
        remainders = tuple(abs(value_at(h, direction) - value - h * slope) for h in TAYLOR_STEPS)
        floor = max(NOISE * (terms + abs(slope)), noise)
        comparisons = _comparisons(gradient, (direction, value_at, noise), (value, floor))
        residuals = _residuals(pairs)
    params.release(direction)
    orders = _orders(remainders, floor)
    return GradientReport(
        value=value,
        gradient=rebuilt(as_given, p, gradient),
        steps=TAYLOR_STEPS,
        remainders=remainders,
        orders=orders,
        comparisons=comparisons,
        dot_product_error=dot_error,
        relative_error=gradient.relative_error,
        **residuals,
        failures=_failures(orders, comparisons, dot_error),
    )


def _tracked(objective: Objective, used: Block) -> set[int]:
    """Return the pairs that must stay themselves: none where copies may be exchanged."""
    return set() if getattr(objective, "symmetric", False) else {int(j) for j in used}


def _residuals(pairs: Eigenpairs) -> dict[str, float]:
    """Return the largest residuals, named as in `GradientReport`.  (Not collective.)"""
    left = pairs.info.left_residuals
    left_residual = float(left.max() if left is not None else 0.0)
    return {"residual": float(pairs.residuals.max()), "left_residual": left_residual}


def random_direction(p: Parameters, seed: int) -> Gradient:
    """Return random numbers of the size of the entries of p, the same on any rank count."""
    result: Gradient = {}
    for index, (name, value) in enumerate(p.items()):
        distributed = params.is_distributed(value)
        rows = value.getOwnershipRange() if distributed else (0, len(value))
        signs = _petsc.deterministic_block(rows, 1, seed=100 * seed + index + 1)[:, 0]
        entries = signs * _scales(value)
        if distributed:
            result[name] = value.duplicate()
            result[name].array[:] = entries
        else:
            result[name] = entries
    direction: Gradient = carried(p, result, point=False)
    return direction


def _scales(value: Any) -> Any:
    """Return the sizes of this rank's entries; for zeros the mean of the others, or 1."""
    sizes = np.abs(params.local_values(value))
    sums = np.array([sizes.sum(), np.count_nonzero(sizes)], dtype=float)
    if params.is_distributed(value):
        sums = allreduce_same(value.comm.tompi4py(), sums)
    typical = sums[0] / sums[1] if sums[1] else 1.0
    return np.where(sizes > 0, sizes, typical)


def _tangent(
    model: Any,
    p: Parameters,
    pairs: Eigenpairs,
    direction: Parameters,
    settings: Mapping[str, Any],
) -> EigenTangent | None:
    """Return the tangent, None where the model has none or a cluster has none."""
    if not getattr(model, "has_tangent", hasattr(model, "tangent")):
        return None
    try:
        return jvp(model, p, pairs, direction, **settings)
    except (DegenerateEigenvalueError, DefectiveEigenvalueError):
        return None


def _only(direction: Parameters, name: str) -> Gradient:
    """Return a direction in one parameter; the caller releases it.  (Collective.)"""
    along = params.zeros_like(direction)
    params.add_scaled(along, 1.0, {name: direction[name]})
    return along


def _values_along(
    model: Model,
    p: Parameters,
    objective: Objective,
    start: tuple[Eigenpairs, set[int]],
    solver: Mapping[str, Any],
) -> Callable[[float, Parameters], float]:
    """Return the objective of the whole chain as a function of a step and a direction.

    ``start``: the pairs at p, and which of them keep their places when values cross nearby.
    """
    like, tracked = start

    def value_at(step: float, along: Parameters) -> float:
        moved = params.moved(p, step, along)
        try:
            chosen = {**solver, "like": like, "keep_factor": True}
            with model.assemble(moved) as pencil, solve_eigenproblem(pencil, **chosen) as pairs:
                tracking = track_modes(like, pairs)
                found = pairs
                if tracked and not tracked & set(tracking.lost):
                    found = followed(like, pairs, places(tracking, pairs, tracked, pairs.count))
                return evaluate(objective, found, moved)[0]
        finally:
            params.release(moved)

    return value_at


def _comparisons(
    gradient: Gradient,
    around: tuple[Gradient, Callable[[float, Parameters], float], float],
    start: tuple[float, float],
) -> tuple[Comparison, ...]:
    """Compare along each parameter.  (Collective.)  For the arguments see `_comparison`."""
    return tuple(_comparison(name, gradient, *around, start=start) for name in gradient)


def _comparison(
    name: str,
    gradient: Gradient,
    direction: Gradient,
    value_at: Callable[[float, Parameters], float],
    noise: float,
    *,
    start: tuple[float, float] = (np.nan, np.inf),
) -> Comparison:
    """Compare along one parameter.  (Collective.)

    ``start``: the value at p, and below which size remainders are rounding.
    """
    along = _only(direction, name)
    found = []
    for h in (DIFFERENCE_STEP, DIFFERENCE_STEP / 10):
        values = {s: value_at(s, along) for s in (h, -h, 2 * h, -2 * h)}
        difference, derivative, scale = _difference(gradient, along, values, h)
        error = abs(derivative - difference) / scale
        remainders = tuple(abs(values[s] - start[0] - s * derivative) for s in (2 * h, h))
        order = _orders(remainders, start[1])[0]
        # 1.5: two values with 8, two with 1, by 12.
        noise_here = 1.5 * noise / h / scale
        found.append(Comparison(name, derivative, difference, error, noise_here, order))
        if found[-1].agrees:
            break
    params.release(along)
    # Steps go by the size of entries: too long for coordinates of elements that are smaller.
    shorter = found[-1].agrees and found[-1].noise <= LARGEST_DIFFERENCE
    return found[-1] if shorter else found[0]


def _difference(
    gradient: Gradient, along: Gradient, values: Mapping[float, float], h: float
) -> tuple[float, float, float]:
    """Return difference, derivative, and what is large for them.  (Collective.)"""
    inner, outer = (values[s] - values[-s] for s in (h, 2 * h))
    difference = (8 * inner - outer) / (12 * h)
    derivative = params.dot(gradient, along)
    # |g_i d_i| summed: its parts before they cancel.
    size = max(abs(derivative), abs(difference), params.absolute_dot(gradient, along) * 1e-3)
    return difference, derivative, size if size > 0 else 1.0


def _orders(remainders: tuple[float, ...], noise: float) -> tuple[float, ...]:
    orders = []
    for coarse, fine in pairwise(remainders):
        usable = min(coarse, fine) > noise
        orders.append(float(np.log2(coarse / fine)) if usable else float("nan"))
    return tuple(orders)


def _dot_error(
    pairs: Eigenpairs,
    cotangent: EigenCotangent,
    tangent: EigenTangent | None,
    slope: tuple[Gradient, Gradient],
    rounding: tuple[float, float],
) -> float | None:
    """Return |<cotangent, tangent> - <gradient, direction>| beyond rounding, relative.

    Relative to the parts of all sums: where they cancel, nothing but their rounding is left
    (the real part of an eigenvalue that moves along the imaginary axis). Where all of them
    are zero (a mode that no parameter bends), they are rounding of the objective. ``rounding``:
    the size of the objective's terms, and their noise.
    """
    if tangent is None or cotangent.matrices is not None:
        return None
    if cotangent.left is not None and tangent.left is None:
        return None
    gradient, direction = slope
    terms, sizes = [params.dot(gradient, direction)], [params.absolute_dot(gradient, direction)]
    if cotangent.values is not None:
        products = np.conj(cotangent.values) * tangent.values
        terms.append(-float(products.real.sum()))
        sizes.append(float(np.abs(products).sum()))
    for bar, dot in ((cotangent.right, tangent.right), (cotangent.left, tangent.left)):
        if bar is not None and dot is not None:
            products = np.conj(bar) * dot
            local = np.array([products.real.sum(), np.abs(products).sum()])
            term, size = allreduce_same(pairs.comm, local)
            terms.append(-float(term))
            sizes.append(float(size))
    if cotangent.parameters is not None:
        explicit = {name: direction[name] for name in cotangent.parameters}
        terms.append(-params.dot(cotangent.parameters, explicit))
        sizes.append(params.absolute_dot(cotangent.parameters, explicit))
    of_terms, noise = rounding
    difference = max(abs(sum(terms)) - min(noise, NOISE * of_terms), 0.0)
    return difference / max(sizes) if difference > 0 else 0.0


def _failures(
    orders: tuple[float, ...], comparisons: tuple[Comparison, ...], dot_error: float | None
) -> tuple[str, ...]:
    found = []
    known = [order for order in orders if not np.isnan(order)]
    # Terms of second and third order may nearly cancel at some steps; a small error of the
    # gradient, which bends only the finest orders, shows in the differences.
    if known and max(known) < LOWEST_ORDER:
        found.append(
            f"the Taylor order must reach {LOWEST_ORDER}, got {max(known):.2f}; a term of the "
            "derivative is missing or the objective is not smooth here"
        )
    found += [
        f"the derivative in {item.parameter!r} must agree with differences to "
        f"{LARGEST_DIFFERENCE:.0e}, got {item.relative_error:.1e}; check what the model or the "
        "objective says about this parameter"
        for item in comparisons
        if not item.agrees
    ]
    if dot_error is not None and not dot_error <= LARGEST_DOT_ERROR:
        found.append(
            f"the dot-product identity must hold to {LARGEST_DOT_ERROR:.0e}, got {dot_error:.1e}; "
            "contract and tangent of the model contradict each other"
        )
    return tuple(found)

"""How the cotangent of an objective changes along a direction: what second derivatives need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent
from geneig_adjoint.errors import InputError
from geneig_adjoint.evaluation import (
    Objective,
    evaluate,
    nonzero_pairs,
    objective_name,
    positional_count,
)
from geneig_adjoint.models import Model
from geneig_adjoint.parameters import Gradient, Parameters
from geneig_adjoint.reductions import allreduce_same, column_norms, largest_over_ranks
from geneig_adjoint.structures import given

NUDGE = 1e-3
"""Relative change of one pair that shows whether an objective looks at it."""
UNMOVED = 1e-12
"""Relative change of a cotangent that is rounding."""
STEP = 5e-3
"""Relative step of the sixth-order differences: truncation and rounding are both near 1e-13."""
ADMISSIBLE_DIFFERENCE = 1e-5
"""Between the fourth and the sixth order; the sixth is then far more accurate than this."""
SIXTH = {1: 45 / 60, 2: -9 / 60, 3: 1 / 60}
FOURTH = {1: 8 / 12, 2: -1 / 12}


@dataclass(frozen=True)
class Direction:
    """A point, a direction of the parameters, and the motion of the pairs along it."""

    model: Model
    p: Parameters
    p_dot: Parameters
    tangent: EigenTangent


def touched_pairs(
    objective: Objective, pairs: Eigenpairs, p: Parameters, cotangent: EigenCotangent
) -> tuple[int, ...]:
    """Return the pairs an objective's cotangent depends on, or is nonzero at.

    Collective. A cotangent that vanishes here (a fit at its best) may still move:
    every pair is nudged in turn and the objective called again.
    """
    used = nonzero_pairs(pairs, cotangent)
    limit = UNMOVED * _sizes(pairs, cotangent)
    for j in np.flatnonzero(~used):
        again = evaluate(objective, _nudged(pairs, int(j)), p)[1]
        change = _combined([(1.0, again), (-1.0, cotangent)])
        used[j] = bool(np.any(_sizes(pairs, change) > limit))
        release(change)
    return tuple(int(j) for j in np.flatnonzero(used))


def cotangent_tangent(
    objective: Any, pairs: Eigenpairs, along: Direction
) -> tuple[EigenCotangent, bool]:
    """Return the derivative of an objective's cotangent along a direction.

    Collective. By the objective's own ``tangent(pairs, tangent)`` or ``tangent(pairs,
    tangent, p, p_dot)`` if it has one, else by differences of sixth order along the
    exact tangent of the pairs.

    Returns
    -------
    EigenCotangent
        The derivative of every part.
    bool
        Whether PETSc vectors in it are new and to be destroyed (`release`).

    Raises
    ------
    InputError
        When the objective is too rough for differences.

    """
    own = getattr(objective, "tangent", None)
    if own is None:
        return _differences(objective, pairs, along), True
    name = f"{objective_name(objective)}.tangent"
    tangent = pairs.pencil.view.tangent(along.tangent)

    def derivative(pairs: Eigenpairs) -> tuple[float, EigenCotangent]:
        count = positional_count(own)
        if count == 3 or count > 4:
            raise InputError(
                f"{name} must take (pairs, tangent) or (pairs, tangent, p, p_dot), got a method of "
                f"{count} arguments; give others a default"
            )
        point = (given(along.p), given(along.p_dot)) if count == 4 else ()
        return 0.0, own(pairs, tangent, *point)

    derivative.__name__ = name
    return evaluate(derivative, pairs, along.p)[1], False


def release(cotangent: EigenCotangent) -> None:
    """Destroy the PETSc vectors of a cotangent made here.  (Collective.)"""
    params.release(cotangent.parameters or {})


def _nudged(pairs: Eigenpairs, j: int) -> Eigenpairs:
    """Return the pairs with pair j moved a little.  (Collective.)"""
    values = pairs.values.copy()
    values[j] += NUDGE * (abs(values[j]) or float(np.abs(values).max()) or 1.0)
    noise = _petsc.deterministic_block(pairs.rows, 1, seed=31)[:, 0]
    changes: dict[str, Any] = {"values": values}
    for name in ("right", "left"):
        block = getattr(pairs, name)
        if block is not None:
            both = column_norms(pairs.comm, np.column_stack([block[:, j], noise]))
            changes[name] = block.copy(order="F")
            changes[name][:, j] += NUDGE * both[0] / max(both[1], TINY) * noise
    return replace(pairs, **changes)


def _differences(objective: Objective, pairs: Eigenpairs, along: Direction) -> EigenCotangent:
    rate = _rate(pairs, along)
    if rate == 0:
        return EigenCotangent()
    step = STEP / rate
    found = {k: _displaced(objective, pairs, along, k * step) for k in (-3, -2, -1, 1, 2, 3)}
    sixth, fourth = (
        _combined(
            [(side * w / step, found[side * k]) for k, w in weights.items() for side in (1, -1)]
        )
        for weights in (SIXTH, FOURTH)
    )
    rest = _combined([(1.0, sixth), (-1.0, fourth)])
    rounding = 100 * EPS / step * _sizes(pairs, found[1])
    errors, sizes = _sizes(pairs, rest), _sizes(pairs, sixth)
    release(fourth)
    release(rest)
    rough = errors > ADMISSIBLE_DIFFERENCE * sizes + rounding
    if rough.any():
        release(sixth)
        worst = float((errors[rough] / np.maximum(sizes[rough], TINY)).max())
        raise InputError(
            f"the objective {objective_name(objective)} must be smooth enough for differences of "
            f"its cotangent, got two orders that differ by {worst:.1e}; give it a method "
            "tangent(pairs, tangent) that returns the derivative of the cotangent"
        )
    return sixth


def _rate(pairs: Eigenpairs, along: Direction) -> float:
    """Return the largest relative speed of anything an objective may look at.  (Collective.)"""
    tangent = along.tangent
    size = np.maximum(np.abs(pairs.values), NUDGE * np.abs(pairs.values).max())
    rates = [float((np.abs(tangent.values) / np.maximum(size, TINY)).max())]
    for block, dot in ((pairs.right, tangent.right), (pairs.left, tangent.left)):
        if block is not None and dot is not None:
            speed = column_norms(pairs.comm, dot) / column_norms(pairs.comm, block)
            rates.append(float(speed.max()))
    for name in sorted(along.p):
        sizes = [
            np.abs(params.local_values(q[name])).max(initial=0.0) for q in (along.p, along.p_dot)
        ]
        here, there = largest_over_ranks(pairs.comm, np.array(sizes))
        rates.append(float(there / (here or 1.0)))
    return max(rates)


def _combined(terms: Sequence[tuple[float, EigenCotangent]]) -> EigenCotangent:
    """Return a sum of cotangents; its PETSc vectors are new.  (Collective for PETSc.Vec.)"""

    def added(parts: Sequence[tuple[float, Block | None]]) -> Block | None:
        present = [weight * np.asarray(part) for weight, part in parts if part is not None]
        return np.asarray(sum(present[1:], start=present[0])) if present else None

    triples = [(weight, item.matrices) for weight, item in terms if item.matrices is not None]
    matrices = tuple(
        added([(weight, triple[side]) for weight, triple in triples]) for side in range(3)
    )
    return EigenCotangent(
        values=added([(weight, item.values) for weight, item in terms]),
        right=added([(weight, item.right) for weight, item in terms]),
        left=added([(weight, item.left) for weight, item in terms]),
        parameters=_combined_parameters(terms) or None,
        matrices=matrices if triples else None,  # type: ignore[arg-type]
    )


def _combined_parameters(terms: Sequence[tuple[float, EigenCotangent]]) -> Gradient:
    total: Gradient = {}
    for weight, item in terms:
        if item.parameters is not None:
            given = {name: item.parameters[name] for name in sorted(item.parameters)}
            new = {name: value for name, value in given.items() if name not in total}
            total.update(params.zeros_like(new))
            params.add_scaled(total, weight, given)
    return total


def _sizes(pairs: Eigenpairs, cotangent: EigenCotangent) -> Block:
    """Return the norms of values, right, left, matrices and parameters.  (Collective.)"""
    local = np.zeros(4)
    distributed = [cotangent.right, cotangent.left]
    for k, block in enumerate(distributed):
        local[k] = 0.0 if block is None else np.linalg.norm(block) ** 2
    if cotangent.matrices is not None:
        local[2] = sum(np.linalg.norm(block) ** 2 for block in cotangent.matrices)
    given = cotangent.parameters or {}
    local[3] = sum(
        np.linalg.norm(params.local_values(value)) ** 2
        for value in given.values()
        if params.is_distributed(value)
    )
    squares = allreduce_same(pairs.comm, local)
    squares[3] += sum(
        np.linalg.norm(value) ** 2 for value in given.values() if not params.is_distributed(value)
    )
    values = 0.0 if cotangent.values is None else float(np.linalg.norm(cotangent.values))
    return np.array([values, *np.sqrt(squares)])


def _displaced(
    objective: Objective, pairs: Eigenpairs, along: Direction, step: float
) -> EigenCotangent:
    """Return the cotangent a step further, where the matrices are those of that point."""
    p = params.moved(along.p, step, along.p_dot)
    tangent = along.tangent
    left = pairs.left
    if left is not None and tangent.left is not None:
        left = left + step * tangent.left
    try:
        with along.model.assemble(p) as pencil:
            moved = replace(
                pairs,
                pencil=pencil,
                version=pencil.version,
                values=pairs.values + step * tangent.values,
                right=pairs.right + step * tangent.right,
                left=left,
            )
            return evaluate(objective, moved, p)[1]
    finally:
        params.release(p)

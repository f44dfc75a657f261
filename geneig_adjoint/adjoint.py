r"""From cotangents of pairs to adjoint vectors.

Per pair, with the projected cotangent x_eff (`normalization`):

    [ A - lam B   B x ]^H [ w  ]   [  x_eff   ]
    [   c^H        0  ]   [ mu ] = [ -lam_bar ],   a = -w,  b = conj(lam) w + (term of B)

and dg/dp_i = Re(a^H A_i x + b^H B_i x). If only eigenvalues are touched, w = -lam_bar y.
Hermitian pairs that lie close together share a border (`invariant_subspace`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import EPS, Block
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.clusters import (
    check_differentiable,
    check_not_constrained,
    check_value_cotangent,
    check_vector_cotangent,
)
from geneig_adjoint.conditioning import (
    DEFECTIVE_CONDITION,
    chain_rounding,
    check_not_defective,
    conditions_and_errors,
    conditions_through_factor,
    warn_of_condition,
)
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs
from geneig_adjoint.error_estimate import ErrorEstimate
from geneig_adjoint.errors import ArgumentError, InputError
from geneig_adjoint.exceptional_points import explained_as_defective
from geneig_adjoint.gauge import project_cotangent
from geneig_adjoint.invariant_subspace import Group, explicit_size, near_groups
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pair_systems import Question, Steps, Task, run
from geneig_adjoint.reductions import allreduce_same, column_norms
from geneig_adjoint.views import PlainView


@dataclass
class Contraction:
    """Columns to be contracted with dA (left_a), dB (left_b) and right.

    ``accuracy`` is the worst of the solves they come from, ``relative_error`` an estimate of
    the error of the contraction.
    """

    left_a: list[Block] = field(default_factory=list)
    left_b: list[Block] = field(default_factory=list)
    right: list[Block] = field(default_factory=list)
    accuracy: float = 0.0
    relative_error: float = 0.0

    def add(self, left_a: Block, left_b: Block, right: Block) -> None:
        """Append one column, or several."""
        for columns, new in zip(
            (self.left_a, self.left_b, self.right), (left_a, left_b, right), strict=True
        ):
            columns.append(new if new.ndim == 2 else new[:, None])

    def blocks(self, n_local: int) -> tuple[Block, Block, Block]:
        """Return the three blocks, (n_local, j) each."""
        empty = np.zeros((n_local, 0))
        a, b, r = (
            np.hstack([empty, *columns]) for columns in (self.left_a, self.left_b, self.right)
        )
        return a, b, r


def adjoint_vectors(
    pairs: Eigenpairs, cotangents: Sequence[EigenCotangent], settings: AdjointSettings
) -> list[Contraction]:
    """Return, for every cotangent, the vectors whose contraction is the gradient.

    Collective. One bordered system per pair serves all cotangents; pairs whose
    cotangent is zero cost nothing.

    Raises
    ------
    ConvergenceError
        When an adjoint solve misses its tolerance.
    DegenerateEigenvalueError, DefectiveEigenvalueError, GaugeError
        When a derivative asked for does not exist.

    """
    results = [Contraction() for _ in cotangents]
    duals = [_Dual(pairs, cotangent) for cotangent in cotangents]
    for dual in duals:
        check_not_constrained(pairs, dual.touched)
        check_value_cotangent(pairs, dual.lam_bar)
    parts = list(zip(duals, results, strict=True))
    errors = pairs.errors.copy()
    with _petsc.log_stage("adjoint"):
        if pairs.pencil.definite:
            whole = [part for part in parts if part[0].span is not None]
            others = [part for part in parts if part[0].span is None]
            tasks = _group_tasks(pairs, tuple(range(pairs.count)), whole)
            for members in near_groups(pairs):
                tasks += _group_tasks(pairs, members, others)
            run(pairs, tasks, settings)
        else:
            every = range(pairs.count)
            tasks = [Task(j, (j,), _pair_steps(pairs, j, parts)) for j in every]
            errors[:] = run(pairs, tasks, settings)
    estimate = ErrorEstimate(pairs, errors, [j for dual in duals for j in dual.touched])
    for cotangent, (dual, result) in zip(cotangents, parts, strict=True):
        if cotangent.matrices is not None:
            result.add(*cotangent.matrices)
        vectors = {*dual.x_bar, *dual.y_bar}
        result.relative_error = estimate.of(dual.lam_bar, vectors, dual.touched, result.accuracy)
    return results


class _Dual:
    """A cotangent with its missing parts filled in and its zero columns known."""

    def __init__(self, pairs: Eigenpairs, cotangent: EigenCotangent) -> None:
        k = pairs.count
        values = np.zeros(k) if cotangent.values is None else np.asarray(cotangent.values)
        # The eigenvalues of a Hermitian pencil are real: an imaginary part has no effect.
        self.lam_bar = values.real.astype(complex) if pairs.pencil.definite else values
        self.x_bar, self.y_bar = _nonzero_columns(pairs, cotangent.right, cotangent.left)
        self.span = cotangent.span
        self.explicit = explicit_size(pairs, cotangent)
        if self.span is not None and not pairs.pencil.definite:
            raise InputError(
                "span= needs a Hermitian pencil with definite B, got one of type "
                f"{pairs.pencil.problem_type}; give right= and left= instead"
            )
        if self.y_bar:
            check_left(pairs)
        used = {int(j) for j in np.flatnonzero(self.lam_bar)} | set(self.x_bar) | set(self.y_bar)
        self.touched = sorted(used) if self.span is None else list(range(pairs.count))


def check_left(pairs: Eigenpairs) -> None:
    """Raise when an objective of left vectors meets pairs without.  (Not collective.)"""
    if pairs.left is None:
        raise ArgumentError(
            "a cotangent of left vectors needs pairs with left vectors, got pairs solved with "
            "left=False; solve again with left=True"
        )


def _nonzero_columns(pairs: Eigenpairs, *blocks: Block | None) -> list[dict[int, Block]]:
    """Return the columns of each block that are nonzero on any rank.  (Collective.)"""
    zero = np.zeros((pairs.pencil.n_local, pairs.count))  # where another rank has a block
    given = [zero if block is None else np.asarray(block) for block in blocks]
    counts = [np.count_nonzero(block, axis=0) for block in given]
    used = allreduce_same(pairs.comm, np.stack(counts).astype(float))
    return [
        {int(j): block[:, j] for j in np.flatnonzero(row)}
        for block, row in zip(given, used, strict=True)
    ]


Part = tuple[_Dual, Contraction]


def _group_tasks(pairs: Eigenpairs, members: tuple[int, ...], parts: Sequence[Part]) -> list[Task]:
    """Add what Hermitian pairs with near values contribute; return what is to be solved for.

    Collective.
    """
    touched = [part for part in parts if _touches(part[0], members)]
    group = Group(pairs, members) if touched else None
    for dual, result in parts:
        for j in members:
            if dual.lam_bar[j] != 0:
                y = _hermitian_left(pairs, j)
                a = in_real_where_real(dual.lam_bar[j] * y, pairs)
                result.add(a, -pairs.values[j].real * a, pairs.right[:, j])
        if dual.span is not None:
            X, (P, Q) = pairs.right[:, list(members)], dual.span
            result.add(X @ P, X @ Q, X)
    if group is None:
        return []
    outer = [(result, _outer_cotangents(group, dual, result)) for dual, result in touched]
    tasks = []
    for column, j in enumerate(members):
        used = [(result, block[:, column]) for result, block in outer]
        used = [item for item, keep in zip(used, _nonzero(pairs, used), strict=True) if keep]
        if used:
            tasks.append(Task(j, members, _outside_steps(pairs, j, len(members), used)))
    return tasks


def _touches(dual: _Dual, members: tuple[int, ...]) -> bool:
    return any(j in dual.x_bar or j in dual.y_bar for j in members)


def _nonzero(pairs: Eigenpairs, used: Sequence[tuple[Contraction, Block]]) -> Block:
    sizes = column_norms(pairs.comm, np.column_stack([column for _, column in used]))
    return np.asarray(sizes > 0)


def _outer_cotangents(group: Group, dual: _Dual, result: Contraction) -> Block:
    """Add what happens inside the span, and return the cotangents outside of it.  (Collective.)"""
    pairs = group.pairs
    columns, given = [], []
    for j in group.members:
        zero = np.zeros_like(pairs.right[:, j])
        x_bar = dual.x_bar.get(j, zero)
        if j in dual.y_bar:
            x_bar = x_bar + _hermitian_left_cotangent(pairs, j, dual.y_bar[j], result)
        given.append(x_bar)
        if dual.span is None and (j in dual.x_bar or j in dual.y_bar):
            projected = project_cotangent(pairs, j, x_bar)
            x_bar = projected.x_eff
            result.add(np.zeros_like(projected.left_b), projected.left_b, pairs.right[:, j])
        columns.append(x_bar)
    block = np.column_stack(columns)
    if dual.span is None:
        result.add(*group.inside(block, np.column_stack(given), dual.explicit))
    zero_columns = np.array([not (j in dual.x_bar or j in dual.y_bar) for j in group.members])
    # Zero cotangents cost no solve: their projection would be rounding.
    return np.where(zero_columns, 0.0, group.outside(block))


def _outside_steps(
    pairs: Eigenpairs, j: int, width: int, used: Sequence[tuple[Contraction, Block]]
) -> Steps:
    check_differentiable(pairs, j)
    rhs = np.column_stack([column for _, column in used])
    found = yield Question(rhs, np.zeros((width, rhs.shape[1])), hermitian=True)
    for column, (result, _) in enumerate(used):
        w = found.v[:, column]
        result.accuracy = max(result.accuracy, found.accuracy)
        result.add(-w, pairs.values[j].real * w, pairs.right[:, j])


def _hermitian_left(pairs: Eigenpairs, j: int) -> Block:
    x = pairs.right[:, j]
    return np.asarray(x / _square(pairs, x))


def _hermitian_left_cotangent(
    pairs: Eigenpairs, j: int, y_bar: Block, result: Contraction
) -> Block:
    """Return the cotangent of x that y_bar amounts to for y = x / (x^H B x)."""
    x = pairs.right[:, j]
    square = _square(pairs, x)
    slope = float(column_dots(pairs.comm, y_bar[:, None], x[:, None])[0].real) / square**2
    result.add(np.zeros_like(x), -slope * x, x)
    return np.asarray(y_bar / square - 2 * slope * pairs.pencil.multiply_b(x[:, None])[:, 0])


def _square(pairs: Eigenpairs, x: Block) -> float:
    Bx = pairs.pencil.multiply_b(x[:, None])
    return float(column_dots(pairs.comm, x[:, None], Bx)[0].real)


def _pair_steps(pairs: Eigenpairs, j: int, parts: Sequence[Part]) -> Steps:
    """Add what a pair contributes, and return the error of its eigenvalue.  (Collective.)"""
    vector = [part for part in parts if j in part[0].x_bar or j in part[0].y_bar]
    # The left vector is the adjoint of the eigenvalue.
    scalar = [
        (dual, result)
        for dual, result in parts
        if j not in dual.x_bar and j not in dual.y_bar and dual.lam_bar[j] != 0
    ]
    error = float(pairs.errors[j])
    if vector:
        check_vector_cotangent(pairs, j)
    if pairs.left is not None:
        _add_values(pairs, j, pairs.left[:, j], scalar)
        scalar = []
    accuracy = 0.0
    if pairs.left is None and (vector or scalar):
        y, error, accuracy = yield from solved_left(pairs, j)
        _add_values(pairs, j, y, scalar, accuracy=accuracy)
    if vector:
        yield from _add_solved(pairs, j, vector, accuracy)
    return error


def _add_values(
    pairs: Eigenpairs, j: int, y: Block, parts: Sequence[Part], *, accuracy: float = 0.0
) -> None:
    """Add the gradient of an eigenvalue to objectives that touch nothing else of the pair."""
    for dual, result in parts:
        result.accuracy = max(result.accuracy, accuracy)
        a = in_real_where_real(dual.lam_bar[j] * y, pairs)
        result.add(a, -conjugate_value(pairs.values[j], a) * a, pairs.right[:, j])


def solved_left(pairs: Eigenpairs, j: int) -> Steps:
    """Return the left vector with y^H B x = 1 of a pair that has none, and its value's error.

    The third result is the accuracy of the solve.

    Collective. Tells what the right vectors alone cannot: how ill-conditioned the value is.

    Raises
    ------
    DefectiveEigenvalueError
        At an exceptional point.

    """
    pencil, x = pairs.pencil, pairs.right[:, [j]]
    place = (complex(pairs.values[j]), float(pairs.gaps[j]))
    with explained_as_defective(pencil, j, *place):
        solution = yield Question(np.zeros_like(x), -np.ones(1), hermitian=True, judged=True)
    w = solution.v
    residual = np.maximum(pairs.residuals[[j]], EPS)  # a smaller one is luck
    found = conditions_and_errors(pencil, pairs.values[[j]], x, -w, residual)
    if pairs.factor is not None and pairs.factor.inverts:
        found = conditions_through_factor(pairs.factor, pairs.values[[j]], x, -w, found)
    condition, error = (float(item[0]) for item in found)
    moved = np.nan
    if condition > DEFECTIVE_CONDITION and isinstance(pencil.view, PlainView):
        parts = pairs.values[[j]], x, w
        moved = float(chain_rounding(pencil, *parts, np.array([condition]))[0])
    check_not_defective(pairs, j, condition, rounding=moved)
    warn_of_condition(j, condition, error)
    solution.warn()  # not before: near an exceptional point rounding spoils every solution
    return -w[:, 0], error, solution.accuracy


def _add_solved(pairs: Eigenpairs, j: int, parts: Sequence[Part], accuracy: float) -> Steps:
    lam, x = pairs.values[j], pairs.right[:, j]
    projected = []
    for dual, result in parts:
        x_bar = dual.x_bar.get(j, np.zeros_like(x))
        if j in dual.y_bar:
            change, reached = yield from _left_cotangent(pairs, j, dual.y_bar[j], result)
            x_bar, accuracy = x_bar + change, max(accuracy, reached)
        projected.append(project_cotangent(pairs, j, x_bar))
    rhs = np.column_stack([item.x_eff for item in projected])
    rho = -np.array([dual.lam_bar[j] for dual, _ in parts])
    if rhs.dtype.kind == "f" and pairs.right.dtype.kind == "f":
        rho = rho.real
    found = yield Question(rhs, rho, hermitian=True)
    for column, (_, result) in enumerate(parts):
        result.accuracy = max(result.accuracy, accuracy, found.accuracy)
        a = -found.v[:, column]
        result.add(a, -conjugate_value(lam, a) * a + projected[column].left_b, x)


def _left_cotangent(pairs: Eigenpairs, j: int, y_bar: Block, result: Contraction) -> Steps:
    """Add the part of y_bar that moves y; return what it adds to x_bar, and the accuracy.

    With nu = y^H y_bar and (A - lam B) v = y_bar - nu B x, y^H B v = 0: contract v with
    (-y, conj(lam) y) and x with (0, -conj(nu) y); x_bar loses conj(nu) B^H y.
    """
    assert pairs.left is not None
    y, x, lam = pairs.left[:, j], pairs.right[:, j], pairs.values[j]
    Bh_y = pairs.pencil.multiply_b(y[:, None], hermitian=True)[:, 0]
    nu = column_dots(pairs.comm, y[:, None], y_bar[:, None])[0]
    found = yield Question(y_bar[:, None], np.zeros(1), hermitian=False)
    v = found.v[:, 0] - x * column_dots(pairs.comm, Bh_y[:, None], found.v)[0]
    result.add(-y, conjugate_value(lam, y) * y, v)
    result.add(np.zeros_like(y), -np.conj(nu) * y, x)
    return -np.conj(nu) * Bh_y, found.accuracy


def in_real_where_real(block: Block, pairs: Eigenpairs) -> Block:
    """Return a real block where the pairs are real."""
    return np.asarray(block.real if pairs.right.dtype.kind == "f" else block)


def conjugate_value(lam: complex, block: Block) -> complex:
    """Return conj(lam), as a real number where it multiplies a real block."""
    return lam.real if block.dtype.kind == "f" else np.conj(lam)

"""Ill-conditioned pairs, corrected until rounding ends it: the last correction is their error.

A small residual says little of a pair whose eigenvalue has a large condition number: bounds by
||A|| and the condition may exceed the true error by ten orders, and the vectors, which are as good
as the eigensolver's tolerance, may leave no digit of a gradient. Newton's method with the bordered
matrix of the pair,

    (A - lam B) v + B x nu = -(A - lam B) x,   x^H v = 0,     x + v, lam - nu,

and its transpose for the left vector see the residuals entry by entry. Steps end where rounding of
the residuals, not of the factor, turns the pair around; the last one is as large as what is left.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.conditioning import ILL_CONDITION, backward_errors, defects
from geneig_adjoint.eigenpairs import RELATIVE_GAP
from geneig_adjoint.entrywise import AbsolutePencil
from geneig_adjoint.errors import ConvergenceError, IllConditionedWarning
from geneig_adjoint.left_vectors import LeftVectors
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms
from geneig_adjoint.right_pairs import RightPairs
from geneig_adjoint.simple_pairs import bordered_of, partner_of

STEPS = 10
ROUGH_CONDITION = 1e3
"""Condition number of an eigenvalue from which errors are looked at."""
DOUBTFUL = 1e-7
"""Estimated error of a value, relative to its distance from others, that calls for corrections."""
VISIBLE, HIDDEN = 1e-13, 0.1
"""Errors of vectors of rough pairs that matter (of better ones: the more, the smaller their
condition, as a factor costs much more than they spoil), and the share of them that a harmless
residual may show."""
FARTHEST = 0.25
"""Of its gap, that a corrected value may move: it must not become another one."""
SETTLED = 1e-3
"""Corrections of vectors, relative, that the last one must not exceed."""
ROUNDING = 100 * EPS
"""Relative error of vectors and gradients below which a smaller one is luck."""
SAFETY = 10.0
"""Errors that are left over the last correction: rounding is lucky now and then."""


@dataclass(frozen=True)
class _Move:
    """A correction of lam, x and y; ``sizes`` of vectors are relative."""

    sizes: Block
    v: Block
    w: Block


@dataclass
class _Pair:
    """A pair on its way, and its corrections so far."""

    lam: complex
    x: Block
    y: Block
    moves: list[_Move] = field(default_factory=list)


@dataclass(frozen=True)
class Improved:
    """Corrected pairs.

    Attributes
    ----------
    found, left
        The pairs.
    errors : ndarray
        Of the values, (k,); nan where a pair is as it was.
    turns : ndarray
        What the errors of x and y do to gradients, relative to the terms of these, (k,).

    """

    found: RightPairs
    left: LeftVectors
    errors: Block
    turns: Block


def doubtful_pairs(
    pencil: Pencil, found: RightPairs, left: LeftVectors, measures: tuple[Block, Block]
) -> tuple[int, ...]:
    """Return the pairs whose errors nobody knows by their residuals.  (Not collective.)

    measures: conditions and estimated errors, (k,) each.
    """
    if pencil.definite or not pencil.factorable or found.transformation is None:
        return ()
    condition, errors = measures
    sigma = found.sigma or 0.0
    sizes = np.maximum(np.abs(found.values - sigma), TINY)
    distances = np.where(np.isfinite(found.gaps), found.gaps, sizes)
    rough = (condition > ROUGH_CONDITION) & (errors > DOUBTFUL * distances)
    doubtful = (condition > ILL_CONDITION) | rough
    visible = VISIBLE * np.maximum(1.0, ROUGH_CONDITION / np.maximum(condition, 1.0))
    for seen in (found.distances, left.distances):
        if seen is not None:  # of a normal matrix it is never more than the residual itself
            doubtful |= (seen > visible) & (errors < HIDDEN * seen * sizes)
    doubtful[list(found.constrained)] = False
    alone = distances > RELATIVE_GAP * np.abs(found.values)
    return tuple(int(j) for j in np.flatnonzero(doubtful & alone))


def improved(
    pencil: Pencil, found: RightPairs, left: LeftVectors, chosen: tuple[int, ...]
) -> Improved:
    """Return pairs of which the chosen ones are corrected where that converges.

    Collective. One factor per pair, or conjugate couple of a real pencil.
    """
    values, right, y = (
        found.values.copy(),
        found.right.copy(order="F"),
        left.vectors.copy(order="F"),
    )
    errors, turns = np.full((2, len(values)), np.nan)
    with AbsolutePencil(pencil) as absolute:
        for j in sorted(chosen, key=lambda j: -found.values[j].imag):
            partner = partner_of(found, j)
            if partner is not None and partner in chosen:
                values[j], right[:, j] = values[partner].conj(), right[:, partner].conj()
                y[:, j], errors[j], turns[j] = y[:, partner].conj(), errors[partner], turns[partner]
                continue
            pair = _corrected(pencil, found, left, j)
            if pair is not None:
                values[j], right[:, j], y[:, j] = pair.lam, pair.x[:, 0], pair.y[:, 0]
                errors[j], turns[j] = _errors_of(pencil, pair, float(found.gaps[j]), absolute)
    residuals = backward_errors(pencil, values, right)
    left_residuals = backward_errors(pencil, values, y, left=True)
    found = replace(found, values=values, right=right, residuals=residuals)
    return Improved(found, replace(left, vectors=y, residuals=left_residuals), errors, turns)


def _corrected(pencil: Pencil, found: RightPairs, left: LeftVectors, j: int) -> _Pair | None:
    """Return pair j after as many corrections as help; None where they do not converge."""
    with bordered_of(pencil, found, [j]) as system, warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        y = left.vectors[:, [j]]
        pair = _Pair(
            complex(found.values[j]), system.x, y if system.x.dtype.kind == "c" else y.real
        )
        with suppress(ConvergenceError):
            for _ in range(STEPS):
                _step(system, pair)
                if not _helps(pair):
                    break
    if len(pair.moves) < 2 or not _settled(found, pair, j):
        return None
    return pair


def _step(system: BorderedSystem, pair: _Pair) -> None:
    """Correct a pair once.  (Collective.)"""
    pencil, zero = system.pencil, np.zeros((1, 1))
    v, nu = system.solve(-defects(pencil, np.array([pair.lam]), pair.x), zero, hermitian=False)
    lam, x = complex(pair.lam - nu[0, 0]), pair.x + v
    rest = -defects(pencil, np.array([lam]), pair.y, left=True)
    w, _ = system.solve(rest, zero, hermitian=True)
    y = pair.y + w
    sizes = column_norms(pencil.comm, np.hstack([v, w]))
    sizes = sizes / np.maximum(column_norms(pencil.comm, np.hstack([x, y])), TINY)
    pair.lam, pair.x, pair.y = lam, x, y
    pair.moves.append(_Move(np.array([abs(nu[0, 0]), *sizes]), v, w))


def _helps(pair: _Pair) -> bool:
    """Tell whether another correction is worth while: something more than rounding shrinks."""
    if len(pair.moves) < 2:
        return True
    before, last = (move.sizes for move in pair.moves[-2:])
    rounding = EPS * np.array([abs(pair.lam), 1.0, 1.0])
    return bool(((before > rounding) & (last < 0.5 * before)).any())


def _settled(found: RightPairs, pair: _Pair, j: int) -> bool:
    """Tell whether corrections have converged, and to the pair they began with."""
    sizes = abs(found.values[j]), abs(found.values[j] - (found.sigma or 0.0))
    room = FARTHEST * min(float(found.gaps[j]), max(sizes))
    last, *vectors = pair.moves[-1].sizes
    moved = abs(pair.lam - found.values[j])
    return bool(moved <= room and last <= SETTLED * room and max(vectors) <= SETTLED)


def _errors_of(pencil: Pencil, pair: _Pair, gap: float, absolute: AbsolutePencil) -> Block:
    """Return the errors of the value and of gradients that the last corrections show, (2,).

    Collective. What errors of vectors do to terms is weighed as in those of A - lam B, of a
    diagonal, and of a full matrix.
    """
    last = pair.moves[-2:]
    x, y = np.abs(pair.x), np.abs(pair.y)
    v = np.maximum.reduce([np.abs(move.v) for move in last])
    w = np.maximum.reduce([np.abs(move.w) for move in last])
    lefts, rights = np.hstack([w, y, y]), np.hstack([x, v, x])
    forms = absolute.forms(np.full(3, pair.lam), lefts, rights)
    plain = column_dots(pencil.comm, lefts, rights).real
    one = np.ones_like(x)
    whole = column_dots(pencil.comm, one, lefts) * column_dots(pencil.comm, one, rights)
    turn = max((part[0] + part[1]) / max(part[2], TINY) for part in (forms, plain, whole))
    product = np.abs(column_dots(pencil.comm, pair.y, pencil.multiply_b(pair.x)))[0]
    rounding = EPS * forms[2] / max(product, TINY)
    error = SAFETY * max(move.sizes[0] for move in last) + rounding + EPS * abs(pair.lam)
    return np.array([error, SAFETY * max(turn, ROUNDING) + rounding / gap])

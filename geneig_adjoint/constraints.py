"""Eigenpairs of constrained rows that were kept in the matrices: no modes of the problem.

Finite element codes often leave the row of a constrained dof in place and put 1 on its diagonal,
in A and in B. Such a row is an oscillator of its own with the value a_ii / b_ii, and every one
of them adds an eigenpair that nobody asked for. The matrices alone cannot tell it from a mass on
a spring of its own: `moving_rows` asks the model when a derivative is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import allreduce_same, inner, largest_over_ranks

if TYPE_CHECKING:
    from petsc4py import PETSc

SAME_VALUE = 1e-8
"""Relative distance up to which an eigenvalue is that of a row, and rows have the same value."""
NOTHING = 1e-6
"""Entry, relative to the largest one, below which a vector does not move a row."""
CONVENTION = 1.0
"""Value of a constrained row in most codes: one such row is enough to be recognised."""
FEW = 3
"""Rows with any other value that may well be physical: a mass between equal springs has so many."""
SHOWN = 10
REMEDY = (
    "leave these rows out of the matrices, put 0 on their diagonal in B, or move their value "
    "away by a diagonal of A times 1e8"
)


def constrained_pairs(
    pencil: Pencil, values: Block, right: Block
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return which pairs belong to constrained rows, and a note for every value of such rows.

    Collective. A row counts as constrained when its diagonal is its only nonzero entry in A
    and in B while other rows are coupled, and when it has the value a_ii / b_ii = 1 or shares
    it (up to rounding) with more than 2 others; two or three are noted only, since a mass on a
    few equal springs is a legitimate part of a problem. A pair belongs to them when the
    eigenvalue is that value and the vector moves a row. The usual case, no eigenvalue on the
    diagonal, costs one reduction.

    Parameters
    ----------
    pencil
        Operators without entries have no rows to look at.
    values
        Eigenvalues (k,), the same on every rank.
    right
        This rank's rows (n_local, k).

    Returns
    -------
    pairs : tuple of int
        Indices, ascending, the same on every rank.
    notes : tuple of str
        How many pairs and rows, with which value, and what to do.

    """
    if pencil.matrix_free or not len(values):
        return (), ()
    a, b = diagonals(pencil)
    near = _near(values, a, b)
    if not allreduce_same(pencil.comm, np.array([float(sum(rows.size for rows in near))]))[0]:
        return (), ()
    groups: list[_Rows] = []
    for j, (value, rows) in enumerate(_shared_values(pencil, near, a, b, right)):
        if rows:
            known = [group for group in groups if _same(group.value, value)]
            group = known[0] if known else _Rows(value)
            groups += [] if known else [group]
            group.size = max(group.size, rows)
            group.members.append(j)
    named = [group for group in groups if group.constrained]
    notes = tuple(group.note() for group in groups if group.constrained or group.size > 1)
    return tuple(sorted(j for group in named for j in group.members)), notes


@dataclass
class _Rows:
    """Rows that nothing is coupled to, with one value, and the pairs that move them."""

    value: complex
    size: int = 0
    members: list[int] = field(default_factory=list)

    @property
    def constrained(self) -> bool:
        return self.size > FEW or _same(self.value, CONVENTION)

    def note(self) -> str:
        number = self.value.real if self.value.imag == 0 else self.value
        shown = ", ".join(str(j) for j in self.members[:SHOWN])
        shown += ", ..." if len(self.members) > SHOWN else ""
        start = f"{len(self.members)} of the pairs ({shown}) belong to {self.size}"
        if self.constrained:
            return (
                f"{start} constrained rows with the value {number:.12g}: {REMEDY}; rows that "
                "depend on the parameters are differentiated as modes"
            )
        return (
            f"{start} rows with the value {number:.12g} that nothing is coupled to; if they are "
            f"supports, {REMEDY}"
        )


def _same(value: complex, other: complex) -> bool:
    return abs(value - other) <= SAME_VALUE * abs(other)


def diagonals(pencil: Pencil) -> tuple[Block, Block]:
    """Return this rank's diagonals of A and B.  (Not collective.)"""
    a = _petsc.diagonal(pencil.A)
    return a, np.ones_like(a) if pencil.B is None else _petsc.diagonal(pencil.B)


def rows_alone(pencil: Pencil) -> Block:
    """Return which of this rank's rows have no nonzero entry beside the diagonals of A and B.

    Not collective.
    """
    return _alone(pencil.A) if pencil.B is None else _alone(pencil.A) & _alone(pencil.B)


def rows_of_pairs(pencil: Pencil, values: Block, right: Block) -> list[Block]:
    """Return, for every pair, this rank's rows that stand alone with its value and move.

    Collective.

    Parameters
    ----------
    pencil
        Operators with entries.
    values
        Eigenvalues (k,).
    right
        This rank's rows (n_local, k).

    """
    alone = rows_alone(pencil)
    near = [rows[alone[rows]] for rows in _near(values, *diagonals(pencil))]
    sizes = np.abs(right)
    largest = largest_over_ranks(pencil.comm, sizes.max(axis=0, initial=0.0))
    return [
        rows[sizes[rows, j] > NOTHING * largest[j]]  # rounding moves the others
        for j, rows in enumerate(near)
    ]


def row_left_vectors(pencil: Pencil, values: Block, right: Block) -> Block:
    """Return left vectors of pairs of rows that stand alone, with y^H B x = 1.

    Collective. Whatever their columns hold, the left vectors live in these rows:
    e_i^H A = (a_ii / b_ii) e_i^H B. Exact if all pairs of the rows are given.

    Parameters
    ----------
    pencil
        Operators with entries.
    values
        Eigenvalues (k,).
    right
        This rank's rows (n_local, k).

    Returns
    -------
    ndarray
        This rank's rows, (n_local, k).

    """
    rows = rows_of_pairs(pencil, values, right)
    left, B_x = np.zeros_like(right), pencil.multiply_b(right)
    for j, value in enumerate(values):
        members = [i for i, other in enumerate(values) if _same(other, value)]
        mine = np.unique(np.concatenate([rows[i] for i in members]))
        cut = B_x[np.ix_(mine, members)]
        gram = inner(pencil.comm, cut, cut)
        left[mine, j] = cut @ np.linalg.pinv(gram)[:, members.index(j)]
    return left


def _near(values: Block, a: Block, b: Block) -> list[Block]:
    """Return, for every eigenvalue, this rank's rows with a_ii = lam b_ii."""
    able = (a != 0) & (b != 0)
    return [
        np.flatnonzero(able & (np.abs(a - _like(lam, a) * b) <= SAME_VALUE * np.abs(a)))
        for lam in values
    ]


def _shared_values(
    pencil: Pencil, near: list[Block], a: Block, b: Block, right: Block
) -> list[tuple[complex, int]]:
    """Return, for every pair, the value and number of rows alone that it moves.  (Collective.)

    No rows if nothing else is coupled.
    """
    alone = rows_alone(pencil)
    near = [rows[alone[rows]] for rows in near]
    sums = [np.count_nonzero(~alone), *(rows.size for rows in near)]
    totals = allreduce_same(pencil.comm, np.array(sums, dtype=float))
    extremes = [_extremes(a[rows] / b[rows], right[:, j], rows) for j, rows in enumerate(near)]
    result = []
    for count, measured in zip(
        totals[1:], largest_over_ranks(pencil.comm, np.array(extremes)), strict=True
    ):
        found = bool(totals[0] and count) and measured[4] > NOTHING * measured[5]
        middle = complex(measured[0] - measured[1], measured[2] - measured[3]) / 2 if found else 0j
        result.append((middle, int(count) if found else 0))
    return result


def _like(lam: complex, block: Block) -> complex:
    return lam.real if block.dtype.kind == "f" and lam.imag == 0 else lam


def _extremes(ratios: Block, x: Block, moved: Block) -> list[float]:
    """Return largest and negated smallest parts of the ratios, and the sizes of two vectors."""
    parts = [extreme for part in (ratios.real, ratios.imag) for extreme in (part, -part)]
    parts += [np.abs(x[moved]), np.abs(x)]
    return [float(part.max(initial=-np.inf)) for part in parts]  # -inf: this rank has none


def _alone(mat: PETSc.Mat) -> Block:
    """Return which of this rank's rows have no nonzero entry beside the diagonal."""
    offsets, columns, values = mat.getValuesCSR()
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    beside = (columns != row + mat.getOwnershipRange()[0]) & (values != 0)
    return np.asarray(np.bincount(row[beside], minlength=len(offsets) - 1) == 0)

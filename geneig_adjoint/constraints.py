"""Eigenpairs of constrained rows that were kept in the matrices: no modes of the problem.

Finite element codes often leave the row of a constrained dof in place and put 1 on its diagonal,
in A and in B. Such a row is an oscillator of its own with the value a_ii / b_ii, and every one
of them adds an eigenpair that nobody asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.collective import allreduce_same, largest_over_ranks
from geneig_adjoint.pencil import Pencil

if TYPE_CHECKING:
    from petsc4py import PETSc

SAME_VALUE = 1e-8
"""Relative distance up to which an eigenvalue is that of a row."""
NOTHING = 1e-6
"""Entry, relative to the largest one, below which a vector does not move a row."""
CONVENTION = 1.0
"""Value of a constrained row in most codes: one such row is enough to be recognised."""
SHOWN = 10
REMEDY = (
    "leave these rows out of the matrices, put 0 on their diagonal in B, or move their value "
    "away by a diagonal of A times 1e8"
)


def constrained_pairs(
    pencil: Pencil, values: Block, right: Block
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return which pairs belong to constrained rows, and a note for every value of such rows.

    Collective. A row is constrained when its diagonal is its only nonzero entry in A and in
    B while other rows are coupled, and when it shares the value a_ii / b_ii with another such
    row or has the value 1: a mass on a spring of its own is a legitimate part of a problem. A
    pair belongs to it when the eigenvalue is that value and the vector moves the row. The
    usual case, no eigenvalue on the diagonal, costs one reduction.

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
    a = _petsc.diagonal(pencil.A)
    b = np.ones_like(a) if pencil.B is None else _petsc.diagonal(pencil.B)
    able = (a != 0) & (b != 0)
    near = [
        np.flatnonzero(able & (np.abs(a - _like(lam, a) * b) <= SAME_VALUE * np.abs(a)))
        for lam in values
    ]
    if not allreduce_same(pencil.comm, np.array([float(sum(rows.size for rows in near))]))[0]:
        return (), ()
    found: dict[complex, list[int]] = {}
    sizes: dict[complex, int] = {}
    for j, (value, rows) in enumerate(_shared_values(pencil, near, a, b, right)):
        if rows > 1 or (rows == 1 and value == CONVENTION):
            found.setdefault(value, []).append(j)
            sizes[value] = rows
    notes = tuple(_note(value, sizes[value], members) for value, members in found.items())
    return tuple(sorted(j for members in found.values() for j in members)), notes


def _shared_values(
    pencil: Pencil, near: list[Block], a: Block, b: Block, right: Block
) -> list[tuple[complex, int]]:
    """Return, for every pair, the value and number of constrained rows it moves.  (Collective.)

    No rows if the rows near its eigenvalue have different values, or nothing else is coupled.
    """
    alone = _alone(pencil.A) if pencil.B is None else _alone(pencil.A) & _alone(pencil.B)
    near = [rows[alone[rows]] for rows in near]
    sums = [np.count_nonzero(~alone), *(rows.size for rows in near)]
    totals = allreduce_same(pencil.comm, np.array(sums, dtype=float))
    extremes = [_extremes(a[rows] / b[rows], right[:, j], rows) for j, rows in enumerate(near)]
    result = []
    for count, measured in zip(
        totals[1:], largest_over_ranks(pencil.comm, np.array(extremes)), strict=True
    ):
        value = complex(measured[0], measured[2])
        shared = bool(totals[0]) and value == -complex(measured[1], measured[3])
        moves = measured[4] > NOTHING * measured[5]
        result.append((value, int(count) if shared and moves else 0))
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


def _note(value: complex, rows: int, members: list[int]) -> str:
    number = value.real if value.imag == 0 else value
    shown = ", ".join(str(j) for j in members[:SHOWN]) + (", ..." if len(members) > SHOWN else "")
    return (
        f"{len(members)} of the pairs ({shown}) belong to {rows} constrained rows with the value "
        f"{number:.12g}: {REMEDY}"
    )

"""Scale and phase of eigenvectors: what they are, and how vectors are brought there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import ArgumentError
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import allreduce_same, column_norms, largest_over_ranks

if TYPE_CHECKING:
    from mpi4py import MPI


NEUTRAL = 1e-8
"""|x^H B x| below this fraction of ||x|| ||B x|| cannot be scaled to +-1."""
SMALLEST_KEPT = 0.1
"""An entry this small, relative to the largest, no longer fixes a phase."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """What fixes the length (and for linear also the phase) of right vectors.

    Attributes
    ----------
    kind : str
        "B", "2", "linear" or "bilinear".
    functional : ndarray or None
        This rank's rows of c for "linear".
    label : str
        The normalization as the user wrote it.

    """

    kind: str
    functional: Block | None = None
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.kind


def choose_normalization(pencil: Pencil, requested: Any, right: Block) -> Normalization:
    """Return the normalization asked for, or the default for these vectors.

    Collective. Default: "B" if B is Hermitian and no vector is B-neutral; else "bilinear"
    if A and B are (complex) symmetric; else "2".

    Raises
    ------
    InputError
        Unknown names, rows out of range, "B" where it cannot hold, a functional that
        vanishes on some vector.

    """
    requested = pencil.view.scale(requested)
    if requested is None:
        return Normalization(_default_kind(pencil, right))
    if isinstance(requested, Normalization):
        return _checked(pencil, requested, right)
    if isinstance(requested, tuple) and len(requested) == 2:
        return _linear(pencil, requested, right)
    if requested == "2":
        return Normalization("2")
    if requested == "B":
        return _checked_b(pencil, right)
    if requested == "bilinear":
        return _checked_bilinear(pencil, right)
    raise ArgumentError(
        'normalization must be "B", "2", "bilinear", ("component", k), ("linear", c) or None, '
        f"got {requested!r}; None chooses by the pencil"
    )


def _default_kind(pencil: Pencil, right: Block) -> str:
    if pencil.B_hermitian and not neutral_vectors(pencil, right).size:
        return "B"
    squares = np.abs(_relative_square(pencil, right.conj(), right))
    return "bilinear" if pencil.symmetric and not np.any(squares <= NEUTRAL) else "2"


def neutral_vectors(pencil: Pencil, right: Block) -> Block:
    """Return the columns with x^H B x close to zero.  (Collective.)"""
    return np.flatnonzero(np.abs(_relative_square(pencil, right, right)) <= NEUTRAL)


def _relative_square(pencil: Pencil, left: Block, right: Block) -> Block:
    product = pencil.multiply_b(right)
    squares = column_dots(pencil.comm, left, product)
    sizes = column_norms(pencil.comm, right) * column_norms(pencil.comm, product)
    return np.asarray(squares / np.maximum(sizes, TINY))


def _checked_b(pencil: Pencil, right: Block) -> Normalization:
    if not pencil.B_hermitian:
        raise ArgumentError(
            'normalization "B" needs a Hermitian B, got one that is not; use "2" or a component'
        )
    bad = neutral_vectors(pencil, right)
    if bad.size:
        raise ArgumentError(
            f'normalization "B" needs x^H B x != 0, got about 0 for pair {bad[0]}; '
            'use "2" or ("component", k)'
        )
    return Normalization("B")


def _checked(pencil: Pencil, norm: Normalization, right: Block) -> Normalization:
    """Return the normalization of earlier pairs if it can hold for these vectors, too."""
    if norm.kind == "B":
        return _checked_b(pencil, right)
    if norm.kind == "bilinear":
        return _checked_bilinear(pencil, right)
    if norm.kind == "linear":
        return _checked_linear(pencil, norm, right)
    return norm


def _checked_bilinear(pencil: Pencil, right: Block) -> Normalization:
    product = pencil.multiply_b(right)
    transposed = pencil.multiply_b(right.conj(), hermitian=True).conj()  # B^T x
    sizes = column_norms(pencil.comm, product)
    bad = np.flatnonzero(column_norms(pencil.comm, product - transposed) > 1e-10 * sizes)
    if bad.size:
        raise ArgumentError(
            f'normalization "bilinear" needs B = B^T, got B x != B^T x for pair {bad[0]}; use "2" '
            'or ("component", k)'
        )
    bad = np.flatnonzero(np.abs(_relative_square(pencil, right.conj(), right)) <= NEUTRAL)
    if bad.size:
        raise ArgumentError(
            f'normalization "bilinear" needs x^T B x != 0, got about 0 for pair {bad[0]}; '
            'use "2" or ("component", k)'
        )
    bad = np.flatnonzero(column_dots(pencil.comm, right.conj(), product).real < 0)
    if right.dtype.kind == "f" and bad.size:
        raise ArgumentError(
            f'normalization "bilinear" needs x^T B x > 0 for real vectors, got a negative one for '
            f'pair {bad[0]}; use "B", which makes it -1'
        )
    return Normalization("bilinear")


def own_rows(comm: MPI.Comm, n_local: int, vector: Any) -> Block:
    """Return the vector of a linear normalization, refused if it has other rows.  (Collective.)"""
    found = np.asarray(vector)
    wrong = None
    if found.shape != (n_local,):
        wrong = ArgumentError(
            f"the vector of a linear normalization must hold this rank's {n_local} rows, "
            f"got shape {found.shape}; cut it to pairs.rows"
        )
    raise_together(comm, wrong)
    return found


def _linear(pencil: Pencil, requested: tuple[Any, Any], right: Block) -> Normalization:
    name, argument = requested
    if name == "component":
        functional = _unit_vector(pencil, argument)
        label = f"component {argument}"
    elif name == "linear":
        functional = own_rows(pencil.comm, pencil.n_local, argument)
        label = "linear"
    else:
        raise ArgumentError(
            'a normalization pair must start with "component" or "linear", got '
            f'{name!r}; write for example ("component", 0)'
        )
    return _checked_linear(pencil, Normalization("linear", functional, label), right)


def _checked_linear(pencil: Pencil, norm: Normalization, right: Block) -> Normalization:
    assert norm.functional is not None
    c = norm.functional[:, None]
    sizes = np.abs(column_dots(pencil.comm, c, right))
    limit = NEUTRAL * column_norms(pencil.comm, right) * column_norms(pencil.comm, c)
    bad = np.flatnonzero(sizes <= limit)
    if bad.size:
        raise ArgumentError(
            f"normalization {norm.label!r} needs c^H x != 0, got {sizes[bad[0]]:.1e} for pair "
            f"{bad[0]}; choose a component where every vector is large"
        )
    return norm


def _unit_vector(pencil: Pencil, row: Any) -> Block:
    if not isinstance(row, int | np.integer) or not 0 <= row < pencil.n:
        raise ArgumentError(
            f"the component must be a row in 0 ... {pencil.n - 1}, got {row!r}; "
            "give a global row number"
        )
    functional = np.zeros(pencil.n_local)
    if pencil.rows[0] <= row < pencil.rows[1]:
        functional[row - pencil.rows[0]] = 1.0
    return functional


def normalized(
    pencil: Pencil, norm: Normalization, right: Block, *, phase: str | None, rows: Block | None
) -> tuple[Block, Block | None]:
    """Return right vectors scaled and turned, and the rows that fix their phase.

    Collective.

    Parameters
    ----------
    pencil
        Where B comes from.
    norm
        The scale.
    right
        Vectors of any length, (n_local, k). Not changed.
    phase
        "largest" or None (free).
    rows
        Phase rows to keep from an earlier solve; None: the largest entry's row.

    """
    product = pencil.multiply_b(right)
    if norm.kind == "linear":
        assert norm.functional is not None
        values = column_dots(pencil.comm, norm.functional[:, None], right)
        return np.asfortranarray(right / values), None
    if norm.kind == "bilinear":
        squares = column_dots(pencil.comm, right.conj(), product)
        right = right / np.sqrt(squares.astype(right.dtype))
    elif norm.kind == "B":
        right = right / np.sqrt(np.abs(column_dots(pencil.comm, right, product)))
    else:
        right = right / column_norms(pencil.comm, pencil.view.measured(right))
    if phase is None and norm.kind != "bilinear":
        return np.asfortranarray(right), None
    rows = phase_rows(pencil, right, rows)
    values = row_values(pencil, right, rows)
    turn = values.conj() / np.abs(values)
    if norm.kind == "bilinear":  # only the sign is free
        # x^T B x = 1 with x^H B x < 0 makes an entry imaginary: rounding must not choose the sign.
        part = np.where(np.abs(turn.real) > NEUTRAL, turn.real, -turn.imag)
        turn = np.where(part < 0, -1.0, 1.0)
    if right.dtype.kind == "f":
        turn = turn.real
    return np.asfortranarray(right * turn), rows


def phase_rows(pencil: Pencil, block: Block, kept: Block | None) -> Block:
    """Return the rows whose entries are made real: earlier ones where they are still large.

    Collective. A row kept from earlier pairs may be a node of a mode that has taken
    this place; its phase would be that of rounding.
    """
    largest = largest_rows(pencil, pencil.view.measured(block))
    if kept is None:
        return largest
    sizes = np.abs(row_values(pencil, block, kept))
    usable = sizes >= SMALLEST_KEPT * np.abs(row_values(pencil, block, largest))
    return np.where(usable, kept, largest)


def largest_rows(pencil: Pencil, block: Block) -> Block:
    """Return the lowest global row within 1e-6 of each column's largest entry.

    Collective. The margin makes the choice the same for every number of ranks.
    """
    size = np.abs(block)
    largest = largest_over_ranks(pencil.comm, size.max(axis=0, initial=0.0))
    candidate = size >= (1 - 1e-6) * largest
    rows = np.arange(*pencil.rows)[:, None]
    first = np.where(candidate, rows, pencil.n).min(axis=0, initial=pencil.n)
    return -largest_over_ranks(pencil.comm, -first)


def row_values(pencil: Pencil, block: Block, rows: Block) -> Block:
    """Return block[rows[j], j] for every column j, on every rank.  (Collective.)"""
    local = np.zeros(block.shape[1], dtype=block.dtype)
    mine = np.flatnonzero((rows >= pencil.rows[0]) & (rows < pencil.rows[1]))
    local[mine] = block[rows[mine] - pencil.rows[0], mine]
    return allreduce_same(pencil.comm, local)


def column_dots(comm: MPI.Comm, u: Block, v: Block) -> Block:
    """Return u_j^H v_j for every column j (u may have one column).  (Collective.)"""
    u = np.broadcast_to(u, v.shape)
    return allreduce_same(comm, np.einsum("ij,ij->j", u.conj(), v))

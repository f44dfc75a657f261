r"""Scale and phase of eigenvectors, and what they do to cotangents and tangents.

With t = x_bar^H x, the component of the cotangent along x is taken out so that the
bordered system is consistent (x_eff^H x = 0), and B receives an explicit term:

=============================  ======================================  ===================
normalization                  x_eff                                   added to left_b
=============================  ======================================  ===================
"B": x^H B x = q = +-1         x_bar - (Re t / q) B x + i kappa r      -(Re t / 2q) x
"2": x^H x = 1                 x_bar - Re(t) x + i kappa r             0
"linear": c^H x = 1            x_bar - conj(t / c^H x) c               0
"bilinear": x^T B x = 1        x_bar - conj(t) conj(B x)               -(conj(t)/2) conj(x)
=============================  ======================================  ===================

r is the unit vector of the row made real and positive, kappa = Im(t) / x_r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import (
    allreduce_same,
    column_norms,
    largest_over_ranks,
    raise_together,
)
from geneig_adjoint.errors import GaugeError, InputError
from geneig_adjoint.pencil import Pencil

if TYPE_CHECKING:
    from mpi4py import MPI

    from geneig_adjoint.eigenpairs import Eigenpairs

NEUTRAL = 1e-8
"""|x^H B x| below this fraction of ||x|| ||B x|| cannot be scaled to +-1."""
SMALLEST_KEPT = 0.1
"""An entry this small, relative to the largest, no longer fixes a phase."""
GAUGE_TOLERANCE = 1e-8


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

    Collective. Default: "B" if B is Hermitian and no vector is B-neutral, else "2".

    Raises
    ------
    InputError
        Unknown names, rows out of range, "B" where it cannot hold, a functional that
        vanishes on some vector.

    """
    if requested is None:
        able = pencil.B_hermitian and not neutral_vectors(pencil, right).size
        return Normalization("B" if able else "2")
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
    raise InputError(
        'normalization must be "B", "2", "bilinear", ("component", k), ("linear", c) or None, '
        f"got {requested!r}; None chooses by the pencil"
    )


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
        raise InputError(
            'normalization "B" needs a Hermitian B, got one that is not; use "2" or a component'
        )
    bad = neutral_vectors(pencil, right)
    if bad.size:
        raise InputError(
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
        raise InputError(
            f'normalization "bilinear" needs B = B^T, got B x != B^T x for pair {bad[0]}; use "2" '
            'or ("component", k)'
        )
    bad = np.flatnonzero(np.abs(_relative_square(pencil, right.conj(), right)) <= NEUTRAL)
    if bad.size:
        raise InputError(
            f'normalization "bilinear" needs x^T B x != 0, got about 0 for pair {bad[0]}; '
            'use "2" or ("component", k)'
        )
    return Normalization("bilinear")


def _linear(pencil: Pencil, requested: tuple[Any, Any], right: Block) -> Normalization:
    name, argument = requested
    if name == "component":
        functional = _unit_vector(pencil, argument)
        label = f"component {argument}"
    elif name == "linear":
        functional = np.asarray(argument)
        wrong = None
        if functional.shape != (pencil.n_local,):
            wrong = InputError(
                f"the vector of a linear normalization must hold this rank's {pencil.n_local} "
                f"rows, got shape {functional.shape}; cut it to pairs.rows"
            )
        raise_together(pencil.comm, wrong)
        label = "linear"
    else:
        raise InputError(
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
        raise InputError(
            f"normalization {norm.label!r} needs c^H x != 0, got {sizes[bad[0]]:.1e} for pair "
            f"{bad[0]}; choose a component where every vector is large"
        )
    return norm


def _unit_vector(pencil: Pencil, row: Any) -> Block:
    if not isinstance(row, int | np.integer) or not 0 <= row < pencil.n:
        raise InputError(
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
        # Real blocks belong to a positive B.
        right = right / np.sqrt(squares.astype(right.dtype))
    elif norm.kind == "B":
        right = right / np.sqrt(np.abs(column_dots(pencil.comm, right, product)))
    else:
        right = right / column_norms(pencil.comm, right)
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
    largest = largest_rows(pencil, block)
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


@dataclass(frozen=True)
class ProjectedCotangent:
    """Right-hand side of the adjoint system of one pair, and the explicit term in B.

    Attributes
    ----------
    x_eff : ndarray
        (n_local,) with x_eff^H x = 0.
    left_b : ndarray
        (n_local,) to be contracted with dB and x.

    """

    x_eff: Block
    left_b: Block


def project_cotangent(pairs: Eigenpairs, j: int, x_bar: Block) -> ProjectedCotangent:
    """Take the component along x out of a cotangent, as the normalization says.

    Collective.

    Raises
    ------
    GaugeError
        When the cotangent depends on a phase that is free.

    """
    comm, norm = pairs.comm, pairs.normalization
    x = pairs.right[:, j]
    t = complex(column_dots(comm, x_bar[:, None], x[:, None])[0])
    if norm.kind == "linear":
        c = norm.functional
        value = complex(column_dots(comm, c[:, None], x[:, None])[0])
        return ProjectedCotangent(x_bar - np.conj(t / value) * c, np.zeros_like(x))
    Bx = pairs.pencil.multiply_b(x[:, None])[:, 0]
    if norm.kind == "bilinear":
        conj_t = np.conj(t)
        return ProjectedCotangent(x_bar - conj_t * Bx.conj(), -0.5 * conj_t * x.conj())
    if norm.kind == "B":
        q = float(column_dots(comm, x[:, None], Bx[:, None])[0].real)
        x_eff, left_b = x_bar - t.real / q * Bx, -0.5 * t.real / q * x
    else:
        x_eff, left_b = x_bar - t.real * x, np.zeros_like(x)
    if x.dtype.kind == "f" and x_bar.dtype.kind == "f":
        return ProjectedCotangent(x_eff, left_b)
    return ProjectedCotangent(x_eff + _phase_term(pairs, j, x_bar, t), left_b)


def _phase_term(pairs: Eigenpairs, j: int, x_bar: Block, t: complex) -> Block:
    """Return i kappa r: the phase is held by making the entry of row r real."""
    term = np.zeros(x_bar.shape, dtype=complex)
    if pairs.phase_rows is None:
        sizes = column_norms(pairs.comm, np.column_stack([x_bar, pairs.right[:, j]]))
        defect = abs(t.imag) / max(float(sizes[0] * sizes[1]), TINY)
        if defect > GAUGE_TOLERANCE:
            raise GaugeError(
                "the objective must not depend on the phase of an eigenvector when phase=None, "
                f"got a gauge defect of {defect:.1e} for pair {j}; use phase='largest', or an "
                "objective of |x| or of products x^H D x",
                defect=defect,
            )
        return term
    row = int(pairs.phase_rows[j])
    value = row_values(pairs.pencil, pairs.right[:, j : j + 1], np.array([row]))[0].real
    first, last = pairs.rows
    if first <= row < last:
        term[row - first] = 1j * t.imag / value
    return term


def complete_tangent(pairs: Eigenpairs, j: int, x_dot: Block, dBx: Block) -> Block:
    """Add the multiple of x that keeps normalization and phase along a tangent.

    Collective.

    Parameters
    ----------
    pairs
        The pairs; pair j is meant.
    j
        Index of the pair.
    x_dot
        A solution of the bordered system, (n_local,), up to multiples of x.
    dBx
        (dB along the direction) @ x, (n_local,).

    """
    norm, comm = pairs.normalization, pairs.comm
    x = pairs.right[:, j]

    def dot(u: Block, v: Block) -> complex:
        return complex(column_dots(comm, u[:, None], v[:, None])[0])

    if norm.kind == "linear":
        alpha = -dot(norm.functional, x_dot) / dot(norm.functional, x)
        return _along(x_dot, alpha, x)
    Bx = pairs.pencil.multiply_b(x[:, None])[:, 0]
    if norm.kind == "bilinear":
        alpha = -dot(Bx.conj(), x_dot) - 0.5 * dot(x.conj(), dBx)
        return _along(x_dot, alpha, x)
    if norm.kind == "B":
        q = dot(x, Bx).real
        component = dot(Bx, x_dot) / q
        real = -component.real - 0.5 * dot(x, dBx).real / q
    else:
        component = dot(x, x_dot)
        real = -component.real
    imag = -component.imag
    if pairs.phase_rows is not None:
        row = pairs.phase_rows[j : j + 1]
        entries = row_values(pairs.pencil, np.column_stack([x_dot, x]), np.repeat(row, 2))
        imag = -float(entries[0].imag) / float(entries[1].real)
    return _along(x_dot, complex(real, imag), x)


def _along(x_dot: Block, alpha: complex, x: Block) -> Block:
    if x_dot.dtype.kind == "f" and x.dtype.kind == "f":
        return np.asarray(x_dot + alpha.real * x)
    return np.asarray(x_dot + alpha * x)

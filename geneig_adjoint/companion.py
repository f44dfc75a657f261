r"""Companion pencils of (lam^2 M + lam C + K) x = 0, as a table of their blocks.

With z = lam x / g, g a typical |lam|, both pencils A X = lam B X have X = [x; z]:

    "companion"            [  0  g nu I ] X = lam [ nu I   0  ] X        left vector [ . ; y]
                           [ -K   -g C  ]         [  0    g M ]

    "symmetric"            [ -K    0    ] X = lam [  C    g M ] X        left vector [y; . ]
                           [  0   g^2 M ]         [ g M    0  ]

In both Y^H B X = y^H (2 lam M + C) x, whatever g and nu are, which are those of Fan, Lin & Van
Dooren: g = sqrt(|K| / |M|), nu = (|K| + g |C|) / 2 g. The first is a strong linearisation of
every quadratic problem; the second keeps symmetry, and needs a regular M.

References
----------
.. [1] F. Tisseur, K. Meerbergen, "The quadratic eigenvalue problem", SIAM Review 43(2), 2001.
.. [2] H.-Y. Fan, W.-W. Lin, P. Van Dooren, "Normwise scaling of second order polynomial
   matrices", SIAM J. Matrix Anal. Appl. 26(1), 252-256, 2004.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.exchange import row_ranges

FORMS = ("companion", "symmetric")
UPPER, LOWER = 0, 1
SIDES = ("A", "B")


class Term(NamedTuple):
    """One block of A or B: factor times K, C, M or I (name "I") at (row, column)."""

    side: str
    row: int
    column: int
    name: str
    factor: float


@dataclass(frozen=True)
class Scaling:
    """g and nu of the module's formulas, positive."""

    g: float = 1.0
    nu: float = 1.0


def scaling_of(k: float, c: float, m: float) -> Scaling:
    """Return the scaling for the norms of K, C and M, m > 0.  (Not collective.)"""
    g = float(np.sqrt(k / m)) or c / m or 1.0
    return Scaling(g, (k + c * g) / (2 * g) or 1.0)


def terms(form: str, scaling: Scaling) -> tuple[Term, ...]:
    """Return the blocks of a pencil.  (Not collective.)"""
    g, nu = scaling.g, scaling.nu
    if form == "symmetric":
        return (
            Term("A", UPPER, UPPER, "K", -1.0),
            Term("A", LOWER, LOWER, "M", g * g),
            Term("B", UPPER, UPPER, "C", 1.0),
            Term("B", UPPER, LOWER, "M", g),
            Term("B", LOWER, UPPER, "M", g),
        )
    return (
        Term("A", UPPER, LOWER, "I", g * nu),
        Term("A", LOWER, UPPER, "K", -1.0),
        Term("A", LOWER, LOWER, "C", -g),
        Term("B", UPPER, UPPER, "I", nu),
        Term("B", LOWER, LOWER, "M", g),
    )


def place_of_left(form: str) -> int:
    """Return the half of a left vector that is y; that row of A X - lam B X is -Q(lam) x."""
    return UPPER if form == "symmetric" else LOWER


def halves(block: Block) -> tuple[Block, Block]:
    """Return the upper and the lower half of this rank's rows.  (Not collective.)"""
    n_local = len(block) // 2
    return block[:n_local], block[n_local:]


class Layout:
    """Rows of a companion pencil: every rank has the two halves of its rows.  (Collective.)

    Attributes
    ----------
    n_local, n : int
        Rows of the quadratic problem.

    """

    def __init__(self, mat: PETSc.Mat) -> None:
        self.comm = mat.comm.tompi4py()
        rows = mat.getOwnershipRange()
        self.rows: tuple[int, int] = (int(rows[0]), int(rows[1]))
        self.bounds = row_ranges(self.comm, self.rows)
        self.n_local, self.n = self.rows[1] - self.rows[0], int(self.bounds[-1])

    def doubled(self, rows: Block, half: int) -> Block:
        """Return the rows of the pencil that hold a half of global rows.  (Not collective.)"""
        owner = np.searchsorted(self.bounds, rows, side="right") - 1
        return np.asarray(rows + self.bounds[owner + half])

    def single(self, rows: Block) -> Block:
        """Return the rows whose upper halves these rows of the pencil are.  (Not collective.)"""
        owner = np.searchsorted(2 * self.bounds, rows, side="right") - 1
        return np.asarray(rows - self.bounds[owner])


def companion_matrix(
    layout: Layout,
    blocks: Sequence[Term],
    given: Mapping[str, PETSc.Mat],
    out: PETSc.Mat | None = None,
) -> PETSc.Mat:
    """Return the matrix with these blocks, or fill ``out``, made of the same pattern.

    Collective. Every diagonal entry is in the pattern: shifts and factors need it.
    """
    n_local, n = layout.n_local, layout.n
    own = np.arange(*layout.rows)
    rows = [np.arange(2 * n_local)]
    columns = [np.concatenate([layout.doubled(own, half) for half in (UPPER, LOWER)])]
    values = [np.zeros(2 * n_local, dtype=PETSc.ScalarType)]
    for term in blocks:
        if term.name == "I":
            local, column, entries = np.arange(n_local), own, np.ones(n_local)
        elif term.name in given:
            offsets, column, entries = given[term.name].getValuesCSR()
            local = np.repeat(np.arange(n_local), np.diff(offsets))
        else:
            continue
        rows.append(local + term.row * n_local)
        columns.append(layout.doubled(column, term.column))
        values.append((term.factor * entries).astype(PETSc.ScalarType))
    entries, places = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    # Zeros that are stored stay stored: the pattern must not depend on the values.
    csr = scipy.sparse.coo_array((entries, places), shape=(2 * n_local, 2 * n)).tocsr()
    arrays = (csr.indptr.astype(PETSc.IntType), csr.indices.astype(PETSc.IntType), csr.data)
    if out is None:
        out = PETSc.Mat().createAIJ(((2 * n_local, 2 * n),) * 2, csr=arrays, comm=layout.comm)
    else:
        out.zeroEntries()
        out.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
        out.setValuesCSR(*arrays)
    out.assemble()
    return out

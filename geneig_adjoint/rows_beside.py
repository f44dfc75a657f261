"""Counting modes, and finding missed ones, beside rows that nothing is coupled to.

Rows of supports that stay in the matrices have eigenpairs of their own, thousands with one
value perhaps, which nobody wants to be searched for; but they are known without a search.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from slepc4py import SLEPc

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.completeness import Counter, Pool, completed, window_end
from geneig_adjoint.constraints import diagonals, rows_alone
from geneig_adjoint.eigenpairs import Completeness
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.wanted import Wanted

MOST_ROWS = 100
"""Rows whose vectors are worth a search beside them."""
WHOLE = 1e-6
"""How far from 0 or 1 the share of a vector on the rows may be."""


def completed_beside_rows(
    eps: SLEPc.EPS, pencil: Pencil, wanted: Wanted, pool: Pool, errors: Block
) -> tuple[Pool, Completeness]:
    """Return converged pairs with the modes that were missed, and what is known about the count.

    Collective. Few rows of a definite pencil are deflated by their unit vectors; beside many the
    modes are only counted, where they can be. Arguments as in `completed`; the record is of
    modes.
    """
    cut = window_end(pencil, wanted, pool[0], errors)
    a, b = diagonals(pencil)
    own = np.flatnonzero(rows_alone(pencil) & (b != 0))
    values = (a[own] / np.where(b[own] == 0, 1.0, b[own])).astype(complex)
    inside = wanted.keys(values) <= cut
    own, values = own[inside], values[inside]
    sizes = pencil.comm.allgather(len(own))
    shares = _shares(pencil, rows_alone(pencil), pool[1])
    mixed = bool(((shares > WHOLE) & (shares < 1 - WHOLE)).any())
    plain = pencil.definite and not pencil.definite_by_a
    if sum(sizes) > MOST_ROWS or mixed or not plain:
        return pool, _counted(eps, pencil, wanted, (pool[0], shares), (cut, sum(sizes)))
    units = np.zeros((pencil.n_local, sum(sizes)), dtype=pool[1].dtype)
    units[own, sum(sizes[: pencil.comm.rank]) + np.arange(len(own))] = 1.0
    everything = np.concatenate(pencil.comm.allgather(values))
    modes = np.flatnonzero(shares < 0.5)
    known = (np.concatenate([pool[0][modes], everything]), np.hstack([pool[1][:, modes], units]))
    bounds = np.concatenate([errors[modes], np.zeros(sum(sizes))])
    more = wanted.count + sum(sizes) - (len(shares) - len(modes))
    wider = replace(wanted, count=min(pencil.n, max(more, wanted.count)))
    searched, record = completed(eps, pencil, wider, known, bounds)
    record = replace(
        record,
        found=(record.found or 0) - sum(sizes),
        expected=None if record.expected is None else record.expected - sum(sizes),
    )
    new = slice(len(known[0]), None)
    if not len(searched[0][new]):
        return pool, record
    values = np.concatenate([pool[0], searched[0][new]])
    return (values, np.asfortranarray(np.hstack([pool[1], searched[1][:, new]]))), record


def _shares(pencil: Pencil, alone: Block, block: Block) -> Block:
    """Return how much of each vector lives on some rows, in the product of B."""
    product = pencil.multiply_b(block)
    on_rows = np.where(alone[:, None], block, 0.0)
    squares = np.maximum(np.abs(column_dots(pencil.comm, block, product)), TINY)
    return np.asarray(np.abs(column_dots(pencil.comm, on_rows, product)) / squares)


def _counted(
    eps: SLEPc.EPS,
    pencil: Pencil,
    wanted: Wanted,
    found: tuple[Block, Block],
    window: tuple[float, int],
) -> Completeness:
    """Return the count of modes; found: values and shares, window: its end and its rows."""
    cut, rows = window
    total = Counter(eps, pencil, wanted).inside(cut)
    if total is None:
        return Completeness("off")
    inside = wanted.keys(found[0]) <= cut
    # Of vectors that mix modes and rows of one value, the shares add up to whole numbers.
    modes = np.count_nonzero(inside) - round(float(found[1][inside].sum()))
    return Completeness("inertia", modes, total - rows, wanted.window(cut))

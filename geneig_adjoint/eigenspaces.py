"""Orthonormal bases, and eigenvectors of repeated values that can be told apart."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.matching import linked
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms, inner

DEPENDENT = 1e-10
"""Relative length below which what is new in a column is rounding."""
COPIES = 100
"""Values are equal up to so many times their errors."""
EIGENVECTOR = 1e-8
"""Backward error of an eigenvector; rounding between two copies of one has a larger one."""
NEAR = 1e-8
"""Relative distance beyond which values are not equal, whatever their errors."""


def orthonormal(comm: MPI.Comm, block: Block) -> Block:
    """Return an orthonormal basis of the columns, dependent ones left out.

    Collective. block: this rank's rows, (n_local, k). Eigenvectors of non-normal matrices are
    nearly dependent and all count, so that columns are taken one by one: what a Gram matrix
    tells ends at the root of rounding.
    """
    basis = np.zeros_like(block, order="F")
    rank = 0
    for column in (block / np.maximum(column_norms(comm, block), TINY)).T:
        rest, size = column[:, None], 1.0
        for _ in range(2):  # the second pass restores what rounding took from the first
            rest = rest - basis[:, :rank] @ inner(comm, basis[:, :rank], rest)
            rest_size = float(column_norms(comm, rest)[0])
            size, rest = size * rest_size, rest / max(rest_size, TINY)
        if size > DEPENDENT:
            basis[:, [rank]] = rest
            rank += 1
    return np.asfortranarray(basis[:, :rank])


def disentangled(pencil: Pencil, values: Block, vectors: Block) -> tuple[Block, Block, Block]:
    """Return pairs in which the vectors of equal values are orthonormal.

    Collective. Eigenvectors of a repeated value of a nonsymmetric pencil come out in any
    directions, nearly parallel ones too: these would be taken for an exceptional point, and
    their difference, which is rounding, for one more copy. Directions of the span that are no
    eigenvectors are left out.

    Returns
    -------
    tuple of ndarray
        Values, vectors, and the index of the pair each comes from (of one of them for a
        repeated value).

    """
    everything = np.arange(len(values))
    size = np.abs(values)
    distance = np.abs(values[:, None] - values[None, :])
    near = distance <= NEAR * np.minimum(size[:, None], size[None, :])
    if np.count_nonzero(near) == len(values):
        return values, vectors, everything
    residuals = _residuals(pencil, values, vectors) / np.maximum(
        column_norms(pencil.comm, pencil.multiply_b(vectors)), TINY
    )
    close = COPIES * (EPS * size + residuals)
    near &= distance <= np.minimum(close[:, None], close[None, :])
    parts = []
    for members in map(np.array, linked(near)):
        part = (values[members], vectors[:, members], members)
        if len(members) > 1:
            basis = _eigenspace(pencil, part[0].mean(), part[1])
            g = basis.shape[1]
            part = (np.full(g, part[0].mean()), basis, members[:g])
        parts.append(part)
    found = [np.concatenate(items, axis=-1) for items in zip(*parts, strict=True)]
    return found[0], np.asfortranarray(found[1]), found[2]


def real_where_equal(pencil: Pencil, values: Block, vectors: Block) -> tuple[Block, Block]:
    """Return pairs of a real pencil with real vectors where values are real up to their errors.

    Collective. Copies of a real value may come out as conjugates that rounding has parted. Both
    halves of such a vector are eigenvectors: where its conjugate is left out, one of them would be
    lost, and a search in the complement of the halves would not find it.

    Parameters
    ----------
    pencil
        A and B, real.
    values, vectors
        (k,) and this rank's rows, (n_local, k), complex.

    Returns
    -------
    tuple of ndarray
        Values and vectors, up to two in place of one.

    """
    size = np.abs(values)
    errors = _residuals(pencil, values, vectors) / np.maximum(
        column_norms(pencil.comm, pencil.multiply_b(vectors)), TINY
    )
    split = np.abs(values.imag) <= np.minimum(NEAR * size, COPIES * (EPS * size + errors))
    halves = np.hstack([vectors[:, split].real, vectors[:, split].imag])
    lengths = np.tile(column_norms(pencil.comm, vectors[:, split]), 2)
    whole = column_norms(pencil.comm, halves) > DEPENDENT * lengths
    return (
        np.concatenate([values[~split], np.tile(values[split].real, 2)[whole]]),
        np.asfortranarray(np.hstack([vectors[:, ~split], halves[:, whole]])),
    )


def _eigenspace(pencil: Pencil, value: complex, vectors: Block) -> Block:
    """Return an orthonormal basis of what is eigenspace in the span of some vectors."""
    comm = pencil.comm
    basis = orthonormal(comm, vectors)
    defect = _defect(pencil, np.full(basis.shape[1], value), basis)
    squares, turns = comm.bcast(np.linalg.eigh(inner(comm, defect, defect)), root=0)
    scale = pencil.norms[0] + abs(value) * pencil.norms[1]
    good = np.sqrt(np.maximum(squares, 0.0)) <= EIGENVECTOR * scale
    good[0] = True
    return np.asarray(basis @ turns[:, good])


def _defect(pencil: Pencil, values: Block, vectors: Block) -> Block:
    shifts = values.real if vectors.dtype.kind == "f" else values
    return np.asarray(pencil.multiply_a(vectors) - shifts * pencil.multiply_b(vectors))


def _residuals(pencil: Pencil, values: Block, vectors: Block) -> Block:
    return np.asarray(column_norms(pencil.comm, _defect(pencil, values, vectors)))

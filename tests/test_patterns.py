"""Sums of entries into sparse matrices, against dense sums."""

import numpy as np
import pytest
from builders import REAL, dense
from petsc4py import PETSc

from geneig_adjoint.assembly import Pattern
from geneig_adjoint.exchange import row_ranges

N, COUNT = 9, 60
BATCHES = [slice(0, 1), slice(1, 7), slice(7, 7), slice(7, 40), slice(40, COUNT)]


def contributions(order):
    """Return rows, columns, some of them dropped (-1), and complex values (COUNT, 2, 2)."""
    random = np.random.default_rng(3)
    first = np.sort(random.integers(-1, N, (COUNT, 2)), axis=0)
    first[0], first[5] = -1, (2, 3)  # a batch of dropped entries only
    first = first[:: -1 if order == "backwards" else 1]
    rows, columns = np.broadcast_arrays(first[:, :, None], first[:, None, ::-1])
    return rows, columns, random.normal(size=rows.shape) + 1j * random.normal(size=rows.shape)


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_batches_are_summed_where_they_belong(comm, order):
    rows, columns, values = contributions(order)
    values = values.real if REAL else values
    mine = np.arange(comm.rank, COUNT, comm.size)
    local = N // comm.size + (comm.rank < N % comm.size)
    last = int(np.cumsum(comm.allgather(local))[comm.rank])
    pattern = Pattern(
        comm, row_ranges(comm, (last - local, last)), (local, N), [(rows[mine], columns[mine])]
    )
    expected = np.zeros((N, N), dtype=values.dtype)
    kept = (rows >= 0) & (columns >= 0)
    np.add.at(expected, (rows[kept], columns[kept]), values[kept])
    mat = None
    for factor in (1.0, -2.0):  # made, then filled again
        sums = pattern.sums(PETSc.ScalarType)
        for batch in BATCHES:
            part = slice(*(np.searchsorted(mine, [batch.start, batch.stop])))
            pattern.collect(sums, 0, part, factor * values[mine][part])
        mat = pattern.matrix(sums, mat)
        np.testing.assert_allclose(dense(mat), factor * expected, atol=1e-14 * COUNT)
    mat.destroy()

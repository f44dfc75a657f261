"""Rows of other ranks at the dofs of elements."""

import numpy as np
import pytest
from builders import chain, chain_dofs, chain_parameters

import geneig_adjoint as ga

N = 6
DOFS = chain_dofs(N)
P = chain_parameters(N)


def test_ghosts_gather_and_add(comm):
    with chain(N, comm).assemble(P) as pencil:
        ghosts = ga.Ghosts(pencil, DOFS)
        values = np.arange(2.0 * N).reshape(N, 2)
        gathered = ghosts.gather(values)
        assert gathered.shape == (7, 2, 2)
        assert np.array_equal(gathered[DOFS >= 0], values[DOFS[DOFS >= 0]])
        assert not gathered[DOFS < 0].any()
        total = np.ones((N, 2))
        ghosts.add(np.ones((7, 2, 2)), total)
        assert np.array_equal(total, np.full((N, 2), 3.0))  # each dof in two elements


@pytest.mark.parametrize(
    "dofs", [np.full((2, 3), -1), np.zeros((0, 4), dtype=int)], ids=["-1", "0"]
)
def test_ghosts_without_dofs(comm, dofs):
    with chain(N, comm).assemble(P) as pencil:
        ghosts = ga.Ghosts(pencil, dofs)
        gathered = ghosts.gather(np.ones((N, 1)))
        assert gathered.shape == (*dofs.shape, 1)
        assert not gathered.any()
        total = np.zeros((N, 1))
        ghosts.add(np.ones((*dofs.shape, 1)), total)
        assert not total.any()


def test_ghosts_out_of_range(comm):
    pencil = chain(N, comm).assemble(P)
    with pytest.raises(ga.InputError, match=r"dofs must lie in -1 ... 5, got 6 at \(1,\)"):
        ga.Ghosts(pencil, np.array([0, 6]))

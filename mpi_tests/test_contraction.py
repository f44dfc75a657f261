"""Contractions over ranks: what is left out is decided by all of them, in one message."""

import numpy as np
import pytest
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import contraction
from geneig_adjoint.exchange import Exchange

N, COUNT = 17, 24
P = np.linspace(0.5, 1.5, COUNT)
RTOL = 1e-13
"""Sums of some hundred products of numbers of order 1, in another order."""


def whole():
    """Return dofs, bases and vectors, the same on every rank."""
    rng = np.random.default_rng(1)
    dofs = rng.integers(-1, N, size=(COUNT, 3))
    dofs[:N, 0] = np.arange(N)
    return dofs, rng.normal(size=(2, 3, 3)), rng.normal(size=(3, N, 4))


def model_of(comm):
    """All elements on the last rank, but for one: rank 0 has none if there are others."""
    dofs, bases, _ = whole()
    owner = np.full(COUNT, comm.size - 1)
    owner[0] = comm.size // 2
    mine = np.flatnonzero(owner == comm.rank)
    blocks = [
        ga.ElementBlock(matrix, dofs[mine], ga.ScaledKernel(base, ga.PowerLaw(3.0)), {"q": mine})
        for matrix, base in zip("AB", bases, strict=True)
    ]
    return ga.ElementModel(N, blocks, comm=comm)


def expected_gradient(sides):
    dofs, bases, _ = whole()
    left_a, left_b, right = (np.vstack([side, 0 * side[:1]])[dofs] for side in sides)
    return 3 * P**2 * sum(
        np.einsum("eaj,ab,ebj->e", left.conj(), base, right).real
        for left, base in ((left_a, bases[0]), (left_b, bases[1]))
    )  # fmt: skip


def contracted(comm, sides, p=P):
    with model_of(comm) as model:
        rows = slice(*model.rows)
        return model.contract({"q": p}, *(side[rows] for side in sides))["q"]


CASES = {
    "plain": lambda a, b, x: (a, b, x),
    "repeated": lambda a, b, x: (a, b, x[:, [0, 1, 0, 1]]),
    "repeated on some ranks": lambda a, b, x: (a, b, np.c_[x[:, :3], x[:, 0] + last()]),
    "zero on some ranks": lambda a, b, x: (a * last()[:, None], b * first()[:, None], x),
    "imaginary on one rank": lambda a, b, x: (a, b * (1 + 1j * last()[:, None]), x * 1j),
    "zero": lambda a, b, x: (0 * a, b, x),
}


def first():
    return (np.arange(N) == 0).astype(float)


def last():
    return (np.arange(N) == N - 1).astype(float)


@pytest.mark.parametrize("case", CASES)
def test_contractions_are_sums_over_all_ranks(comm, case):
    sides = CASES[case](*whole()[2])
    found, expected = contracted(comm, sides), expected_gradient(sides)
    np.testing.assert_allclose(found, expected, rtol=0, atol=RTOL * np.abs(expected).max())
    assert len({bits.tobytes() for bits in comm.allgather(found)}) == 1


def test_distributed_parameters(comm):
    sides, q = whole()[2], PETSc.Vec().createMPI(COUNT, comm=comm)
    rows = slice(*q.getOwnershipRange())
    q.array[:] = P[rows]
    found, expected = contracted(comm, sides, q), expected_gradient(sides)
    np.testing.assert_allclose(
        found.array_r.real, expected[rows], rtol=0, atol=RTOL * np.abs(expected).max()
    )
    for vector in (q, found):
        vector.destroy()


def test_tangents_reach_owners_without_elements(comm):
    dofs, bases, (_, _, x) = whole()
    with model_of(comm) as model:
        rows = slice(*model.rows)
        found = model.tangent({"q": P}, {"q": np.ones(COUNT)}, x[rows])
    for base, block in zip(bases, found, strict=True):
        expected = np.zeros((N + 1, 4))
        at = np.vstack([x, 0 * x[:1]])[dofs]
        np.add.at(expected, dofs, np.einsum("e,ab,ebj->eaj", 3 * P**2, base, at))
        np.testing.assert_allclose(block, expected[:N][rows], rtol=0, atol=1e-12)


def test_all_vectors_travel_together(comm, monkeypatch):
    calls = []

    def forward(self, owned, like, plain=Exchange.forward):
        calls.append(like.shape[1])
        return plain(self, owned, like)

    monkeypatch.setattr(Exchange, "forward", forward)
    contracted(comm, whole()[2])
    assert calls == [12]


def test_all_ranks_find_the_same_sides(comm):
    x = np.ones((2, 2)) + (comm.rank == comm.size - 1) * np.arange(2)
    found = contraction.sides(comm, x, 0 * x, x + 0j)
    assert found.right.shape == (2, 2)
    assert set(found.left) == {"A"}
    assert found.right.dtype == float

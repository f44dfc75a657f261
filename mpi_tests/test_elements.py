"""Elements wherever they are, rows as the FE code has them: always the matrices of one rank."""

import numpy as np
import pytest
from builders import (
    C0,
    K0,
    chain,
    chain_dofs,
    chain_parameters,
    dense,
    distributed,
    shares,
    whole,
)
from mpi4py import MPI
from petsc4py import PETSc

import geneig_adjoint as ga

BASE = K0 + C0
N = 11
P = chain_parameters(N)
OBJECTIVE = ga.objectives.QuadraticForm
EVERY = np.arange(N + 1)


def uneven(comm, n):
    """Return rows of an FE code: all but a few on the last rank, none in between."""
    counts = [0] * comm.size
    counts[-1] = n
    counts[0] -= (first := min(1, comm.size - 1)) * -2
    counts[-1] -= first * 2
    return counts[comm.rank]


DISTRIBUTIONS = {
    "turns": lambda comm: shares(N + 1, comm),
    "random": lambda comm: shares(N + 1, comm, seed=1),
    "permuted": lambda comm: np.random.default_rng(2).permutation(shares(N + 1, comm, seed=3)),
    "all on rank 0": lambda comm: EVERY[: (N + 1) * (comm.rank == 0)],
    "all on the last": lambda comm: EVERY[: (N + 1) * (comm.rank == comm.size - 1)],
    "reversed": lambda comm: EVERY[::-1][comm.rank :: comm.size],
}


def everything(model, p):
    """Return what a model computes, as arrays of all rows on every rank."""
    found = {}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, target=0.3) as pairs:
        found["A"], found["B"] = dense(pencil.A), dense(pencil.B)
        found["values"] = pairs.values
        weight = np.arange(*pairs.rows) + 1.0
        gradient = ga.gradient(model, p, pairs, OBJECTIVE(weight, (0, 1)))
        found |= {f"gradient {name}": gradient[name] for name in gradient}
        tangent = ga.jvp(model, p, pairs, p)
        found["x_dot"] = whole(pairs, tangent.right)
        products = ga.derivative_products(model, p, weight, "k")
        found["dA x"] = dense(products[0])
        for mat in products:
            mat.destroy()
    return found


def serial(n, base=BASE):
    return everything(chain(n, MPI.COMM_SELF, base=base), chain_parameters(n))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # adjoint and tangent systems are solved to 1e-10, condition numbers are below 100
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(found[name] - value).max() <= 1e-8 * scale, name


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_elements_may_be_anywhere(comm, name):
    model = chain(N, comm, own=DISTRIBUTIONS[name](comm), base=BASE)
    assert_same(everything(model, P), serial(N))


@pytest.mark.parametrize("name", ["turns", "all on rank 0"])
def test_rows_of_the_fe_code(comm, name):
    n_local = uneven(comm, N)
    model = chain(N, comm, own=DISTRIBUTIONS[name](comm), base=BASE, n_local=n_local)
    with model.assemble(P) as pencil:
        assert pencil.n_local == n_local
    assert_same(everything(model, P), serial(N))


@pytest.mark.parametrize("base", [K0, BASE], ids=["symmetric", "nonsymmetric"])
@pytest.mark.parametrize("n", [2, 3])
def test_more_ranks_than_rows(comm, n, base):
    model = chain(n, comm, own=shares(n + 1, comm), base=base)
    assert_same(everything(model, chain_parameters(n)), serial(n, base))


def test_matrices_are_bitwise_those_of_any_distribution(comm):
    # Two elements meet in an entry: a + b = b + a, so not even rounding may differ.
    expected = dense(chain(N, MPI.COMM_SELF, base=BASE).assemble(P).A)
    for own in DISTRIBUTIONS.values():
        model = chain(N, comm, own=own(comm), base=BASE)
        with model.assemble(P) as pencil:
            assert np.array_equal(dense(pencil.A), expected)


def test_rank_without_elements_of_one_kind(comm):
    mine = EVERY if comm.rank == 0 else EVERY[:0]
    other = EVERY if comm.rank == comm.size - 1 else EVERY[:0]
    dofs = chain_dofs(N)
    model = ga.ElementModel(
        N,
        [
            ga.ElementBlock(
                "A", dofs[mine], ga.ScaledKernel(BASE, ga.PowerLaw(2.0, 0.01)), {"k": mine}
            ),
            ga.ElementBlock(
                "B", dofs[other], ga.ScaledKernel(np.array([[2, 1], [1, 2]]) / 6), {"m": other}
            ),
        ],
        comm=comm,
    )
    assert_same(everything(model, P), serial(N))


def test_elements_of_one_rank_are_complex(comm):
    factors = [1.0] * (comm.size - 1) + [1.0 + 2.0j]
    own = shares(N + 1, comm)
    kernel = ga.ScaledKernel(factors[comm.rank] * BASE)
    block = ga.ElementBlock("A", chain_dofs(N)[own], kernel, {"k": own})
    model, p = ga.ElementModel(N, [block], comm=comm), {"k": P["k"]}
    right = np.arange(*model.rows)[:, None] + 1.0
    found = model.tangent(p, p, right)[0]
    assert found.dtype == complex
    # rounding of a few real in place of complex products
    np.testing.assert_allclose(found, model.tangent(p, p, right + 0j)[0], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("names", [("k",), ("k", "m")])
def test_distributed_parameters(comm, names):
    model = chain(N, comm, own=DISTRIBUTIONS["random"](comm), base=BASE)
    p = {**P, **{name: distributed(P[name], comm) for name in names}}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, target=0.3) as pairs:
        weight = np.arange(*pairs.rows) + 1.0
        gradient = ga.gradient(model, p, pairs, OBJECTIVE(weight, (0, 1)))
    expected = serial(N)
    for name in names:
        assert isinstance(gradient[name], PETSc.Vec)
        assert gradient[name].getSizes() == p[name].getSizes()
        gradient[name] = np.concatenate(comm.allgather(gradient[name].array_r.real))
    for name in P:
        assert np.allclose(gradient[name], expected[f"gradient {name}"], rtol=1e-8, atol=1e-9)


def test_ghosts_fetch_and_add_rows_of_other_ranks(comm):
    rng = np.random.default_rng(comm.rank)
    dofs = rng.integers(-1, N, size=(4 + comm.rank, 3))
    with chain(N, comm).assemble(P) as pencil:
        ghosts = ga.Ghosts(pencil, dofs)
        table = np.stack([np.arange(1.0, N + 1), 1j * np.arange(N)], axis=1)
        padded = np.vstack([table, np.zeros((1, 2))])  # -1 is the last row
        gathered = ghosts.gather(table[slice(*pencil.rows)])
        assert np.array_equal(gathered, padded[dofs])
        values = rng.normal(size=(*dofs.shape, 2))
        total = np.ones((pencil.n_local, 2))
        ghosts.add(values, total)
        expected = np.ones((N + 1, 2))
        for other_dofs, other in comm.allgather((dofs, values)):
            np.add.at(expected, other_dofs, other)
        # the same numbers in another order
        assert np.allclose(total, expected[slice(*pencil.rows)], rtol=1e-13, atol=1e-13)


def test_ghosts_of_a_rank_that_needs_none(comm):
    dofs = np.zeros((0, 2), dtype=int) if comm.rank else np.array([[0, N - 1], [-1, 1]])
    with chain(N, comm).assemble(P) as pencil:
        ghosts = ga.Ghosts(pencil, dofs)
        assert ghosts.gather(np.ones((pencil.n_local, 1))).shape == (*dofs.shape, 1)
        total = np.zeros((pencil.n_local, 1))
        ghosts.add(np.ones((*dofs.shape, 1)), total)
        assert comm.allreduce(total.sum()) == 3.0

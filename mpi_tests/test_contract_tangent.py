"""`contract_tangent` on several ranks: the numbers of one rank, errors on all of them."""

import numpy as np
import pytest
from builders import REAL, chain_dofs, distributed, shares
from mpi4py import MPI
from pencils import petsc_matrix
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint.kernels import differenced_vjp

N = 11
RNG = np.random.default_rng(8)
P = {
    "area": RNG.uniform(0.5, 1.0, 2 * (N + 1)),
    "length": RNG.uniform(1.0, 2.0, N + 1),
    "rho": RNG.uniform(0.2, 1.0, N + 1),
}
U, V = ({name: RNG.normal(size=value.size) for name, value in P.items()} for _ in range(2))
K0 = np.array([[1.0, -0.7], [-1.2, 1.5]]) + (0.0 if REAL else 0.3j)
BLOCKS = RNG.normal(size=(3, N, 2)) + 1j * RNG.normal(size=(3, N, 2))


def truss(area, length):
    """Two columns of one parameter, one of another."""
    return (area[:, 0] ** 2 * np.exp(area[:, 1]) / length)[:, None, None] * K0.real


class Own:
    """A kernel of a user: (1 + q)^4 K0, with differences for second derivatives."""

    def matrices(self, values, rows):
        return (1 + values["rho"])[:, None, None] ** 4 * K0.real

    def derivative(self, values, dots, rows):
        return (4 * (1 + values["rho"]) ** 3 * dots["rho"])[:, None, None] * K0.real

    def vjp(self, values, left, right, rows):
        energy = np.einsum("edk,df,efk->e", left.conj(), K0.real, right).real
        return {"rho": 4 * (1 + values["rho"]) ** 3 * energy}

    def vjp_tangent(self, values, dots, left, right, rows):
        return differenced_vjp(self, values, dots, (left, right), rows)


def ramp(rho):
    return rho / (1 + 8 * (1 - rho))


def model_on(comm, last=ramp):
    mine = shares(N + 1, comm, seed=1)
    dofs, rho = chain_dofs(N)[mine], {"rho": mine}
    columns = np.stack([mine, mine + N + 1], axis=1)
    return ga.ElementModel(
        N,
        [
            ga.ElementBlock("A", dofs, ga.NumpyKernel(truss), {"area": columns, "length": mine}),
            ga.ElementBlock("A", dofs, ga.ScaledKernel(K0, ga.PowerLaw(3.0, 1e-3)), rho),
            ga.ElementBlock("B", dofs, Own(), rho),
            ga.ElementBlock("B", dofs, ga.ScaledKernel(K0, last), {"rho": N - mine}),
        ],
        comm=comm,
    )


def tangent_of(model, p, p_dot, blocks=BLOCKS):
    rows = slice(*model.rows)
    return model.contract_tangent(p, p_dot, *(np.ascontiguousarray(b[rows]) for b in blocks))


def one_rank(p_dot, blocks=BLOCKS):
    return tangent_of(model_on(MPI.COMM_SELF), P, p_dot, blocks)


@pytest.mark.parametrize("blocks", [BLOCKS, BLOCKS.real], ids=["complex", "real"])
def test_ranks_change_nothing(comm, blocks):
    found, expected = tangent_of(model_on(comm), P, U, blocks), one_rank(U, blocks)
    for name, value in expected.items():
        # The same elements, summed in another order
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-13 * np.abs(value).max())
        assert len(set(comm.allgather(found[name].tobytes()))) == 1


def test_it_is_the_derivative_of_contract(comm):
    model, h, weights = model_on(comm), 2e-3, {1: 45, 2: -9, 3: 1}
    blocks = [np.ascontiguousarray(block[slice(*model.rows)]) for block in BLOCKS]
    found = model.contract_tangent(P, U, *blocks)
    at = {
        k: model.contract({name: P[name] + k * h * U[name] for name in P}, *blocks)
        for k in (-3, -2, -1, 1, 2, 3)
    }
    for name in P:
        expected = sum(w * (at[k][name] - at[-k][name]) for k, w in weights.items()) / (60 * h)
        # 36 (h / distance of the pole of the law)^6, and eps / h
        np.testing.assert_allclose(
            found[name], expected, rtol=0, atol=1e-8 * np.abs(expected).max()
        )


def test_it_is_symmetric(comm):
    model = model_on(comm)
    one, two = (
        sum(float(tangent_of(model, P, u)[name] @ v[name]) for name in P)
        for u, v in ((U, V), (V, U))
    )
    assert one == pytest.approx(two, rel=1e-10)  # differences of eighth order: 1e-12


@pytest.mark.parametrize("names", [("rho",), ("area", "length", "rho")], ids=len)
def test_distributed_parameters(comm, names):
    p, p_dot = ({**q, **{n: distributed(q[n], comm) for n in names}} for q in (P, U))
    found, expected = tangent_of(model_on(comm), p, p_dot), one_rank(U)
    for name in names:
        assert isinstance(found[name], PETSc.Vec)
        assert found[name].getSizes() == p[name].getSizes()
        assert found[name].handle != p[name].handle
        found[name] = np.concatenate(comm.allgather(found[name].array_r.real))
    for name, value in expected.items():
        # The same elements, summed in another order
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-13 * np.abs(value).max())


@pytest.mark.parametrize("kind", ["replicated", "distributed"])
def test_matrices_are_affine(comm, kind):
    mats = [petsc_matrix(comm, scale * np.diag(np.arange(1.0, N + 1))) for scale in (1, 2)]
    kinds = {"replicated": np.array, "distributed": lambda q: distributed(q, comm)}
    p, p_dot = ({"q": kinds[kind](q)} for q in ([0.5, 1.0], [1.0, -2.0]))
    model = ga.MatrixModel(mats[0], None, {"q": [(mats[1], None), (mats[0], None)]})
    first, last = mats[0].getOwnershipRange()
    found = model.contract_tangent(p, p_dot, *BLOCKS[:, first:last])["q"]
    assert type(found) is type(p["q"])
    np.testing.assert_array_equal(getattr(found, "array", found), 0.0)


def test_a_law_without_curvature_on_one_rank_is_an_error_on_all(comm):
    # Only the last element has this value, and it lives on one rank.
    p = {**P, "rho": np.where(np.arange(N + 1) == N, 0.5, 0.7)}
    model = model_on(comm, last=lambda rho: 1.0 + np.sqrt(rho - 0.5))
    with pytest.raises(ga.InputError, match=r"without a second derivative at 0\.5"):
        tangent_of(model, p, U)


def test_a_first_order_kernel_on_one_rank_is_an_error_on_all(comm):
    class FirstOrder(Own):
        vjp_tangent = property()

    kernels = [Own()] * comm.size
    kernels[-1] = FirstOrder()
    mine = shares(N + 1, comm)
    blocks = [ga.ElementBlock("A", chain_dofs(N)[mine], kernels[comm.rank], {"rho": mine})]
    model = ga.ElementModel(N, blocks, comm=comm)
    with pytest.raises(ga.InputError, match=r"vjp_tangent.* got FirstOrder without in element"):
        tangent_of(model, {"rho": P["rho"]}, {"rho": U["rho"]})

"""Whatever is replicated has the same bits on every rank, and everything closes in step."""

import hashlib

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters, distributed, generalized, shares
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 23
P = chain_parameters(N)
BASES = {"symmetric": K0, "nonsymmetric": K0 + 0.3 * C0}


def assert_same_bits(comm, **arrays):
    for name, array in arrays.items():
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        assert len(set(comm.allgather(digest))) == 1, name


def row_sum(pairs):
    """An objective whose cotangent is local and whose value is summed by MPI."""
    local = (pairs.right[:, 0] ** 2).sum().real
    x_bar = np.zeros_like(pairs.right)
    x_bar[:, 0] = 2 * pairs.right[:, 0].conj()
    return pairs.comm.allreduce(local), ga.EigenCotangent(right=x_bar)


def weighted(pairs):
    return obj.QuadraticForm(1.0 / (1.0 + np.arange(*pairs.rows)), (0, 1))(pairs)


OBJECTIVES = {
    "eigenvalue": obj.Eigenvalue(0),
    "KS": obj.KSMinimum(rho=2.0, pairs=(0, 1), of="eigenvalue"),
    "rows": row_sum,
    "quadratic": weighted,
}


@pytest.mark.parametrize("base", BASES)
def test_what_is_replicated_has_the_same_bits(comm, base):
    model = chain(N, comm, base=BASES[base])
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
        assert_same_bits(
            comm,
            values=pairs.values,
            residuals=pairs.residuals,
            condition=pairs.condition,
            errors=pairs.errors,
            gaps=pairs.gaps,
            phase_rows=pairs.phase_rows,
            clusters=np.array(pairs.clusters),
            norms=np.array(pencil.norms),
            inner=pairs.inner(pairs.right, pairs.left),
        )
        for strategy in ("direct", "ksp"):
            for objective in OBJECTIVES.values():
                gradient = ga.gradient(model, P, pairs, objective, strategy=strategy)
                assert_same_bits(comm, **gradient)
            assert_same_bits(comm, tangent=ga.jvp(model, P, pairs, P, strategy=strategy).values)


def test_value_and_gradient_is_the_same_on_every_rank(comm):
    model = chain(N, comm, base=BASES["nonsymmetric"])
    with ga.value_and_gradient(model, row_sum, count=2, target=0.2) as f:
        x = f.pack(P)
        for _ in range(3):
            value, gradient = f.flat(x)
            assert_same_bits(comm, value=np.array(value), gradient=gradient)
            x = x - 1e-3 * gradient


def test_users_products_may_differ_in_the_last_bit(comm):
    # The user's own reduction: rank r returns numbers that are wrong by r roundings.
    def vjp(p, left_a, left_b, right):
        total = comm.allreduce(np.vdot(left_a, right).real)
        return {"p": np.array([total * (1 + 4e-16 * comm.rank)])}

    model = ga.OperatorModel(5, lambda p, block: p["p"][0] * weights(block), vjp, comm=comm)

    def weights(block):
        first = comm.exscan(block.shape[0]) or 0
        return block * (1.0 + first + np.arange(block.shape[0]))[:, None]

    p = {"p": np.array([2.0])}
    with model.assemble(p) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, which="largest_real")
        assert np.allclose(pairs.values, 10.0, rtol=1e-12)
        gradient = ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    assert_same_bits(comm, **gradient)


def test_ranks_may_name_parameters_in_another_order(comm):
    model = chain(N, comm)
    turned = dict(reversed(P.items())) if comm.rank % 2 else dict(P)
    found = []
    for p in (P, turned):
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
            found.append(ga.gradient(model, p, pairs, obj.Eigenvalue(0)))
    for name in P:
        assert np.array_equal(found[0][name], found[1][name])


@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric", "singular_B"])
def test_one_type_on_every_rank(comm, scalar_build, kind):
    # Also on ranks without rows.
    with generalized(3, comm, kind) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3)
        types = {str(block.dtype) for block in (pairs.right, pairs.left)}
        real = {"symmetric": {"real": "float64", "complex": "complex128"}[scalar_build]}
        assert types == {real.get(kind, "complex128")}
        assert pairs.right.shape[0] == pencil.n_local == pairs.rows[1] - pairs.rows[0]


@pytest.mark.parametrize(
    ("strategy", "base"), [("direct", "symmetric"), ("ksp", "nonsymmetric"), (None, "nonsymmetric")]
)
def test_refilled_closed_and_repeated(comm, base, strategy):
    model = chain(N, comm, own=shares(N + 1, comm, seed=5), base=BASES[base])
    with ga.value_and_gradient(
        model, weighted, adjoint={"strategy": strategy}, count=2, keep_factor=strategy != "direct"
    ) as f:
        first = f(P)
        f({**P, "k": 1.1 * P["k"]})
        second = f(P)
    with pytest.raises(ga.StaleError, match=r"pencil must be open"):
        ga.solve_eigenproblem(closed(model), 1)
    assert np.isclose(first[0], second[0], rtol=1e-10)
    for name in P:
        assert np.allclose(first[1][name], second[1][name], rtol=1e-8, atol=1e-9)


def closed(model):
    pencil = model.assemble(P)
    pencil.close()
    pencil.close()
    return pencil


def test_own_ksp_and_lu(comm):
    model = chain(N, comm, base=BASES["nonsymmetric"])
    ksp = PETSc.KSP().create(comm)
    ksp.setType("gmres")
    ksp.getPC().setType("none")
    ksp.setTolerances(rtol=1e-12)
    ways = [
        {"strategy": "direct"},
        {"strategy": ksp},
        {"strategy": "ksp", "solver_parameters": {"pc_type": "lu"}},
        {"strategy": "ksp", "solver_parameters": {"ksp_type": "bcgs"}},
    ]
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        found = [ga.gradient(model, P, pairs, weighted, **way) for way in ways]
    for gradient in found[1:]:
        for name in P:
            assert np.allclose(gradient[name], found[0][name], rtol=1e-8, atol=1e-9)


def test_gradient_vectors_belong_to_the_caller(comm):
    model = chain(N, comm)
    p = {name: distributed(P[name], comm) for name in P}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        gradient = ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    for name in P:
        assert gradient[name].handle != p[name].handle
        gradient[name].set(0.0)
        assert np.isclose(p[name].sum().real, P[name].sum(), rtol=1e-14)
        gradient[name].destroy()

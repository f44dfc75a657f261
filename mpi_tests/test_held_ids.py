"""Ids of -1: elements whose parameter has no entry there, such as a state at a support."""

import numpy as np
import pytest
from builders import K0, M0, chain_dofs, dense, distributed, shares
from maps_of_tests import entries

import geneig_adjoint as ga

N = 6
KINDS = {"replicated": lambda values, _: values, "distributed": distributed}


def stiff(s):
    """Return matrices that bend in two values per element."""
    return (1 + s[:, 0] ** 2 + 0.5 * s[:, 0] * s[:, 1] + s[:, 1])[:, None, None] * (
        K0 + 0.2 * np.triu(M0)
    )


def models(comm):
    """Return a model with held ids, and one where these are entries of their own, 0."""
    own = shares(N + 1, comm, seed=3)
    dofs = chain_dofs(N)[own]
    made = []
    for ids in (dofs, np.where(dofs < 0, N, dofs)):
        blocks = [
            ga.ElementBlock("A", dofs, ga.NumpyKernel(stiff), {"s": ids}),
            ga.ElementBlock("B", dofs, ga.ScaledKernel(M0), {"m": own}),
        ]
        made.append(ga.ElementModel(N, blocks, comm=comm))
    return made


@pytest.fixture(params=KINDS)
def both(request, comm):
    """Model, parameters and direction, with held ids and with zeros."""
    make = KINDS[request.param]
    s, ds = np.linspace(0.2, 0.9, N), np.cos(np.arange(N))
    m = make(np.linspace(1.0, 0.5, N + 1), comm)
    dm = make(np.sin(np.arange(N + 1.0)), comm)
    held, full = models(comm)
    return [
        (held, {"s": make(s, comm), "m": m}, {"s": make(ds, comm), "m": dm}),
        (full, {"s": make(np.r_[s, 0], comm), "m": m}, {"s": make(np.r_[ds, 0], comm), "m": dm}),
    ]


def rows(model, seed):
    return np.random.default_rng(seed).normal(size=(N, 2))[slice(*model.rows)]


def same(one, two):
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-14 * max(1.0, np.abs(two).max()))


def test_matrices_and_products(both):
    found = []
    for model, p, p_dot in both:
        with model.assemble(p) as pencil:
            mats = [dense(pencil.A), dense(pencil.B)]
            x = rows(model, 0)
            products = model.multiply(p, x)
            same(products[0], pencil.multiply_a(x).real)
            same(products[1], pencil.multiply_b(x).real)
        found.append(
            [*mats, *model.tangent(p, p_dot, x), *model.tangent(p, p_dot, x, hermitian=True)]
        )
    for one, two in zip(*found, strict=True):
        same(one, two)


def test_contractions_have_no_part_for_them(both):
    results = []
    for model, p, p_dot in both:
        vectors = [rows(model, seed) for seed in (1, 2, 3)]
        parts = [model.contract(p, *vectors), model.contract_tangent(p, p_dot, *vectors)]
        results.append(parts)
    for one, two in zip(*results, strict=True):
        assert entries(one["s"]).size == N
        same(entries(one["s"]), entries(two["s"])[:N])
        same(entries(one["m"]), entries(two["m"]))


@pytest.mark.parametrize("indices", [None, [4, 0]])
def test_columns_of_derivatives(both, indices):
    found = []
    for model, p, _ in both:
        mats = ga.derivative_products(model, p, rows(model, 4)[:, 0], "s", indices=indices)
        found.append([dense(mat)[:, :N] for mat in mats])
    for one, two in zip(*found, strict=True):
        same(one, two)


def test_lengths_are_those_of_the_ids_there_are(both):
    held, full = (model for model, _, _ in both)
    assert held.parameter_sizes == {"s": N, "m": N + 1}
    assert full.parameter_sizes == {"s": N + 1, "m": N + 1}

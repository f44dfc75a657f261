"""Every ready-made model takes a structure of parameters, and gives it to the user's functions."""

from dataclasses import dataclass

import numpy as np
import pytest
from builders import K0, M0, chain_dofs, matrix, shares, stiffness

import geneig_adjoint as ga

N = 8


@dataclass
class Spring:
    """One stiffness and a field."""

    k: float
    field: np.ndarray


def assembled(comm):
    def matrices(p):
        assert isinstance(p, Spring)
        return matrix(p.k * stiffness(N) + np.diag(p.field), comm), None

    def derivatives(p, name, numbers):
        assert isinstance(p, Spring)
        made = {"k": lambda _: stiffness(N), "field": lambda i: np.diag(np.eye(N)[i])}[name]
        for i in numbers:
            yield matrix(made(i), comm), None

    model = ga.AssembledModel(matrices, derivatives, {"k": 1, "field": N}, comm=comm)
    return model, Spring(2.0, 0.1 * np.arange(N))


def quadratic(comm):
    own = shares(N + 1, comm)
    dofs, one = chain_dofs(N)[own], np.zeros(len(own), dtype=int)
    blocks = [
        ga.ElementBlock("K", dofs, ga.ScaledKernel(K0), {"k": one}),
        ga.ElementBlock("C", dofs, ga.ScaledKernel(0.1 * M0), {"field": one}),
        ga.ElementBlock("M", dofs, ga.ScaledKernel(M0), {"field": one}),
    ]
    return ga.QuadraticElementModel(N, blocks, comm=comm), Spring(2.0, np.array([1.5]))


@pytest.mark.parametrize("build", [assembled, quadratic])
def test_gradients_come_back_in_the_structure(comm, build):
    model, p = build(comm)
    report = ga.verify_gradient(
        model, p, ga.objectives.Eigenvalue(0, part="real"), count=2, target=0.0
    )
    assert report.passed
    chain = ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), count=2, target=0.0)
    _, g = chain(p)
    assert type(g) is Spring
    assert type(g.k) is float
    assert g.field.shape == p.field.shape


def test_products_with_elements_take_structures(comm):
    ids = np.arange(N + 1)
    blocks = [
        ga.ElementBlock("A", chain_dofs(N), ga.ScaledKernel([[1, -1], [-1, 1]]), {"k/a": ids})
    ]
    model = ga.ElementModel(N, blocks, comm=comm)
    right = np.arange(*model.rows)[:, None] + 1.0
    found, _ = model.multiply({"k": {"a": np.ones(N + 1)}}, right)
    assert np.array_equal(found, stiffness(N)[slice(*model.rows)] @ (np.arange(N)[:, None] + 1.0))


def test_map_that_changes_a_length_leaves_the_structure(comm):
    ids = np.arange(N + 1)
    blocks = [ga.ElementBlock("A", chain_dofs(N), ga.ScaledKernel(K0), {"field": ids})]
    tied = ga.Tied("field", np.zeros(N + 1, dtype=int))
    # After the tie, p has the names of a Spring, but is none.
    squares = ga.JaxMap(lambda p: {"field": p["k"] * p["field"] ** 2})
    model = ga.Composed(ga.ElementModel(N, blocks, comm=comm), [tied, squares])
    p = Spring(2.0, np.array([1.5]))
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1, target=0.0) as pairs:
        g = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
        # lam = k field^2 lam_0
        np.testing.assert_allclose(g.k, pairs.values[0].real / 2.0, rtol=1e-9)
        np.testing.assert_allclose(g.field, 2 * pairs.values[0].real / 1.5, rtol=1e-9)

"""Objectives: weights that are not symmetric, and indices that are none."""

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters, matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 7
P = chain_parameters(N)
RNG = np.random.default_rng(8)
WEIGHT = RNG.standard_normal((N, N))
DIRECTION = {name: RNG.standard_normal(value.size) for name, value in P.items()}


@pytest.mark.parametrize("base", [K0, K0 + C0], ids=["symmetric", "nonsymmetric"])
@pytest.mark.parametrize("members", [(0,), (1, 0), (1, 1)], ids=str)
def test_gradient_with_a_nonsymmetric_weight(comm, base, members):
    model = chain(N, comm, base=base)
    weight = matrix(WEIGHT, comm)
    objective = obj.QuadraticForm(weight, members)

    def solved(step, like=None):
        p = {name: value + step * DIRECTION[name] for name, value in P.items()}
        with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, like=like) as pairs:
            return pairs, objective(pairs)[0], ga.gradient(model, p, pairs, objective)

    pairs, value, gradient = solved(0.0)
    x = pairs.right[:, list(members)]
    assert np.isclose(value, np.einsum("ij,ik,kj->", x.conj(), WEIGHT, x).real, rtol=1e-13)
    h = 5e-4
    near = {k: solved(k * h, pairs)[1] for k in (-2, -1, 1, 2)}
    expected = (8 * (near[1] - near[-1]) - (near[2] - near[-2])) / (12 * h)
    found = sum(gradient[name] @ DIRECTION[name] for name in P)
    # h^4 times fifth derivatives of order 1e3, and 1e-12 / h of the eigensolver
    assert np.isclose(found, expected, rtol=1e-6, atol=1e-8)
    weight.destroy()


REFUSED = {
    "complex diagonal": (obj.QuadraticForm(np.ones(N) * (1 + 1j)), r"diagonal weight must be real"),
    "complex zero": (obj.QuadraticForm(np.ones(N) + 0j), r"must be real, got dtype complex128"),
    "no pairs": (obj.KSMinimum(pairs=[]), r"KS minimum needs at least one pair, got none"),
    "text": (obj.Eigenvalue("0"), r"pair must be in 0 ... 1, got '0'"),
    "half": (obj.Eigenvalue(0.5), r"pair must be in 0 ... 1, got 0.5"),
    "whole float": (obj.Frequency(1.0), r"pair must be in 0 ... 1, got 1.0"),
    "None": (obj.LinearOutput(np.ones(N), None), r"pair must be in 0 ... 1, got None"),
    "weight of text": (obj.QuadraticForm(np.ones(N), ("0",)), r"pair must be in 0 ... 1, got '0'"),
    "negative": (obj.ModeShapeMatch(np.ones(N), -1), r"pair must be in 0 ... 1, got -1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(comm, case):
    objective, match = REFUSED[case]
    model = chain(N, comm)
    with (
        model.assemble(P) as pencil,
        ga.solve_eigenproblem(pencil, 2) as pairs,
        pytest.raises(ga.InputError, match=match),
    ):
        ga.gradient(model, P, pairs, objective)


def test_integers_of_numpy_are_indices(comm):
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        assert obj.Eigenvalue(np.int32(1))(pairs)[0] == pairs.values[1].real

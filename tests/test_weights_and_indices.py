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
    "complex diagonal": (
        obj.QuadraticForm(np.ones(N) * (1 + 1j)),
        r"weight must be real.*pass its real",
    ),
    "complex zero": (obj.QuadraticForm(np.ones(N) + 0j), r"must be real, got dtype complex128"),
    "no pairs": (obj.KSMinimum(pairs=[]), r"KS minimum needs at least one pair, got none"),
    "pair of text": (obj.Eigenvalue("0"), r"pair must be in 0 ... 1, got '0'"),
    "half": (obj.Eigenvalue(0.5), r"pair must be in 0 ... 1, got 0.5"),
    "whole float": (obj.Frequency(1.0), r"pair must be in 0 ... 1, got 1.0"),
    "None": (obj.LinearOutput(np.ones(N), None), r"pair must be in 0 ... 1, got None"),
    "bool": (obj.Eigenvalue(True), r"pair must be in 0 ... 1, got True"),
    "bool of NumPy": (obj.LinearOutput(np.ones(N), np.True_), r"pair must be in .* got .*True"),
    "pairs of text": (obj.QuadraticForm(np.ones(N), ("0",)), r"indices in 0 ... 1, got \['0'\]"),
    "halves": (obj.KSMinimum(pairs=(0.5,)), r"pairs must be indices in 0 ... 1, got \[0.5\]"),
    "one pair": (obj.QuadraticForm(np.ones(N), 0), r"sequence of indices .*got 0; write \(0,\)"),
    "one pair of KS": (obj.KSMinimum(pairs=1), r"must be a sequence of indices in 0 ... 1, got 1"),
    "text": (obj.QuadraticForm(np.ones(N), "01"), r"must be a sequence of indices .* got '01'"),
    "weight of text": (obj.StructuralSensitivity("a"), r"weight must hold numbers, got dtype <U1"),
    "vector of text": (obj.LinearOutput(["a"] * N), r"vector must hold numbers, got dtype <U1"),
    "complex weight": (obj.StructuralSensitivity(1j * np.ones(N)), r"weight must be real, got"),
    "smoothing": (
        obj.StructuralSensitivity(np.ones(N), smoothing=-1.0),
        r"smoothing must not be negative, got -1.0; 0 means none",
    ),
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


def test_weights_of_another_layout(comm):
    model, other = chain(N, comm), matrix(np.eye(N + 1), comm)
    with (
        model.assemble(P) as pencil,
        ga.solve_eigenproblem(pencil, 2) as pairs,
        pytest.raises(ga.InputError, match=r"weight must have the layout of A, \(7, 7\) rows"),
    ):
        ga.gradient(model, P, pairs, obj.QuadraticForm(other))
    other.destroy()


COLUMNS = {
    "half": ([0.7], r"columns must be indices in 0 ... 1, got \[0.7\]"),
    "text": (["a"], r"columns must be indices in 0 ... 1, got \['a'\]"),
    "bool": ([True], r"columns must be indices in 0 ... 1, got \[True\]"),
    "number": (1, r"columns must be a sequence of indices in 0 ... 1, got 1"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_of_a_tangent(comm, case):
    columns, match = COLUMNS[case]
    model = chain(N, comm)
    with (
        model.assemble(P) as pencil,
        ga.solve_eigenproblem(pencil, 2) as pairs,
        pytest.raises(ga.InputError, match=match),
    ):
        ga.jvp(model, P, pairs, P, columns=columns)


@pytest.mark.parametrize("pair", [True, 0.0, "0", 2])
def test_pair_of_a_directional_derivative(comm, pair):
    model = chain(N, comm)
    with (
        model.assemble(P) as pencil,
        ga.solve_eigenproblem(pencil, 2) as pairs,
        pytest.raises(ga.InputError, match=r"pair must be in 0 ... 1, got"),
    ):
        ga.directional_derivatives(model, P, pairs, pair, P)

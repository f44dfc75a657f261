"""Rows of a wrong number, on one rank only, are refused on all of them and at once."""

import numpy as np
import pytest
from builders import chain, chain_parameters, matrix
from ranks import assert_from_the_last_rank, last, raised_everywhere, refused_if_different

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

# A rank that fails alone in an objective is waited for during 5 s: less shows that it is not.
pytestmark = [pytest.mark.timeout(20), pytest.mark.any_scalars]
N = 11
P = chain_parameters(N)

OBJECTIVES = {
    "quadratic": obj.QuadraticForm,
    "linear": obj.LinearOutput,
    "match": obj.ModeShapeMatch,
    "structural": obj.StructuralSensitivity,
}


@pytest.fixture(scope="module")
def solved(comm):
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        yield model, pairs


@pytest.mark.parametrize("kind", [*OBJECTIVES, "spectral"])
@pytest.mark.parametrize("change", [1, -1])
def test_length(comm, solved, kind, change):
    model, pairs = solved
    n_local = pairs.right.shape[0]
    rows = np.ones(n_local + change * last(comm))
    match = rf"must hold this rank's \d+ rows, got shape \({len(rows)},\)"
    match = comm.bcast(match, root=comm.size - 1)
    objective = {**OBJECTIVES, "spectral": obj.SpectralFunction}[kind](rows)
    raised_everywhere(comm, ga.InputError, match, ga.gradient, model, P, pairs, objective)


@pytest.mark.parametrize("kind", ["quadratic", "structural"])
def test_complex_weight(comm, solved, kind):
    model, pairs = solved
    rows = np.ones(pairs.right.shape[0]) * [1.0, 1j][last(comm)]
    objective, match = OBJECTIVES[kind](rows), "the weight must be real"
    raised_everywhere(comm, ga.InputError, match, ga.gradient, model, P, pairs, objective)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_pair(comm, solved, kind):
    model, pairs = solved
    chosen = {"quadratic": ((0,), (5,))}.get(kind, (0, 5))[last(comm)]
    objective = OBJECTIVES[kind](np.ones(pairs.right.shape[0]), chosen)
    match = r"pairs? must be .*in 0 ... 1, got \[?5"
    raised_everywhere(comm, ga.InputError, match, ga.gradient, model, P, pairs, objective)


def test_layout_of_a_matrix(comm, solved):
    model, pairs = solved
    # The same number of rows, all on the last rank
    weight = matrix(np.eye(N), comm, n_local=N * last(comm))
    match = r"weight must have the layout of A, \(\d+, \d+\) rows and columns on this rank"
    refused_if_different(
        comm, match, lambda: ga.gradient(model, P, pairs, obj.QuadraticForm(weight))
    )
    weight.destroy()


class Short:
    """A model whose tangent leaves out a row on the last rank."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def tangent(self, p, p_dot, right):
        dA_x, dB_x = self._model.tangent(p, p_dot, right)
        return dA_x, dB_x[int(last(self._model.comm)) :]


USES = {
    "jvp": lambda *job: ga.jvp(*job, P),
    "hessian": lambda *job: ga.hessian_vector_product(*job, obj.Eigenvalue(0), P),
    "directional": lambda *job: ga.directional_derivatives(*job, 0, P),
}


@pytest.mark.parametrize("use", USES)
def test_tangent_of_a_model(comm, solved, use):
    model, pairs = solved
    match = r"tangent of Short must return \(dA @ right, dB @ right\), two blocks"
    error = raised_everywhere(comm, ga.InputError, match, USES[use], Short(model), P, pairs)
    assert_from_the_last_rank(comm, error)

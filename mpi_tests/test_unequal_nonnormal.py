"""Objectives of left vectors with arguments that are wrong on one rank are refused on all."""

import dataclasses

import numpy as np
import pytest
from builders import C0, K0, chain, chain_parameters
from ranks import last, raised_everywhere

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

# A rank that fails alone in an objective is waited for during 5 s: less shows that it is not.
pytestmark = pytest.mark.timeout(20)
N = 11
P = chain_parameters(N)
WRONG_PAIRS = {"too large": 5, "negative": -1, "half": 0.5, "text": "first"}


@pytest.fixture(scope="module")
def solved(comm):
    """A convected chain: its left vectors are not its right ones."""
    model = chain(N, comm, base=K0 + 0.3 * C0)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        assert not pencil.hermitian
        yield model, pairs


def petermann(pairs, pair):
    return obj.PetermannFactor(pair)


def structural(pairs, pair):
    return obj.StructuralSensitivity(np.ones(pairs.right.shape[0]), pair, smoothing=0.1)


KINDS = {"petermann": petermann, "structural": structural}
USES = {
    "gradient": lambda model, pairs, objective: ga.gradient(model, P, pairs, objective),
    "hessian": lambda model, pairs, objective: ga.hessian_vector_product(
        model, P, pairs, objective, P
    ),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", WRONG_PAIRS)
def test_pair_that_does_not_exist_on_the_last_rank(comm, solved, use, kind, wrong):
    model, pairs = solved
    objective = KINDS[kind](pairs, (0, WRONG_PAIRS[wrong])[last(comm)])
    match = r"pair must be in 0 ... 1, got"
    raised_everywhere(comm, ga.InputError, match, USES[use], model, pairs, objective)


@pytest.mark.parametrize("use", USES)
def test_length_of_the_weight_on_the_last_rank(comm, solved, use):
    model, pairs = solved
    objective = obj.StructuralSensitivity(np.ones(pairs.right.shape[0] + last(comm)))
    match = r"the weight must hold this rank's \d+ rows, got shape"
    raised_everywhere(comm, ga.InputError, match, USES[use], model, pairs, objective)


def test_node_on_the_last_rank_alone(comm, solved):
    """Only the rank of the row of a node can see it."""
    model, pairs = solved
    right = pairs.right.copy()
    right[-1:] *= (1.0, 0.0)[last(comm)]
    tangent = ga.jvp(model, P, pairs, P)
    objective = obj.StructuralSensitivity(np.ones(right.shape[0]))
    moved = dataclasses.replace(pairs, right=right)
    match = rf"\|x_i\|\|y_i\| away from 0, got a node .*row {N - 1}"
    raised_everywhere(comm, ga.InputError, match, objective.tangent, moved, tangent)


def test_negative_smoothing_on_the_last_rank(comm, solved):
    model, pairs = solved
    smoothing = (0.1, -0.1)[last(comm)]
    objective = obj.StructuralSensitivity(np.ones(pairs.right.shape[0]), smoothing=smoothing)
    match = r"smoothing must not be negative, got -0.1; 0 means none"
    raised_everywhere(comm, ga.InputError, match, ga.gradient, model, P, pairs, objective)

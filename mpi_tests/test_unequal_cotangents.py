"""Cotangents and earlier pairs that differ between ranks or do not fit are refused on all."""

import numpy as np
import pytest
from builders import chain, chain_parameters, matrix
from ranks import differing, raised_everywhere, refused_if_different

import geneig_adjoint as ga

pytestmark = [pytest.mark.timeout(30), pytest.mark.any_scalars]
N = 11
P = chain_parameters(N)
ONE = {"m": np.ones(N + 1)}
COTANGENTS = {
    "values": ({"values": np.array([1.0, 0.0])}, {"values": np.array([1.0, 1e-3])}),
    "values there": ({"values": np.ones(2)}, {}),
    "entries": ({"parameters": ONE}, {"parameters": {"m": 1.5 * np.ones(N + 1)}}),
    "names": ({"parameters": ONE}, {"parameters": {"k": np.ones(N + 1)}}),
    "one name more": ({"parameters": ONE}, {"parameters": {"k": np.ones(N + 1), **ONE}}),
    "parameters there": ({"parameters": ONE}, {}),
}


@pytest.mark.parametrize("case", COTANGENTS)
def test_cotangent(comm, case):
    model = chain(N, comm)
    parts = differing(comm, *COTANGENTS[case])
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        refused_if_different(
            comm,
            r"cotangent .* must be the same on every rank",
            lambda: ga.gradient(model, P, pairs, lambda _: (1.0, ga.EigenCotangent(**parts))),
        )


def test_number_of_explicit_columns(comm):
    model = chain(N, comm)

    def objective(pairs):
        block = np.ones((pairs.right.shape[0], differing(comm, 1, 2)))
        return 1.0, ga.EigenCotangent(matrices=(block, block, block))

    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        match = r"cotangent .* must be the same on every rank"
        refused_if_different(comm, match, lambda: ga.gradient(model, P, pairs, objective))


ARGUMENTS = {
    "keep_factor": (True, False),
    "options_prefix": ("", "mine_"),
    "normalization": ("2", None),
    "like": (True, False),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_the_solve(comm, name):
    match = r"arguments of solve_eigenproblem must be the same on every rank"
    chosen = differing(comm, *ARGUMENTS[name])
    with chain(N, comm).assemble(P) as pencil, ga.solve_eigenproblem(pencil, 1) as earlier:
        value = {"like": {True: earlier, False: None}}.get(name, {chosen: chosen})[chosen]
        refused_if_different(
            comm, match, lambda: ga.solve_eigenproblem(pencil, 1, **{name: value}).close()
        )


@pytest.mark.parametrize("n", [1, N - 1, N + 1, 2 * N])
def test_earlier_pairs_of_another_size(comm, n):
    model = chain(n, comm)
    with (
        model.assemble(chain_parameters(n)) as other,
        chain(N, comm).assemble(P) as pencil,
        ga.solve_eigenproblem(other, 1) as like,
    ):
        raised_everywhere(
            comm,
            ga.InputError,
            r"like must be pairs of a pencil of the same layout",
            ga.solve_eigenproblem,
            pencil,
            1,
            like=like,
        )


def test_penalty_on_one_rank_does_not_hide_an_asymmetry(comm):
    A = 2 * np.eye(N) - np.eye(N, k=1) - 1.3 * np.eye(N, k=-1)
    A[4, 4] = 1e13
    free = np.delete(np.delete(A, 4, axis=0), 4, axis=1)
    values = np.linalg.eigvals(free).real
    expected = values[np.argsort(np.abs(values))][:2]
    with ga.Pencil(matrix(A, comm), owned=True) as pencil:
        assert pencil.problem_type == "nhep"
        with ga.solve_eigenproblem(pencil, 2) as pairs:
            assert np.allclose(pairs.values, expected, rtol=1e-11)
    match = r"problem_type='hep' needs A Hermitian, got"
    raised_everywhere(comm, ga.InputError, match, ga.Pencil, matrix(A, comm), problem_type="hep")

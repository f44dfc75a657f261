"""Maps of users that go wrong on one rank: the same error on all of them."""

import numpy as np
import pytest
from maps_of_tests import CENTERS, RADIUS, SIZE, VOLUMES, chain_model, composed_cases, shared
from ranks import assert_from_the_last_rank, last, raised_everywhere

import geneig_adjoint as ga


class Failing:
    """A map that does wrong on the last rank."""

    def __init__(self, comm, wrong):
        self.comm, self.wrong = comm, wrong

    def __call__(self, p):
        return self.wrong(p) if last(self.comm) else dict(p)

    def vjp(self, p, q_bar):
        return self.wrong(q_bar) if last(self.comm) else dict(q_bar)

    jvp = vjp


WRONG = {
    "raises": (lambda p: 1 / 0, ZeroDivisionError, "division by zero"),
    "list": (lambda p: [1], ga.InputError, r"map 0 \(Failing\) must return names .* got list"),
    "matrix": (lambda p: {**p, "k": np.eye(2)}, ga.InputError, "1-D arrays .* got ndarray for 'k'"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("method", ["assemble", "contract"])
def test_maps_that_fail_on_one_rank(comm, name, method):
    wrong, kind, match = WRONG[name]
    model = ga.Composed(chain_model(comm), [Failing(comm, wrong)])
    p = composed_cases(comm)["none"][1]
    arguments = {"assemble": [], "contract": [np.ones((model.rows[1] - model.rows[0], 1))] * 3}[
        method
    ]
    error = raised_everywhere(comm, kind, match, getattr(model, method), p, *arguments)
    assert_from_the_last_rank(comm, error)


DIFFERENT = {
    "entries": (lambda p: {**p, "k": 1.01 * p["k"]}, "must return the same 'k' on every rank"),
    "lengths": (lambda p: {**p, "k": p["k"][1:]}, "must return the same 'k' on every rank"),
    "names": (lambda p: {"k": p["k"]}, "must return the same replicated parameters"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_maps_that_differ_between_ranks(comm, name):
    wrong, match = DIFFERENT[name]
    model = ga.Composed(chain_model(comm), [Failing(comm, wrong)])
    p = composed_cases(comm)["none"][1]
    for _ in range(comm.size > 1):
        error = raised_everywhere(comm, ga.InputError, match, model.assemble, p)
        assert_from_the_last_rank(comm, error)


def test_last_bits_may_differ_between_ranks(comm):
    model = ga.Composed(
        chain_model(comm), [Failing(comm, lambda p: {**p, "k": p["k"] * (1 + 1e-15)})]
    )
    p, vectors = composed_cases(comm)["none"][1], [np.ones((model.rows[1] - model.rows[0], 1))] * 3
    model.assemble(p).close()
    found = model.contract(p, *vectors)["k"].tobytes()
    assert comm.allgather(found) == [found] * comm.size


def test_parameters_that_differ_between_ranks(comm):
    # Each rank would filter its share of another field
    centers, volumes = shared(comm, comm, CENTERS), shared(comm, comm, VOLUMES)
    chosen = ga.DensityFilter("k", centers, RADIUS, volumes=volumes, comm=comm)
    model = ga.Composed(chain_model(comm), [chosen])
    p = {**composed_cases(comm)["none"][1], "k": np.full(SIZE, 1.0 + comm.rank)}
    for _ in range(comm.size > 1):
        match = "replicated parameter 'k' must be the same on every rank"
        raised_everywhere(comm, ga.InputError, match, model.assemble, p)


def test_maps_that_differ_in_kind(comm):
    maps = [ga.Projection("k", beta=1.0), ga.Pointwise("k", np.sqrt)]
    for _ in range(comm.size > 1):
        with pytest.raises(ga.InputError, match="the kinds of maps must be the same"):
            ga.Composed(chain_model(comm), [maps[comm.rank > 0]])

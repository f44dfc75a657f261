"""What `Composed` keeps of the last p: nothing is done twice, nothing is stale, all is freed."""

import numpy as np
from builders import dense, distributed
from maps_of_tests import N, chain_model, composed_cases

import geneig_adjoint as ga


def row_blocks(model):
    rng = np.random.default_rng(8)
    return [rng.normal(size=(N, 2))[slice(*model.rows)] for _ in range(3)]


def matrices(model, p):
    with model.assemble(p) as pencil:
        return np.stack([dense(pencil.A), dense(pencil.B)])


class Spy:
    """A map that remembers the vectors it makes."""

    def __init__(self, inner):
        self.inner, self.made = inner, []

    def _noted(self, result, name):
        self.made.append(result[name])
        return result

    def __call__(self, p):
        return self._noted(self.inner(p), "k")

    def vjp(self, p, q_bar):
        return self._noted(self.inner.vjp(p, q_bar), "k")

    def jvp(self, p, p_dot):
        return self._noted(self.inner.jvp(p, p_dot), "k")

    def vjp_tangent(self, p, p_dot, q_bar):
        return self._noted(self.inner.vjp_tangent(p, p_dot, q_bar), "k")


def test_maps_are_called_once_per_point(comm):
    maps, p = composed_cases(comm)["filter"]
    spies = [Spy(item) for item in maps]
    model, blocks_ = ga.Composed(chain_model(comm), spies), row_blocks(chain_model(comm))

    def calls(at):
        before = len(spies[0].made)
        model.contract(at, *blocks_)
        return len(spies[0].made) - before - 1  # less its vjp

    vectors = {key: distributed(value, comm) for key, value in p.items()}
    assert [calls(p), calls({**p}), calls(vectors), calls(vectors), calls(p)] == [1, 0, 1, 0, 1]
    p["k"][comm.size - 1] += 0.1  # in place
    assert [calls(p), calls(p)] == [1, 0]
    first, last = vectors["k"].getOwnershipRange()
    assert calls(vectors) == 1
    vectors["k"].array[: int(first <= 2 < last)] += 0.1  # on one rank only
    assert [calls(vectors), calls(vectors)] == [1, 0]
    # Vectors that no map touches are those of the p at hand, whatever became of the last one's.
    again = {key: vec.copy() for key, vec in vectors.items()}
    vectors["m"].destroy()
    assert calls(again) == 0
    model.close()
    assert calls(again) == 1


def test_maps_that_change_are_noticed_by_assemble(comm):
    maps, p = composed_cases(comm)["filter"]
    model = ga.Composed(chain_model(comm), maps)
    one = matrices(model, p)
    maps[1].function = ga.Projection("k", beta=9.0, eta=0.4).function
    assert np.abs(matrices(model, p) - one).max() > 1e-2


def test_vectors_between_maps_are_freed(comm):
    maps, p = composed_cases(comm)["filter"]
    spies = [Spy(item) for item in maps]
    model = ga.Composed(chain_model(comm), spies)
    vectors = {key: distributed(value, comm) for key, value in p.items()}
    blocks_ = row_blocks(model)
    results = [
        model.contract(vectors, *blocks_),
        model.contract_tangent(vectors, vectors, *blocks_),
    ]
    model.tangent(vectors, vectors, blocks_[0])
    model.assemble(vectors).close()
    calls = [len(spy.made) for spy in spies]
    model.tangent(vectors, {key: vec.copy() for key, vec in vectors.items()}, blocks_[0])
    assert [len(spy.made) for spy in spies] == [1 + count for count in calls]  # jvp, not f(p)
    model.close()
    alive = [vec for spy in spies for vec in spy.made if vec.handle]
    assert {id(vec) for vec in alive} == {id(result["k"]) for result in results}
    assert all(vec.handle for held in [vectors, *results] for vec in held.values())

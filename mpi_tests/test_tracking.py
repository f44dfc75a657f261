"""Mode tracking on several ranks: the same places everywhere, and errors on all of them."""

import numpy as np
import pytest
from test_changing_modes import two_chains
from test_tracking import CHAIN, PATH, crossings, point, singular_mass, turned

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj


@pytest.mark.parametrize("kind", [0.0, 0.2], ids=["symmetric", "nonsymmetric"])
def test_a_mode_stays_itself_through_a_crossing(comm, kind):
    model = two_chains(comm, convected=kind)
    path = np.array(PATH) * crossings(kind)[0]
    with ga.value_and_gradient(model, obj.Eigenvalue(0), count=2) as f:
        values = [f(point(s))[0] for s in path]
    np.testing.assert_allclose(values, path * CHAIN[0], rtol=1e-9)


def test_tracking_is_the_same_on_every_rank(comm):
    model = two_chains(comm)
    with model.assemble(point(0.5)) as old, model.assemble(point(1.5)) as new:
        previous = ga.solve_eigenproblem(old, count=3, keep_factor=False)
        pairs = ga.solve_eigenproblem(new, count=3, keep_factor=False)
        tracking = ga.track_modes(previous, pairs)
    assert tracking.order[:2] == (1, 0)
    assert len(set(comm.allgather((tracking.order, tracking.confidence.tobytes())))) == 1


def test_a_lost_mode_is_an_error_on_every_rank(comm):
    with ga.value_and_gradient(turned(comm), obj.Eigenvalue(1), count=2) as f:
        f({"t": np.zeros(1)})
        with pytest.raises(ga.ModeTrackingError, match=r"modes \[1\] must continue"):
            f({"t": np.ones(1)})


def test_places_that_no_longer_exist_are_an_error_on_every_rank(comm):
    def total(pairs):
        return float(pairs.values.real.sum()), ga.EigenCotangent(values=np.ones(pairs.count))

    model = singular_mass(comm, np.diag([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    with ga.value_and_gradient(model, total, count=2) as f:
        f({"t": np.zeros(1)})
        # The search among more pairs fails on the way: three values are finite.
        with pytest.raises(ga.ModeTrackingError, match=r"modes \[2\] must keep"):
            f({"t": np.ones(1)})

"""`value_and_gradient` of several objectives, and modes put back where they were left."""

import numpy as np
import pytest
from builders import chain, chain_parameters
from tracked_pairs import crossing

import geneig_adjoint as ga
from geneig_adjoint.tracking import Placed

N = 8
OBJECTIVES = [ga.objectives.Frequency(0), ga.objectives.Eigenvalue(2), ga.objectives.KSMinimum(2.0)]


def test_list_gives_what_each_gives_alone(comm):
    p = chain_parameters(N)
    with chain(N, comm) as model, ga.value_and_gradient(model, OBJECTIVES, count=4) as f:
        values, gradients = f(p)
        for objective, value, gradient in zip(OBJECTIVES, values, gradients, strict=True):
            with ga.value_and_gradient(model, objective, count=4) as single:
                expected, slopes = single(p)
            assert value == pytest.approx(expected, rel=1e-12)
            np.testing.assert_allclose(gradient["k"], slopes["k"], rtol=1e-9, atol=1e-13)
            np.testing.assert_allclose(gradient["m"], slopes["m"], rtol=1e-9, atol=1e-13)


def test_flat_list_is_a_vector_and_its_jacobian(comm):
    p = chain_parameters(N)
    with chain(N, comm) as model, ga.value_and_gradient(model, OBJECTIVES, count=4) as f:
        values, jacobian = f.flat(f.pack(p))
        assert values.shape == (3,)
        assert jacobian.shape == (3, 2 * (N + 1))
        again, gradients = f(p)
    np.testing.assert_allclose(values, again, rtol=1e-12)
    np.testing.assert_allclose(jacobian[1, : N + 1], gradients[1]["k"], rtol=1e-9, atol=1e-13)


def test_list_shares_one_solve(comm, monkeypatch):
    solved = []
    monkeypatch.setattr(
        "geneig_adjoint.chain.solve_eigenproblem",
        lambda *arguments, **keywords: (
            solved.append(1) or ga.solve_eigenproblem(*arguments, **keywords)
        ),
    )
    with chain(N, comm) as model, ga.value_and_gradient(model, OBJECTIVES, count=4) as f:
        f(chain_parameters(N))
    assert len(solved) == 1


def test_modes_of_an_objective_of_all_are_not_followed(comm):
    """The second mode leaves the lowest two; the smooth minimum is of those that are there."""
    model, _ = crossing(comm)
    lowest = ga.objectives.KSMinimum(0.5, of="eigenvalue")
    with model, ga.value_and_gradient(model, [ga.objectives.Eigenvalue(0), lowest], count=2) as f:
        for t in (0.0, 0.8, 1.6):
            values, _ = f({"k": np.array([1.0, 2.0 + t, 3.0])})
    assert values[0] == pytest.approx(1.0, rel=1e-12)
    expected = -np.log(np.exp(-0.5) + np.exp(-1.5)) / 0.5
    assert values[1] == pytest.approx(expected, rel=1e-12)


def test_places_are_found_again_where_they_were_left(comm):
    """Two springs of which one becomes softer: mode 0 ends behind mode 1."""
    model, at = crossing(comm)
    objective = ga.objectives.Eigenvalue(0)
    with model, ga.value_and_gradient(model, objective, count=2) as f:
        for t in (0.0, 0.5, 1.0):
            value, gradient = f(at(t))
            assert f.confidence is None or f.confidence > 0.9
        placed = Placed(f.pairs.values, f.pairs.phase_rows)
    assert placed.values[0].real > placed.values[1].real
    with model, ga.value_and_gradient(model, objective, count=2) as other:
        other.start_from(placed)
        again, slope = other(at(1.0))
    assert again == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(slope["k"], gradient["k"], rtol=1e-9, atol=1e-12)


def test_places_are_looked_for_among_more_pairs(comm):
    model, at = crossing(comm)
    with model, ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), count=1) as f:
        f.start_from(Placed(np.array([3.0])))
        value, _ = f(at(0.0))
    assert value == pytest.approx(3.0, rel=1e-12)


def test_places_of_another_design_are_refused(comm):
    model, at = crossing(comm)
    with model, ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), count=2) as f:
        f.start_from(Placed(np.array([1.0, 2.5])))
        with pytest.raises(
            ga.ModeTrackingError, match=r"must have the eigenvalues .* of its places"
        ):
            f(at(0.0))


def test_more_places_than_pairs_are_refused(comm):
    model, at = crossing(comm)
    with model, ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), count=3) as f:
        f.start_from(Placed(np.arange(1.0, 5.0)))
        with pytest.raises(ga.ModeTrackingError, match="start from the design they were noted at"):
            f(at(0.0))

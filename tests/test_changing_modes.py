"""``like=``: earlier pairs as start, where modes have changed places or vanish at a row."""

import numpy as np
import pytest
from builders import matrix, stiffness

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

HALF = 6
N = 2 * HALF


def two_chains(comm, coupling=0.0, *, convected=0.0):
    """Return A(s, t): a chain of stiffness s beside one of stiffness 1; t stiffens its dofs."""
    first, second = np.zeros((N, N)), np.zeros((N, N))
    first[:HALF, :HALF] = stiffness(HALF)
    second[HALF:, HALF:] = stiffness(HALF) + convected * np.eye(HALF, k=1)
    second[0, -1] = second[-1, 0] = coupling
    dofs = [np.diag(row) for row in np.eye(N)]
    return ga.MatrixModel(
        matrix(second, comm),
        None,
        {
            "s": [(matrix(first, comm), None)],
            "t": [(matrix(dof, comm), None) for dof in dofs],
        },
    )


def point(s):
    return {"s": np.array([s]), "t": 0.01 * np.cos(np.arange(N))}


BEFORE, AFTER = point(0.3), point(3.0)  # the lowest mode lies in the first, then the second chain
COUPLINGS = {"apart": 0.0, "barely": 1e-14, "weakly": 1e-3}
KINDS = {"symmetric": 0.0, "nonsymmetric": 0.2}
DIRECTION = {"s": np.array([0.4]), "t": np.linspace(-1.0, 1.0, N)}


def moved(p, step):
    return {name: value + step * DIRECTION[name] for name, value in p.items()}


@pytest.mark.parametrize("normalization", [None, "2"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_mode_that_takes_the_place_is_found_and_has_a_phase(comm, coupling, kind, normalization):
    model = two_chains(comm, COUPLINGS[coupling], convected=KINDS[kind])
    with (
        model.assemble(BEFORE) as old,
        model.assemble(AFTER) as new,
        ga.solve_eigenproblem(old, 1, normalization=normalization) as first,
        ga.solve_eigenproblem(new, 1, like=first) as pairs,
        ga.solve_eigenproblem(new, 1, normalization=normalization) as fresh,
    ):
        assert first.phase_rows[0] < HALF
        # eps_tol 1e-12 times conditions below 100
        assert np.isclose(pairs.values[0], fresh.values[0], rtol=1e-10)
        assert pairs.phase_rows[0] >= HALF
        entry = pairs.right[pairs.phase_rows[0], 0]
        assert entry.real > 0.1
        assert abs(entry.imag) < 1e-14
        assert np.isfinite(pairs.right).all()
        assert np.allclose(pairs.right, fresh.right, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_gradient_of_the_mode_that_takes_the_place(comm, coupling, kind):
    model = two_chains(comm, COUPLINGS[coupling], convected=KINDS[kind])
    objective = obj.LinearOutput(np.linspace(1.0, 2.0, N), 0)

    def solved(p, like):
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, 1, like=like) as pairs,
        ):
            return pairs, objective(pairs)[0], ga.gradient(model, p, pairs, objective)

    first, _, _ = solved(BEFORE, None)
    pairs, _, gradient = solved(AFTER, first)
    h = 1e-3
    near = {k: solved(moved(AFTER, k * h), pairs)[1] for k in (-2, -1, 1, 2)}
    expected = (8 * (near[1] - near[-1]) - (near[2] - near[-2])) / (12 * h)
    found = sum(gradient[name] @ DIRECTION[name] for name in DIRECTION)
    # h^4 times fifth derivatives of order 100, and 1e-12 / h of the eigensolver
    assert np.isclose(found, expected, rtol=1e-7, atol=1e-8)


def test_component_where_the_new_mode_vanishes(comm):
    model = two_chains(comm)
    with (
        model.assemble(BEFORE) as old,
        model.assemble(AFTER) as new,
        ga.solve_eigenproblem(old, 1, normalization=("component", 0)) as first,
        pytest.raises(ga.InputError, match=r"'component 0' needs c\^H x != 0, got .* for pair 0"),
    ):
        ga.solve_eigenproblem(new, 1, like=first)


def test_functional_where_the_new_mode_vanishes(comm):
    model = two_chains(comm)
    functional = np.r_[np.ones(HALF), np.zeros(HALF)]
    with (
        model.assemble(BEFORE) as old,
        model.assemble(AFTER) as new,
        ga.solve_eigenproblem(old, 1, normalization=("linear", functional)) as first,
        pytest.raises(ga.InputError, match=r"'linear' needs c\^H x != 0, got .* for pair 0"),
    ):
        ga.solve_eigenproblem(new, 1, like=first)


def test_value_and_gradient_without_tracking_takes_the_lowest_mode(comm):
    model = two_chains(comm, 1e-3)
    objective = obj.LinearOutput(np.linspace(1.0, 2.0, N), 0)
    with (
        ga.value_and_gradient(model, objective, track=False) as f,
        ga.value_and_gradient(model, objective) as g,
    ):
        f(BEFORE)
        found, expected = f(AFTER), g(AFTER)
    assert np.isclose(found[0], expected[0], rtol=1e-9)
    for name in AFTER:
        assert np.allclose(found[1][name], expected[1][name], rtol=1e-7, atol=1e-9)


def test_more_or_fewer_pairs_than_before(comm):
    model = two_chains(comm, 1e-3)
    with (
        model.assemble(BEFORE) as old,
        model.assemble(AFTER) as new,
        ga.solve_eigenproblem(old, 3) as first,
        ga.solve_eigenproblem(new, 2, like=first) as pairs,
        ga.solve_eigenproblem(new, 2) as fresh,
    ):
        assert np.allclose(pairs.values, fresh.values, rtol=1e-10)
        assert np.allclose(pairs.right, fresh.right, atol=1e-8)

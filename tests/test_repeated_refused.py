"""Derivatives of repeated eigenvalues that are refused, and those that nearly are."""

import dataclasses

import numpy as np
import pytest
from hard_pencils import constrained_matrices
from pencils import petsc_matrix
from test_repeated import DIRECTION, case

import geneig_adjoint as ga

CALLS = {
    "matrices": ga.cluster_derivatives,
    "direction": lambda model, p, pairs, pair: ga.directional_derivatives(
        model, p, pairs, pair, {name: np.ones(len(value)) for name, value in p.items()}
    ),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


@pytest.mark.parametrize("pair", [4, -1, 1.0, "first"])
def test_pairs_that_do_not_exist(call, pair, comm):
    with (
        case("symmetric", comm) as (model, p, pairs),
        pytest.raises(ga.InputError, match=rf"pair must be in 0 ... 3, got {pair!r}; raise count"),
    ):
        call(model, p, pairs, pair)


def test_left_vectors_are_needed(call, comm):
    with (
        case("nonsymmetric", comm, left=False) as (model, p, pairs),
        pytest.raises(ga.InputError, match=r"need pairs with left vectors.*again with left=True"),
    ):
        call(model, p, pairs, 1)


def test_definite_pencils_need_none(call, comm):
    with case("symmetric", comm, left=False) as (model, p, pairs):
        call(model, p, pairs, 1)


def test_other_parameters_are_stale(call, comm):
    with (
        case("symmetric", comm) as (model, _, pairs),
        pytest.raises(ga.StaleError, match="the parameters the pairs were solved for"),
    ):
        call(model, {"p": np.ones(3)}, pairs, 1)


def test_changed_matrices_are_stale(call, comm):
    with case("symmetric", comm) as (model, p, pairs):
        pairs.pencil.entries_changed()
        with pytest.raises(ga.StaleError, match="eigenpairs must belong to the current matrices"):
            call(model, p, pairs, 1)


def test_models_without_tangent(comm):
    class Reverse:
        pass

    with (
        case("symmetric", comm) as (_, p, pairs),
        pytest.raises(ga.InputError, match="got Reverse without"),
    ):
        ga.directional_derivatives(Reverse(), p, pairs, 1, p)


def test_directions_in_another_structure(comm):
    with (
        case("symmetric", comm) as (model, p, pairs),
        pytest.raises(ga.InputError, match=r"'p' must have at least 3 entries.*got 2"),
    ):
        ga.directional_derivatives(model, p, pairs, 1, {"p": np.ones(2)})


def test_contractions_in_another_structure(comm):
    class Short:
        def contract(self, p, left_a, left_b, right):
            return {"p": np.zeros(2)}

    with (
        case("symmetric", comm) as (_, p, pairs),
        pytest.raises(ga.InputError, match="contract must return the structure of p"),
    ):
        ga.cluster_derivatives(Short(), p, pairs, 1)


@pytest.fixture
def derivatives_of(comm):
    """Return a function: call, A, dA, solver -> derivatives of a standard problem's pair 0."""

    def derive(call, A, dA, **solver):
        mats = [petsc_matrix(comm, M) for M in (A, dA)]
        p = {"p": np.zeros(1)}
        with (
            ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}) as model,
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, **solver) as pairs,
        ):
            return call(model, p, pairs, 0)

    return derive


@pytest.mark.parametrize("size", [2, 3])
def test_jordan_blocks(call, size, derivatives_of):
    A = np.diag([2.0] * size + [5.0, 7.0])
    A[np.arange(size - 1), np.arange(1, size)] = 1.0
    with pytest.raises(ga.DefectiveEigenvalueError, match=r"must be (semisimple|simple)"):
        derivatives_of(call, A, np.eye(len(A)), count=2, target=1.9)


def test_a_jordan_block_beside_a_copy(call, derivatives_of):
    A = np.diag([2.0, 2.0, 2.0, 5.0, 7.0])
    A[0, 1] = 1.0
    Q = np.linalg.qr(np.arange(25.0).reshape(5, 5) + np.eye(5))[0]
    A = Q @ A @ Q.T  # a lone row would count as constrained
    with pytest.raises(ga.DefectiveEigenvalueError, match=r"must be (semisimple|simple)"):
        derivatives_of(call, A, np.eye(5), count=3, target=1.9)


def test_a_single_pair_next_to_an_exceptional_point(call, derivatives_of):
    A = np.diag([2.0, 2.0, 5.0, 7.0])
    A[0, 1], A[1, 0] = 1.0, 1e-10  # 2 +- 1e-5: two clusters
    with pytest.raises(ga.DefectiveEigenvalueError, match="eigenvalue 0 must be simple"):
        derivatives_of(call, A, np.eye(4), count=2, target=1.9)


def test_a_left_vector_that_vanishes(call, comm):
    # What the inverse of a singular Gram matrix leaves at an exceptional point.
    with case("nonsymmetric", comm) as (model, p, pairs):
        left = pairs.left.copy()
        left[:, 1] = 0.0
        with pytest.raises(ga.DefectiveEigenvalueError, match="must be semisimple, got a cond"):
            call(model, p, dataclasses.replace(pairs, left=left), 2)


def turned(distance):
    """Return A with a double 2.0, condition about 1 / distance, and no defect."""
    A = np.diag([2.0, 2.0, 5.0, 7.0])
    A[0, 2] = A[1, 3] = 1 / distance
    return A


def test_copies_with_a_large_condition_are_no_defect(derivatives_of):
    A, dA = turned(1e-4), np.random.default_rng(3).standard_normal((4, 4))
    # Y^H = [I, W] with W_i = A_i / (2 - lam_i), X = [I, 0].
    Y = np.hstack([np.eye(2), np.diag([1e4 / (2 - 5), 1e4 / (2 - 7)])])
    expected = np.sort_complex(np.linalg.eigvals(Y @ dA[:, :2]))
    mu = derivatives_of(CALLS["direction"], A, dA, count=2, target=1.9)
    np.testing.assert_allclose(mu, expected, rtol=1e-7)  # 1e-12 of the vectors x condition


def test_copies_beyond_the_largest_condition_are_refused(call, derivatives_of):
    with pytest.raises(ga.DefectiveEigenvalueError, match="must be semisimple, got a condition"):
        derivatives_of(call, turned(1e-8), np.eye(4), count=2, target=1.9)


@pytest.mark.filterwarnings("ignore:eigenvalue 0 should have a condition number")
def test_a_simple_eigenvalue_with_a_large_condition_has_its_gradient(derivatives_of):
    A, dA = np.diag([1.0, 5.0, 9.0, 12.0]), np.random.default_rng(0).standard_normal((4, 4))
    A[0, 1] = 1e7

    def both(model, p, pairs, pair):
        gradient = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(pair))["p"]
        return ga.cluster_derivatives(model, p, pairs, pair).matrices["p"][:, 0, 0], gradient

    mu, gradient = derivatives_of(both, A, dA, count=1, target=0.9)
    np.testing.assert_allclose(mu, gradient, rtol=1e-12)  # the same vectors: rounding
    # The eigenvalue itself is exact to a few 1e-5 at this condition, 2.5e6.
    np.testing.assert_allclose(mu, dA[0, 0] + 1e7 / (1 - 5) * dA[1, 0], rtol=2e-3)


def test_nearly_equal_values_count_as_equal(comm):
    # Relative gap 2e-7 < 1e-6: one cluster; the mean in place of each value costs about the gap.
    with case("symmetric", comm) as (model, p, pairs):
        exact = ga.directional_derivatives(model, p, pairs, 1, {"p": DIRECTION})
    with case("symmetric", comm, gap=4e-7) as (model, p, pairs):
        assert np.ptp(pairs.values.real[[1, 2]]) > 2e-7
        found = ga.cluster_derivatives(model, p, pairs, 2)
        near = ga.directional_derivatives(model, p, pairs, 2, {"p": DIRECTION})
    assert found.members == (1, 2)
    assert found.value == pytest.approx(2 + 2e-7, rel=1e-11)  # the mean
    np.testing.assert_allclose(near, exact, rtol=2e-6)


def test_clusters_of_constrained_rows_are_refused(call, comm):
    A, B = constrained_matrices(comm, 20, [0, 1, 18, 19], (1.0, 1.0))
    slope = petsc_matrix(comm, np.diag(np.eye(20)[10]))
    with (
        ga.MatrixModel(A, B, {"p": [(slope, None)]}) as model,
        model.assemble({"p": np.zeros(1)}) as pencil,
        ga.solve_eigenproblem(pencil, count=4, target=1.01) as pairs,
    ):
        j = pairs.info.constrained[0]
        with pytest.raises(ga.ConstrainedRowError, match=r"modes of the problem.*leave"):
            call(model, {"p": np.zeros(1)}, pairs, j)

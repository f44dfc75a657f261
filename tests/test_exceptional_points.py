"""Exceptional points of follower forces, and eigenvalues that rounding moves visibly."""

import numpy as np
import pytest
import scipy.linalg
from builders import matrix
from hard_pencils import (
    BECK_FREQUENCY,
    BECK_LOAD,
    FLUTTER_LOAD,
    beck,
    bidiagonal,
    ziegler,
    ziegler_values,
)

import geneig_adjoint as ga
from geneig_adjoint import _petsc, bordered
from geneig_adjoint import objectives as obj

LEFT = ["auto", False]
# The rounded load is at most this far below the point; values below split by its root.
ROUNDED = 1e-15


@pytest.mark.failure("exceptional point", through="api")
@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("count", [1, 2])
def test_coalescing_frequencies_of_the_double_pendulum_have_no_derivative(comm, count, left):
    model, p = ziegler(comm, FLUTTER_LOAD)
    pairs = ga.solve_eigenproblem(model.assemble(p), count, target=0.5, left=left)
    # lam = 1 / sqrt(2), twice, split by the root of rounding
    np.testing.assert_allclose(pairs.values, np.sqrt(0.5), rtol=1e-7)
    for objective in (obj.Eigenvalue(0), obj.LinearOutput(np.ones(2), 0)):
        with pytest.raises(
            ga.DefectiveEigenvalueError, match=r"must be simple.*exceptional po"
        ) as e:
            ga.gradient(model, p, pairs, objective)
        assert e.value.condition > 1e7
    with pytest.raises(ga.DefectiveEigenvalueError, match="defective to working accuracy"):
        ga.jvp(model, p, pairs, {"p": np.ones(1)}, columns=[0])


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("below", [1e-3, 1e-1, -1e-3, -1e-1])
def test_derivatives_on_both_sides_of_flutter(comm, below, left):
    model, p = ziegler(comm, FLUTTER_LOAD - below)
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=0.5, left=left)
    values, slopes = ziegler_values(below)
    for j in range(2):
        # eps times the square of the condition (28 at 1e-3), and rtol 1e-10 without left vectors
        i = int(np.argmin(np.abs(values - pairs.values[j])))
        assert abs(pairs.values[j] - values[i]) < 1e-12
        parts = [
            ga.gradient(model, p, pairs, obj.Eigenvalue(j, part=part))["p"][0]
            for part in ("real", "imag")
        ]
        assert abs(complex(*parts) - slopes[i]) < 1e-8 * abs(slopes[i])


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("below", [1e-9, 1e-10, 1e-12])
def test_closer_than_the_rule_is_refused(comm, below, left):
    # Condition sqrt(0.77 / below) > 1e4 from 8e-9 on, and a neighbour within ten times its inverse.
    model, p = ziegler(comm, FLUTTER_LOAD - below)
    pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=0.5, left=left)
    with pytest.raises(ga.DefectiveEigenvalueError, match="with condition number") as caught:
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    # ||x|| ||B^H y|| and the sine of the angle between two vectors differ by the shape of B
    assert 0.1 < caught.value.condition * np.sqrt(below) < 10


@pytest.mark.parametrize("left", LEFT)
def test_neighbour_that_was_not_asked_for_counts(comm, left):
    model, p = ziegler(comm, FLUTTER_LOAD - 1e-10)
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.5, left=left)
    assert pairs.count == 1
    values, _ = ziegler_values(1e-10)
    assert pairs.gaps[0] == pytest.approx(abs(values[1] - values[0]), rel=1e-3)  # eps x condition^2
    for objective in (obj.Eigenvalue(0), obj.LinearOutput(np.ones(2), 0)):
        with pytest.raises(ga.DefectiveEigenvalueError, match="a neighbour at distance"):
            ga.gradient(model, p, pairs, objective)
    with pytest.raises(ga.DefectiveEigenvalueError, match="a neighbour at distance"):
        ga.jvp(model, p, pairs, {"p": np.ones(1)})


def test_near_but_independent_vectors_are_not_defective(comm):
    # Two values 1e-4 apart with orthogonal vectors, in a matrix that is not normal elsewhere.
    A = np.diag([1.5, 1.5001, 3.0, 4.0])
    A[2, 3] = 5.0
    slope = np.diag([1.0, 2.0, 3.0, 4.0])
    model = ga.MatrixModel(matrix(A, comm), None, {"p": [(matrix(slope, comm), None)]})
    p = {"p": np.zeros(1)}
    for left in LEFT:
        pairs = ga.solve_eigenproblem(model.assemble(p), 2, target=0.9, left=left)
        found = [ga.gradient(model, p, pairs, obj.Eigenvalue(j))["p"][0] for j in range(2)]
        np.testing.assert_allclose(found, [1.0, 2.0], rtol=1e-9)  # rtol of the adjoint


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize(("length", "value"), [(2, 0.0), (3, 0.0), (3, 1.0), (4, 1.0)])
def test_longer_chains_and_chains_at_zero(comm, length, value, left, scale):
    # Rounding splits a chain of m by its m-th root.
    chain = value * np.eye(length) + np.eye(length, k=1)
    A = scipy.linalg.block_diag(chain, np.diag(np.arange(2.0, 7.0)))
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal(A.shape))[0]
    mats = [matrix(scale * turn @ A @ turn.T, comm), matrix(np.diag(np.arange(len(A))), comm)]
    model, p = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {"p": np.zeros(1)}

    def solved_and_differentiated(count):
        pairs = ga.solve_eigenproblem(model.assemble(p), count, left=left)
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))

    for count in (1, length, length + 1):
        with pytest.raises(ga.DefectiveEigenvalueError, match="exceptional point"):
            solved_and_differentiated(count)


def solved_and_differentiated(model, p, count, left):
    with ga.solve_eigenproblem(model.assemble(p), count, left=left) as pairs:
        return ga.gradient(model, p, pairs, obj.Eigenvalue(0))


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize(("turn", "scale"), [(0, 1.0), (2, 1e9)], ids=str)
def test_chains_are_found_from_any_start_vector(comm, monkeypatch, turn, scale, left):
    """A shift beside a value that rounding has split may be as bad as one on it."""
    plain = _petsc.deterministic_block
    monkeypatch.setattr(
        _petsc, "deterministic_block", lambda rows, k, seed=0: plain(rows, k, seed + (seed == 5))
    )
    A = scipy.linalg.block_diag(np.eye(3, k=1), np.diag(np.arange(2.0, 7.0)))
    turn = np.linalg.qr(np.random.default_rng(turn).standard_normal(A.shape))[0]
    mats = [matrix(scale * turn @ A @ turn.T, comm), matrix(np.diag(np.arange(len(A))), comm)]
    model, p = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {"p": np.zeros(1)}
    for count in (1, 3, 4):
        with pytest.raises(ga.DefectiveEigenvalueError, match=r"defective to wor|exceptional"):
            solved_and_differentiated(model, p, count, left)


@pytest.mark.filterwarnings("ignore:the adjoint solve of eigenpair")
@pytest.mark.parametrize("target", [0.0, 1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("seed", range(3))
def test_hidden_chains_of_four_never_have_a_gradient(comm, seed, left, target):
    """Rounding has split them by 1e-3; beside them the eigensolve itself may fail."""
    rng = np.random.default_rng(seed)
    others = rng.uniform(1.0, 8.0, 5) * rng.choice([-1.0, 1.0], 5)
    A = scipy.linalg.block_diag(np.eye(4, k=1), np.diag(others))
    one, two = (np.linalg.qr(rng.standard_normal(A.shape))[0] for _ in "ab")
    turn = one * np.geomspace(1.0, 10.0, len(A)) @ two
    mats = [matrix(turn @ A @ np.linalg.inv(turn), comm), matrix(np.diag(others[[0] * 9]), comm)]
    model, p = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {"p": np.zeros(1)}
    with (
        pytest.raises(ga.DefectiveEigenvalueError, match=r"exceptional point|defective"),
        ga.solve_eigenproblem(model.assemble(p), 4, target=target, left=left) as pairs,
    ):
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))


# -- Beck's column --


def beck_pairs(comm, load, **wanted):
    model, p = beck(comm, load)
    return model, p, ga.solve_eigenproblem(model.assemble(p), 2, target=100.0, **wanted)


@pytest.fixture(scope="module")
def flutter(comm):
    """Return the load where the two lowest frequencies meet, and their eigenvalue."""
    low, high = 20.0, 20.1
    while high - low > 1e-7:
        middle = (low + high) / 2
        _, _, pairs = beck_pairs(comm, middle, left=False, count_check="off")
        split = np.abs(pairs.values[0].imag) > 1e-9 * np.abs(pairs.values[0])
        low, high = [(middle, high), (low, middle)][int(split)]
    return low, float(pairs.values[0].real)


def test_flutter_load_and_frequency_of_becks_column(flutter):
    load, value = flutter
    # Four digits in the literature; 20 cubic elements give six.
    assert load == pytest.approx(BECK_LOAD, rel=2e-4)
    assert np.sqrt(value) == pytest.approx(BECK_FREQUENCY, rel=5e-4)


def test_gradient_grows_like_the_inverse_root_of_the_distance(comm, flutter):
    load, _ = flutter
    scaled = []
    for distance in (4e-2, 1e-2):
        model, p, pairs = beck_pairs(comm, load - distance)
        slope = ga.gradient(model, p, pairs, obj.Eigenvalue(0))["p"][0]
        # The derivative is that of the values themselves: fourth-order differences.
        h = 0.02 * distance
        near = [beck_pairs(comm, load - distance + k * h)[2].values[0].real for k in (-2, -1, 1, 2)]
        difference = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * h)
        assert slope == pytest.approx(difference, rel=1e-4)
        scaled.append(abs(slope) * np.sqrt(distance))
    # The next term of the root's series is of relative size sqrt(distance).
    assert scaled[1] == pytest.approx(scaled[0], rel=0.05)


@pytest.mark.failure("exceptional point", through="api")
@pytest.mark.parametrize("left", LEFT)
def test_becks_column_at_flutter_has_no_derivative(comm, flutter, left):
    model, p, pairs = beck_pairs(comm, flutter[0], left=left)
    refusals = (ga.DefectiveEigenvalueError, ga.DegenerateEigenvalueError)
    with pytest.raises(refusals, match=r"exceptional point|separate the values"):
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))


# -- highly non-normal --


@pytest.mark.failure("ill-conditioned eigenvalue", through="api")
def test_gradient_of_an_ill_conditioned_eigenvalue_warns(comm):
    A = np.array([[1.0, 3e6, 0.5], [0.0, 2.0, 0.3], [0.0, 0.0, 7.5]])
    slope = np.diag([1.0, 2.0, 3.0])
    model = ga.MatrixModel(matrix(A, comm), None, {"p": [(matrix(slope, comm), None)]})
    p = {"p": np.zeros(1)}
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.8)
    assert pairs.condition[0] == pytest.approx(3e6, rel=1e-2)
    assert any("condition number 3" in note for note in pairs.info.notes)
    with pytest.warns(ga.IllConditionedWarning, match=r"below 1e\+06, got 3.0e\+06: its estimat"):
        ga.gradient(model, p, pairs, obj.Eigenvalue(0))
    with pytest.warns(ga.IllConditionedWarning, match="eigenvalue 0 should have a condition"):
        ga.jvp(model, p, pairs, {"p": np.ones(1)})


def estimates(comm, coupling):
    """Return conditions, estimated and true errors; nothing where the solve is refused."""
    pencil = ga.Pencil(matrix(bidiagonal(coupling), comm), owned=True)
    try:
        pairs = ga.solve_eigenproblem(pencil, 2, target=6.2)
    except (ga.ConvergenceError, ga.DefectiveEigenvalueError):
        return [np.zeros(0)] * 3
    exact = np.diag(bidiagonal(coupling))
    true = np.abs(exact[:, None] - pairs.values[None, :]).min(axis=0)
    return pairs.condition, pairs.errors, true


@pytest.mark.parametrize("coupling", [5.0, 8.0, 12.0, 20.0, 50.0, 100.0])
def test_error_estimate_bounds_the_true_error(comm, coupling):
    # From 50 on the eigensolver takes the target itself for an eigenvalue: residuals 5e-9,
    # errors 0.3.
    _, estimated, true = estimates(comm, coupling)
    assert (estimated >= true / 10).all()


def test_estimate_of_a_hard_case_is_finite_and_reported(comm):
    condition, estimated, true = estimates(comm, 12.0)
    assert (condition > 1e6).all()
    assert (true <= 1e-12).all()
    assert (estimated < 1.0).all()


def slope_at_the_end_of_a_bisection(comm, low, high):
    while low < (low + high) / 2 < high:
        middle = (low + high) / 2
        model, p, pairs = beck_pairs(comm, middle)
        split = np.abs(pairs.values[0].imag) > 1e-9 * np.abs(pairs.values[0])
        low, high = [(middle, high), (low, middle)][int(split)]
    return ga.gradient(model, p, pairs, obj.Eigenvalue(0))


def test_bisection_for_flutter_with_left_vectors_ends_in_the_right_error(comm, flutter):
    # In the end there is no left vector (real build), or one of a huge condition.
    match = r"to have a left vector.* left=False|exceptional point"
    load, _ = flutter
    with pytest.raises(ga.DefectiveEigenvalueError, match=match) as caught:
        slope_at_the_end_of_a_bisection(comm, load - 2e-7, load + 4e-7)
    assert caught.value.condition > 1e4


@pytest.mark.parametrize("differentiate", [ga.gradient, ga.jvp])
def test_rounding_near_an_exceptional_point_is_no_warning_but_the_error(
    comm, monkeypatch, differentiate
):
    # Every solve stops at rounding, and is said to.
    monkeypatch.setattr(bordered, "SMALL_ERROR", 0.0)
    settings = {"rtol": 1e-18, "strategy": "direct"}
    last = {ga.gradient: obj.Eigenvalue(0), ga.jvp: {"p": np.ones(1)}}[differentiate]
    model, p = ziegler(comm, FLUTTER_LOAD - 1e-10)
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.5, left=False)
    with pytest.raises(ga.DefectiveEigenvalueError, match="with condition number"):
        differentiate(model, p, pairs, last, **settings)
    model, p = ziegler(comm, FLUTTER_LOAD - 1e-1)
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.5, left=False)
    with pytest.warns(ga.IllConditionedWarning, match="which is rounding"):
        differentiate(model, p, pairs, last, **settings)

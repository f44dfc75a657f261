"""Slender beams, whose stiffness exceeds their lowest eigenvalues by 1e9: gradients and errors."""

import functools

import numpy as np
import pytest
from beams import UNITS, Cantilever, assembled, bending, inertia, rayleigh_quotients
from builders import matrix, own_rows
from mpi4py import MPI

import geneig_adjoint as ga

COUNT = 300


@functools.lru_cache
def beam(units):
    return Cantilever(COUNT, units)


@functools.lru_cache
def beam_model(units):
    """Return the beam's model; building its matrices takes longer than the rest."""
    return beam(units).model(MPI.COMM_WORLD)


def deflections(cantilever):
    weights = np.zeros(cantilever.n)
    weights[::2] = np.linspace(1.0, 2.0, cantilever.n // 2)
    return weights


@pytest.mark.parametrize("strategy", [None, "direct", "ksp"])
@pytest.mark.parametrize("units", UNITS)
def test_gradients_are_those_of_the_closed_form(comm, units, strategy):
    cantilever = beam(units)
    model, p = beam_model(units), {"p": np.zeros(3)}
    rows = slice(*own_rows(cantilever.n, comm))
    weights = deflections(cantilever)
    objectives = [ga.objectives.QuadraticForm(weights[rows], (j,)) for j in range(4)]
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs:
        found = ga.gradient(model, p, pairs, objectives, strategy=strategy)
    expected = np.array([cantilever.gradient(weights, j) for j in range(4)])
    differences = np.array([item["p"] for item in found]) - expected
    errors = np.linalg.norm(differences, axis=1) / np.linalg.norm(expected, axis=1)
    # eps |K| / lam = 7e-5 at worst, and rounding is far from the worst.
    assert errors.max() <= 1e-6
    assert np.all(errors <= [item.relative_error for item in found])


@pytest.mark.parametrize("hermitian", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("strategy", ["direct", "ksp"])
def test_accuracy_is_that_of_the_solution(comm, strategy, hermitian):
    cantilever = beam("mm N t")
    inverses, X = cantilever.modes
    g = deflections(cantilever) * X[:, 0]
    g = g - cantilever.M @ X[:, 0] * (X[:, 0] @ g)
    # (K - lam M) v = g and x^T M v = 0, in 1 / lam
    gains = inverses[0] * inverses[1:] / (inverses[0] - inverses[1:]) * (X[:, 1:].T @ g)
    expected = X[:, 1:] @ gains
    rows = slice(*own_rows(cantilever.n, comm))
    model = beam_model("mm N t")
    with (
        model.assemble({"p": np.zeros(3)}) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.0) as pairs,
        ga.BorderedSystem(
            pencil,
            complex(pairs.values[0]),
            pairs.right[:, 0],
            transformation=pairs.factor,
            settings=ga.AdjointSettings(strategy),
        ) as system,
    ):
        v = system.solve(g[rows, None], np.zeros(1), hermitian=hermitian)[0]
        v = np.concatenate(comm.allgather(v[:, 0].real))
        v = v - X[:, 0] * (X[:, 0] @ (cantilever.M @ v))
    error = np.linalg.norm(v - expected) / np.linalg.norm(expected)
    # The pair is off, too: its value by 1e-8 to 1e-7, with a gap of 0.4.
    assert error <= 10 * system.accuracy + 1e-7
    assert 1e-12 < system.accuracy <= 1e-6


def test_factor_of_the_matrix_needs_no_eigensolver(comm):
    cantilever = Cantilever(120, "mm N t")
    inverses, X = cantilever.modes
    lam, x = 1 / inverses[0], X[:, 0]
    rhs = np.where(np.arange(cantilever.n) % 2, 0.0, x)
    rhs = rhs - cantilever.M @ x * (x @ rhs)
    gains = inverses[0] * inverses[1:] / (inverses[0] - inverses[1:]) * (X[:, 1:].T @ rhs)
    with (
        ga.Pencil(matrix(cantilever.K, comm), matrix(cantilever.M, comm), owned=True) as pencil,
        ga.BorderedSystem(pencil, lam, x, settings=ga.AdjointSettings("direct")) as system,
    ):
        v = system.solve(rhs[:, None], np.zeros(1), hermitian=True)[0][:, 0]
    v = v - x * (x @ (cantilever.M @ v))
    expected = X[:, 1:] @ gains
    assert 1e-15 < system.accuracy <= 1e-9
    # eps |K| / lam = 2e-16 8e9 at worst
    assert np.linalg.norm(v - expected) <= 2e-6 * np.linalg.norm(expected)


def rotated_system(comm, values, strategy):
    """Return the pencil, pairs, and system of the lowest of n given values, and modes (n, n)."""
    n = len(values)
    Q = np.linalg.qr(np.random.default_rng(2).standard_normal((n, n)))[0]
    K = Q @ np.diag(values) @ Q.T
    pencil = ga.Pencil(matrix((K + K.T) / 2, comm), owned=True)
    pairs = ga.solve_eigenproblem(pencil, 1, target=-1.0, left=False)
    system = ga.BorderedSystem(
        pencil,
        complex(values[0]),
        Q[slice(*pencil.rows), 0].copy(),
        transformation=pairs.factor,
        settings=ga.AdjointSettings(strategy),
        name="eigenpair 7",
    )
    return pencil, pairs, system, Q


@pytest.mark.parametrize(
    ("strategy", "final"), [(None, "direct"), ("direct", "direct"), ("ksp", "ksp")]
)
def test_few_digits_come_with_a_warning(comm, strategy, final):
    # eps |K| / gap = 2e-16 1e10 / 0.01: four digits or five are left.
    values = np.r_[1.0, 1.01, np.logspace(1, 10, 10)]
    pencil, pairs, system, Q = rotated_system(comm, values, strategy)
    rhs = (Q[:, 1] + Q[:, 2])[slice(*pencil.rows), None]
    match = r"eigenpair 7 should have an error below 1e-06, got an estimated .* is rounding"
    with pencil, pairs, system, pytest.warns(ga.IllConditionedWarning, match=match):
        v = system.solve(rhs, np.zeros(1), hermitian=True)[0]
    v = np.concatenate(comm.allgather(v[:, 0]))
    expected = Q[:, 1] / 0.01 + Q[:, 2] / 9.0
    assert system.strategy == final
    assert 1e-6 < system.accuracy <= 1e-3
    # The matrix, rounded, differs from the one that was meant by as much.
    assert np.linalg.norm(v - expected) <= 30 * system.accuracy * np.linalg.norm(expected)


UNSOLVABLE = {
    "no digits": np.r_[1.0, 1.0 + 1e-4, np.logspace(1, 11, 10)],
    "nearly double": np.r_[1.0, 1.0 + 3e-9, np.linspace(2.0, 9.0, 10)],
}


@pytest.mark.parametrize("strategy", [None, "direct", "ksp"])
@pytest.mark.parametrize("kind", UNSOLVABLE)
def test_nearly_singular_systems_are_refused(comm, kind, strategy):
    pencil, pairs, system, Q = rotated_system(comm, UNSOLVABLE[kind], strategy)
    rhs = (Q[:, 1] + Q[:, 2])[slice(*pencil.rows), None]
    with (
        pencil,
        pairs,
        system,
        pytest.raises(ga.ConvergenceError, match=r"eigenpair 7 must (reach rtol|be solvable)"),
    ):
        system.solve(rhs, np.zeros(1), hermitian=True)


def test_lazy_solvers_are_not_believed(comm):
    # Beside 1e10 the second component of the right-hand side is rounding, for its size.
    values = np.array([1.0, 2.0, 3.0, 1e10])

    def lazy(operator, rhs, solution):
        """Solve for all but the third component."""
        solution.array[:] = rhs.array_r / np.array([np.inf, 1.0, np.inf, 1e10, np.inf])

    with (
        ga.Pencil(matrix(np.diag(values), comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.0, left=False) as pairs,
        ga.BorderedSystem(
            pencil,
            1.0,
            np.eye(4)[0],
            transformation=pairs.factor,
            settings=ga.AdjointSettings(lazy),
        ) as system,
        pytest.warns(ga.IllConditionedWarning, match="this eigenpair should have an error"),
    ):
        system.solve(np.array([[0.0], [1.0], [1e-4], [0.0]]), np.zeros(1), hermitian=True)
    assert 3e-5 <= system.accuracy <= 1e-3  # true: half of 1e-4


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_errors_of_values_are_no_luck(comm, spread):
    # The factor moves a value by the rounding of the stiffnesses; one residual sees that by luck.
    count, rng = 40, np.random.default_rng(5)
    K = assembled(bending(1 / count) * count**3, count, range(count))
    M = assembled(inertia(1 / count), count, range(count))
    for _ in range(6):
        scales = np.exp(spread * rng.normal(size=2 * count))
        stretched = np.outer(scales, scales) * (1 + rng.random())
        mats = [matrix(array * stretched, comm) for array in (K, M)]
        with (
            ga.Pencil(*mats, owned=True) as pencil,
            ga.solve_eigenproblem(pencil, 4, target=0.0) as pairs,
        ):
            exact = rayleigh_quotients(pairs)
            assert (np.abs(pairs.values.real - exact) <= pairs.errors).all()
            assert pairs.errors.max() <= 1e-6 * exact.max()

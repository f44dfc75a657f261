"""Left vectors: their own equation, their scale, and the way round when the usual one fails."""

import numpy as np
import pytest
import scipy.linalg
from builders import (
    generalized,
    mass,
    matrix,
    nonsymmetric,
    rotation,
    stiffness,
    whole,
)
from pencils import COMPLEX_BUILD
from slepc4py import SLEPc

import geneig_adjoint as ga
from geneig_adjoint import left_vectors

N = 10
SCALAR = {True: complex, False: lambda number: number.real}[COMPLEX_BUILD]
# A real similarity of a diagonal matrix with a double eigenvalue 2: semisimple, not normal.
BASIS = np.eye(6) + 0.3 * np.eye(6, k=1) + 0.2 * np.eye(6, k=-2)
DOUBLE = BASIS @ np.diag([2.0, 2.0, 5.0, 7.0, 9.0, 12.0]) @ np.linalg.inv(BASIS)
PENCILS = {
    "generalized": (nonsymmetric(N), mass(N) + 0.1 * np.eye(N, k=2)),
    "standard": (nonsymmetric(N), None),
    "singular_B": (nonsymmetric(N), np.diag(np.r_[np.ones(N - 2), 0.0, 0.0])),
    "rotation": (rotation(6), None),
    "indefinite_B": (stiffness(N), np.diag(np.r_[np.ones(N - 3), -np.ones(3)])),
    "repeated": (DOUBLE, None),
}
WAYS = {
    "target": {"target": 0.35},
    "largest_real": {"which": "largest_real"},
    "largest_imaginary": {"which": "largest_imaginary"},
}


def pencil_of(comm, A, B=None, **options):
    return ga.Pencil(matrix(A, comm), B if B is None else matrix(B, comm), **options)


def assert_left_pairs(pairs, A, B, tolerance=1e-10):
    """Residuals of eps_tol 1e-12 times the norms of these matrices stay below the tolerance."""
    B = np.eye(len(A)) if B is None else B
    y, x, lam = pairs.left, pairs.right, pairs.values
    assert np.abs(y.conj().T @ A - lam[:, None] * (y.conj().T @ B)).max() < tolerance
    assert np.allclose(y.conj().T @ B @ x, np.eye(pairs.count), atol=tolerance)


@pytest.mark.parametrize("way", ["target", "largest_real", "largest_imaginary"])
@pytest.mark.parametrize("name", [name for name in PENCILS if name != "singular_B"])
def test_left_vectors_satisfy_their_equation(comm, name, way):
    A, B = PENCILS[name]
    with ga.solve_eigenproblem(pencil_of(comm, A, B), 3, **WAYS[way]) as pairs:
        assert_left_pairs(pairs, A, B)
        assert pairs.info.left_residuals.max() < 1e-10


@pytest.mark.parametrize("count", [1, 4, N - 2])
def test_singular_b(comm, count):
    A, B = PENCILS["singular_B"]
    with ga.solve_eigenproblem(pencil_of(comm, A, B), count, target=0.35) as pairs:
        assert_left_pairs(pairs, A, B)


@pytest.mark.failure("left vectors", through="api")
def test_complex_pairs_come_with_their_own_left_vectors(comm):
    A, B = PENCILS["generalized"]
    with ga.solve_eigenproblem(pencil_of(comm, A, B), 6, target=2.0) as pairs:
        assert np.abs(pairs.values.imag).max() > 0.1  # there are some
        assert_left_pairs(pairs, A, B)


def test_vectors_of_a_cluster_are_biorthogonal(comm):
    with ga.solve_eigenproblem(pencil_of(comm, DOUBLE), 3, target=1.9) as pairs:
        assert pairs.clusters[0] == (0, 1)
        assert_left_pairs(pairs, DOUBLE, None)


def test_definite_pencil_needs_no_solve(comm):
    with generalized(N, comm, "symmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 3, target=0.0)
        assert np.allclose(pairs.left, pairs.right, rtol=1e-12, atol=1e-13)  # x^H B x = 1
        assert np.array_equal(pairs.condition, np.ones(3))
        two = ga.solve_eigenproblem(pencil, 3, target=0.0, normalization="2")
        assert_left_pairs(two, stiffness(N), mass(N))


def test_condition_is_that_of_the_eigenvalue(comm):
    A = np.array([[1.0, 100.0], [0.0, 2.0]])
    pairs = ga.solve_eigenproblem(pencil_of(comm, A), 2, target=0.9)
    # x = (1, 0), y = (1, -100): ||x|| ||y|| / |y^H x|
    assert np.allclose(pairs.condition, np.hypot(1.0, 100.0), rtol=1e-8)


@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric"])
def test_without_left_vectors(comm, kind):
    with generalized(N, comm, kind) as pencil:
        pairs = ga.solve_eigenproblem(pencil, 2, left=False)
        assert pairs.left is None
        assert pairs.info.left_residuals is None
        expected = {"symmetric": 1.0, "nonsymmetric": np.nan}[kind]
        assert np.array_equal(pairs.condition, np.full(pairs.count, expected), equal_nan=True)


@pytest.mark.failure("ill-conditioned eigenvalue", through="api")
def test_large_condition_is_noted(comm):
    A = np.diag([1.0, 1.0 + 1e-3, 5.0])
    A[0, 1] = 1e4
    pairs = ga.solve_eigenproblem(pencil_of(comm, A), 1, target=0.8)
    assert any("has condition number" in note for note in pairs.info.notes)


# -- the transposed bordered system --


def assert_fell_back(pairs, count):
    assert sum("transposed bordered system" in note for note in pairs.info.notes) == count


def test_left_solve_without_a_result(comm):
    A, B = nonsymmetric(120), mass(120)
    options = {"left_eps_max_it": 1, "left_eps_ncv": 5}
    with ga.solve_eigenproblem(
        pencil_of(comm, A, B), 2, target=60.3, solver_parameters=options
    ) as pairs:
        assert_fell_back(pairs, pairs.count)
        assert_left_pairs(pairs, A, B, 1e-9)  # ||A|| is 120


@pytest.mark.parametrize("name", ["generalized", "standard", "rotation"])
def test_spectral_transformation_the_package_does_not_know(comm, name):
    A, B = PENCILS[name]
    pencil = pencil_of(comm, A, B)
    eps = SLEPc.EPS().create(comm)
    eps.setOperators(pencil.A, pencil.B)
    eps.setDimensions(nev=2)
    eps.setTolerances(tol=1e-13)
    eps.setWhichEigenpairs(SLEPc.EPS.Which.LARGEST_REAL)
    eps.getST().setShift(0.5)  # A - 0.5 B in place of A
    eps.solve()
    pairs = ga.Eigenpairs.from_eps(eps, pencil, count=2)
    assert pairs.factor is None
    assert_fell_back(pairs, pairs.count)
    assert_left_pairs(pairs, A, B)


def test_operator_with_its_hermitian_product(comm):
    A = nonsymmetric(6)
    model = ga.OperatorModel(
        6,
        lambda p, block: A @ block,
        lambda p, a, b, right: {},
        apply_a_hermitian=lambda p, block: A.T @ block,
        comm=comm,
    )
    pairs = ga.solve_eigenproblem(model.assemble({}), 2, which="largest_real")
    assert_left_pairs(pairs, A, None)


@pytest.mark.failure("left vectors", through="api")
def test_inaccurate_left_vectors_are_an_error(comm, monkeypatch):
    # As if an accuracy were required that nothing reaches.
    monkeypatch.setattr(left_vectors, "residual_limit", lambda tolerance: 1e-30)
    with pytest.raises(ga.ConvergenceError, match=r"left vectors must .*lower eps_tol") as caught:
        ga.solve_eigenproblem(pencil_of(comm, nonsymmetric(6)), 1, target=0.4)
    assert caught.value.reason == "LEFT_RESIDUAL"
    assert 0 < caught.value.residual_norm < 1e-8


# -- symmetric pencils: no second solve --


def forbidden(*_):
    raise AssertionError("no transposed solve was needed")


COMPLEX_SYMMETRIC = np.diag(np.arange(1.0, N + 1)) * SCALAR(1 + 0.2j) + SCALAR(0.3 - 0.4j) * (
    np.eye(N, k=1) + np.eye(N, k=-1)
)


@pytest.mark.parametrize(
    ("A", "B"),
    [
        (COMPLEX_SYMMETRIC, mass(N)),
        (COMPLEX_SYMMETRIC, None),
        PENCILS["indefinite_B"],
        (np.array([[1.0, 2.0], [2.0, -1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])),
    ],
)
def test_conjugated_right_vectors_of_symmetric_pencils(comm, monkeypatch, A, B):
    monkeypatch.setattr(left_vectors, "_transposed_vectors", forbidden)
    with ga.solve_eigenproblem(pencil_of(comm, A, B), 2, target=0.35) as pairs:
        assert_left_pairs(pairs, A, B)
        ratio = pairs.left / pairs.right.conj()
        assert np.allclose(ratio, ratio[0])


def test_declared_nonsymmetric_pencils_are_solved_twice(comm, monkeypatch):
    monkeypatch.setattr(left_vectors, "_transposed_vectors", forbidden)
    pencil = pencil_of(comm, COMPLEX_SYMMETRIC, problem_type="nhep")
    with pytest.raises(AssertionError, match="no transposed solve"):
        ga.solve_eigenproblem(pencil, 2, target=0.35)


def test_a_whole_cluster_from_the_bordered_system(comm, monkeypatch):
    """The transposed solve may miss copies as the first one does: the border gets all of them."""

    def useless(pencil, transformation, found, wanted):
        return np.zeros(0, dtype=complex), np.zeros((pencil.n_local, 0), dtype=complex)

    monkeypatch.setattr(left_vectors, "_transposed_vectors", useless)
    with ga.solve_eigenproblem(pencil_of(comm, DOUBLE), 3) as pairs:
        assert_left_pairs(pairs, DOUBLE, None)
        assert len(pairs.info.notes) == 3


@pytest.mark.parametrize("decades", [5, 7, 9, 11])
@pytest.mark.parametrize("seed", range(4))
def test_rows_in_other_units(comm, seed, decades):
    """Scaling the rows of A and B alike leaves values and right vectors as they are."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((2, 7, 7))
    rows = 10.0 ** (decades * rng.random(7))
    values, left, right = scipy.linalg.eig(A, B, left=True)
    with ga.solve_eigenproblem(pencil_of(comm, rows[:, None] * A, rows[:, None] * B), 2) as pairs:
        for j, value in enumerate(pairs.values):
            i = np.argmin(np.abs(values - value))
            y = left[:, i] / (left[:, i].conj() @ B @ right[:, i]).conj() / rows
            x = right[:, i]
            # Rank-one matrices that do not depend on scale and phase of the vectors.
            found = np.outer(whole(pairs, pairs.right)[:, j], whole(pairs, pairs.left)[:, j].conj())
            expected = np.outer(x, y.conj())
            assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)

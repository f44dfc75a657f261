"""What B and A are, definite or not: measured, corrected when wrong, and solved or explained."""

import numpy as np
import pytest
import scipy.linalg
from pencils import COMPLEX_BUILD, petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import pencil as pencil_module
from geneig_adjoint import symmetry
from geneig_adjoint.symmetry import is_positive

N = 12
rng = np.random.default_rng(7)
L = np.eye(N) + 0.2 * rng.standard_normal((N, N))
L_COMPLEX = L + 0.15j * rng.standard_normal((N, N))
BUILDS = [L, L_COMPLEX][: 1 + COMPLEX_BUILD]
SIGNS = np.where(np.arange(N) % 3 == 1, -1.0, 1.0)
STIFF = np.linspace(1.0, 9.0, N)
MIXED = np.where(np.arange(N) % 2, -1.0, 1.0) * STIFF
MASS = np.linspace(0.5, 2.0, N)
HOLES = np.where(np.arange(N) < N - 3, 1.0, 0.0)


def congruent(F, diagonal, turn):
    """F Q diag Q^H F^H: its inertia is that of the diagonal."""
    Q = scipy.linalg.qr(np.eye(N) + turn * (F - np.eye(N)))[0]
    M = F @ Q @ np.diag(diagonal) @ Q.conj().T @ F.conj().T
    return (M + M.conj().T) / 2


# diagonals of A and B, type, whether B counts as positive
CLASSES = {
    "identity": (MIXED, None, "hep", True),
    "definite": (MIXED, MASS, "ghep", True),
    "negative": (STIFF, -MASS, "ghep", False),
    "negative_and_A_indefinite": (MIXED, -MASS, "ghiep", False),
    "indefinite_and_A_definite": (STIFF, SIGNS * MASS, "ghep", False),
    "indefinite_and_A_indefinite": (MIXED, SIGNS * MASS, "ghiep", False),
    "semidefinite": (MIXED, HOLES * MASS, "ghep", True),
    "singular_indefinite": (MIXED, HOLES * SIGNS * MASS, "ghiep", False),
    "singular_indefinite_and_A_definite": (STIFF, HOLES * SIGNS * MASS, "ghep", False),
}


@pytest.fixture
def held(comm):
    mats = []

    def pencil(A, B, **options):
        made = [None if M is None else petsc_matrix(comm, M) for M in (A, B)]
        mats.extend(M for M in made if M is not None)
        return ga.Pencil(*made, **options)

    yield pencil
    for mat in mats:
        mat.destroy()


def finite_values(A, B, target):
    """Return the finite eigenvalues, those nearest to the target first."""
    alpha, beta = scipy.linalg.eigvals(A, B, homogeneous_eigvals=True)
    values = alpha[np.abs(beta) > 1e-10] / beta[np.abs(beta) > 1e-10]
    return values[np.argsort(np.abs(values - target))]


def error(found, exact, target):
    """Return how far computed values are from exact ones, and from being the nearest.

    (Of a conjugate pair at the end, either half will do.)
    """
    gaps = np.abs(found[:, None] - exact[None, :]) / np.abs(exact)
    sizes = np.abs(exact - target)[: len(found)]
    return max(gaps.min(axis=1).max(), (np.abs(np.abs(found - target) - sizes) / sizes).max())


@pytest.mark.failure("B not positive", through="api")
@pytest.mark.parametrize("target", [0.0, 0.7, -1.6])
@pytest.mark.parametrize("F", BUILDS, ids=["real", "complex"][: len(BUILDS)])
@pytest.mark.parametrize("name", list(CLASSES))
def test_every_class_is_solved(held, name, F, target):
    a, b, kind, positive = CLASSES[name]
    A = congruent(F, a, 0.0)
    B = b if b is None else congruent(F, b, 1.0)
    pencil = held(A, B)
    assert (pencil.problem_type, pencil.B_positive) == (kind, positive)
    exact = finite_values(A, B, target)
    with ga.solve_eigenproblem(pencil, 4, target=target) as pairs:
        X, Y, lam = pairs.right, pairs.left, pairs.values
        # conditions of the eigenvalues are below 1e3
        assert error(lam, exact, target) < 1e-10
        assert np.isfinite(lam).all()
        assert np.abs(lam).max() < 1e4
        B = np.eye(N) if B is None else B
        defect = Y.conj().T @ A - lam[:, None] * (Y.conj().T @ B)
        assert np.abs(defect).max() < 1e-10 * np.abs(A).max() * np.abs(Y).max()
        assert np.allclose(Y.conj().T @ B @ X, np.eye(len(lam)), atol=1e-9)


@pytest.mark.failure("B not positive", through="api")
@pytest.mark.parametrize("options", [{}, {"problem_type": "ghep"}, {"problem_type": "gnhep"}])
def test_zero_is_refused(held, options):
    with pytest.raises(ga.InputError, match=r"B must have entries, got zeros only.*leave B out"):
        held(np.diag(STIFF), 0 * np.eye(N), **options)


def test_zero_after_a_change_is_refused(held):
    pencil = held(np.diag(STIFF), np.eye(N))
    pencil.B.zeroEntries()
    with pytest.raises(ga.InputError, match="B must have entries"):
        pencil.entries_changed()


@pytest.mark.parametrize("B", [None, [[2.0]], [[-2.0]]])
def test_one_row(held, B):
    b = 1.0 if B is None else B[0][0]
    with ga.solve_eigenproblem(held(np.array([[3.0]]), B if B is None else np.array(B))) as pairs:
        assert np.allclose(pairs.values, 3.0 / b, rtol=1e-14)
        assert np.allclose(pairs.left * b * pairs.right, 1.0, rtol=1e-14)


# -- proofs by entries: no Lanczos step is made --


def off(i, j, value):
    M = np.zeros((N, N))
    M[i, j] = M[j, i] = value
    return M


LARGE = np.diag(np.logspace(-6, 0, N))
CERTAIN = {
    "lumped": (LARGE, True),
    "lumped_semidefinite": (np.diag(HOLES), True),
    "dominant": (4 * np.eye(N) + np.eye(N, k=1) + np.eye(N, k=-1), True),
    "bar": (2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1), True),
    "diagonal": (LARGE + np.diag(-1e-8 * np.eye(N)[3]) - np.diag(LARGE * np.eye(N)[3]), False),
    "negative_entry": (np.diag(np.where(np.arange(N) == 5, -1e-7, 1.0)), False),
    "minor": (LARGE + off(0, 1, 3e-6), False),
    "zero_diagonal": (np.diag(HOLES) + off(2, N - 1, 1e-3), False),
}


@pytest.mark.parametrize("name", list(CERTAIN))
def test_entries_prove_the_sign(comm, monkeypatch, name):
    monkeypatch.setattr(symmetry, "_smallest_ritz", None)
    M, positive = CERTAIN[name]
    mat = petsc_matrix(comm, M)
    assert is_positive(mat) == positive
    mat.destroy()


ROUNDED = 1e-15 * rng.standard_normal((N, N)) * np.outer(1 - HOLES, 1 - HOLES)
MEASURED = {
    "scaled": (np.sqrt(LARGE) @ L @ L.T @ np.sqrt(LARGE), True),
    # -1e-3 between neighbours that are all of size 1e-6
    "small_and_hidden": (
        np.sqrt(LARGE)
        @ L
        @ np.diag(np.where(np.arange(N) == 0, -1e-3, 1.0))
        @ L.T
        @ np.sqrt(LARGE),
        False,
    ),
    "noise_of_holes": (np.diag(HOLES) + 0.4 * off(0, 1, 1) + off(1, 2, 0.9) + ROUNDED, True),
    "outer_product": (np.outer(L[0], L[0]) + np.outer(L[1], L[1]), True),
    "outer_product_with_a_sign": (np.outer(L[0], L[0]) - 1e-6 * np.outer(L[1], L[1]), False),
}


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("name", list(MEASURED))
def test_measured_signs_do_not_depend_on_units(comm, name, factor):
    M, positive = MEASURED[name]
    mat = petsc_matrix(comm, factor * (M + M.T) / 2)
    assert is_positive(mat) == positive
    mat.destroy()


@pytest.mark.parametrize(
    ("M", "positive"),
    [
        (np.diag(STIFF), True),
        (np.diag(HOLES), False),
        (2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1), True),
        (L @ L.T, True),
    ],
)
def test_strictly(comm, M, positive):
    mat = petsc_matrix(comm, M)
    assert is_positive(mat, strictly=True) == positive
    mat.destroy()


# -- hidden negative directions: the measurement is wrong, the solve shows it --

LONG = 600
LINE = 2 * np.eye(LONG) - np.eye(LONG, k=1) - np.eye(LONG, k=-1)
SMALLEST = 2 - 2 * np.cos(np.array([1, 2]) * np.pi / (LONG + 1))
# One eigenvalue is negative, by 1e-5, and its vector as smooth as can be.
HIDDEN = LINE - SMALLEST.mean() * np.eye(LONG)
RAMP = np.diag(np.linspace(1.0, 3.0, LONG)) + 0.3 * LINE - 1.9 * np.eye(LONG)
PLUS_MINUS = np.diag(np.where(np.arange(LONG) % 3, 1.0, -1.0))
EXACT_HIDDEN = {
    "B": (RAMP, HIDDEN, -400.0, ["B"]),
    "A": (HIDDEN, PLUS_MINUS, 0.0, ["A"]),
    "both": (LINE @ LINE - SMALLEST.mean() ** 2 * np.eye(LONG), HIDDEN, 0.0, ["A", "B"]),
}


@pytest.mark.parametrize("name", list(EXACT_HIDDEN))
def test_a_hidden_negative_direction_is_found_by_the_solve(held, name):
    A, B, target, wrong = EXACT_HIDDEN[name]
    pencil = held(A, B)
    assert pencil.problem_type == "ghep"  # as it looks
    exact = finite_values(A, B, target)
    with ga.solve_eigenproblem(pencil, 3, target=target) as pairs:
        # A and B of size 16 and 4 are 1e-5 on these vectors: 1e-16 x 16 / 1e-9 for LAPACK
        assert error(pairs.values, exact, target) < 1e-5
        assert pencil.problem_type == "ghiep"
        assert not pencil.definite
        notes = [note for note in pairs.info.notes if "looked definite and is not" in note]
    assert sorted(note[0] for note in notes) == wrong
    # remembered: the next solve goes straight
    with ga.solve_eigenproblem(pencil, 3, target=target) as again:
        assert "looked definite" not in " ".join(again.info.notes)


def test_what_a_solve_has_shown_is_measured_again_after_a_change(held):
    pencil = held(*EXACT_HIDDEN["A"][:2])
    ga.solve_eigenproblem(pencil, 1).close()
    assert not pencil.A_positive
    pencil.A.shift(1.0)
    pencil.entries_changed()
    assert pencil.A_positive


def test_negative_squares_of_computed_vectors_reclassify(held, monkeypatch):
    """Nothing fails, and the residuals are fine: x^H B x shows what B is."""
    monkeypatch.setattr(pencil_module, "is_positive", lambda mat, **_: True)
    A, B = np.diag(MIXED), np.diag(SIGNS * MASS)
    with ga.solve_eigenproblem(held(A, B), 4, target=0.3) as pairs:
        assert pairs.pencil.problem_type == "ghiep"
        assert error(pairs.values, finite_values(A, B, 0.3), 0.3) < 1e-12


NOT_HERE = ["got problem type ghiep", "in the complex build"][COMPLEX_BUILD]


def test_an_interval_of_a_pencil_that_only_looked_definite(held, monkeypatch):
    monkeypatch.setattr(pencil_module, "is_positive", lambda mat, **_: mat.norm() < 50)
    with pytest.raises(ga.InputError, match=f"an interval needs.*{NOT_HERE}"):
        ga.solve_eigenproblem(
            held(np.diag(1e3 * MIXED), np.diag(SIGNS * MASS)), interval=(-4e3, 4e3)
        )


def test_definite_pencils_that_fail_keep_their_error(held):
    with pytest.raises(ga.ConvergenceError, match="must give 4 pairs"):
        ga.solve_eigenproblem(
            held(np.diag(STIFF), np.diag(MASS)), 4, target=100.0,
            solver_parameters={"eps_max_it": 1, "eps_ncv": 5},
        )  # fmt: skip


def test_defective_infinite_eigenvalues_are_not_taken_for_finite_ones(comm):
    # A = I, B = diag([[0, 1], [0, 0]], 2, 4): rounding makes the infinite ones +-1e8.
    B = np.diag([0.0, 0.0, 2.0, 4.0])
    B[0, 1] = 1.0
    T = np.eye(4) + 0.2 * np.random.default_rng(2).standard_normal((4, 4))
    pencil = ga.Pencil(*[petsc_matrix(comm, T @ M @ np.linalg.inv(T)) for M in (np.eye(4), B)])
    with ga.solve_eigenproblem(pencil, 2, target=0.1) as pairs:
        np.testing.assert_allclose(np.sort(pairs.values.real), [0.25, 0.5], rtol=1e-9)
    with pytest.raises(ga.ConvergenceError, match="must give 3 pairs, got 2 finite") as caught:
        ga.solve_eigenproblem(pencil, 3, target=0.1)
    np.testing.assert_allclose(np.sort(caught.value.pairs.values.real), [0.25, 0.5], rtol=1e-9)

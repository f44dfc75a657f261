"""The window of the count: no wider than needed, and right at every end of the spectrum."""

import numpy as np
import pytest
from builders import matrix, whole
from pencils import COMPLEX_BUILD

import geneig_adjoint as ga

CHECKED = ["inertia", "second start"][COMPLEX_BUILD]


def pencil_of(comm, A, B=None):
    return ga.Pencil(matrix(A, comm), None if B is None else matrix(B, comm))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_dense_spectrum_at_an_offset(comm, count):
    # A hundredth of the values spans the whole spectrum, which nobody asked for.
    n, target = 300, 1e4 + 150.3
    A = np.diag(1e4 + np.arange(n)) + 0.05 * (np.eye(n, k=1) + np.eye(n, k=-1))
    exact = np.linalg.eigvalsh(A)
    with (
        pencil_of(comm, A) as pencil,
        ga.solve_eigenproblem(pencil, count, target=target) as pairs,
    ):
        expected = exact[np.argsort(np.abs(exact - target))[:count]]
        np.testing.assert_allclose(pairs.values[:count], expected, rtol=1e-11)
        assert pairs.info.completeness.method == CHECKED
        assert pairs.info.completeness.mended <= count


@pytest.mark.parametrize("which", ["largest_real", "largest_magnitude"])
def test_small_values_beyond_a_large_one(comm, which):
    values = np.r_[1000.0, 1.0, np.linspace(0.0, 0.9, 150)]
    with (
        pencil_of(comm, np.diag(values)) as pencil,
        ga.solve_eigenproblem(pencil, 2, which=which) as pairs,
    ):
        np.testing.assert_allclose(pairs.values, [1000.0, 1.0], rtol=1e-9)
        assert pairs.info.completeness.mended <= 2


@pytest.mark.parametrize("count", [5, 6, 30])
def test_largest_magnitudes_down_to_zero(comm, count):
    C = np.random.default_rng(0).standard_normal((5, 30))
    exact = np.sort(np.linalg.svd(C)[1] ** 2)[::-1]
    with (
        pencil_of(comm, C.T @ C) as pencil,
        ga.solve_eigenproblem(pencil, count, which="largest_magnitude") as pairs,
    ):
        np.testing.assert_allclose(pairs.values[:5], exact, rtol=1e-10)
        assert np.abs(pairs.values[5:]).max(initial=0.0) < 1e-10
        assert pairs.info.completeness.found in {pairs.count, 30}


def buckling(multiplicity, seed, n=24):
    """Return A positive definite, B indefinite, with values of that multiplicity, both signs."""
    rng = np.random.default_rng(seed)
    single = rng.uniform(1.0, 5.0, n // multiplicity) * rng.choice([-1.0, 1.0], n // multiplicity)
    values = np.repeat(single, multiplicity)
    F = np.eye(n) + 0.4 * rng.standard_normal((n, n)) / np.sqrt(n)
    return F @ F.T, F @ np.diag(1.0 / values) @ F.T, np.sort(single)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("multiplicity", [2, 3, 4])
@pytest.mark.parametrize(
    "wanted",
    [
        {"which": "smallest_real"},
        {"which": "largest_real"},
        {"which": "largest_magnitude"},
        {"target": 0.0},
        {"target": -2.2},
        {"target": 2.7},
    ],
    ids=str,
)
def test_copies_where_the_first_matrix_is_definite(comm, wanted, multiplicity, seed):
    A, B, single = buckling(multiplicity, seed)
    keys = {
        "smallest_real": single,
        "largest_real": -single,
        "largest_magnitude": -np.abs(single),
        None: np.abs(single - wanted.get("target", 0.0)),
    }[wanted.get("which")]
    ordered = single[np.argsort(keys)]
    with (
        pencil_of(comm, A, B) as pencil,
        ga.solve_eigenproblem(pencil, multiplicity + 1, **wanted) as pairs,
    ):
        assert pencil.definite
        np.testing.assert_allclose(pairs.values, np.repeat(ordered[:2], multiplicity), rtol=1e-8)
        vectors = whole(pairs, pairs.right)
        singular = np.linalg.svd(vectors / np.linalg.norm(vectors, axis=0))[1]
        # Copies, not the same vector again: B is as far from the identity as F.
        assert singular.min() > 1e-2
        record = pairs.info.completeness
        assert record.expected in {None, record.found}


@pytest.mark.parametrize("which", ["smallest_real", "largest_real"])
@pytest.mark.parametrize("zeros", [2, 3])
def test_zeros_with_an_identity_as_mass(comm, which, zeros):
    # What a product with the operator does to vectors of small values: nothing is left.
    n = 20
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((n, n)))[0]
    values = np.r_[np.zeros(zeros), np.linspace(1.0, 4.0, n - zeros)]
    with (
        pencil_of(comm, turn @ np.diag(values) @ turn.T, np.eye(n)) as pencil,
        ga.solve_eigenproblem(pencil, n, which=which) as pairs,
    ):
        np.testing.assert_allclose(np.sort(pairs.values.real), values, atol=1e-12)
        assert pairs.residuals.max() < 1e-12


def test_a_regular_mass_is_asked_for_without_a_target(comm):
    A = np.diag(np.arange(1.0, 9.0)) + np.eye(8, k=1)
    B = np.diag(np.r_[np.ones(6), 0.0, 0.0])
    with (
        pencil_of(comm, A, B) as pencil,
        pytest.raises(ga.ConvergenceError, match=r"B must be regular.*largest_real; give a target"),
    ):
        ga.solve_eigenproblem(pencil, 2, which="largest_real")

"""Completeness by the factors of left vectors: when it is claimed, and when it must not be.

Factors cost nothing here, so that they always pay.
"""

import numpy as np
import pytest
import scipy.linalg
from builders import matrix
from test_near_factors import free_factors, model_of, never, simple

import geneig_adjoint as ga
from geneig_adjoint import completeness, simple_pairs
from geneig_adjoint._petsc import deterministic_block
from geneig_adjoint.simple_pairs import RitzWatch

__all__ = ["free_factors"]


def solved(comm, A, count=1, **settings):
    return ga.solve_eigenproblem(ga.Pencil(matrix(A, comm)), count, target=0.2, **settings)


def turned(A):
    """Return a similar matrix without a pattern, of condition below 10."""
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal(A.shape))[0]
    turn = np.linspace(1.0, 3.0, len(A))[:, None] * turn
    return turn @ A @ np.linalg.inv(turn)


@pytest.mark.parametrize("count", [1, 3])
def test_simple_pairs_need_no_second_start(comm, monkeypatch, count):
    monkeypatch.setattr(completeness, "_deflated", never)
    with solved(comm, turned(simple(40)), count) as pairs:
        assert pairs.info.completeness.method == "simple"
        assert pairs.info.completeness.found == count
        assert len(pairs.factor.near) == count
        exact = np.sort(np.linalg.eigvals(simple(40)).real)[:count]
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10)


def test_conjugates_need_one_factor_where_the_matrix_is_real(comm):
    A = scipy.linalg.block_diag([[1.0, 2.0], [-0.5, 1.0]], np.diag(np.arange(5.0, 40.0)))
    with ga.solve_eigenproblem(ga.Pencil(matrix(turned(A), comm)), 2, target=0.0) as pairs:
        assert pairs.info.completeness.method == "simple"
        np.testing.assert_allclose(np.sort(pairs.values.imag), [-1.0, 1.0], rtol=1e-9)
        assert len(pairs.factor.near) == 2 - simple_pairs._petsc.REAL_SCALARS


def test_missed_copies_are_still_found(comm):
    A = np.diag(np.r_[1.0, 1.0, 1.0, np.arange(2.0, 40.0)])
    with solved(comm, turned(A)) as pairs:
        assert pairs.info.completeness.method == "second start"
        np.testing.assert_allclose(pairs.values, np.ones(3), rtol=1e-9)


@pytest.mark.parametrize("distance", [1e-9, 1e-6, 1e-5])
def test_near_neighbours_are_looked_for(comm, distance):
    A = np.diag(np.r_[1.0, 1.0 + distance, np.arange(2.0, 40.0)])
    with solved(comm, turned(A)) as pairs:
        assert pairs.info.completeness.method == "second start"


def test_neighbours_are_as_near_as_b_makes_them(comm):
    A = turned(np.diag(np.r_[1.0, 1.0 + 1e-5, np.arange(2.0, 40.0)]))
    pencil = ga.Pencil(matrix(A, comm), matrix(1e6 * np.eye(40), comm))
    with ga.solve_eigenproblem(pencil, 1, target=0.2e-6) as pairs:
        assert pairs.info.completeness.method == "second start"


def test_neighbours_in_a_window_wider_than_the_distance_of_the_shift_are_looked_for(comm):
    """The window ends 1e-5 beyond the value, the shift is as near as that."""
    A = np.diag(np.r_[1.0, 1.0 + 3e-5, np.arange(2.0, 40.0)])
    pencil = ga.Pencil(matrix(turned(A), comm))
    with ga.solve_eigenproblem(pencil, 1, target=1.0 - 1e-5) as pairs:
        assert pairs.info.completeness.method == "second start"


def test_values_in_jordan_blocks_are_not_called_simple(comm):
    A = np.diag(np.r_[1.0, 1.0, np.arange(2.0, 40.0)])
    A[0, 1] = 1.0
    with solved(comm, A, left=True) as pairs:
        assert pairs.info.completeness.method == "second start"


@pytest.mark.parametrize(
    "settings",
    [
        {"left": False},
        {"solver_parameters": {"eps_tol": 1e-6}},
        {"solver_parameters": {"eps_ncv": 20}},
        {"solver_parameters": {"left_type": "krylov"}},
    ],
    ids=str,
)
def test_requests_that_need_a_second_start(comm, settings):
    with solved(comm, turned(simple(40)), **settings) as pairs:
        assert pairs.info.completeness.method == "second start"


def test_start_vectors_that_know_the_pairs_prove_nothing(comm):
    A = turned(simple(40))
    with solved(comm, A) as pairs, solved(comm, A, like=pairs) as again:
        assert again.info.completeness.method == "second start"


def test_options_of_the_command_line_are_seen(comm):
    options = ga._petsc.PETSc.Options()
    options["ga_eps_max_it"] = 100
    try:
        with solved(comm, turned(simple(40))) as pairs:
            assert pairs.info.completeness.method == "second start"
    finally:
        options.delValue("ga_eps_max_it")


@pytest.mark.parametrize(
    ("size", "residual", "method"),
    [
        (1.0, 1e-9, "second start"),
        (0.9, 0.02, "second start"),  # 0.9 may be 0.9 x 1.2
        (0.9, 1e-3, "simple"),
        (0.9, 0.5, "simple"),  # no Ritz value yet
    ],
)
def test_other_ritz_values_as_near_to_the_target_are_looked_for(
    comm, monkeypatch, size, residual, method
):
    plain = RitzWatch.__call__

    def with_another(self, *arguments):
        plain(self, *arguments)
        theta = self.values[np.argmax(np.abs(self.values))]
        self.values = np.append(self.values, -size * theta)
        self.residuals = np.append(self.residuals, residual)

    monkeypatch.setattr(RitzWatch, "__call__", with_another)
    with solved(comm, turned(simple(40))) as pairs:
        assert pairs.info.completeness.method == method


def test_converged_values_at_the_same_distance_are_looked_for(comm, monkeypatch):
    """Opposite the wanted value, where its factor sees nothing; Ritz values might not show it."""
    plain = RitzWatch.__call__

    def with_one_alone(self, *arguments):
        plain(self, *arguments)
        first = np.argsort(-np.abs(self.values))[:1]
        self.values, self.residuals = self.values[first], self.residuals[first]

    monkeypatch.setattr(RitzWatch, "__call__", with_one_alone)
    A = np.diag(np.r_[1.0, -0.6 - 1e-12, np.arange(4.0, 42.0)])
    with solved(comm, turned(A)) as pairs:
        assert pairs.info.completeness.method == "second start"


def test_neighbour_of_which_the_first_vector_knows_little_is_seen(comm):
    """Inverse iteration begins with a thousandth of its vector: one step shows a distance of 1."""
    n = 40
    start = deterministic_block((0, n), 1, seed=23)[:, 0]
    start /= np.linalg.norm(start)
    across = np.linalg.qr(np.column_stack([start, np.ones(n)]))[0][:, 1]
    near = 1e-3 * start + np.sqrt(1 - 1e-6) * across
    Q = np.linalg.qr(np.column_stack([near, np.random.default_rng(5).random((n, n - 1))]))[0]
    T = np.diag(np.r_[1.0 + 3e-5, 1.0, np.arange(2.0, n)]) + np.diag(np.r_[0, 0, np.ones(n - 3)], 1)
    with solved(comm, Q @ T @ Q.T) as pairs:
        assert pairs.info.completeness.method == "second start"


def test_no_factor_is_kept_where_one_pair_is_not_simple(comm):
    A = np.diag(np.r_[1.0, 2.0, 2.0 + 1e-5, np.arange(4.0, 40.0)])
    with solved(comm, turned(A), 2, solver_parameters={"left_type": "krylov"}) as pairs:
        assert len(pairs.factor.near) == 0
    with solved(comm, turned(A), 2) as pairs:
        assert pairs.info.completeness.method == "second start"


def test_factors_of_a_scaled_pencil_end_with_it(comm):
    """Only rows are scaled: vectors of both pencils are the same, their matrices are not."""
    rows = 2.0 ** (12 * (np.arange(40) % 2))[:, None]
    A, slopes = turned(simple(40)), np.diag(np.arange(40.0))
    mats = [matrix(rows * item, comm) for item in (A, np.eye(40), slopes)]
    model, p = ga.MatrixModel(mats[0], mats[1], {"p": [(mats[2], None)]}), {"p": np.zeros(1)}
    found = []
    for kind in ("factors", "krylov"):
        with ga.solve_eigenproblem(
            model.assemble(p), 1, target=0.2, solver_parameters={"left_type": kind}
        ) as pairs:
            assert pairs.factor.scaling is not None
            assert not pairs.factor.near
            weight = np.arange(*pairs.rows) + 1.0
            form = ga.objectives.QuadraticForm(weight, (0,))
            found.append(ga.gradient(model, p, pairs, form)["p"][0])
    # The tolerance of adjoint solves is 1e-10.
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_gradient_after_the_proof_is_that_without(comm):
    model, p = model_of(comm, turned(simple(40))), {"p": np.zeros(1)}
    found = []
    for check in ("inertia", "off"):
        with ga.solve_eigenproblem(model.assemble(p), 1, target=0.2, count_check=check) as pairs:
            weight = np.arange(*pairs.rows) + 1.0
            form = ga.objectives.QuadraticForm(weight, (0,))
            found.append(ga.gradient(model, p, pairs, form)["p"][0])
    # Both are right at the first solve with the same factor.
    np.testing.assert_allclose(*found, rtol=1e-11)

"""CHOLMOD's factor is taken where A - sigma B is positive definite, and nowhere else."""

import numpy as np
import pytest
import scipy.linalg
from builders import chain, chain_parameters, dense, generalized, mass, matrix, stiffness, whole
from pencils import COMPLEX_BUILD, HAS_CHOLMOD

import geneig_adjoint as ga
from geneig_adjoint import builds, cholesky, completeness, eps_setup
from geneig_adjoint.block_solves import solve_block

N = 12
PACKAGE = "st_pc_factor_mat_solver_type"
CHOLMOD = ["mumps", "cholmod"][HAS_CHOLMOD]
B_ENDS = np.r_[1.0, np.zeros(N - 1)]
FREE = np.diag(np.r_[1.0, 2 * np.ones(N - 2), 1.0]) - np.eye(N, k=1) - np.eye(N, k=-1)


def package(pairs):
    return pairs.factor.eps.getST().getKSP().getPC().getFactorSolverType()


def nearest(A, B, count, target=0.0):
    values = scipy.linalg.eigvals(A, B).real
    return values[np.argsort(np.abs(values - target))][:count]


@pytest.fixture
def counted(monkeypatch):
    """Record the shifts at which negative pivots are counted."""
    seen, count = [], completeness.negative_pivots

    def recorded(pencil, sigma, prefix=""):
        seen.append(sigma)
        return count(pencil, sigma, prefix)

    monkeypatch.setattr(completeness, "negative_pivots", recorded)
    return seen


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"target": 0.0}, CHOLMOD),
        ({"target": -0.3}, CHOLMOD),
        ({"target": 0.3}, "mumps"),
        ({"target": 0.0, "solver_parameters": {PACKAGE: "mumps"}}, "mumps"),
        ({"target": 0.0, "solver_parameters": {"st_pc_type": "lu"}}, "mumps"),
    ],
    ids=["at 0", "below", "inside", "named", "lu"],
)
def test_package_of_a_definite_pencil(comm, settings, expected):
    exact = nearest(stiffness(N), mass(N), 3, settings["target"])
    with (
        generalized(N, comm, "symmetric") as pencil,
        ga.solve_eigenproblem(pencil, 3, **settings) as pairs,
    ):
        assert package(pairs) == expected
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10)


@pytest.mark.parametrize(
    ("A", "target", "expected"),
    [(stiffness(N), 0.0, 1), (stiffness(N), 0.3, 0), (stiffness(N) - 1.9 * np.diag(B_ENDS), 0.0, 1),
     (stiffness(N) - 2.1 * np.diag(B_ENDS), 0.0, 0), (stiffness(N) - 2.1 * np.eye(N), -3.0, 1)],
    ids=["at 0", "inside", "small diagonal", "negative diagonal", "below"],
)  # fmt: skip
def test_matrices_that_cannot_be_definite_are_not_tried(comm, monkeypatch, A, target, expected):
    tried, attempt = [], eps_setup.set_up_cholmod
    monkeypatch.setattr(eps_setup, "set_up_cholmod", lambda eps: tried.append(1) or attempt(eps))
    with (
        ga.Pencil(matrix(A, comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 2, target=target) as pairs,
    ):
        exact = nearest(A, np.eye(N), 2, target)
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10, atol=1e-12)
    assert len(tried) == expected * HAS_CHOLMOD


def test_package_of_a_nonsymmetric_pencil(comm):
    with (
        generalized(N, comm, "nonsymmetric") as pencil,
        ga.solve_eigenproblem(pencil, 3) as pairs,
    ):
        assert package(pairs) == "mumps"


def test_free_chain_below_its_zero(comm):
    with (
        ga.Pencil(matrix(FREE, comm), matrix(mass(N), comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 3, target=-0.1) as pairs,
    ):
        assert package(pairs) == CHOLMOD
        exact = nearest(FREE, mass(N), 3, -0.1)
        np.testing.assert_allclose(pairs.values.real, exact, atol=1e-12)  # its size is 4


@pytest.mark.parametrize("named", [{}, {PACKAGE: CHOLMOD}], ids=str)
def test_indefinite_matrix_with_a_positive_diagonal(comm, named, capfd):
    """L D L^T without pivoting, CHOLMOD's choice for small matrices, would pass."""
    weak = np.r_[2.0, 1.0, 1e-3, 1e-4, np.arange(5.0, N + 1)]
    A = np.diag(weak) + 0.1 * (np.eye(N, k=1) + np.eye(N, k=-1))
    exact = nearest(A, mass(N), 4)
    assert exact.min() < 0 < np.diag(A).min()
    with (
        ga.Pencil(matrix(A, comm), matrix(mass(N), comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 4, solver_parameters=named) as pairs,
    ):
        assert package(pairs) == "mumps"
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10)
        assert pairs.info.completeness.found == pairs.info.completeness.expected or COMPLEX_BUILD
    assert "CHOLMOD" not in "".join(capfd.readouterr())


def test_package_is_known_by_whatever_name_petsc_gives_it():
    assert builds.HAS_CHOLMOD == HAS_CHOLMOD


@pytest.mark.parametrize("hoped", [True, False], ids=["refused", "known"])
def test_petsc_without_the_package(comm, monkeypatch, hoped):
    monkeypatch.setattr(builds, "HAS_CHOLMOD", hoped and not COMPLEX_BUILD)
    monkeypatch.setitem(cholesky.CHOLMOD_OPTIONS, PACKAGE, "umfpack")  # has no Cholesky factor
    tried, attempt = [], eps_setup.set_up_cholmod
    monkeypatch.setattr(eps_setup, "set_up_cholmod", lambda eps: tried.append(1) or attempt(eps))
    with (
        generalized(N, comm, "symmetric") as pencil,
        ga.solve_eigenproblem(pencil, 3) as pairs,
    ):
        assert package(pairs) == "mumps"
        exact = nearest(stiffness(N), mass(N), 3)
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10)
    assert len(tried) == (hoped and not COMPLEX_BUILD)


def test_definite_a_beside_an_indefinite_b(comm):
    signs = mass(N) * np.where(np.arange(N) % 3, 1.0, -1.0)
    B = (signs + signs.T) / 2
    with (
        ga.Pencil(matrix(stiffness(N), comm), matrix(B, comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 3) as pairs,
    ):
        assert package(pairs) == CHOLMOD
        exact = nearest(stiffness(N), B, 3)
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10)


@pytest.mark.parametrize(
    ("settings", "real_build"),
    [
        ({}, 1),
        ({"count_check": "off"}, 0),
        # L D L^T proves no sign: the other end of the window is counted too.
        (
            {"solver_parameters": {"st_mat_cholmod_factor": "simplicial"}},
            1 + HAS_CHOLMOD,
        ),
    ],
    ids=["supernodal", "off", "simplicial"],
)
def test_factorisations_of_a_count(comm, counted, settings, real_build):
    with generalized(60, comm, "symmetric") as pencil, ga.solve_eigenproblem(pencil, 3, **settings):
        pass
    assert len(counted) == [real_build, 0][COMPLEX_BUILD]


@pytest.mark.parametrize("hermitian", [False, True], ids=["forward", "hermitian"])
@pytest.mark.parametrize("factor", [1.0, 1.0 + 0.5j], ids=["real", "complex"])
def test_blocks_are_swept_through_at_once(comm, monkeypatch, hermitian, factor):
    block = factor * np.random.default_rng(3).standard_normal((N, 5))
    with (
        generalized(N, comm, "symmetric") as pencil,
        ga.solve_eigenproblem(pencil, 3, target=-0.2) as pairs,
    ):
        K = dense(pencil.A) + 0.2 * dense(pencil.B)
        monkeypatch.setattr("geneig_adjoint._petsc.columnwise", None)  # one by one
        found = solve_block(pairs.factor.eps.getST().getKSP(), block, hermitian=hermitian)
    np.testing.assert_allclose(found, np.linalg.solve(K, block), rtol=1e-10)


def test_gradients_with_either_package(comm):
    p, found = chain_parameters(N), []
    model, weight = chain(N, comm), np.linspace(0.5, 1.5, N)
    for options in ({}, {PACKAGE: "mumps"}):
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, 4, solver_parameters=options) as pairs,
        ):
            objective = ga.objectives.QuadraticForm(weight, (0, 1, 2, 3))
            found.append(ga.gradient(model, p, pairs, objective))
            assert whole(pairs, pairs.right).shape == (N, pairs.count)
    # The tolerance of adjoint solves.
    for name in p:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-8, atol=1e-10)

"""Bordered matrices that one rank factors for all: solves, choices, failures."""

import numpy as np
import pytest
from builders import matrix
from mpi4py import MPI
from pencils import COMPLEX_BUILD
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import one_rank_factor
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.one_rank_factor import OneRankFactor

COMM = MPI.COMM_WORLD
N = 12
OWN_LU = {"st_pc_factor_mat_solver_type": "petsc"}

pytestmark = pytest.mark.skipif(COMM.size == 1, reason="one rank factors in any case")


def chained():
    """Return a nonsymmetric matrix with eigenvalues apart, the lowest real."""
    return np.diag(np.arange(1.0, N + 1)) + 0.4 * np.eye(N, k=1) - 0.3 * np.eye(N, k=-1)


@pytest.fixture(scope="module")
def pairs():
    pencil = ga.Pencil(matrix(chained(), COMM), owned=True)
    with ga.solve_eigenproblem(pencil, 2, target=0.0, solver_parameters=OWN_LU) as found:
        yield found


def system_of(pairs, **options):
    return BorderedSystem(
        pairs.pencil,
        complex(pairs.values[0]),
        pairs.right[:, 0],
        transformation=pairs.factor,
        settings=AdjointSettings("direct", options=options),
    )


@pytest.mark.parametrize("hermitian", [False, True])
@pytest.mark.parametrize("factor", [1.0, 1.0 + 0.5j])
def test_solutions_are_those_of_the_dense_matrix(pairs, hermitian, factor):
    rng = np.random.default_rng(2)
    rhs, rho = factor * rng.standard_normal((N, 2)), factor * rng.standard_normal((1, 2))
    with system_of(pairs) as system:
        v, nu = system.solve(rhs[slice(*pairs.rows)], rho, hermitian=hermitian)
        solver = system._solver(hermitian)
        assert solver.factors
        assert (solver._one.solves > 0) == (COMM.rank == 0)
        b, c = (np.concatenate(COMM.allgather(item)) for item in (system.b, system.c))
        scale = system.beta, system.gamma
    shifted = chained() - pairs.values[0].real * np.eye(N)
    bordered = np.block([[shifted, b / scale[0]], [c.T / scale[1], np.zeros((1, 1))]])
    exact = np.linalg.solve(bordered.T if hermitian else bordered, np.vstack([rhs, rho]))
    np.testing.assert_allclose(v, exact[:N][slice(*pairs.rows)], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(nu, exact[N:], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("hermitian", [False, True])
@pytest.mark.parametrize("factor", [1.0, 1.0 + 0.5j])
def test_blocks(hermitian, factor):
    A = chained() * (1.0 + 0.2j * COMPLEX_BUILD if COMPLEX_BUILD else 1.0)
    mat, context = matrix(A, COMM), OneRankFactor("one_")
    rows = slice(*mat.getOwnershipRange())
    pc = PETSc.PC().create(COMM)
    pc.setOperators(mat)
    pc.setType("python")
    pc.setPythonContext(context)
    with one_rank_factor._petsc.inserted_options("one_", {"ksp_type": "preonly", "pc_type": "lu"}):
        pc.setUp()
    block = factor * np.random.default_rng(2).standard_normal((N, 3))
    exact = np.linalg.solve(A.conj().T if hermitian else A, block)
    found = context.solve(block[rows], hermitian=hermitian)
    np.testing.assert_allclose(found, exact[rows], rtol=1e-12, atol=1e-14)
    pc.destroy()
    mat.destroy()


@pytest.mark.parametrize(
    "options",
    [{"pc_factor_mat_solver_type": "mumps"}, {"pc_type": "lu"}, {"ksp_type": "preonly"}],
    ids=lambda options: next(iter(options)),
)
def test_users_choose_that_all_factor(pairs, options):
    with system_of(pairs, **options) as system:
        assert system._solver(hermitian=False)._one is None


def test_options_of_the_package_reach_it(pairs, monkeypatch):
    """They are read by the rank that factors, whose workspace is not enlarged then."""
    seen, plain = [], one_rank_factor.set_up_factor

    def recorded(ksp, prefix):
        status = plain(ksp, prefix)
        seen.append(ksp.getPC().getFactorMatrix().getMumpsIcntl(14))
        return status

    monkeypatch.setattr(one_rank_factor, "set_up_factor", recorded)
    with system_of(pairs, mat_mumps_icntl_14=77) as system:
        assert system._solver(hermitian=False)._one is not None
    assert seen == [77] * (COMM.rank == 0)


def test_the_verdict_of_that_rank_is_shared(pairs, monkeypatch):
    monkeypatch.setattr(one_rank_factor, "set_up_factor", lambda *_: -10)
    with pytest.raises(ga.ConvergenceError, match="the matrix is singular"):
        system_of(pairs).factor()


@pytest.mark.parametrize("method", ["_factor", "_solve_at_home"])
def test_an_error_of_that_rank_is_raised_on_all(pairs, monkeypatch, method):
    def failing(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(OneRankFactor, method, failing)
    local = np.ones((pairs.rows[1] - pairs.rows[0], 1))
    with (
        pytest.raises(MemoryError, match="no room"),
        system_of(pairs) as system,
    ):
        system.solve(local, np.ones((1, 1)), hermitian=False)

"""MUMPS gets more workspace where its estimate was too small, or the error says what it was."""

import functools

import numpy as np
import pytest
from builders import matrix, own_rows
from pencils import COMPLEX_BUILD
from petsc4py import PETSc
from slepc4py import SLEPc

import geneig_adjoint as ga
from geneig_adjoint import _petsc, completeness, factoring

# Complex Hermitian factors do not tell the inertia.
INERTIA = [completeness.negative_pivots_of, lambda mat: None][COMPLEX_BUILD]
SIDE = 21  # odd: the lattice has one mode of eigenvalue zero


@functools.lru_cache
def lattice():
    """Return hopping between neighbours on a square, nothing on the diagonal, and its zero mode."""
    hop = np.eye(SIDE, k=1) + np.eye(SIDE, k=-1)
    A = np.kron(hop, np.eye(SIDE)) + 1.3 * np.kron(np.eye(SIDE), hop)
    values, vectors = np.linalg.eigh(hop)
    zero = vectors[:, np.argmin(np.abs(values))]
    return A, np.kron(zero, zero)


def lattice_system(comm, **settings):
    A, x = lattice()
    pencil = ga.Pencil(matrix(A, comm), owned=True)
    rows = slice(*own_rows(len(x), comm))
    settings = ga.AdjointSettings("direct", **settings)
    return pencil, ga.BorderedSystem(pencil, 0.0, x[rows].copy(), settings=settings)


def check_lattice_solve(comm, rhs, *, hermitian):
    """Compare the solution of the bordered system of the lattice with a dense one."""
    A, x = lattice()
    border = np.block([[A, x[:, None]], [x[None, :], np.zeros((1, 1))]])
    expected = np.linalg.solve(border, np.r_[rhs, 0.5])
    pencil, system = lattice_system(comm)
    with pencil, system:
        mine = rhs[slice(*own_rows(len(x), comm)), None]
        v, nu = system.solve(mine, np.array([0.5]), hermitian=hermitian)
    v = np.concatenate(comm.allgather(v[:, 0]))
    # Condition 1e3 times the tolerance
    np.testing.assert_allclose(np.r_[v, nu], expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("hermitian", [False, True], ids=["forward", "transposed"])
def test_factor_that_needs_more_workspace_than_estimated(comm, hermitian):
    rhs = np.random.default_rng(4).standard_normal(SIDE**2)
    check_lattice_solve(comm, rhs, hermitian=hermitian)


def test_workspace_that_the_user_has_set_is_left_alone(comm):
    pencil, system = lattice_system(comm, options={"mat_mumps_icntl_14": 1})
    match = r"must be solvable, got MUMPS error -9 \(its workspace is too small: raise mat_mumps_"
    rhs = np.ones((pencil.n_local, 1))
    with pencil, system, pytest.raises(ga.ConvergenceError, match=match):
        system.solve(rhs, np.zeros(1), hermitian=False)


def factor_options(kind):
    return {
        "ksp_type": "preonly",
        "pc_type": kind,
        "pc_factor_mat_solver_type": "mumps",
        "mat_mumps_icntl_13": 1,  # ScaLAPACK does not count
    }


def lattice_matrix(comm):
    A, _ = lattice()
    mat = matrix(A + 1e-9 * np.eye(len(A)), comm)
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    return mat


def factored_lattice(comm, kind, **options):
    """Return MUMPS's verdict, the workspace it had, and the residual of a solve."""
    mat = lattice_matrix(comm)
    ksp = PETSc.KSP().create(comm)
    ksp.setOperators(mat)
    ksp.setOptionsPrefix("roomy_")
    with _petsc.inserted_options("roomy_", factor_options(kind) | options):
        ksp.setFromOptions()
        status = factoring.set_up_factor(ksp, "roomy_")
    assert not _petsc.has_option("roomy_mat_mumps_icntl_14")
    workspace = ksp.getPC().getFactorMatrix().getMumpsIcntl(14)
    rhs, found = mat.createVecs()
    rhs.set(1.0)
    ksp.solve(rhs, found)
    residual = (mat * found - rhs).norm() / rhs.norm()
    _petsc.destroy(ksp, mat, rhs, found)
    return status, workspace, residual


def shifted_lattice(comm, kind):
    """Return MUMPS's verdict and the eigenvalue that an EPS of SLEPc's finds next to zero."""
    mat = lattice_matrix(comm)
    eps = SLEPc.EPS().create(comm)
    eps.setOperators(mat)
    eps.setProblemType(SLEPc.EPS.ProblemType.HEP)
    eps.setTarget(0.0)
    eps.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_MAGNITUDE)
    eps.getST().setType(SLEPc.ST.Type.SINVERT)
    eps.setOptionsPrefix("roomy_")
    with _petsc.inserted_options("roomy_st_", factor_options(kind)):
        eps.setFromOptions()
        status = factoring.set_up_factor(eps.getST().getKSP(), "roomy_st_", eps.setUp)
    eps.solve()
    value = complex(eps.getEigenvalue(0))
    _petsc.destroy(eps, mat)
    return status, value


@pytest.mark.parametrize("kind", ["lu", "cholesky"])
def test_any_ksp_gets_more_workspace(comm, kind):
    status, workspace, residual = factored_lattice(comm, kind)
    assert status == 0
    assert workspace in factoring.WORKSPACES
    assert residual <= 1e-4  # eps times condition 1e10; without a factor: 1
    status, workspace, _ = factored_lattice(comm, kind, mat_mumps_icntl_14=2)
    assert status == -9
    assert workspace == 2


@pytest.mark.parametrize("kind", ["lu", "cholesky"])
def test_an_eigensolver_gets_more_workspace(comm, kind):
    status, value = shifted_lattice(comm, kind)
    assert status == 0
    assert value == pytest.approx(1e-9, rel=1e-5)  # eps / 1e-9


def test_other_solvers_and_errors_pass(comm):
    mat = matrix(np.eye(4), comm)
    ksp = PETSc.KSP().create(comm)
    ksp.setOperators(mat)
    ksp.getPC().setType("jacobi")
    assert factoring.set_up_factor(ksp, "plain_") == 0

    def fail():
        raise PETSc.Error(76)

    with pytest.raises(PETSc.Error):
        factoring.set_up_factor(ksp, "plain_", fail)
    ksp.getPC().setType("lu")
    ksp.getPC().setFactorSolverType("mumps")

    def fail_earlier():
        raise PETSc.Error(56)

    with pytest.raises(PETSc.Error):  # before there is a factor
        factoring.set_up_factor(ksp, "plain_", fail_earlier)
    _petsc.destroy(ksp, mat)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(-9, "workspace"), (-10, "singular"), (-13, "memory"), (-90, "manual")],
)
def test_codes_of_mumps_are_explained(status, meaning):
    assert f"MUMPS error {status} (" in factoring.mumps_trouble(status)
    assert meaning in factoring.mumps_trouble(status)


@pytest.mark.parametrize("target", [0.0, 0.01])
def test_eigensolve_gets_the_workspace_it_needs(comm, target):
    A, _ = lattice()
    exact = np.linalg.eigvalsh(A)
    with (
        ga.Pencil(matrix(A, comm)) as pencil,
        ga.solve_eigenproblem(pencil, 3, target=target) as pairs,
    ):
        nearest = np.sort(np.abs(exact - target))[:3]
        np.testing.assert_allclose(np.sort(np.abs(pairs.values - target))[:3], nearest, atol=1e-10)


def test_inertia_of_a_matrix_that_needs_more_workspace(comm):
    A, _ = lattice()
    shifted = A - 0.01 * np.eye(len(A))
    counted = {True: None, False: int(np.sum(np.linalg.eigvalsh(shifted) < 0))}[COMPLEX_BUILD]
    assert INERTIA(matrix(shifted, comm)) == counted

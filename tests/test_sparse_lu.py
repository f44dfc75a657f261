"""PETSc's own LU on meshes of the plane: where it is taken, and that it must be accurate."""

from functools import cache

import numpy as np
import pytest
import scipy.sparse
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import sparse_lu

SHAPES = {"bar": (6000,), "plane": (72, 70), "solid": (18, 18, 18), "slab": (45, 45, 3)}


@pytest.fixture(autouse=True)
def one_rank_only(comm):
    assert comm.size == 1


@cache
def grid(*sides):
    """Return a nonsymmetric convection-diffusion matrix on a grid."""
    total = scipy.sparse.csr_matrix((int(np.prod(sides)),) * 2)
    for axis, side in enumerate(sides):
        along = scipy.sparse.diags([-1.02, 2.0 + 0.1 * axis, -0.98], [-1, 0, 1], (side, side))
        before, after = int(np.prod(sides[:axis])), int(np.prod(sides[axis + 1 :]))
        total = total + scipy.sparse.kron(
            scipy.sparse.kron(scipy.sparse.identity(before), along),
            scipy.sparse.identity(after),
        )
    return total.tocsr()


def mat_of(comm, csr):
    arrays = (csr.indptr.astype(PETSc.IntType), csr.indices.astype(PETSc.IntType), csr.data)
    return PETSc.Mat().createAIJ(csr.shape, csr=arrays, comm=comm)


def package_of(pairs):
    return pairs.factor.eps.getST().getKSP().getPC().getFactorSolverType()


def solved(comm, csr, **settings):
    return ga.solve_eigenproblem(
        ga.Pencil(mat_of(comm, csr)), 2, count_check="off", target=0.0, **settings
    )


@pytest.mark.parametrize("name", SHAPES)
def test_package_follows_the_dimension_of_the_mesh(comm, name):
    expected = {"bar": True, "plane": True, "solid": False, "slab": True}[name]
    assert sparse_lu.is_flat(ga.Pencil(mat_of(comm, grid(*SHAPES[name]))), 0.1) == expected


def without_a_diagonal_entry(csr):
    changed = csr.tolil()
    changed[70, 70] = 0.0
    return changed.tocsr()


def crowded(csr):
    """Return the matrix with further entries near the diagonal: more than are worth it."""
    bands = [np.full(csr.shape[0] - k, 1e-3) for k in range(1, 45)]
    return (csr + scipy.sparse.diags(bands, range(1, 45))).tocsr()


def random_graph(csr):
    places = np.random.default_rng(2).permutation(csr.shape[0])
    return (csr + 0.01 * scipy.sparse.identity(csr.shape[0]).tocsr()[places]).tocsr()


@pytest.mark.parametrize("change", [without_a_diagonal_entry, crowded, random_graph])
def test_what_is_not_taken(comm, change):
    assert not sparse_lu.is_flat(ga.Pencil(mat_of(comm, change(grid(72, 70)))), 0.0)


@pytest.mark.parametrize("limit", ["SMALLEST", "LARGEST"])
def test_small_and_very_large_problems(comm, monkeypatch, limit):
    monkeypatch.setattr(sparse_lu, limit, {"SMALLEST": 5041, "LARGEST": 5039}[limit])
    assert not sparse_lu.is_flat(ga.Pencil(mat_of(comm, grid(72, 70))), 0.0)


def test_pairs_are_those_of_mumps(comm):
    csr = grid(72, 70)
    mumps = {"st_pc_factor_mat_solver_type": "mumps"}
    with solved(comm, csr) as quick, solved(comm, csr, solver_parameters=mumps) as other:
        assert (package_of(quick), package_of(other)) == ("petsc", "mumps")
        assert np.allclose(quick.values, other.values, rtol=1e-11)
        for pairs in (quick, other):
            y, x, lam = pairs.left, pairs.right, pairs.values
            assert np.abs(csr @ x - lam * x).max() < 1e-10
            assert np.abs(csr.conj().T @ y - lam.conj() * y).max() < 1e-10 * np.abs(y).max()
            assert np.allclose(y.conj().T @ x, np.eye(2), atol=1e-8)


@pytest.mark.parametrize("option", ["st_mat_mumps_icntl_7", "st_ksp_type", "st_pc_type"])
def test_options_of_a_user_come_first(comm, option):
    value = {"st_mat_mumps_icntl_7": 6, "st_ksp_type": "preonly", "st_pc_type": "lu"}[option]
    with solved(comm, grid(72, 70), left=False, solver_parameters={option: value}) as pairs:
        assert package_of(pairs) == "mumps"


def small_pivot(csr, size):
    """Return the matrix with an entry on its diagonal that must not become a pivot.

    Its neighbours are cut off, so that nothing is added to it before its turn.
    """
    changed = csr.tolil()
    changed[0, :], changed[:, 0] = 0.0, 0.0
    changed[0, 0], changed[0, 1], changed[1, 0] = size, 3.0, 2.0
    return changed.tocsr()


@pytest.mark.parametrize("direction", [False, True])
def test_errors_of_either_direction_are_seen(comm, monkeypatch, direction):
    plain = sparse_lu.solve_block

    def disturbed(ksp, block, *, hermitian):
        found = plain(ksp, block, hermitian=hermitian)
        found[2500] *= 1.0 + 1e-12 * (hermitian == direction)
        return found

    monkeypatch.setattr(sparse_lu, "solve_block", disturbed)
    with solved(comm, grid(72, 70)) as pairs:
        assert package_of(pairs) == "mumps"


@pytest.mark.parametrize("size", [1e-14, 1e-7, 1e-200])
def test_pivots_that_are_too_small_are_left_to_mumps(comm, size):
    csr = small_pivot(grid(72, 70), size)
    pencil = ga.Pencil(mat_of(comm, csr))
    assert sparse_lu.is_flat(pencil, 0.0)
    with ga.solve_eigenproblem(pencil, 1, target=0.0) as pairs:
        assert package_of(pairs) == "mumps"
        x, lam = pairs.right, pairs.values
        assert np.abs(csr @ x - lam * x).max() < 1e-10


def test_growth_that_costs_digits_is_left_to_mumps(comm):
    """One pivot in twenty is small: no disaster, but two to four digits."""
    csr = grid(72, 70)
    small = np.random.default_rng(0).random(csr.shape[0]) < 0.05
    for size in (1e-4, 1e-5):
        changed = csr - scipy.sparse.diags(csr.diagonal() * small * (1 - size))
        with solved(comm, changed.tocsr()) as pairs:
            assert package_of(pairs) == "mumps"


def test_units_of_the_matrix_do_not_matter(comm):
    for unit in (1e-20, 1e20):
        with solved(comm, unit * grid(72, 70)) as pairs:
            assert package_of(pairs) == "petsc"


def test_shift_on_an_eigenvalue_is_moved_as_with_mumps(comm):
    csr = grid(72, 70) + 0.0 * scipy.sparse.identity(5040)
    with solved(comm, csr) as pairs:
        target = float(pairs.values[0].real)
    with ga.solve_eigenproblem(
        ga.Pencil(mat_of(comm, csr)), 1, count_check="off", target=target
    ) as pairs:
        assert np.isclose(pairs.values[0], target, rtol=1e-10)
        assert pairs.residuals[0] < 1e-10

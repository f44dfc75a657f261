"""Matrices that are block triangular up to the order of their rows: groups, solves, fall-backs."""

import numpy as np
import pytest
import scipy.sparse
from pencils import COMPLEX_BUILD, HAS_CHOLMOD
from petsc4py import PETSc
from test_sparse_lu import grid, mat_of

import geneig_adjoint as ga
from geneig_adjoint import block_triangular, builds, sparse_lu
from geneig_adjoint.block_triangular import TriangularFactor, groups_of, triangular_factor

FIRST = grid(50, 45)
SECOND = grid(46, 50) + grid(46, 50).T


@pytest.fixture(autouse=True)
def one_rank_only(comm):
    assert comm.size == 1


def coupled(shape, scale, *, seed):
    found = scipy.sparse.random(*shape, 5e-4, "csr", rng=np.random.default_rng(seed))
    return 0.1 * scale * found


def layered():
    """Return a matrix of two large groups, single rows before, between and behind them.

    The first single row drives the first group, the second is driven by it and drives the other.
    Stored zeros would close the circle.
    """
    zeros = scipy.sparse.csr_matrix((FIRST.shape[0], SECOND.shape[0]))
    back = coupled(zeros.shape, 1.0, seed=3)
    back.data[:] = 0.0
    one = scipy.sparse.csr_matrix([[3.0]])

    def row(size, seed):
        return coupled((1, size), 10.0, seed=seed)

    n, m = FIRST.shape[0], SECOND.shape[0]
    return scipy.sparse.bmat(
        [
            [one, None, None, None, None],
            [row(n, 4).T, FIRST, None, back, None],
            [None, row(n, 5), one, None, None],
            [None, coupled((m, n), 1.0, seed=6), row(m, 7).T, SECOND, None],
            [None, None, None, row(m, 8), one],
        ],
        format="csr",
    )


def shuffled(csr, seed=1):
    places = np.random.default_rng(seed).permutation(csr.shape[0])
    found = csr[places][:, places].tocsr()
    found.sort_indices()
    return found


def with_feedback(csr):
    """Return the matrix with one entry that makes the first group feel the second."""
    changed = csr.tolil()
    changed[5, 1 + FIRST.shape[0] + 7] = 1e-3
    return changed.tocsr()


def factor_of(comm, csr):
    ksp = PETSc.KSP().create(comm)
    mat = mat_of(comm, csr)
    ksp.setOperators(mat)
    ksp.setType("preonly")
    ksp.getPC().setType("python")
    ksp.getPC().setPythonContext(TriangularFactor())
    ksp.setUp()
    return ksp, mat


def packages(ksp):
    return [group.ksp.getPC().getFactorSolverType() for group in triangular_factor(ksp).groups]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("order", [lambda csr: csr, shuffled])
def test_groups_depend_on_earlier_ones_only(comm, order, transposed):
    csr = order(layered())
    csr = csr.T.tocsr() if transposed else csr
    groups = groups_of(mat_of(comm, csr))
    # Each large group has one, two or no single rows with it.
    assert len(groups) == 2
    assert sum(len(rows) for rows in groups) == csr.shape[0] == len(np.unique(np.hstack(groups)))
    assert min(len(rows) for rows in groups) >= FIRST.shape[0]
    assert not np.any(csr[groups[0]][:, groups[1]].toarray())


@pytest.mark.parametrize(
    "csr",
    [with_feedback(layered()), FIRST, scipy.sparse.block_diag([FIRST, grid(30, 30)], "csr")],
    ids=["feedback", "one", "small"],
)
def test_what_has_no_groups(comm, csr):
    assert groups_of(mat_of(comm, csr)) is None
    assert not block_triangular.is_triangular(ga.Pencil(mat_of(comm, csr)), 0.0)


def test_groups_are_those_of_the_shifted_matrix(comm):
    """B couples back: with A of groups it closes the circle, with such an A it may open it."""
    coupled_b = with_feedback(scipy.sparse.identity(layered().shape[0], format="csr"))
    for csr, found in ((layered(), [True, False, False]), (with_feedback(layered()), [0, 1, 0])):
        pencil = ga.Pencil(mat_of(comm, csr), mat_of(comm, coupled_b))
        assert [block_triangular.is_triangular(pencil, s) for s in (0.0, 1.0, -1.0)] == found


@pytest.mark.parametrize("hermitian", [False, True])
@pytest.mark.parametrize("order", [lambda csr: csr, shuffled])
def test_solutions_are_those_of_the_whole_matrix(comm, order, hermitian):
    csr = order(layered())
    csr = csr if not COMPLEX_BUILD else csr.multiply(1.0 + 0.5j).tocsr()
    ksp, _ = factor_of(comm, csr)
    rng = np.random.default_rng(0)
    block = rng.standard_normal((csr.shape[0], 3)) + 1j * rng.standard_normal((csr.shape[0], 3))
    matrix = csr.conj().T if hermitian else csr
    found = triangular_factor(ksp).solve(block, hermitian=hermitian)
    # Conditions of some thousands.
    assert np.abs(matrix @ found - block).max() < 1e-11
    source, target = ksp.getOperators()[0].createVecs()
    source.array[:] = block[:, 0] if COMPLEX_BUILD else block[:, 0].real
    (ksp.solveTranspose if hermitian else ksp.solve)(source, target)
    plain = csr.T if hermitian else csr
    assert np.abs(plain @ target.array - source.array).max() < 1e-11
    ksp.destroy()


@pytest.mark.parametrize("hermitian", [False, True])
def test_symmetric_groups_that_are_not_hermitian_are_transposed(comm, hermitian):
    csr = scipy.sparse.block_diag([FIRST, SECOND], "csr") * [1.0, 1.0 + 0.5j][COMPLEX_BUILD]
    ksp, _ = factor_of(comm, csr)
    assert [group.symmetric for group in triangular_factor(ksp).groups].count(True) == (
        not COMPLEX_BUILD
    )
    b = np.ones((csr.shape[0], 1))
    found = triangular_factor(ksp).solve(b, hermitian=hermitian)
    # Conditions of some thousands.
    assert np.abs((csr.conj().T if hermitian else csr) @ found - b).max() < 1e-11
    ksp.destroy()


def test_groups_without_couplings_have_their_own_sizes(comm):
    sizes = [1, FIRST.shape[0], 1, 1, SECOND.shape[0]]
    one = scipy.sparse.csr_matrix([[3.0]])
    csr = scipy.sparse.block_diag([one, FIRST, one, one, SECOND], "csr")
    first, second = map(len, groups_of(mat_of(comm, csr)))
    assert first + second == sum(sizes)
    assert min(first, second) >= min(sizes[1], sizes[4])
    # Large groups stay apart.
    assert max(first, second) <= max(sizes[1], sizes[4]) + 3


def test_a_refilled_matrix_is_looked_at_anew(comm):
    ksp, mat = factor_of(comm, layered())
    assert len(triangular_factor(ksp).groups) == 2
    first = triangular_factor(ksp).groups[0].ksp
    other = with_feedback(layered())
    mat.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
    mat.setValue(5, 1 + FIRST.shape[0] + 7, 1e-3)
    mat.assemble()
    source, target = mat.createVecs()
    source.set(1.0)
    ksp.solve(source, target)
    assert len(triangular_factor(ksp).groups) == 1
    assert not first.handle
    assert np.abs(other @ target.array - 1.0).max() < 1e-11
    ksp.destroy()


def solid(*, symmetric):
    cube = grid(18, 18, 18)
    return cube + cube.T if symmetric else cube


@pytest.mark.parametrize(
    ("second", "package"),
    [
        (grid(60, 50), "petsc"),
        (solid(symmetric=True), ["mumps", "cholmod"][HAS_CHOLMOD]),
        (solid(symmetric=True) - 3.0 * scipy.sparse.identity(18**3), "mumps"),
        (solid(symmetric=False), "mumps"),
    ],
    ids=["plane", "definite", "indefinite", "solid"],
)
def test_package_suits_the_group(comm, second, package):
    csr = scipy.sparse.block_diag([FIRST, second], "csr")
    ksp, _ = factor_of(comm, csr)
    assert sorted(packages(ksp)) == sorted(["petsc", package])
    assert triangular_factor(ksp).entries > 2 * csr.nnz
    b = np.ones((csr.shape[0], 1))
    assert np.abs(csr @ triangular_factor(ksp).solve(b) - b).max() < 1e-10
    ksp.destroy()


@pytest.mark.parametrize("there", [False, True])
def test_cholmod_is_asked_only_where_petsc_has_it(monkeypatch, there):
    monkeypatch.setattr(builds, "HAS_CHOLMOD", there)
    monkeypatch.setattr(block_triangular, "has_flat_graph", lambda *_, **__: False)
    monkeypatch.setattr(block_triangular, "factored_by", lambda package, _: package)
    found = block_triangular.factored(SECOND.copy(), symmetric=True)
    assert found == ["mumps", "cholmod"][there]


def solved(comm, csr, target=0.1, **settings):
    return ga.solve_eigenproblem(ga.Pencil(mat_of(comm, csr)), 1, target=target, **settings)


def test_pairs_and_left_vectors_are_those_of_mumps(comm):
    csr = shuffled(layered())
    mumps = {"st_pc_factor_mat_solver_type": "mumps"}
    with solved(comm, csr) as pairs, solved(comm, csr, solver_parameters=mumps) as other:
        factor = triangular_factor(pairs.factor.eps.getST().getKSP())
        assert len(factor.groups) == 2
        assert triangular_factor(other.factor.eps.getST().getKSP()) is None
        assert np.allclose(pairs.values, other.values, rtol=1e-11)
        y, x, lam = pairs.left, pairs.right, pairs.values
        assert np.abs(csr @ x - lam * x).max() < 1e-10
        assert np.abs(csr.conj().T @ y - lam.conj() * y).max() < 1e-10 * np.abs(y).max()
    assert factor.groups == []


@pytest.mark.parametrize("option", ["st_mat_mumps_icntl_7", "st_ksp_type", "st_pc_type"])
def test_options_of_a_user_come_first(comm, option):
    value = {"st_mat_mumps_icntl_7": 6, "st_ksp_type": "preonly", "st_pc_type": "lu"}[option]
    with solved(comm, layered(), solver_parameters={option: value}, left=False) as pairs:
        assert triangular_factor(pairs.factor.eps.getST().getKSP()) is None


def test_inaccurate_factors_are_left_to_mumps(comm, monkeypatch):
    monkeypatch.setattr(sparse_lu, "is_accurate", lambda _: False)
    with solved(comm, layered(), left=False) as pairs:
        pc = pairs.factor.eps.getST().getKSP().getPC()
        assert (pc.getType(), pc.getFactorSolverType()) == ("lu", "mumps")


def test_a_singular_group_is_reported_or_avoided_as_by_mumps(comm):
    csr = layered().tolil()
    csr[40, :] = 0.0
    # 0 is an eigenvalue of the first group: the shift is moved beside it.
    with solved(comm, csr.tocsr(), 0.0, left=False) as pairs:
        assert np.abs(pairs.values).min() < 1e-12
        assert any("shift was moved" in note for note in pairs.info.notes)

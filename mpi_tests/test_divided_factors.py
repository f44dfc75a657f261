"""Whole factors of groups on single ranks: who factors and solves what, and who takes over."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from builders import matrix
from mpi4py import MPI
from pencils import COMPLEX_BUILD
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import block_triangular, sparse_lu
from geneig_adjoint.block_solves import solve_block
from geneig_adjoint.divided_factors import DividedFactor, divided_factor

COMM = MPI.COMM_WORLD
LAST = COMM.size - 1
N = 12
OWN_LU = {"st_pc_factor_mat_solver_type": "petsc"}
MUMPS = {"st_pc_factor_mat_solver_type": "mumps"}
BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"

pytestmark = pytest.mark.skipif(COMM.size == 1, reason="one rank has all factors")


def ksp_of(pairs):
    return pairs.factor.eps.getST().getKSP()


def package(pairs):
    return ksp_of(pairs).getPC().getFactorSolverType()


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(block_triangular, "SMALLEST", 3)


def layered(groups):
    """Return a nonsymmetric matrix whose rows, number by number, belong to groups in turn.

    Each group feels itself, and all that come before it. Eigenvalues are about 1 to N, apart.
    """
    scale = 1.0 + 0.3j if COMPLEX_BUILD else 1.0
    rng, group = np.random.default_rng(4), np.arange(N) % groups
    coupled = scale * rng.uniform(0.1, 0.3, (N, N)) * (group[:, None] >= group[None, :])
    return coupled + np.diag(np.arange(1.0, N + 1))


def solved(array, *, count=2, target=0.1, **settings):
    pencil = ga.Pencil(matrix(array, COMM), owned=True)
    return ga.solve_eigenproblem(pencil, count, target=target, **settings)


@pytest.fixture(scope="module", params=[1, 2, 3])
def shared(request):
    """Return the number of groups, the matrix, and pairs on its factors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_triangular, "SMALLEST", 3)
        A = layered(request.param)
        with solved(A, target=0.0, solver_parameters=OWN_LU) as pairs:
            yield request.param, A, pairs


@pytest.mark.parametrize("hermitian", [False, True], ids=["forward", "hermitian"])
@pytest.mark.parametrize("factor", [1.0, 1.0 + 0.5j], ids=["real", "complex"])
@pytest.mark.parametrize("columns", [0, 1, 2, 7])
def test_columns_and_groups_are_divided(shared, columns, factor, hermitian):
    groups, A, pairs = shared
    block = factor * np.random.default_rng(3).standard_normal((N, columns))
    context, (first, last) = divided_factor(ksp_of(pairs)), pairs.rows
    assert context.number == groups
    before = context.solved
    found = solve_block(ksp_of(pairs), block[first:last], hermitian=hermitian)
    exact = np.linalg.solve(A.conj().T if hermitian else A, block)
    np.testing.assert_allclose(found, exact[first:last], rtol=1e-12, atol=1e-14)  # condition 30
    own = np.array(COMM.allgather(context.solved - before))
    halves = columns * (1 + (isinstance(factor, complex) and not COMPLEX_BUILD))
    assert own.sum() == groups * halves
    # Sets of ranks that have all groups take the same share of columns, but for one.
    teams = max(1, COMM.size // groups)
    assert own.max() <= -(-halves // teams) * -(-groups // COMM.size)


@pytest.mark.parametrize("name", ["solve", "solveTranspose"])
def test_vectors_of_petsc(shared, name):
    _, A, pairs = shared
    source, target = ksp_of(pairs).getOperators()[0].createVecs()
    source.array[:] = np.arange(*pairs.rows) * (1.0 + 0.5j if COMPLEX_BUILD else 1.0)
    getattr(ksp_of(pairs), name)(source, target)
    whole = np.concatenate(COMM.allgather(source.array_r))
    exact = np.linalg.solve({"solve": A, "solveTranspose": A.T}[name], whole)
    np.testing.assert_allclose(target.array_r, exact[slice(*pairs.rows)], rtol=1e-12)
    source.destroy()
    target.destroy()


def test_entries_are_the_same_on_all_ranks(shared):
    _, _, pairs = shared
    entries = COMM.allgather(divided_factor(ksp_of(pairs)).entries)
    assert N <= entries[0] <= N * N
    assert set(entries) == {entries[0]}


@pytest.fixture
def reactor(monkeypatch):
    """Return the two-group diffusion of the benchmarks, large enough for the rule."""
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    problem = importlib.import_module("peers.problems").diffusion("small", 52)
    return importlib.import_module("peers.ours"), problem


def one_rank_factor(pairs):
    """Return who solves with the bordered matrix for all, if somebody does."""
    (system,) = pairs.factor.near.values()
    return system._solver(hermitian=False)._one


def test_gradients_of_a_reactor_equal_those_with_mumps(reactor):
    ours, problem = reactor
    model, goals, found = ours.element_model(problem, COMM), ours.objectives(problem), []
    for options in ({}, MUMPS):
        with (
            model.assemble(problem.p) as pencil,
            ga.solve_eigenproblem(pencil, 1, target=0.0, solver_parameters=options) as pairs,
        ):
            made = [ga.gradient(model, problem.p, pairs, goal) for goal in goals.values()]
            found.append([part for item in made for part in item.values()])
            contexts = divided_factor(ksp_of(pairs)), one_rank_factor(pairs)
            assert [item is None for item in contexts] == [options is MUMPS] * 2
            found[-1].append(contexts)
    (groups, one), _ = (items.pop() for items in found)
    assert (groups.solved > 30) == (COMM.rank < 2)
    assert (one.solves > 3) == (COMM.rank == 0)
    for first, other in zip(*found, strict=True):
        np.testing.assert_allclose(first, other, rtol=0, atol=1e-9 * np.abs(other).max())


def test_a_reactor_is_factored_group_by_group(reactor):
    ours, problem = reactor
    with (
        ours.element_model(problem, COMM).assemble(problem.p) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.0, left=False) as pairs,
    ):
        context = divided_factor(ksp_of(pairs))
        owned = [group.ksp is not None for group in context.groups]
        pairs_of_ranks, place = divmod(COMM.rank, 2)
        complete = pairs_of_ranks < COMM.size // 2
        assert owned == [complete and place == 0, complete and place == 1]


def choices():
    return pytest.mark.parametrize(
        ("flat", "options", "expected"),
        [
            (True, {}, True),
            (False, {}, False),
            (False, OWN_LU, True),
            (True, MUMPS, False),
            (True, {"st_mat_mumps_icntl_14": 30}, False),
            (True, {"st_pc_type": "lu"}, False),
        ],
        ids=["plane", "space", "named", "mumps", "option of MUMPS", "lu"],
    )


@choices()
def test_what_users_choose(monkeypatch, flat, options, expected):
    monkeypatch.setattr(sparse_lu, "SMALLEST", 1)
    monkeypatch.setattr(sparse_lu, "has_flat_graph", lambda mat: flat)
    with solved(layered(1), left=False, solver_parameters=options) as pairs:
        assert (divided_factor(ksp_of(pairs)) is not None) == expected
        exact = np.linalg.eigvals(layered(1))
        assert np.abs(exact - pairs.values[0]).min() < 1e-10


@pytest.mark.parametrize("row", [0, N - 1])
def test_a_zero_on_the_diagonal_of_one_rank_is_seen_by_all(monkeypatch, row):
    monkeypatch.setattr(sparse_lu, "SMALLEST", 1)
    monkeypatch.setattr(sparse_lu, "has_flat_graph", lambda mat: True)
    A = layered(1)
    for value, expected in ((1.0, True), (0.0, False)):
        A[row, row] = value
        with ga.Pencil(matrix(A, COMM), owned=True) as pencil:
            assert COMM.allgather(sparse_lu.is_flat(pencil, 0.0)) == [expected] * COMM.size


def zero_row(A):
    A[:, 4] = A[4, :] = 0.0
    return A


def zero_pivot(A):
    """Return the matrix with a zero that PETSc's LU meets, but pivoting does not."""
    A[0, :] = A[:, 0] = 0.0
    A[0, 1] = A[1, 0] = 3.0
    A[0, 0] = 1e-17
    return A


@pytest.mark.parametrize("groups", [1, 2])
def test_a_singular_group_is_left_to_mumps(groups):
    with solved(zero_row(layered(groups)), target=0.0, solver_parameters=OWN_LU) as pairs:
        assert np.abs(pairs.values).min() < 1e-12
        assert any("shift was moved" in note for note in pairs.info.notes)


def test_a_pivot_that_is_too_small_is_left_to_mumps():
    A = zero_pivot(layered(1))
    with solved(A, target=0.0, left=False, solver_parameters=OWN_LU) as pairs:
        assert package(pairs) == "mumps"
        assert np.abs(np.linalg.eigvals(A) - pairs.values[0]).min() < 1e-10


def failing_on(rank, original, error):
    def failing(*args, **kwargs):
        found = original(*args, **kwargs)
        if COMM.rank == rank:
            raise error
        return found

    return failing


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [0, LAST])
@pytest.mark.parametrize("code", [55, 76])
def test_one_rank_without_a_factor_leaves_it_to_mumps(monkeypatch, groups, rank, code):
    failing = failing_on(rank, DividedFactor._factor, PETSc.Error(code))
    monkeypatch.setattr(DividedFactor, "_factor", failing)
    with solved(layered(groups), left=False, solver_parameters=OWN_LU) as pairs:
        assert package(pairs) == "mumps"
        assert np.abs(np.linalg.eigvals(layered(groups)) - pairs.values[0]).min() < 1e-10


@pytest.mark.parametrize(("method", "rank"), [("_factor", LAST), ("_solved", 0)])
def test_an_error_of_one_rank_is_raised_on_all(monkeypatch, method, rank):
    failing = failing_on(rank, getattr(DividedFactor, method), MemoryError("no room"))
    monkeypatch.setattr(DividedFactor, method, failing)
    with pytest.raises(MemoryError, match="no room"):
        solved(layered(1), solver_parameters=OWN_LU)


@pytest.mark.parametrize("direction", [False, True])
@pytest.mark.parametrize("rank", [0, LAST])
def test_an_error_in_the_rows_of_one_rank_is_seen_by_all(monkeypatch, rank, direction):
    plain = sparse_lu.solve_block

    def disturbed(ksp, block, *, hermitian):
        found = plain(ksp, block, hermitian=hermitian)
        wrong = COMM.rank == rank and hermitian == direction
        return found * (1.0 + 1e-12 * wrong)

    monkeypatch.setattr(sparse_lu, "solve_block", disturbed)
    with solved(layered(2), left=False, solver_parameters=OWN_LU) as pairs:
        assert package(pairs) == "mumps"


def test_solves_without_factors_are_refused():
    with pytest.raises(RuntimeError, match=r"need the factors .* got none; factor with"):
        DividedFactor().solve(np.ones((N, 1)))


def test_a_preconditioner_that_somebody_still_has_is_empty():
    with solved(layered(2), solver_parameters=OWN_LU) as pairs:
        pc, context = ksp_of(pairs).getPC(), divided_factor(ksp_of(pairs))
    assert pc.getType() == "none"
    assert context.groups == []

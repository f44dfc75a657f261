"""A factor of CHOLMOD on every rank: who solves for what, and who takes over when it fails."""

import numpy as np
import pytest
import scipy.sparse
from builders import chain, chain_parameters, dense, generalized, mass, matrix, stiffness
from mpi4py import MPI
from pencils import COMPLEX_BUILD, HAS_CHOLMOD
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import completeness
from geneig_adjoint.block_solves import solve_block
from geneig_adjoint.factor_copies import FactorCopies, copies_of
from geneig_adjoint.kept_factors import KeptFactor
from geneig_adjoint.sparse_lu import has_flat_graph

COMM = MPI.COMM_WORLD
N = 12
COPIES = {"st_pc_factor_mat_solver_type": "cholmod"}
MUMPS = {"st_pc_factor_mat_solver_type": "mumps"}
B_ENDS = np.r_[1.0, np.zeros(N - 1)]

pytestmark = [
    pytest.mark.skipif(COMPLEX_BUILD, reason="CHOLMOD is taken for real matrices only"),
    pytest.mark.skipif(COMM.size == 1, reason="one rank has one factor"),
    pytest.mark.skipif(not HAS_CHOLMOD, reason="PETSc was built without CHOLMOD"),
]


def ksp_of(pairs):
    return pairs.factor.eps.getST().getKSP()


def has_copies(pairs):
    return copies_of(ksp_of(pairs)) is not None


def package(pairs):
    return ksp_of(pairs).getPC().getFactorSolverType()


def grid(*shape):
    """Return the Laplacian of a grid of points, distributed."""
    lines = [scipy.sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], (n, n)) for n in shape]
    total = lines[0]
    for line in lines[1:]:
        total = scipy.sparse.kronsum(line, total)
    total = total.tocsr()
    n = total.shape[0]
    first, last = (n * (COMM.rank + i) // COMM.size for i in (0, 1))
    rows = total[first:last]
    csr = (rows.indptr.astype("i4"), rows.indices.astype("i4"), rows.data)
    return PETSc.Mat().createAIJ(((last - first, n), (last - first, n)), csr=csr, comm=COMM)


@pytest.fixture
def shares(monkeypatch):
    """Record how many columns this rank solves for, solve by solve."""
    seen, solve = [], FactorCopies._solve_own

    def recorded(self, packed, own):
        seen.append(own)
        solve(self, packed, own)

    monkeypatch.setattr(FactorCopies, "_solve_own", recorded)
    return seen


@pytest.fixture
def made(monkeypatch):
    """Record the contexts that are made."""
    seen, create = [], FactorCopies.__init__

    def recorded(self, prefix):
        seen.append(self)
        create(self, prefix)

    monkeypatch.setattr(FactorCopies, "__init__", recorded)
    return seen


@pytest.mark.parametrize("hermitian", [False, True], ids=["forward", "hermitian"])
@pytest.mark.parametrize("factor", [1.0, 1.0 + 0.5j], ids=["real", "complex"])
@pytest.mark.parametrize("columns", [1, 2, 7])
def test_columns_are_divided(shares, columns, factor, hermitian):
    block = factor * np.random.default_rng(3).standard_normal((N, columns))
    with (
        generalized(N, COMM, "symmetric") as pencil,
        ga.solve_eigenproblem(pencil, 3, target=-0.2, solver_parameters=COPIES) as pairs,
    ):
        K = dense(pencil.A) + 0.2 * dense(pencil.B)
        first, last = pencil.rows
        shares.clear()
        found = solve_block(ksp_of(pairs), block[first:last], hermitian=hermitian)
    # The condition of K is 20.
    np.testing.assert_allclose(found, np.linalg.solve(K, block)[first:last], rtol=1e-12)
    own = COMM.allgather(sum(shares))
    halves = columns * (1 + isinstance(factor, complex))
    assert sum(own) == halves
    assert max(own) - min(own) <= 1


@pytest.mark.parametrize("target", [0.0, -0.3])
def test_pairs_and_gradients_equal_those_with_mumps(target):
    p, found = chain_parameters(N), []
    model, weight = chain(N, COMM), np.linspace(0.5, 1.5, N)
    for options in (COPIES, MUMPS):
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, 4, target=target, solver_parameters=options) as pairs,
        ):
            assert has_copies(pairs) == (options is COPIES)
            assert pairs.info.completeness.expected == pairs.info.completeness.found
            objective = ga.objectives.QuadraticForm(weight[slice(*pairs.rows)], (0, 1, 2, 3))
            found.append((pairs.values.real, ga.gradient(model, p, pairs, objective)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12)
    for name in p:  # the tolerance of adjoint solves
        np.testing.assert_allclose(found[0][1][name], found[1][1][name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((72, 70), True), ((72, 69), False), ((18, 17, 17), False)],
    ids=["plane", "fewer than 5,000 rows", "space"],
)
def test_graphs_are_judged_alike_on_all_ranks(shape, expected):
    mat = grid(*shape)
    assert COMM.allgather(has_flat_graph(mat)) == [expected] * COMM.size
    mat.destroy()


def test_a_plane_is_factored_on_every_rank():
    with (
        ga.Pencil(grid(72, 70), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 1, count_check="off") as pairs,
    ):
        assert has_copies(pairs)
        lowest = sum(2 - 2 * np.cos(np.pi / (n + 1)) for n in (72, 70))
        assert pairs.values[0].real == pytest.approx(lowest, rel=1e-10)


@pytest.mark.parametrize(
    ("flat", "options", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, COPIES, True),
        (True, MUMPS, False),
        (True, {"st_mat_mumps_icntl_14": 30}, False),
        (True, {"st_pc_type": "lu"}, False),
    ],
    ids=["plane", "space", "named", "mumps", "option of MUMPS", "lu"],
)
def test_what_users_choose(monkeypatch, flat, options, expected):
    monkeypatch.setattr("geneig_adjoint.cholesky.has_flat_graph", lambda mat: flat)
    with (
        generalized(N, COMM, "symmetric") as pencil,
        ga.solve_eigenproblem(pencil, 1, solver_parameters=options) as pairs,
    ):
        assert has_copies(pairs) == expected


def test_more_ranks_do_not_gather_a_graph(monkeypatch):
    monkeypatch.setattr("geneig_adjoint.sparse_lu.MOST_RANKS", COMM.size - 1)
    mat = grid(72, 70)
    assert not has_flat_graph(mat)
    mat.destroy()


def test_indefinite_matrix_with_a_positive_diagonal(capfd):
    weak = np.r_[2.0, 1.0, 1e-3, 1e-4, np.arange(5.0, N + 1)]
    A = np.diag(weak) + 0.1 * (np.eye(N, k=1) + np.eye(N, k=-1))
    exact = np.linalg.eigvals(np.linalg.solve(mass(N), A)).real
    exact = exact[np.argsort(np.abs(exact))][:4]
    assert exact.min() < 0
    with (
        ga.Pencil(matrix(A, COMM), matrix(mass(N), COMM), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 4, solver_parameters=COPIES) as pairs,
    ):
        assert package(pairs) == "mumps"
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10)
        assert pairs.info.completeness.found == pairs.info.completeness.expected
    assert "CHOLMOD" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("rank", [0, COMM.size - 1])
def test_one_rank_without_a_factor_leaves_it_to_mumps(monkeypatch, rank):
    factor = FactorCopies._factor

    def failing(self, whole):
        factor(self, whole)
        if COMM.rank == rank:
            raise PETSc.Error(76)

    monkeypatch.setattr(FactorCopies, "_factor", failing)
    with (
        generalized(N, COMM, "symmetric") as pencil,
        ga.solve_eigenproblem(pencil, 3, solver_parameters=COPIES) as pairs,
    ):
        assert package(pairs) == "mumps"
        exact = np.sort(np.linalg.eigvals(np.linalg.solve(mass(N), stiffness(N))).real)[:3]
        np.testing.assert_allclose(pairs.values.real, exact, rtol=1e-10)


@pytest.mark.parametrize("method", ["_factor", "_solve_own"])
def test_an_error_of_one_rank_is_raised_on_all(monkeypatch, method):
    original = getattr(FactorCopies, method)

    def failing(self, *args):
        original(self, *args)
        if COMM.rank == COMM.size - 1:  # the one that solves for single columns
            raise MemoryError("no room")

    monkeypatch.setattr(FactorCopies, method, failing)
    with (
        generalized(N, COMM, "symmetric") as pencil,
        pytest.raises(MemoryError, match="no room"),
    ):
        ga.solve_eigenproblem(pencil, 3, solver_parameters=COPIES)


def test_other_errors_of_petsc_are_no_verdict(monkeypatch):
    def failing(self, whole):
        whole.destroy()
        raise PETSc.Error(63)

    monkeypatch.setattr(FactorCopies, "_factor", failing)
    with (
        generalized(N, COMM, "symmetric") as pencil,
        pytest.raises(PETSc.Error, match="error code 63"),
    ):
        ga.solve_eigenproblem(pencil, 3, solver_parameters=COPIES)


def test_solves_without_a_factor_are_refused():
    with pytest.raises(RuntimeError, match=r"need a factor .* got none; factor with"):
        FactorCopies("").solve(np.ones((N, 1)))


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 1), ({"st_mat_cholmod_factor": "simplicial"}, 2)],
    ids=["supernodal", "simplicial"],
)  # fmt: skip
def test_factorisations_of_a_count(monkeypatch, options, expected):
    """L L^T proves that no value lies below the target; L D L^T does not."""
    seen, count = [], completeness.negative_pivots

    def recorded(pencil, sigma, prefix=""):
        seen.append(sigma)
        return count(pencil, sigma, prefix)

    monkeypatch.setattr(completeness, "negative_pivots", recorded)
    with (
        generalized(60, COMM, "symmetric") as pencil,
        ga.solve_eigenproblem(pencil, 3, solver_parameters=COPIES | options) as pairs,
    ):
        assert has_copies(pairs)
    assert len(seen) == expected


def test_a_loop_orders_once(made, monkeypatch):
    """Calls with and without a count go on with one context, and one matrix in it."""
    dropped, drop = [], FactorCopies._drop
    monkeypatch.setattr(FactorCopies, "_drop", lambda self: dropped.append(1) or drop(self))
    model, objective = chain(N, COMM), ga.objectives.Eigenvalue(0)
    settings = {"count": 2, "target": 0.0, "solver_parameters": COPIES}
    points = [
        {name: (1 + 0.1 * step) * np.asarray(value) for name, value in chain_parameters(N).items()}
        for step in range(3)
    ]
    with ga.value_and_gradient(model, objective, **settings) as f:
        found = [f(p)[0] for p in points]
        assert (len(made), len(dropped)) == (1, 1)  # nothing yet, to make the first
    assert len(dropped) == 2
    for p, value in zip(points, found, strict=True):
        with ga.value_and_gradient(model, objective, **settings) as fresh:
            assert value == pytest.approx(fresh(p)[0], rel=1e-12)


def test_a_loop_that_loses_its_factor_goes_on_with_mumps(made, monkeypatch):
    """Definite first, then not: the factor that is kept fails, and is not tried again."""
    monkeypatch.setattr("geneig_adjoint.cholesky.has_flat_graph", lambda mat: True)
    A, B = matrix(stiffness(N), COMM), matrix(mass(N), COMM)
    with ga.Pencil(A, B, owned=True) as pencil:
        pencil.kept = KeptFactor(COMM)
        for change, expected in ((0.0, True), (-1.95, False), (0.0, False)):
            for row in set(range(*pencil.rows)) & {0}:
                A.setValue(row, row, 2.0 + change)
            A.assemble()
            pencil.entries_changed()
            changed = stiffness(N) + change * np.diag(B_ENDS)
            exact = np.linalg.eigvals(np.linalg.solve(mass(N), changed)).real
            with ga.solve_eigenproblem(pencil, 2, target=0.0) as pairs:
                assert has_copies(pairs) == expected
                smallest = np.abs(exact).min()
                assert np.abs(pairs.values[0]) == pytest.approx(smallest, rel=1e-10)
    assert len(made) == 1

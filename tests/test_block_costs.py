"""What blocked adjoints cost: columns, sweeps, products, reductions, and what later ones save."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
from builders import mass, matrix, own_rows, stiffness, whole
from test_block_krylov import KINDS, N, motion, right_sides, solved

import geneig_adjoint as ga
from geneig_adjoint import _petsc, block_krylov, tall_blocks
from geneig_adjoint.block_krylov import BlockKrylov, System
from geneig_adjoint.krylov_space import KrylovSpace

COLUMNS, SWEEPS = 24, 8
"""Of a gradient of four vectors (measured: 22 in 7); rounding may cost one more."""
PRODUCTS = 180
"""Columns times A or B (measured: 165)."""
REDUCTIONS = 26
"""Of the space and the borders (measured: 23)."""


@pytest.fixture
def counts(monkeypatch):
    """Count columns solved, sweeps, products, products with transposes and reductions."""
    found = SimpleNamespace(columns=0, sweeps=0, products=0, transposed=0, reductions=0)
    solve, multiply, reduce = KrylovSpace.solve, _petsc.multiply, tall_blocks.reduced

    def counted_solve(self, block):
        found.columns += block.shape[1]
        found.sweeps += 1
        return solve(self, block)

    def counted_multiply(mat, block, *, hermitian=False):
        found.products += block.shape[1]
        found.transposed += int(hermitian)
        return multiply(mat, block, hermitian=hermitian)

    def counted_reduce(comm, parts):
        found.reductions += 1
        return reduce(comm, parts)

    monkeypatch.setattr(KrylovSpace, "solve", counted_solve)
    monkeypatch.setattr(_petsc, "multiply", counted_multiply)
    monkeypatch.setattr(tall_blocks, "reduced", counted_reduce)
    return found


def problem(comm, count=4):
    A, B = matrix(stiffness(N), comm), matrix(mass(N), comm)
    dA = matrix(np.diag(np.sin(np.arange(N))), comm)
    model, p = ga.MatrixModel(A, B, {"p": [(dA, None)]}), {"p": np.zeros(1)}
    pencil = model.assemble(p)
    return model, p, pencil, ga.solve_eigenproblem(pencil, count, target=0.0)


def spent(counts, action):
    before = vars(counts).copy()
    result = action()
    return result, {name: value - before[name] for name, value in vars(counts).items()}


def test_a_gradient_of_four_vectors_has_fixed_costs(comm, counts):
    model, p, pencil, pairs = problem(comm)
    with pencil, pairs:
        _, cost = spent(counts, lambda: ga.gradient(model, p, pairs, motion(pairs)))
    assert 0 < cost["columns"] <= COLUMNS
    assert 0 < cost["sweeps"] <= SWEEPS
    assert 0 < cost["products"] <= PRODUCTS
    assert 0 < cost["reductions"] <= REDUCTIONS


def test_hermitian_pencils_need_no_products_with_transposes(comm, counts):
    model, p, pencil, pairs = problem(comm)
    with pencil, pairs:
        _, cost = spent(counts, lambda: ga.gradient(model, p, pairs, motion(pairs)))
    assert cost["transposed"] == 0
    pencil, pairs = solved("nonsymmetric", comm)
    with pencil, pairs:
        _, cost = spent(counts, lambda: pencil.multiply_a(pairs.right, hermitian=True))
    assert cost["transposed"] == 1


def test_later_gradients_continue_the_space(comm, counts):
    model, p, pencil, pairs = problem(comm)
    with pencil, pairs:
        first, cost = spent(counts, lambda: ga.gradient(model, p, pairs, motion(pairs)))
        again, known = spent(counts, lambda: ga.gradient(model, p, pairs, motion(pairs)))
        pairs.factor.spaces.clear()
        _, anew = spent(counts, lambda: ga.gradient(model, p, pairs, motion(pairs)))
    # Nothing but K^-1 f and S K^-1 f is left to do.
    assert (known["columns"], known["sweeps"]) == (8, 2)
    assert anew["columns"] == cost["columns"] > known["columns"]
    assert again["p"] == pytest.approx(first["p"], rel=1e-8)  # both to 1e-10, times cancellation


def test_tangents_and_adjoints_of_hermitian_pencils_share_a_space(comm):
    model, p, pencil, pairs = problem(comm)
    with pencil, pairs:
        ga.gradient(model, p, pairs, motion(pairs))
        (space,) = pairs.factor.spaces.values()
        before = space.solved
        ga.jvp(model, p, pairs, {"p": np.ones(1)})
        assert list(pairs.factor.spaces.values()) == [space]
        assert space.solved > before


def test_spaces_end_with_the_pairs(comm):
    model, p, pencil, pairs = problem(comm)
    with pencil:
        ga.gradient(model, p, pairs, motion(pairs))
        assert len(pairs.factor.spaces) == 1
        pairs.close()
        assert not pairs.factor.spaces


def test_large_spaces_are_not_kept(comm, monkeypatch):
    monkeypatch.setattr(block_krylov, "KEPT", 10)
    model, p, pencil, pairs = problem(comm)
    with pencil, pairs:
        ga.gradient(model, p, pairs, motion(pairs))
        assert not pairs.factor.spaces


def test_large_spaces_are_not_kept_after_an_error(comm, monkeypatch):
    monkeypatch.setattr(block_krylov, "KEPT", 10)
    monkeypatch.setattr(block_krylov, "STEPS", 1)
    model, p, pencil, pairs = problem(comm)
    with pencil, pairs:
        with pytest.raises(ga.ConvergenceError, match="blocked solves"):
            ga.gradient(model, p, pairs, motion(pairs), strategy="block-krylov")
        assert not pairs.factor.spaces


def test_spaces_of_other_matrices_or_without_the_vectors_are_not_continued(comm):
    _, _, pencil, pairs = problem(comm)
    with pencil, pairs:
        space = BlockKrylov(pairs, hermitian=True, rtol=1e-10).space
        assert BlockKrylov(pairs, hermitian=False, rtol=1e-10).space is space
        assert BlockKrylov(pairs.reordered([2, 0]), hermitian=True, rtol=1e-10).space is space
        space.known = space.known[:, 1:]  # the first eigenvector
        space.images = space.images[:, 1:]
        fresh = BlockKrylov(pairs, hermitian=True, rtol=1e-10).space
        assert fresh is not space
        pencil.version += 1
        assert BlockKrylov(pairs, hermitian=True, rtol=1e-10).space is not fresh
        assert len(pairs.factor.spaces) == 1


def test_what_is_known_wrongly_is_mended_without_a_solve(comm, counts):
    pencil, pairs = solved("symmetric", comm)
    with pencil, pairs:
        _, own = right_sides(comm, 3, 1, pairs.right)
        systems = [System(j, (j,), own, np.zeros((1, 1))) for j in range(pairs.count)]
        solver = BlockKrylov(pairs, hermitian=True, rtol=1e-10)
        exact = solver.solve(systems)
        # Beyond the tolerance; the true residuals show it.
        solver.space.images = solver.space.images * (1 + 1e-8)
        found, cost = spent(counts, lambda: solver.solve(systems))
    assert cost["sweeps"] == 2
    for first, second in zip(exact, found, strict=True):
        change = np.abs(whole(pairs, second.v - first.v)).max()
        assert second.accuracy <= 1e-10
        assert change <= 1e-9 * np.abs(whole(pairs, first.v)).max()  # both to 1e-10


@pytest.mark.parametrize("weighted", [True, False])
def test_vectors_that_depend_on_others_keep_the_basis_orthonormal(comm, weighted):
    pencil, pairs = solved("symmetric", comm)
    with pencil, pairs:
        space = KrylovSpace(pairs.factor, hermitian=False, weighted=weighted)
        rng = np.random.default_rng(5)
        block = rng.normal(size=(N, 6))
        block[:, 4] = block[:, 0] + 1e-9 * block[:, 4]
        block[:, 5] = block[:, 1]
        own = block[slice(*own_rows(N, comm))]
        for part in (own, 1e6 * own @ rng.normal(size=(6, 3)), own):
            coordinates = space.append(part)
            assert space.size == 5
            error = np.abs(whole(pairs, space.basis @ coordinates - part)).max()
            assert error <= 1e-11 * np.abs(part).max(initial=1.0)  # DEPENDENT, times a few
        gram = pairs.inner(space.basis, space.weigh(space.basis))
        assert np.abs(gram - np.eye(5)).max() <= 1e-13  # rounding: two passes


def recorded(monkeypatch):
    """Record the columns after each judgement, and what each expansion begins with."""
    judged, begun = [], []
    judge, expand = BlockKrylov._judge, BlockKrylov._expand

    def judging(self, work):
        judge(self, work)
        judged.append(deepcopy(work))

    def expanding(self, work, b, coordinates):
        begun.append((len(judged), b.copy()))
        expand(self, work, b, coordinates)

    monkeypatch.setattr(BlockKrylov, "_judge", judging)
    monkeypatch.setattr(BlockKrylov, "_expand", expanding)
    monkeypatch.setattr(block_krylov, "STEPS", 1)  # much is left then
    return judged, begun


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("kind", ["interior shift", "nonsymmetric"])
def test_residuals_are_what_remains_and_what_the_space_foresees(
    comm, monkeypatch, kind, transposed
):
    judged, begun = recorded(monkeypatch)
    pencil, pairs = solved(kind, comm)
    A, B, _ = KINDS[kind]
    with pencil, pairs:
        _, own = right_sides(comm, 3, 1, pairs.right)
        solver = BlockKrylov(pairs, hermitian=transposed, rtol=1e-10)
        solver.solve([System(1, (1,), own, np.zeros((1, 1)))])
        count, b = begun[1]
        work = judged[count - 1]
        systems = (A - pairs.values[1] * B, A - complex(pairs.factor.sigma) * B)
        M, K = (item.conj().T if transposed else item for item in systems)
        blocks = (work.rhs, work.w, work.rest, work.remaining, b)
        rhs, w, rest, remaining, b = (whole(pairs, item) for item in blocks)

        def projected(block):
            own = block[slice(*pairs.rows)]
            return whole(pairs, solver._project(work.systems, own)[0])

        left, residual = projected(rhs - M @ w - K @ rest), rhs - M @ w
    assert np.linalg.norm(K @ rest) > 1e-6 * np.linalg.norm(rhs)
    # Rounding of products of the size of the right-hand side.
    assert np.linalg.norm(remaining - left) <= 1e-10 * np.linalg.norm(rhs)
    assert np.linalg.norm(projected(K @ b - residual)) <= 1e-10 * np.linalg.norm(rhs)

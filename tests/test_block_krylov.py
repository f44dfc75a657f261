"""Blocked solves with the eigensolver's factor: equal to dense bordered matrices, pair by pair."""

import numpy as np
import pytest
from builders import REAL, mass, matrix, nonsymmetric, own_rows, stiffness, whole

import geneig_adjoint as ga
from geneig_adjoint import block_krylov
from geneig_adjoint.block_krylov import BlockKrylov, System
from geneig_adjoint.krylov_space import KrylovSpace

N = 90
SINGULAR_MASS = np.diag(np.r_[np.ones(N - 5), np.zeros(5)])


def hermitian(n):
    """Return a chain in a magnetic field: hopping with a phase that varies."""
    phases = np.exp(0.3j * np.sin(np.arange(n - 1)))
    return 2.0 * np.eye(n) + np.diag(-phases, 1) + np.diag(-phases.conj(), -1)


KINDS = {
    # kind: (A, B, target)
    "symmetric": (stiffness(N), mass(N), 0.0),
    "interior shift": (stiffness(N), mass(N), 0.503),
    "standard": (stiffness(N) + np.diag(np.sin(np.arange(N))), None, -2.0),
    "singular B": (stiffness(N), SINGULAR_MASS, 0.0),
    "nonsymmetric": (nonsymmetric(N) / 20, mass(N) + 0.1 * np.eye(N, k=2), 0.3),
    "nonsymmetric, singular B": (nonsymmetric(N) / 20, SINGULAR_MASS, 0.3),
    "definite by A": (stiffness(N), np.diag(np.cos(np.arange(N))), 0.0),
}
COMPLEX_KINDS = {
    "Hermitian": (hermitian(N), mass(N), 0.0),
    "complex": (nonsymmetric(N) / 20 + 0.1j * stiffness(N), mass(N), 0.3 + 0.1j),
}
KINDS |= {} if REAL else COMPLEX_KINDS


def solved(kind, comm, count=5):
    A, B, target = KINDS[kind]
    mats = [matrix(item, comm) for item in (A, B) if item is not None]
    pencil = ga.Pencil(*mats, owned=True)
    return pencil, ga.solve_eigenproblem(pencil, count, target=target)


def right_sides(comm, seed, width, like):
    values = np.random.default_rng(seed).normal(size=(2, N, width))
    smooth = np.cumsum(values, axis=1)
    mixed = smooth[0] + 1j * smooth[1] if np.iscomplexobj(like) else smooth[0]
    return mixed, mixed[slice(*own_rows(N, comm))]


def dense_solution(kind, pairs, system, rhs, *, transposed):
    A, B, _ = KINDS[kind]
    B = np.eye(N) if B is None else B
    X = whole(pairs, pairs.right)[:, list(system.members)]
    lam, g = pairs.values[system.pair], len(system.members)
    border = np.block([[A - lam * B, B @ X], [X.conj().T, np.zeros((g, g))]])
    border = border.conj().T if transposed else border
    both = np.linalg.solve(border, np.vstack([rhs, system.rho]))
    return both[:N], both[N:]


@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("kind", KINDS)
def test_solutions_are_those_of_the_dense_bordered_matrices(comm, kind, transposed):
    pencil, pairs = solved(kind, comm)
    with pencil, pairs:
        systems, whole_sides = [], []
        for j in range(pairs.count):
            full, own = right_sides(comm, j, 1 + j % 2, pairs.right)
            whole_sides.append(full)
            systems.append(System(j, (j,), own, np.full((1, own.shape[1]), 0.3)))
        found = BlockKrylov(pairs, hermitian=transposed, rtol=1e-10).solve(systems)
        for system, rhs, solution in zip(systems, whole_sides, found, strict=True):
            v, nu = dense_solution(kind, pairs, system, rhs, transposed=transposed)
            error = np.linalg.norm(whole(pairs, solution.v) - v) / np.linalg.norm(v)
            assert solution.accuracy <= 1e-10
            assert error <= 1e-8  # errors of the pairs, 1e-12, by condition numbers below 1e4
            assert np.allclose(solution.nu, nu, rtol=1e-8, atol=1e-8 * np.abs(rhs).max())


def test_members_of_a_group_share_a_border(comm):
    pencil, pairs = solved("symmetric", comm)
    with pencil, pairs:
        full, own = right_sides(comm, 7, 1, pairs.right)
        systems = [System(j, (1, 2), own, np.array([[0.1], [0.2]])) for j in (1, 2)]
        found = BlockKrylov(pairs, hermitian=True, rtol=1e-10).solve(systems)
        for system, solution in zip(systems, found, strict=True):
            v, _ = dense_solution("symmetric", pairs, system, full, transposed=True)
            error = np.linalg.norm(whole(pairs, solution.v) - v) / np.linalg.norm(v)
            assert error <= 1e-8  # as above


def test_what_the_eigensolve_has_found_saves_solves(comm):
    pencil, pairs = solved("symmetric", comm)
    with pencil, pairs:
        _, own = right_sides(comm, 3, 1, pairs.right)
        systems = [System(j, (j,), own, np.zeros((1, 1))) for j in range(pairs.count)]
        with_basis = BlockKrylov(pairs, hermitian=True, rtol=1e-10)
        with_basis.solve(systems)
        object.__setattr__(pairs.factor, "krylov_basis", lambda: None)
        pairs.factor.spaces.clear()
        without = BlockKrylov(pairs, hermitian=True, rtol=1e-10)
        without.solve(systems)
    assert with_basis.space.solved < without.space.solved < pairs.count * N


def test_a_basis_without_the_krylov_relation_is_not_used(comm):
    pencil, pairs = solved("symmetric", comm)
    with pencil, pairs:
        rng = np.random.default_rng(1)
        wrong = rng.normal(size=(N, 12))[slice(*pairs.rows)]
        object.__setattr__(pairs.factor, "krylov_basis", lambda: wrong)
        assert BlockKrylov(pairs, hermitian=True, rtol=1e-10).space.size == pairs.count


def motion(pairs):
    weight = np.cos(np.arange(*pairs.rows)) ** 2
    return ga.objectives.QuadraticForm(weight, tuple(range(pairs.count)))


def gradient_of(comm, strategy, **changes):
    A, B, _ = KINDS["symmetric"]
    dA = np.diag(np.sin(np.arange(N)))
    model = ga.MatrixModel(matrix(A, comm), matrix(B, comm), {"p": [(matrix(dA, comm), None)]})
    p = {"p": np.zeros(1)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 4, **changes) as pairs:
        return ga.gradient(model, p, pairs, motion(pairs), strategy=strategy)["p"][0]


def test_all_strategies_give_the_same_gradient(comm):
    expected = gradient_of(comm, "direct", target=0.0)
    for strategy in (None, "block-krylov", "ksp"):
        # rtol 1e-10 times the cancellation between pairs
        assert gradient_of(comm, strategy, target=0.0) == pytest.approx(expected, rel=1e-7)


def test_columns_that_stall_are_left_to_other_strategies(comm, monkeypatch):
    expected = gradient_of(comm, "direct", target=0.0)
    monkeypatch.setattr(block_krylov, "STEPS", 1)
    monkeypatch.setattr(block_krylov, "CORRECTIONS", 1)
    # as above
    assert gradient_of(comm, None, target=0.0) == pytest.approx(expected, rel=1e-7)
    with pytest.raises(ga.ConvergenceError, match=r"blocked solves .* do not.*strategy=\"direct\""):
        gradient_of(comm, "block-krylov", target=0.0)


def test_blocks_without_a_factor_are_refused(comm):
    with pytest.raises(ga.InputError, match="needs a factor of A - sigma B"):
        gradient_of(comm, "block-krylov", which="largest_real")
    with pytest.raises(ga.InputError, match="needs a factor of A - sigma B"):
        gradient_of(comm, "block-krylov", target=0.0, keep_factor=False)


def test_blocks_without_left_vectors_are_refused(comm):
    A, B, _ = KINDS["nonsymmetric"]
    model = ga.MatrixModel(matrix(A, comm), matrix(B, comm), {"p": [(matrix(A, comm), None)]})
    p = {"p": np.zeros(1)}
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, 2, target=0.3, left=False) as pairs,
        pytest.raises(ga.InputError, match="needs left vectors"),
    ):
        ga.gradient(model, p, pairs, motion(pairs), strategy="block-krylov")


@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric"])
def test_right_sides_may_be_so_small_that_their_squares_vanish(comm, kind):
    """The weights of a smooth minimum, say."""
    pencil, pairs = solved(kind, comm)
    with pencil, pairs:
        full, own = right_sides(comm, 3, 1, pairs.right)
        sizes = (1.0, 1e-155, 1e-300, 1e170)[: pairs.count]
        systems = [System(j, (j,), own * size, np.zeros((1, 1))) for j, size in enumerate(sizes)]
        found = BlockKrylov(pairs, hermitian=True, rtol=1e-10).solve(systems)
        for size, system, solution in zip(sizes, systems, found, strict=True):
            one = System(system.pair, system.members, own, system.rho)
            v, _ = dense_solution(kind, pairs, one, full, transposed=True)
            error = np.linalg.norm(whole(pairs, solution.v) / size - v) / np.linalg.norm(v)
            assert error <= 1e-8  # as above


@pytest.mark.parametrize("when", [1, 2, 3])
@pytest.mark.parametrize("kind", ["symmetric", "nonsymmetric"])
def test_solutions_that_are_not_finite_leave_no_trace(comm, monkeypatch, kind, when):
    """On one rank only, in the first blocked solve, in that of the image or in a step."""
    pencil, pairs = solved(kind, comm)
    solve, calls = KrylovSpace.solve, []

    def broken(self, block):
        found = np.array(solve(self, block))
        calls.append(found)
        last = len(calls) == when and comm.rank == comm.size - 1
        found[-1:, 0] *= np.where(last, np.nan, 1.0)
        return found

    with pencil, pairs:
        full, own = right_sides(comm, 3, 1, pairs.right)
        system = System(0, (0,), own, np.zeros((1, 1)))
        solver = BlockKrylov(pairs, hermitian=True, rtol=1e-10)
        monkeypatch.setattr(KrylovSpace, "solve", broken)
        assert np.isinf(solver.solve([system])[0].accuracy)
        monkeypatch.undo()
        v, _ = dense_solution(kind, pairs, system, full, transposed=True)
        again = BlockKrylov(pairs, hermitian=True, rtol=1e-10)
        for found in (solver.solve([system])[0], again.solve([system])[0]):
            error = np.linalg.norm(whole(pairs, found.v) - v) / np.linalg.norm(v)
            assert error <= 1e-8  # as above

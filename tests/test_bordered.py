"""`BorderedSystem`: equals the dense bordered matrix, in both directions, by every strategy."""

import numpy as np
import pytest
from builders import generalized, mass, matrix, nonsymmetric, stiffness
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint._petsc import inserted_options

N = 8
ARRAYS = {
    "symmetric": (stiffness(N), mass(N)),
    "nonsymmetric": (nonsymmetric(N), mass(N) + 0.1 * np.eye(N, k=2)),
    "singular_B": (nonsymmetric(N), np.diag(np.r_[np.ones(N - 2), 0.0, 0.0])),
}


def own_ksp(comm):
    ksp = PETSc.KSP().create(comm)
    ksp.setType("gmres")
    ksp.getPC().setType("none")
    ksp.setTolerances(rtol=1e-12, max_it=200)
    return ksp


def own_solver(operator, rhs, solution):
    """Solve with the operator's columns, found one by one."""
    columns = []
    for i in range(rhs.getSize()):
        unit, column = operator.createVecs()
        unit.setValue(i, 1.0)
        unit.assemble()
        operator.mult(unit, column)
        columns.append(column.array_r.copy())
    solution.array[:] = np.linalg.solve(np.stack(columns, axis=1), rhs.array_r)


STRATEGIES = {
    "default": lambda comm: ga.AdjointSettings(),
    "direct": lambda comm: ga.AdjointSettings("direct"),
    "ksp": lambda comm: ga.AdjointSettings("ksp"),
    "bcgs": lambda comm: ga.AdjointSettings("ksp", options={"ksp_type": "bcgs"}),
    "lu": lambda comm: ga.AdjointSettings("ksp", options={"pc_type": "lu"}),
    "own ksp": lambda comm: ga.AdjointSettings(own_ksp(comm)),
    "callable": lambda comm: ga.AdjointSettings(own_solver),
}


def system_of(pencil, pairs, settings):
    return ga.BorderedSystem(
        pencil,
        complex(pairs.values[0]),
        pairs.right[:, 0],
        transformation=pairs.factor,
        settings=settings,
    )


def expected_solution(kind, pairs, rhs, rho, *, hermitian):
    A, B = ARRAYS[kind]
    x = pairs.right[:, :1]
    matrix = np.block([[A - pairs.values[0] * B, B @ x], [x.conj().T, np.zeros((1, 1))]])
    matrix = matrix.conj().T if hermitian else matrix
    both = np.linalg.solve(matrix, np.vstack([rhs, rho]))
    return both[:-1], both[-1]


@pytest.mark.parametrize("hermitian", [False, True], ids=["forward", "transposed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", ARRAYS)
def test_solution_is_that_of_the_dense_matrix(comm, kind, strategy, hermitian):
    with (
        generalized(N, comm, kind) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.3) as pairs,
    ):
        rng = np.random.default_rng(3)
        rhs = rng.normal(size=(N, 2)).astype(pairs.right.dtype)
        rho = rng.normal(size=2)
        with system_of(pencil, pairs, STRATEGIES[strategy](comm)) as system:
            v, nu = system.solve(rhs, rho, hermitian=hermitian)
            again, _ = system.solve(rhs, rho, hermitian=not hermitian)
            v2, nu2 = system.solve(rhs, rho, hermitian=hermitian)
        expected = expected_solution(kind, pairs, rhs, rho, hermitian=hermitian)
        other = expected_solution(kind, pairs, rhs, rho, hermitian=not hermitian)[0]
        # rtol 1e-10 times condition numbers below 1e3
        assert np.allclose(v, expected[0], rtol=1e-7, atol=1e-8)
        assert np.allclose(nu, expected[1], rtol=1e-7, atol=1e-8)
        assert np.allclose(again, other, rtol=1e-7, atol=1e-8)
        assert np.allclose(v2, expected[0], rtol=1e-7, atol=1e-8)
        assert np.allclose(nu2, expected[1], rtol=1e-7, atol=1e-8)


def test_complex_right_hand_side_of_a_real_system(comm):
    with generalized(N, comm, "symmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3)
        rhs = np.random.default_rng(1).normal(size=(N, 2)) @ np.array([[1.0], [1j]])
        with system_of(pencil, pairs, None) as system:
            v, nu = system.solve(rhs, np.array([1j]), hermitian=True)
        expected = expected_solution("symmetric", pairs, rhs, np.array([1j]), hermitian=True)
        assert np.allclose(v, expected[0], rtol=1e-8, atol=1e-9)
        assert np.allclose(nu, expected[1], rtol=1e-8, atol=1e-9)


def test_zero_right_hand_side_gives_exact_zero(comm):
    with generalized(N, comm, "nonsymmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3)
        with system_of(pencil, pairs, None) as system:
            v, nu = system.solve(np.zeros((N, 1)), np.zeros(1), hermitian=True)
        assert not v.any()
        assert not nu.any()


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
@pytest.mark.parametrize("size", [1e-60, 1e40])
def test_size_of_the_right_hand_side_does_not_matter(comm, strategy, size):
    # PETSc's absolute tolerance of 1e-50 would stop at once.
    rhs = np.random.default_rng(2).normal(size=(N, 1)) + 0j
    with (
        generalized(N, comm, "nonsymmetric") as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.3) as pairs,
        system_of(pencil, pairs, ga.AdjointSettings(strategy)) as system,
    ):
        one, other = (system.solve(s * rhs, np.zeros(1), hermitian=True)[0] for s in (1.0, size))
    np.testing.assert_allclose(other / size, one, rtol=1e-9)  # rtol 1e-10 of both


def test_right_hand_side_is_not_changed(comm):
    with generalized(N, comm, "nonsymmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3)
        rhs = np.ones((N, 1), dtype=complex)
        with system_of(pencil, pairs, None) as system:
            system.solve(rhs, np.ones(1), hermitian=True)
        assert np.array_equal(rhs, np.ones((N, 1)))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_of_a_and_b_do_not_matter(comm, scale):
    # The residual bound is relative to the matrix: the same result for any units of A.
    with generalized(N, comm, "nonsymmetric") as pencil:
        pencil.A.scale(scale)
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3 * scale)
        rhs = np.random.default_rng(2).normal(size=(N, 1)) + 0j
        with system_of(pencil, pairs, ga.AdjointSettings("direct")) as system:
            v, _ = system.solve(scale * rhs, np.zeros(1), hermitian=True)
        x = pairs.right[:, :1]
        A, B = ARRAYS["nonsymmetric"]
        shifted = A - pairs.values[0] / scale * B
        dense = np.block([[shifted, B @ x], [x.conj().T, np.zeros((1, 1))]]).conj().T
        expected = np.linalg.solve(dense, np.vstack([rhs, [[0]]]))[:-1]
        assert np.allclose(v, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("strategy", ["lu", "Direct", ""])
def test_strategy_that_does_not_exist(comm, strategy):
    with generalized(N, comm, "symmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3)
        with pytest.raises(ga.InputError, match=r'strategy must be "block-krylov".*None chooses'):
            system_of(pencil, pairs, ga.AdjointSettings(strategy))


def test_direct_needs_a_matrix(comm):
    model = ga.OperatorModel(4, lambda p, block: 2 * block, lambda p, a, b, r: {}, comm=comm)
    pencil = model.assemble({})
    with pytest.raises(ga.InputError, match=r'"direct" needs assembled matrices.*strategy="ksp"'):
        ga.BorderedSystem(pencil, 2.0, np.eye(4)[0], settings=ga.AdjointSettings("direct"))


def test_one_iteration_is_not_enough_and_the_message_says_for_what(comm):
    settings = ga.AdjointSettings("ksp", options={"ksp_max_it": 1, "pc_type": "none"})
    with generalized(N, comm, "nonsymmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3)
        with system_of(pencil, pairs, settings) as system:
            match = r"adjoint solve of this eigenpair must reach rtol 1.0e-10, got .*direct"
            with pytest.raises(ga.ConvergenceError, match=match) as caught:
                system.solve(np.ones((N, 1)) + 0j, np.zeros(1), hermitian=True)
    assert caught.value.reason in {"DIVERGED_ITS", "DIVERGED_MAX_IT"}  # two names of -3
    assert caught.value.iterations == 2  # one solve, and a correction that does not help
    assert 1e-10 < caught.value.residual_norm < np.inf


def solved_with_one_iteration(comm, settings):
    """Return the solution and what the strategy has become, Krylov methods being cut short."""
    rhs, rho = np.linspace(1.0, 2.0, N)[:, None] + 0j, np.zeros(1)
    with (
        generalized(N, comm, "nonsymmetric") as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.3) as pairs,
        inserted_options("ga_adjoint_", {"ksp_max_it": 1}),
        system_of(pencil, pairs, settings) as system,
    ):
        v, nu = system.solve(rhs, rho, hermitian=True)
        again, _ = system.solve(rhs, rho, hermitian=True)
        other, _ = system.solve(rhs, rho, hermitian=False)
        expected = expected_solution("nonsymmetric", pairs, rhs, rho, hermitian=True)
        forward = expected_solution("nonsymmetric", pairs, rhs, rho, hermitian=False)
        np.testing.assert_allclose(other, forward[0], rtol=1e-7, atol=1e-8)  # as below
    np.testing.assert_array_equal(again, v)
    return (v, nu), expected, system.strategy


def test_strategy_that_nobody_chose_gives_way_to_direct(comm):
    found, expected, strategy = solved_with_one_iteration(comm, ga.AdjointSettings())
    assert strategy == "direct"
    # rtol 1e-10 times condition numbers below 1e3
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    "settings",
    [ga.AdjointSettings("ksp"), ga.AdjointSettings(options={"ksp_type": "bcgs"})],
    ids=["strategy", "options"],
)
def test_strategy_that_was_chosen_stays(comm, settings):
    match = r'\(DIVERGED_(ITS|MAX_IT), \d+ iterations\); use strategy="direct", or raise ksp_max_it'
    with pytest.raises(ga.ConvergenceError, match=match):
        solved_with_one_iteration(comm, settings)


@pytest.mark.parametrize("seed", [17, 22, 26])
def test_graded_matrix_is_solved_with_the_eigensolvers_factor(comm, seed):
    # Entries from 1e-8 to 1e8: GMRES breaks down with a border of the size of the diagonal.
    n = 5
    grade = 10.0 ** (-8.0 * np.arange(n) / (n - 1))
    A = np.random.default_rng(seed).standard_normal((n, n)) * grade[None, :] / grade[:, None]
    rhs = np.ones((n, 1)) + 0j
    with (
        ga.Pencil(matrix(A, comm), owned=True) as pencil,
        ga.solve_eigenproblem(pencil, 1, target=1.0) as pairs,
        system_of(pencil, pairs, ga.AdjointSettings("ksp")) as system,
        system_of(pencil, pairs, ga.AdjointSettings("direct")) as other,
    ):
        v, w = (item.solve(rhs, np.zeros(1), hermitian=False)[0] for item in (system, other))
    assert np.linalg.norm(v - w) <= 1e-6 * np.linalg.norm(w)  # residuals 1e-10, conditions 1e3


def lazy_solver(operator, rhs, solution):
    solution.set(0.0)


def test_advice_fits_who_made_the_solver(comm):
    match = r'got 1.0e\+00 .*; use strategy="direct", or make the solver given as strategy more acc'
    with (
        generalized(N, comm, "nonsymmetric") as pencil,
        ga.solve_eigenproblem(pencil, 1, target=0.3) as pairs,
        system_of(pencil, pairs, ga.AdjointSettings(lazy_solver)) as system,
        pytest.raises(ga.ConvergenceError, match=match),
    ):
        system.solve(np.ones((N, 1)) + 0j, np.zeros(1), hermitian=True)


def test_operators_without_entries_are_not_sent_to_direct(comm):
    settings = ga.AdjointSettings(options={"ksp_max_it": 1})
    spread = np.arange(1.0, 7.0)[:, None]
    model = ga.OperatorModel(6, lambda p, block: spread * block, lambda p, a, b, r: {}, comm=comm)
    match = r"iterations\); raise ksp_max_it, or choose another ksp_type"
    with (
        model.assemble({}) as pencil,
        ga.BorderedSystem(pencil, 1.0, np.eye(6)[0], settings=settings) as system,
        pytest.raises(ga.ConvergenceError, match=match),
    ):
        system.solve(np.ones((6, 1)), np.zeros(1), hermitian=True)


def test_nearly_double_eigenvalue_is_not_sent_to_direct_by_direct(comm):
    K = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
    pencil = ga.Pencil(matrix(K @ np.diag([2.0, 2.0, 3.0, 5.0]) @ K.T, comm))
    settings = ga.AdjointSettings("direct")
    with (
        pencil,
        ga.BorderedSystem(pencil, 2.0, K[:, 0].copy(), settings=settings) as system,
        pytest.raises(ga.ConvergenceError, match=r"iterations\); the eigenvalue may be multiple"),
    ):
        system.solve(np.ones((4, 1)), np.zeros(1), hermitian=True)


@pytest.mark.failure("singular adjoint", through="api")
def test_double_eigenvalue_makes_the_system_singular(comm):
    pencil = ga.Pencil(matrix(np.diag([2.0, 2.0, 3.0, 5.0]), comm))
    system = ga.BorderedSystem(pencil, 2.0, np.eye(4)[0], settings=ga.AdjointSettings("direct"))
    with pytest.raises(ga.ConvergenceError, match=r"this eigenpair must .*(multiple|direct)"):
        system.solve(np.ones((4, 1)), np.zeros(1), hermitian=True)


def test_close_twice_leaves_the_users_ksp_alive(comm):
    ksp = own_ksp(comm)
    with generalized(N, comm, "nonsymmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, target=0.3)
        system = system_of(pencil, pairs, ga.AdjointSettings(ksp))
        system.solve(np.ones((N, 1)) + 0j, np.zeros(1), hermitian=True)
        system.close()
        system.close()
    assert ksp.getType() == "gmres"

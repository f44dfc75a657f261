"""Factors of bordered matrices, kept with the pairs: five proofs, what is counted, what is freed.

Small problems never take them by themselves: here factors cost nothing, so that they always pay.
"""

from collections import Counter

import numpy as np
import pytest
from builders import matrix, nonsymmetric, stiffness
from pencils import COMPLEX_BUILD, flat
from scenarios import fourth_order_difference, scenarios, solved
from test_left_vectors import DOUBLE, PENCILS, assert_left_pairs, pencil_of

import geneig_adjoint as ga
from geneig_adjoint import block_krylov, bordered, left_vectors, near_factors

CHAINS = [
    item
    for item in scenarios("2", "linear")
    if not {"hermitian", "symmetric"} & item.problem.traits
]


@pytest.fixture(scope="module", autouse=True)
def free_factors():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SMALLEST": 0, "FACTOR_ROW": 0.0, "FACTOR_FLOP": 0.0}.items():
            patch.setattr(near_factors, name, value)
        yield patch


@pytest.fixture(scope="module", params=CHAINS, ids=str)
def chain(request, comm):
    with solved(request.param, comm) as found:
        yield found


def simple(n):
    """Return a matrix whose eigenvalues are real and simple, but not a symmetric one."""
    return np.diag(np.arange(1.0, n + 1)) + 0.4 * np.eye(n, k=1) + 0.1 * np.eye(n, k=-1)


def never(*_, **__):
    raise AssertionError("only kept factors must be used")


@pytest.fixture
def counted(monkeypatch):
    """Count factorisations of bordered matrices, and solves with them."""
    counts = Counter()

    class Counted(bordered.LinearSolver):
        def __init__(self, *arguments):
            counts["factors"] += 1
            super().__init__(*arguments)

        def solve(self, *arguments, **settings):
            counts["solves"] += 1
            return super().solve(*arguments, **settings)

    monkeypatch.setattr(bordered, "LinearSolver", Counted)
    return counts


# -- five proofs; ranks in mpi_tests, single terms in the objectives of the scenarios --


def test_gradient_equals_dense_reference(chain):
    errors = chain.gradients() - chain.reference_gradients
    # The adjoint's rtol is 1e-10 and the gallery's bordered systems have conditions below 10.
    assert chain.too_large(errors, 1e-9) == {}


def test_tangent_equals_dense_reference(chain):
    found, expected = chain.tangent(), chain.reference.tangent(chain.problem.p_dot)
    for part in ("values", "right", "left"):
        size = np.linalg.norm(getattr(expected, part))
        np.testing.assert_allclose(
            getattr(found, part), getattr(expected, part), atol=1e-9 * size, err_msg=part
        )


def test_gradient_has_second_order_taylor_remainder(chain):
    orders = chain.taylor_orders(chain.slopes)
    assert chain.named(orders, ~(orders >= 1.95)) == {}


def test_gradient_equals_fourth_order_differences_of_the_chain(chain):
    differences = fourth_order_difference(lambda k: chain.around[k])
    assert chain.too_large(chain.slopes - differences, 1e-7) == {}


def test_gradient_and_tangent_are_dual(chain):
    tangent = chain.tangent()
    forward = [chain.along(tangent, cotangent) for cotangent in chain.cotangents()]
    backward = chain.gradients() @ flat(chain.problem.p_dot)
    # One factor serves both ways: rounding.
    assert chain.too_large(backward - forward, 1e-12) == {}


# -- what is counted --


def both_vectors(model, pairs):
    """Return gradients of the values, and of right and left vectors, in two calls."""
    weight = np.arange(*pairs.rows) + 1.0
    forms = [ga.objectives.QuadraticForm(weight, (0,)), ga.objectives.PetermannFactor(0)]
    return [ga.gradient(model, {"p": np.zeros(1)}, pairs, form)["p"] for form in forms]


def model_of(comm, A):
    change = np.diag(np.arange(1.0, len(A) + 1)) + 0.3 * np.eye(len(A), k=1)
    return ga.MatrixModel(matrix(A, comm), None, {"p": [(matrix(change, comm), None)]})


def solved_one(model, **settings):
    return ga.solve_eigenproblem(model.assemble({"p": np.zeros(1)}), 1, target=0.2, **settings)


def test_one_factor_serves_left_vector_adjoints_and_tangents(comm, monkeypatch, counted):
    monkeypatch.setattr(left_vectors, "_transposed_vectors", never)
    monkeypatch.setattr(block_krylov.BlockKrylov, "solve", never)
    model = model_of(comm, simple(40))
    with solved_one(model) as pairs:
        # Two tell that the value is simple, the third gives the left vector.
        assert counted == {"factors": 1, "solves": 3}
        both_vectors(model, pairs)
        # x; y and x. The left vector and each answer are right at the first solve.
        assert counted == {"factors": 1, "solves": 6}
        ga.jvp(model, {"p": np.zeros(1)}, pairs, {"p": np.ones(1)})
        assert counted == {"factors": 1, "solves": 8}
        both_vectors_direct = ga.gradient(
            model,
            {"p": np.zeros(1)},
            pairs,
            ga.objectives.PetermannFactor(0),
            strategy="direct",
        )
        assert counted["factors"] == 1
        expected = both_vectors(model, pairs)[1]
        assert np.array_equal(both_vectors_direct["p"], expected)


def test_conjugates_share_a_factor_where_the_matrix_is_real(comm, monkeypatch, counted):
    monkeypatch.setattr(block_krylov.BlockKrylov, "solve", never)
    model = model_of(comm, nonsymmetric(40))
    pencil = model.assemble({"p": np.zeros(1)})
    with ga.solve_eigenproblem(pencil, 2, target=0.2) as pairs:
        assert np.allclose(pairs.values[0], pairs.values[1].conj())
        assert pairs.values[0].imag > 1
        found = ga.jvp(model, {"p": np.zeros(1)}, pairs, {"p": np.ones(1)})
        # The complex build does not know that the matrix is real.
        assert counted["factors"] == {True: 2, False: 1}[COMPLEX_BUILD]
        other = ga.jvp(model, {"p": np.zeros(1)}, pairs, {"p": np.ones(1)}, strategy="ksp")
        for part in ("values", "right", "left"):
            assert np.allclose(getattr(found, part), getattr(other, part), rtol=1e-8, atol=1e-9)


def test_one_factor_is_made_for_the_adjoints_of_both_conjugates(comm, counted):
    model = model_of(comm, nonsymmetric(40))
    pencil = model.assemble({"p": np.zeros(1)})
    krylov = {"left_type": "krylov"}
    with ga.solve_eigenproblem(pencil, 2, target=0.2, solver_parameters=krylov) as pairs:
        form = ga.objectives.QuadraticForm(np.arange(*pairs.rows) + 1.0, (0, 1))
        ga.gradient(model, {"p": np.zeros(1)}, pairs, form)
        # The complex build does not know that the matrix is real.
        expected = {True: 2, False: 1}[COMPLEX_BUILD]
        assert counted["factors"] == len(pairs.factor.near) == expected


@pytest.mark.parametrize("strategy", ["block-krylov", "ksp"])
def test_chosen_strategies_leave_kept_factors_alone(comm, counted, strategy):
    model = model_of(comm, simple(40))
    with solved_one(model) as pairs:
        known = both_vectors(model, pairs)
        solves = counted["solves"]
        form = ga.objectives.PetermannFactor(0)
        found = ga.gradient(model, {"p": np.zeros(1)}, pairs, form, strategy=strategy)["p"]
        assert np.allclose(found, known[1], rtol=1e-8)
        assert counted["solves"] == solves + {"block-krylov": 0, "ksp": 2}[strategy]


def test_a_factor_made_for_an_adjoint_is_kept(comm, counted):
    model = model_of(comm, simple(40))
    with solved_one(model, solver_parameters={"left_type": "krylov"}) as pairs:
        assert counted["factors"] == 0
        one = both_vectors(model, pairs)
        assert counted["factors"] == 1
        assert len(pairs.factor.near) == 1
    with solved_one(model) as pairs:
        assert np.allclose(both_vectors(model, pairs), one, rtol=1e-9)


def test_factors_are_freed_with_the_pairs(comm, monkeypatch):
    closed = []
    plain = bordered.BorderedSystem.close
    monkeypatch.setattr(
        bordered.BorderedSystem, "close", lambda self: (closed.append(self), plain(self))
    )
    pairs = solved_one(model_of(comm, simple(40)))
    assert (len(pairs.factor.near), closed) == (1, [])
    pairs.close()
    assert (len(pairs.factor.near), len(closed)) == (0, 1)


def test_more_pairs_than_there_is_room_for(comm, monkeypatch):
    """Then Krylov-Schur finds the left vectors, and blocked solves the adjoints."""
    monkeypatch.setattr(near_factors, "MOST_KEPT", 2)
    with ga.solve_eigenproblem(pencil_of(comm, simple(40)), 3, target=0.2) as pairs:
        assert not pairs.factor.near
        assert_left_pairs(pairs, simple(40), None)


# -- left vectors --


@pytest.mark.parametrize("kind", ["krylov", "factors"])
@pytest.mark.parametrize("name", [name for name in PENCILS if name != "indefinite_B"])
def test_both_ways_to_left_vectors(comm, name, kind):
    A, B = PENCILS[name]
    with ga.solve_eigenproblem(
        pencil_of(comm, A, B), 4, target=0.35, solver_parameters={"left_type": kind}
    ) as pairs:
        assert_left_pairs(pairs, A, B)


def test_members_of_a_cluster_are_left_to_krylov_schur(comm, counted):
    with ga.solve_eigenproblem(pencil_of(comm, DOUBLE), 2, target=1.9) as pairs:
        assert pairs.clusters[0] == (0, 1)
        assert counted["factors"] == 0
        assert_left_pairs(pairs, DOUBLE, None)


def test_wrong_vectors_of_a_factor_are_found_again(comm, monkeypatch):
    def wrong(system, unit):
        return np.ones(system.pencil.n_local, dtype=complex)

    monkeypatch.setattr(left_vectors, "_left_vector", wrong)
    A = simple(40)
    with ga.solve_eigenproblem(pencil_of(comm, A), 1, target=0.2) as pairs:
        assert_left_pairs(pairs, A, None)


def test_unknown_kind_of_left_vectors(comm):
    match = r'left_type must be "krylov" or "factors", got \'lanczos\'; leave it out'
    with pytest.raises(ga.InputError, match=match):
        ga.solve_eigenproblem(
            pencil_of(comm, simple(6)), 1, solver_parameters={"left_type": "lanczos"}
        )


def test_vectors_of_another_direction_do_not_meet_a_kept_factor(comm):
    settings = ga.adjoint_settings.AdjointSettings()
    with ga.solve_eigenproblem(pencil_of(comm, simple(40)), 1, target=0.2) as pairs:
        lam, x = complex(pairs.values[0]), pairs.right[:, 0]
        names = (settings, "this")
        assert near_factors.kept_system(pairs.factor, (lam, -2.5 * x), *names) is not None
        other = x + 1e-6 * np.arange(*pairs.rows)
        assert near_factors.kept_system(pairs.factor, (lam, other), *names) is None
        assert near_factors.kept_system(pairs.factor, (lam + 1.0, x), *names) is None
        # Other options may hold there.
        elsewhere = ga.adjoint_settings.AdjointSettings(prefix="other_")
        assert near_factors.kept_system(pairs.factor, (lam, x), elsewhere, "this") is None


def test_factors_of_scaled_rows_are_not_those_of_the_pencil(comm):
    """Right vectors are the same, adjoints are not."""
    units = 10.0 ** np.linspace(-4, 4, 40)[:, None]
    A, B, change = units * simple(40), units * np.eye(40), units * nonsymmetric(40)
    mats = [matrix(dense, comm) for dense in (A, B, change)]
    model, p = ga.MatrixModel(*mats[:2], {"p": [(mats[2], None)]}), {"p": np.zeros(1)}
    with ga.solve_eigenproblem(model.assemble(p), 1, target=0.2) as pairs:
        assert "scaled" in pairs.info.notes[0]
        assert not pairs.factor.near
        form = ga.objectives.PetermannFactor(0)
        found = ga.gradient(model, p, pairs, form)["p"]
        expected = ga.gradient(model, p, pairs, form, strategy="direct")["p"]
        assert np.allclose(found, expected, rtol=1e-7)  # the adjoint's rtol, and both have it


def test_symmetric_pencils_need_no_factor(comm, counted):
    with ga.solve_eigenproblem(pencil_of(comm, stiffness(30)), 1, target=0.0) as pairs:
        assert counted["factors"] == 0
        assert not pairs.factor.near

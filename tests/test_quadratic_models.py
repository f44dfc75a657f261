"""What quadratic models may be made of, and what is said when they cannot."""

from typing import NamedTuple

import numpy as np
import pytest
from builders import matrix
from damped_bars import BAR_K, BAR_M, damped_bar, end_damper
from mpi4py import MPI
from quadratic_problems import real_problems

import geneig_adjoint as ga
from geneig_adjoint.errors import ConvergenceError, InputError, StaleError

COMM = MPI.COMM_WORLD
N = 6
OBJECTIVE = ga.objectives.QuadraticForm(1.0 + np.arange(N) / N, (0,))
P = {"k": np.linspace(1.0, 1.5, N), "c": np.array([0.4]), "m": np.linspace(0.8, 1.2, N)}


def solved(model, p=P, objective=OBJECTIVE, **settings):
    """Return values and gradient."""
    with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 2, **settings) as pairs:
        return pairs.values, ga.gradient(model, p, pairs, objective)


def agree(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    assert set(found[1]) == set(expected[1])
    for name, gradient in expected[1].items():
        # Bordered systems are solved to 1e-10.
        np.testing.assert_allclose(found[1][name], gradient, rtol=1e-8, atol=1e-11)


def single(matrix_of, name, stiff):
    """Return a model of one matrix of the bar with a damper at its end."""
    ids = np.arange(N)
    dofs = np.stack([ids - 1, ids], axis=1)
    return ga.ElementModel(
        N, [ga.ElementBlock("A", dofs, ga.ScaledKernel(stiff * matrix_of), {name: ids})], comm=COMM
    )


def damper(mode):
    array = np.zeros((N, N))
    array[-1, -1] = 1.0
    zero = matrix(0 * array, COMM)
    return {
        "matrix": matrix(0.4 * array, COMM),
        "model": ga.MatrixModel(zero, None, {"c": [(matrix(array, COMM), None)]}),
    }[mode]


def test_three_models_are_asked_about_their_own_parameters():
    model = ga.QuadraticModel(single(BAR_K, "k", N), damper("model"), single(BAR_M, "m", 1 / N))
    agree(solved(model), solved(end_damper(N, COMM)))


def test_a_matrix_is_a_constant():
    model = ga.QuadraticModel(single(BAR_K, "k", N), damper("matrix"), single(BAR_M, "m", 1 / N))
    p = {name: P[name] for name in "km"}
    values, gradient = solved(end_damper(N, COMM))
    agree(solved(model, p), (values, {name: gradient[name] for name in "km"}))
    report = ga.verify_gradient(model, p, OBJECTIVE, count=2)
    assert report.passed, report


class Chain:
    """The bar as one object of a user; C is absent from its p-dependence where ``names`` says."""

    comm = COMM

    def __init__(self):
        self.matrices = {"K": N * self.assembled(BAR_K), "M": self.assembled(BAR_M) / N}
        self.parameter = {"K": "k", "M": "m", "C": "c"}
        self.matrices["C"] = np.zeros((N, N, 1))
        self.matrices["C"][-1, -1, 0] = 1.0

    def assembled(self, element):
        total = np.zeros((N, N, N))
        for e in range(N):
            rows = [row for row in (e - 1, e) if row >= 0]
            total[np.ix_(rows, rows, [e])] += element[-len(rows) :, -len(rows) :, None]
        return total

    def matrix(self, name, p):
        return matrix(self.matrices[name] @ p[self.parameter[name]], COMM)

    def contract(self, name, p, left, right):
        total = {key: np.zeros(len(value)) for key, value in p.items()}
        sums = np.einsum("ij,ikp,kj->p", left.conj(), self.matrices[name], right)
        total[self.parameter[name]] = sums.real
        return total

    def tangent(self, name, p, p_dot, right, hermitian):
        del p, hermitian  # symmetric
        return (self.matrices[name] @ p_dot[self.parameter[name]]) @ right

    def contract_tangent(self, name, p, p_dot, left, right):
        del name, p_dot, left, right
        return {key: np.zeros(len(value)) for key, value in p.items()}


def test_one_object_of_a_user_that_knows_all_matrices():
    model = ga.QuadraticModel.of(Chain())
    agree(solved(model), solved(end_damper(N, COMM)))
    p_dot = {name: np.cos(np.arange(len(value))) for name, value in P.items()}
    products = []
    for each in (model, end_damper(N, COMM)):
        with each.assemble(P) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
            products.append(ga.hessian_vector_product(each, P, pairs, OBJECTIVE, p_dot))
    for name in P:
        np.testing.assert_allclose(products[0][name], products[1][name], rtol=1e-7, atol=1e-9)


def test_the_object_gets_the_structure_of_the_user():
    class Design(NamedTuple):
        k: np.ndarray
        c: np.ndarray
        m: np.ndarray

    class Structured(Chain):
        def matrix(self, name, p):
            return super().matrix(name, p._asdict())

        def contract(self, name, p, left, right):
            return Design(**super().contract(name, p._asdict(), left, right))

        def tangent(self, name, p, p_dot, right, hermitian):
            return super().tangent(name, p._asdict(), p_dot._asdict(), right, hermitian)

    model = ga.QuadraticModel.of(Structured())
    values, gradient = solved(model, Design(**P))
    agree((values, gradient._asdict()), solved(end_damper(N, COMM)))
    with model.assemble(Design(**P)) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
        tangent = ga.jvp(model, Design(**P), pairs, Design(**P))
    # K, C and M grow alike: the values stay.
    np.testing.assert_allclose(tangent.values, 0.0, atol=1e-10)


def test_what_the_object_returns_must_be_a_matrix():
    class Empty(Chain):
        def matrix(self, name, p):
            return None

    with pytest.raises(InputError, match=r"matrix\('K', p\) must return a PETSc.Mat, got NoneType"):
        ga.QuadraticModel.of(Empty()).assemble(P)


def test_one_object_without_damping():
    model = ga.QuadraticModel.of(Chain(), names="KM", form="symmetric")
    values, gradient = solved(model, objective=ga.objectives.NaturalFrequency(0))
    assert np.abs(values.real).max() < 1e-12
    assert np.abs(gradient["c"]).max() == 0
    assert gradient["k"].min() > 0 > gradient["m"].max()


def test_a_quadratic_model_stands_behind_maps():
    model = ga.Composed(end_damper(N, COMM), [ga.Pointwise("k", np.exp)])
    q = {**P, "k": np.log(P["k"])}
    values, gradient = solved(model, q)
    plain = solved(end_damper(N, COMM))
    agree((values, gradient), (plain[0], {**plain[1], "k": plain[1]["k"] * P["k"]}))
    report = ga.verify_gradient(model, q, OBJECTIVE, count=2)
    assert report.passed, report


def test_contraction_at_a_point_that_was_not_assembled():
    problem = real_problems()[1]
    first, second = problem.model(COMM), problem.model(COMM)
    with first.assemble(problem.p) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
        blocks = (pairs.linear.left, pairs.linear.left * 0.3, pairs.linear.right)
        expected = first.contract(problem.p, *blocks)["p"]
    for step in range(12):  # more points than are remembered
        first.assemble({"p": problem.p["p"] * (2 + step)}).close()
    for model in (first, second):
        found = model.contract(problem.p, *blocks)["p"]
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_closed_and_refilled_pencils_make_pairs_stale():
    problem = real_problems()[0]
    model = problem.model(COMM)
    pencil = model.assemble(problem.p)
    with ga.solve_quadratic(pencil, 2) as pairs:
        other = {"p": problem.p["p"] + 0.1}
        again = model.assemble(other, out=pencil)
        assert again is pencil
        with pytest.raises(StaleError, match="must belong to the current matrices"):
            pairs.check_current()
        with pytest.raises(StaleError, match="must belong to the current matrices"):
            ga.gradient(model, other, pairs, ga.objectives.Eigenvalue(0))
    with model.assemble(other) as fresh:
        for mat, same in ((pencil.A, fresh.A), (pencil.B, fresh.B)):
            difference = mat.copy()
            difference.axpy(-1.0, same)
            assert difference.norm() < 1e-14 * same.norm()
    pencil.close()


def test_pairs_without_left_vectors():
    problem = real_problems()[0]
    model = problem.model(COMM)
    found = []
    for left in (True, False):
        with model.assemble(problem.p) as pencil, ga.solve_quadratic(pencil, 2, left=left) as pairs:
            found.append(ga.gradient(model, problem.p, pairs, ga.objectives.Eigenvalue(0))["p"])
    assert pairs.left is None
    assert np.isnan(pairs.condition).all()
    np.testing.assert_allclose(found[1], found[0], rtol=1e-8)


def test_infinite_eigenvalues_do_not_come_back():
    problem = real_problems()[4]
    with (
        problem.model(COMM).assemble(problem.p) as pencil,
        pytest.raises(ConvergenceError, match="must give 16 pairs, got 14"),
    ):
        ga.solve_quadratic(pencil, 16, target=problem.target)


class Bare:
    """A model of one matrix that can be contracted, and nothing more."""

    def __init__(self):
        self.parameter_sizes = {"c": 1}

    def assemble(self, p):
        return ga.Pencil(matrix(p["c"][0] * np.eye(N), COMM), owned=True)

    def contract(self, p, left_a, left_b, right):
        del p, left_b
        return {"c": np.array([np.vdot(left_a, right).real])}


def test_what_a_part_lacks_is_named():
    bar = end_damper(N, COMM)
    model = ga.QuadraticModel(bar.parts["K"], Bare(), bar.parts["M"])
    with model.assemble(P) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
        assert ga.gradient(model, P, pairs, OBJECTIVE)["c"].shape == (1,)
        with pytest.raises(InputError, match="needs tangent of all three models, got"):
            ga.jvp(model, P, pairs, P)
        with pytest.raises(InputError, match="not Hermitian and definite needs products"):
            ga.hessian_vector_product(model, P, pairs, OBJECTIVE, P)
        with pytest.raises(InputError, match="contract_tangent of all three models, got Bare"):
            model.contract_tangent(P, P, *[pairs.linear.right] * 3)
    assert not model.has_tangent
    assert ga.verify_gradient(model, P, OBJECTIVE, count=2).passed


def test_the_symmetric_form_gives_the_same():
    p = {"k": np.ones(1), "c": np.array([0.7]), "m": np.ones(1)}
    objective = ga.objectives.LinearOutput(np.cos(np.arange(N - 1.0)), 0)
    agree(*(solved(damped_bar(N, COMM, form), p, objective) for form in ("symmetric", "companion")))

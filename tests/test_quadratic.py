"""Quadratic problems: pairs, gradients and second derivatives against dense references."""

import numpy as np
import pytest
from builders import matrix, whole
from mpi4py import MPI
from petsc4py import PETSc
from quadratic_problems import (
    PROBLEMS,
    STEP,
    Quadratic,
    damped,
    dense_gradients,
    dense_values,
    derivatives,
    real_problems,
    slope,
    triples,
)

import geneig_adjoint as ga

COMM = MPI.COMM_WORLD
WEIGHT = 1.0 + np.arange(8) / 8
VECTOR = np.cos(np.arange(8.0))
# Rounding of a QZ of condition 2, and of residuals of the solver, below 1e-10 of eps_tol.
EXACT = 1e-9

OBJECTIVES = {
    "value": (ga.objectives.Eigenvalue(0), lambda lam, x, y: lam.real),
    "imaginary": (ga.objectives.Eigenvalue(0, "imag"), lambda lam, x, y: lam.imag),
    "linear": (
        ga.objectives.LinearOutput(VECTOR, 0, "imag"),
        lambda lam, x, y: (VECTOR @ x).imag,
    ),
    "quadratic": (
        ga.objectives.QuadraticForm(WEIGHT, (0,)),
        lambda lam, x, y: float(WEIGHT @ np.abs(x) ** 2),
    ),
    "left": (
        ga.objectives.StructuralSensitivity(WEIGHT, 0),
        lambda lam, x, y: float(WEIGHT @ (np.abs(x) * np.abs(y))),
    ),
}


def named(problems):
    return pytest.mark.parametrize("problem", problems, ids=lambda item: item.name)


@named(PROBLEMS)
def test_pairs_are_those_of_the_quadratic_problem(problem):
    with (
        problem.model(COMM).assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 4, target=problem.target) as pairs,
    ):
        expected, _ = dense_values(*problem.dense(problem.p))
        distance = np.abs(pairs.values[:, None] - expected)
        np.testing.assert_allclose(distance.min(axis=1), 0.0, atol=EXACT)
        limit = np.sort(np.abs(expected - problem.target))[3]
        assert np.abs(pairs.values[:4] - problem.target).max() <= limit + EXACT
        assert pairs.residuals.max() < 1e-12
        assert pairs.rows == (0, 8)
        assert pairs.right.shape == pairs.left.shape == (8, pairs.count)
        for lam, x, y in zip(pairs.values, pairs.right.T, pairs.left.T, strict=True):
            Q, Q_slope = slope(problem, problem.p, lam)
            size = np.linalg.norm(Q, 2)
            assert np.linalg.norm(Q @ x) < 1e-10 * size
            assert np.linalg.norm(y.conj() @ Q) < 1e-10 * size * np.linalg.norm(y)
            assert abs(y.conj() @ Q_slope @ x - 1) < EXACT
            assert abs(np.linalg.norm(x) - 1) < 1e-13
        rows = pairs.phase_rows
        entries = pairs.right[rows, np.arange(pairs.count)]
        np.testing.assert_allclose(entries, np.abs(pairs.right).max(axis=0), rtol=1e-5)


def test_phase_is_that_of_x_where_its_derivative_is_larger():
    problem = real_problems()[5]
    with (
        problem.model(COMM).assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 2, target=-30.0) as pairs,
    ):
        upper, lower = np.split(np.abs(pairs.linear.right), 2)
        assert lower.max() > 1.5 * upper.max()  # fast: |lam| > g
        entries = pairs.right[pairs.phase_rows, np.arange(pairs.count)]
        np.testing.assert_allclose(entries, np.abs(pairs.right).max(axis=0), rtol=1e-5)


@named(PROBLEMS)
def test_condition_says_how_much_cancels_in_the_slope(problem):
    with (
        problem.model(COMM).assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 2, target=problem.target) as pairs,
    ):
        lam, x, y = pairs.values[0], pairs.right[:, 0], pairs.left[:, 0]
        _, C, M = problem.dense(problem.p)
        M_y = np.conj(lam) * (M.conj().T @ y)
        slope_y = np.concatenate([M_y + C.conj().T @ y, M_y])
        expected = np.sqrt(2) * np.linalg.norm(x) * np.linalg.norm(slope_y)
        assert pairs.condition[0] == pytest.approx(expected, rel=EXACT)


@named(PROBLEMS)
def test_gradients_agree_with_differences_of_the_dense_problem(problem):
    model = problem.model(COMM)
    objectives = [objective for objective, _ in OBJECTIVES.values()]
    settings = {"target": problem.target, "solver_parameters": {"eps_tol": 1e-13}}
    with (
        model.assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 3, **settings) as pairs,
    ):
        gradients = ga.gradient(model, problem.p, pairs, objectives)
        near, row = pairs.values[0], pairs.phase_rows[0]
    expected = dense_gradients(problem, [f for _, f in OBJECTIVES.values()], near, row)
    for found, reference in zip(gradients, expected, strict=True):
        # Sixth order at a step of 2e-3: truncation and rounding are near 1e-10 of the largest.
        scale = max(np.abs(reference).max(), 1e-3)
        np.testing.assert_allclose(found["p"], reference, atol=2e-8 * scale, rtol=0)


def scale_requests(problem):
    bilinear = ["bilinear"] if problem.form == "symmetric" else []
    return [(problem, scale) for scale in ["2", ("component", 3), ("linear", WEIGHT), *bilinear]]


SCALES = [item for problem in PROBLEMS[:2] + PROBLEMS[6:7] for item in scale_requests(problem)]


@pytest.mark.parametrize(
    ("problem", "scale"), SCALES, ids=lambda item: getattr(item, "name", str(item)[:12])
)
def test_every_normalization_is_that_of_x(problem, scale):
    model = problem.model(COMM)
    with (
        model.assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 2, target=problem.target, normalization=scale) as pairs,
    ):
        lam, x = pairs.values[0], pairs.right[:, 0]
        _, Q_slope = slope(problem, problem.p, lam)
        lengths = {
            "2": x.conj() @ x,
            "('component', 3)": x[3],
            "bilinear": x @ Q_slope @ x,
        }
        assert lengths.get(str(scale), WEIGHT @ x) == pytest.approx(1.0, abs=EXACT)
    report = ga.verify_gradient(
        model,
        problem.p,
        ga.objectives.QuadraticForm(VECTOR, (0,)),
        count=2,
        target=problem.target,
        normalization=scale,
        solver_parameters={"eps_tol": 1e-13},
    )
    assert report.passed, report


@named([PROBLEMS[0], PROBLEMS[1], *PROBLEMS[6:8]])
def test_hessian_products_agree_with_differences_of_gradients(problem):
    objectives = [OBJECTIVES[kind][0] for kind in ("quadratic", "left")]
    model, p_dot = problem.model(COMM), {"p": np.array([0.7, -0.4, 0.9])}
    settings = {"target": problem.target, "solver_parameters": {"eps_tol": 1e-13}}

    def gradient(step, like):
        p = {"p": problem.p["p"] + step * p_dot["p"]}
        with (
            model.assemble(p) as pencil,
            ga.solve_quadratic(pencil, 3, like=like, **settings) as pairs,
        ):
            return np.array([g["p"] for g in ga.gradient(model, p, pairs, objectives)])

    with model.assemble(problem.p) as pencil, ga.solve_quadratic(pencil, 3, **settings) as pairs:
        products = [
            ga.hessian_vector_product(model, problem.p, pairs, objective, p_dot)["p"]
            for objective in objectives
        ]
        h = STEP / 2
        one, two = (gradient(k * h, pairs) - gradient(-k * h, pairs) for k in (1, 2))
    expected = (8 * one - two) / (12 * h)
    for found, reference in zip(products, expected, strict=True):
        # Fourth order: (1e-3)^4 of fifth derivatives that are some hundred times the second.
        np.testing.assert_allclose(found, reference, atol=1e-7 * max(abs(reference).max(), 1e-2))


@named(PROBLEMS)
def test_tangents_are_the_transpose_of_gradients(problem):
    model, p_dot = problem.model(COMM), {"p": np.array([0.7, -0.4, 0.9])}
    with (
        model.assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 3, target=problem.target) as pairs,
    ):
        tangent = ga.jvp(model, problem.p, pairs, p_dot)
        assert tangent.right.shape == tangent.left.shape == pairs.right.shape
        rng = np.random.default_rng(3)

        def bars(like):
            return rng.standard_normal(like.shape) + 1j * rng.standard_normal(like.shape)

        given = ga.EigenCotangent(bars(pairs.values), bars(pairs.right), bars(pairs.left))
        gradient = ga.gradient(model, problem.p, pairs, lambda _: (0.0, given))["p"]
        terms = [
            np.vdot(bar, dot).real
            for bar, dot in (
                (given.values, tangent.values),
                (given.right, tangent.right),
                (given.left, tangent.left),
            )
        ]
        # Both from bordered systems solved to 1e-10.
        assert gradient @ p_dot["p"] == pytest.approx(sum(terms), abs=1e-9 * np.abs(terms).max())


def pep_values(problem, count):
    """Return the values of SLEPc's TOAR for polynomial problems, nearest to the target."""
    from slepc4py import SLEPc

    mats = [matrix(array, COMM) for array in problem.dense(problem.p)]
    pep = SLEPc.PEP().create(COMM)
    pep.setOperators(mats)
    pep.setType(SLEPc.PEP.Type.TOAR)
    pep.setDimensions(count)
    pep.setTarget(problem.target)
    pep.setWhichEigenpairs(SLEPc.PEP.Which.TARGET_MAGNITUDE)
    pep.setTolerances(1e-12)
    pep.getST().setType(SLEPc.ST.Type.SINVERT)
    pep.getST().getKSP().setType("preonly")
    pep.getST().getKSP().getPC().setType("lu")
    pep.solve()
    vec = mats[0].createVecRight()
    found = [complex(pep.getEigenpair(j, vec, vec.duplicate())) for j in range(pep.getConverged())]
    for item in (pep, *mats):
        item.destroy()
    return np.array(found)


@named(PROBLEMS)
def test_values_are_those_of_the_polynomial_solver_of_slepc(problem):
    expected = pep_values(problem, 4)
    with (
        problem.model(COMM).assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 4, target=problem.target) as pairs,
    ):
        distance = np.abs(pairs.values[:, None] - expected).min(axis=1)
    # Values of size 1 to 5 and condition 2, by direct factors on both sides.
    np.testing.assert_allclose(distance[: len(expected)], 0.0, atol=1e-11)


def test_a_loop_refills_its_matrices_and_keeps_its_modes():
    problem = real_problems()[0]
    model = problem.model(COMM)
    objective = ga.objectives.QuadraticForm(WEIGHT, (2,))
    settings = {"target": 0.0, "solver_parameters": {"eps_tol": 1e-13}}
    with ga.value_and_gradient(model, objective, count=3, **settings) as f:
        for step in np.linspace(0.0, 0.2, 4):
            p = {"p": problem.p["p"] + step}
            value, gradient = f(p)
            with (
                model.assemble(p) as pencil,
                ga.solve_quadratic(pencil, 3, **settings) as pairs,
            ):
                assert value == pytest.approx(objective(pairs)[0], rel=1e-8)
                expected = ga.gradient(model, p, pairs, objective)["p"]
            np.testing.assert_allclose(gradient["p"], expected, rtol=1e-7)


def test_pairs_go_where_eigenpairs_go():
    problem = real_problems()[0]
    model = problem.model(COMM)
    with (
        model.assemble(problem.p) as pencil,
        ga.solve_quadratic(pencil, 4, target=0.0) as pairs,
        ga.solve_quadratic(pencil, 4, target=0.0, like=pairs) as again,
    ):
        assert ga.track_modes(pairs, again).order == (0, 1, 2, 3)
        turned = pairs.reordered([2, 3, 0, 1])
        np.testing.assert_array_equal(turned.right[:, 0], pairs.right[:, 2])
        assert ga.track_modes(pairs, turned).order == (2, 3, 0, 1)
        np.testing.assert_array_equal(
            whole(pairs, pairs.inner(pairs.right, pairs.right)),
            pairs.right.conj().T @ pairs.right,
        )
        objective = ga.objectives.Eigenvalue(0)
        one = ga.cluster_derivatives(model, problem.p, pairs, 0).matrices["p"][:, 0, 0]
        np.testing.assert_allclose(
            one.real, ga.gradient(model, problem.p, pairs, objective)["p"], rtol=1e-10
        )
        mu = ga.directional_derivatives(model, problem.p, pairs, 0, {"p": np.ones(3)})
        assert mu[0] == pytest.approx(one.sum(), rel=1e-10)


def test_parameters_may_be_distributed():
    problem = Quadratic("", damped(), triples(*derivatives()), 0.0)
    model = problem.model(COMM)
    vec = PETSc.Vec().createMPI(3, comm=COMM)
    vec.array[:] = problem.p["p"]
    found = []
    for p in (problem.p, {"p": vec}):
        with model.assemble(p) as pencil, ga.solve_quadratic(pencil, 2) as pairs:
            found.append(ga.gradient(model, p, pairs, OBJECTIVES["quadratic"][0])["p"])
    np.testing.assert_allclose(found[1].array, found[0], rtol=1e-12)

"""Eigenvalues and derivatives known in closed form, scaling identities, and invariance."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import scipy.special
from pencils import flat, petsc_matrix
from problems import problems

import geneig_adjoint as ga

GALLERY = problems()
EIGENVALUE = ga.objectives.Eigenvalue


@contextmanager
def matrix_model(comm, A, B, derivatives):
    """A MatrixModel of dense matrices; derivatives: name -> [(dA, dB)], None for zero."""
    with ExitStack() as stack:

        def held(matrix):
            mat = petsc_matrix(comm, matrix)
            stack.callback(mat.destroy)
            return mat

        def optional(matrix):
            return None if matrix is None else held(matrix)

        mats = {
            name: [tuple(optional(d) for d in pair) for pair in pairs]
            for name, pairs in derivatives.items()
        }
        yield stack.enter_context(ga.MatrixModel(held(A), optional(B), mats))


@contextmanager
def solved(model, p, **settings):
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **settings) as pairs:
        yield pairs


def unit(n, i, j):
    return np.outer(np.eye(n)[i], np.eye(n)[j])


def test_mikota_chain(comm):
    """Spring-mass chain with eigenvalues j^2 (J. Mikota, ZAMM 81 (2001) S201-S202)."""
    n = 7
    springs = [
        np.outer(e, e) for e in (np.eye(n)[i] - (np.eye(n)[i - 1] if i else 0) for i in range(n))
    ]
    masses = [unit(n, i, i) for i in range(n)]
    p = {"k": n - np.arange(n, dtype=float), "m": 1.0 / np.arange(1, n + 1)}
    derivatives = {"k": [(K, None) for K in springs], "m": [(None, M) for M in masses]}
    nothing = np.zeros((n, n))
    with (
        matrix_model(comm, nothing, nothing, derivatives) as model,
        solved(model, p, count=n, target=0.0) as pairs,
    ):
        np.testing.assert_allclose(pairs.values.real, np.arange(1, n + 1) ** 2, rtol=1e-12)
        for j in range(n):
            g = ga.gradient(model, p, pairs, EIGENVALUE(j))
            x, lam = pairs.right[:, j], pairs.values[j].real
            # M-normalised: dlam/dk_i is the square of the spring's stretch, dlam/dm_i = -lam x_i^2
            stretch = np.diff(x, prepend=0.0)
            np.testing.assert_allclose(g["k"], np.abs(stretch) ** 2, atol=1e-12 * lam)
            np.testing.assert_allclose(g["m"], -lam * np.abs(x) ** 2, atol=1e-11 * lam)
            # Euler: lam is homogeneous of degree 1 in k and -1 in m
            assert g["k"] @ p["k"] == pytest.approx(lam, rel=1e-12)
            assert g["m"] @ p["m"] == pytest.approx(-lam, rel=1e-12)


def test_kac_matrix(comm):
    """Nonsymmetric, eigenvalues n - 2j, vectors from (1 + t)^(n - j) (1 - t)^j.

    P. A. Clement, SIAM Rev. 1(1) (1959) 50-52; A. Edelman, E. Kostlan, "The road from Kac's
    matrix to Kac's random polynomials", 1994.
    """
    n = 8
    entries = [(k, k - 1) for k in range(1, n + 1)] + [(k, k + 1) for k in range(n)]
    p = {"entry": np.array([k if k > column else n - k for k, column in entries], dtype=float)}
    derivatives = {"entry": [(unit(n + 1, *entry), None) for entry in entries]}
    with (
        matrix_model(comm, np.zeros((n + 1, n + 1)), None, derivatives) as model,
        solved(model, p, count=4, target=n + 0.3) as pairs,
    ):
        assert pairs.pencil.problem_type == "nhep"
        np.testing.assert_allclose(pairs.values, n - 2.0 * np.arange(4), atol=1e-12)
        for j in range(4):
            y = np.polynomial.polynomial.polymul(
                np.polynomial.polynomial.polypow([1, 1], n - j),
                np.polynomial.polynomial.polypow([1, -1], j),
            )
            x = y / scipy.special.comb(n, np.arange(n + 1))
            expected = [y[row] * x[column] / (y @ x) for row, column in entries]
            found = ga.gradient(model, p, pairs, EIGENVALUE(j))["entry"]
            # The condition numbers are below 10
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_laplacian(comm):
    """tridiag(-1, 2, -1): lam_k = 4 sin^2(k pi / 2(n + 1)), vectors of sines.

    G. Strang, "The discrete cosine transform", SIAM Rev. 41(1) (1999) 135-147.
    """
    n, count = 12, 5
    stencil = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    derivatives = {
        "diagonal": [(unit(n, i, i), None) for i in range(n)],
        "coupling": [(unit(n, i, i + 1) + unit(n, i + 1, i), None) for i in range(n - 1)],
    }
    p = {"diagonal": np.zeros(n), "coupling": np.zeros(n - 1)}
    with (
        matrix_model(comm, stencil, None, derivatives) as model,
        solved(model, p, count=count, target=0.0) as pairs,
    ):
        k = np.arange(1, count + 1)
        angles = np.pi / (n + 1) * np.outer(np.arange(1, n + 1), k)
        x = np.sqrt(2 / (n + 1)) * np.sin(angles)
        np.testing.assert_allclose(
            pairs.values, 4 * np.sin(k * np.pi / 2 / (n + 1)) ** 2, rtol=1e-12
        )
        np.testing.assert_allclose(np.abs(pairs.right), np.abs(x), atol=1e-12)
        for j in range(count):
            g = ga.gradient(model, p, pairs, EIGENVALUE(j))
            np.testing.assert_allclose(g["diagonal"], x[:, j] ** 2, atol=1e-12)
            np.testing.assert_allclose(g["coupling"], 2 * x[:-1, j] * x[1:, j], atol=1e-12)


AREA, INERTIA = 4e-4, 1.3e-8


def beam_stiffness(E, L, elements):
    h = (L / elements)[:, None, None]
    K = np.array([[12, 6, -12, 6], [6, 4, -6, 2], [-12, -6, 12, -6], [6, 2, -6, 4]])
    one, turn = np.array([1, 0, 1, 0]), np.array([0, 1, 0, 1])
    lengths = one[:, None] * one + (np.outer(one, turn) + np.outer(turn, one)) * h
    return E[:, None, None] * INERTIA / h**3 * K * (lengths + np.outer(turn, turn) * h**2)


def beam_mass(rho, L, elements):
    h = (L / elements)[:, None, None]
    M = np.array([[156, 22, 54, -13], [22, 4, 13, -3], [54, 13, 156, -22], [-13, -3, -22, 4]])
    one, turn = np.array([1, 0, 1, 0]), np.array([0, 1, 0, 1])
    lengths = one[:, None] * one + (np.outer(one, turn) + np.outer(turn, one)) * h
    return rho[:, None, None] * AREA * h / 420 * M * (lengths + np.outer(turn, turn) * h**2)


def test_cantilever(comm):
    """Uniform Euler-Bernoulli cantilever: f = (beta L)^2 sqrt(E I / rho A L^4) / 2 pi.

    beta L from R. D. Blevins, "Formulas for natural frequency and mode shape", 1979, table 8-1.
    """
    elements = 24
    beta_l = np.array([1.87510407, 4.69409113, 7.85475744])
    dofs = 2 * np.arange(elements)[:, None] + np.arange(-2, 2)
    dofs[0, :2] = -1
    ids = np.zeros(elements, dtype=int)
    data = {"elements": np.full(elements, float(elements))}
    blocks = [
        ga.ElementBlock("A", dofs, ga.NumpyKernel(beam_stiffness, data), {"E": ids, "L": ids}),
        ga.ElementBlock("B", dofs, ga.NumpyKernel(beam_mass, data), {"rho": ids, "L": ids}),
    ]
    p = {"E": np.array([2.1e11]), "L": np.array([0.9]), "rho": np.array([7850.0])}
    E, L, rho = (value[0] for value in p.values())
    exact = beta_l**2 * np.sqrt(E * INERTIA / (rho * AREA * L**4)) / (2 * np.pi)
    # Relative error of cubic elements of length h: (beta h)^4 / 1440
    limit = (beta_l / elements) ** 4 / 1440 * 1.1 + 1e-8
    with (
        ga.ElementModel(2 * elements, blocks, comm=comm) as model,
        solved(model, p, count=3, target=0.0) as pairs,
    ):
        for j in range(3):
            objective = ga.objectives.Frequency(j)
            f, _ = objective(pairs)
            assert f == pytest.approx(exact[j], rel=limit[j])
            g = ga.gradient(model, p, pairs, objective)
            expected = {"E": 0.5 * f / E, "L": -2 * f / L, "rho": -0.5 * f / rho}
            # Exact for the discrete beam too; the pencil's condition is 1e6 x eps
            for name, slope in expected.items():
                assert g[name][0] == pytest.approx(slope, rel=1e-8), name
            closed = {"E": 0.5 * exact[j] / E, "L": -2 * exact[j] / L, "rho": -0.5 * exact[j] / rho}
            for name, slope in closed.items():
                assert g[name][0] == pytest.approx(slope, rel=limit[j] + 1e-8), name


# -- scaling --

ONE = {"alpha": np.ones(1), "beta": np.ones(1)}


@contextmanager
def scaled_model(comm, problem):
    """Alpha A x = lam beta B x with the gallery's matrices."""
    A, B = problem.dense(problem.p)
    B = np.eye(problem.n) if B is None else B
    derivatives = {"alpha": [(A, None)], "beta": [(None, B)]}
    with matrix_model(comm, 0 * A, 0 * B, derivatives) as model:
        yield model


@pytest.mark.parametrize("problem", GALLERY, ids=str)
def test_eigenvalues_are_homogeneous(problem, comm):
    p = {"alpha": np.array([1.3]), "beta": np.array([0.8])}
    with scaled_model(comm, problem) as model, solved(model, p, **problem.solver) as pairs:
        for j, lam in enumerate(pairs.values):
            for part in ("real", "imag"):
                g = ga.gradient(model, p, pairs, EIGENVALUE(j, part=part))
                # Sums of n products, condition below 10
                expected = getattr(lam, part)
                assert g["alpha"][0] * 1.3 == pytest.approx(expected, abs=1e-11 * abs(lam))
                assert g["beta"][0] * 0.8 == pytest.approx(-expected, abs=1e-11 * abs(lam))


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
@pytest.mark.parametrize("problem", GALLERY, ids=str)
def test_vectors_of_length_one_do_not_move(problem, strategy, comm):
    weight = np.linspace(1.0, 2.0, problem.n)
    objective = ga.objectives.QuadraticForm(weight, pairs=(0, 2))
    with (
        scaled_model(comm, problem) as model,
        solved(model, ONE, normalization="2", **problem.solver) as pairs,
    ):
        g = ga.gradient(model, ONE, pairs, objective, strategy=strategy)
        # rtol 1e-10 of the adjoint, times |A x| of the terms that cancel
        np.testing.assert_allclose(flat(g), 0.0, atol=1e-8)


@pytest.mark.parametrize(
    "problem", [problem for problem in GALLERY if "hermitian" in problem.traits], ids=str
)
def test_vectors_of_b_length_one_shrink_with_beta(problem, comm):
    objective = ga.objectives.QuadraticForm(np.ones(problem.n))
    with (
        scaled_model(comm, problem) as model,
        solved(model, ONE, normalization="B", **problem.solver) as pairs,
    ):
        value, _ = objective(pairs)
        g = ga.gradient(model, ONE, pairs, objective)
        # x ~ beta^(-1/2); rtol 1e-10 of the adjoint
        np.testing.assert_allclose(flat(g), [0.0, -value], atol=1e-8 * value)


FACTORS = [(1e-6, 1.0), (1e6, 1.0), (1.0, 1e-6), (1.0, 1e6), (1e6, 1e-6)]


@pytest.mark.parametrize("problem", GALLERY, ids=str)
def test_relative_results_do_not_depend_on_the_units(problem, comm):
    found = [relative_gradients(comm, problem, factors) for factors in FACTORS]
    expected = relative_gradients(comm, problem, (1.0, 1.0))
    for result in found:
        # rtol 1e-10 of the adjoint, conditions below 10
        np.testing.assert_allclose(result, expected, atol=1e-8 * np.abs(expected).max())


def relative_gradients(comm, problem, factors) -> np.ndarray:
    """Return (dg / g) of some objectives along two directions, by every strategy."""
    a, b = factors
    A, B = problem.dense(problem.p)
    B = np.eye(problem.n) if B is None else B
    rng = np.random.default_rng(9)
    D = rng.standard_normal((2, problem.n, problem.n))
    D = D + np.swapaxes(D, 1, 2)
    derivatives = {"p": [(a * D[0], None), (None, b * D[1])]}
    p = {"p": np.zeros(2)}
    target = problem.solver["target"] * a / b
    objectives = [
        EIGENVALUE(0),
        ga.objectives.QuadraticForm(np.linspace(1.0, 2.0, problem.n), pairs=(1,)),
        ga.objectives.ModeShapeMatch(problem.vector(4), pair=2),
    ]
    with (
        matrix_model(comm, a * A, b * B, derivatives) as model,
        solved(model, p, count=3, target=target) as pairs,
    ):
        values = [objective(pairs)[0] for objective in objectives]
        gradients = [
            ga.gradient(model, p, pairs, objectives, strategy=strategy)
            for strategy in ("direct", "ksp")
        ]
    return np.array(
        [[flat(g) / v for g, v in zip(found, values, strict=True)] for found in gradients]
    )

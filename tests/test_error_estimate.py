"""The estimated error of a gradient against the true one, for pairs and solves of any tolerance."""

import numpy as np
import pytest
import scipy.linalg
from pencils import petsc_matrix

import geneig_adjoint as ga

SIDE = 11
N = SIDE**2


def convection_diffusion(wind: float) -> np.ndarray:
    """Five-point stencil on a rectangle, with unequal sides so that no value repeats."""
    second = 2 * np.eye(SIDE) - np.eye(SIDE, k=1) - np.eye(SIDE, k=-1)
    first = np.eye(SIDE, k=1) - np.eye(SIDE, k=-1)
    return np.kron(second + wind * first, np.eye(SIDE)) + 1.37 * np.kron(np.eye(SIDE), second)


def reference(A, B, index, rows, weight):
    """Return d lam and d (x^H D x), for x^H x = 1, in the entries A_kk and B_kk; dense, modal."""
    values, left, right = scipy.linalg.eig(A, B, left=True)
    order = np.argsort(np.abs(values))
    values, left, right = values[order], left[:, order], right[:, order]
    left = left / np.einsum("ij,ij->j", right.conj(), B.T @ left)
    x, lam = right[:, index] / np.linalg.norm(right[:, index]), values[index]
    y = left[:, index] * np.linalg.norm(right[:, index])
    others = np.arange(N) != index
    single, quadratic = [], []
    for k in rows:
        for weight_ab in ((1.0, 0.0), (0.0, 1.0)):
            change = (weight_ab[0] - lam * weight_ab[1]) * x[k]
            single.append((y[k].conj() * change).real)
            modal = left[k, others].conj() * change / (lam - values[others])
            x_dot = right[:, others] @ modal
            x_dot = x_dot - x * (x.conj() @ x_dot).real
            quadratic.append(2 * (x.conj() @ (weight * x_dot)).real)
    return np.array(single), np.array(quadratic)


@pytest.fixture(scope="module", params=[0.0, 0.4], ids=["symmetric", "nonsymmetric"])
def case(request, comm):
    rng = np.random.default_rng(3)
    A, B = convection_diffusion(request.param), np.diag(rng.uniform(0.5, 1.5, N))
    rows, weight = [3, 40, 77], rng.uniform(0.0, 1.0, N)
    units = [petsc_matrix(comm, np.diag(np.eye(N)[k])) for k in rows]
    pairs = [item for unit in units for item in ((unit, None), (None, unit))]
    with ga.MatrixModel(petsc_matrix(comm, A), petsc_matrix(comm, B), {"p": pairs}) as model:
        yield model, weight, reference(A, B, 1, rows, weight)


def estimated_and_true(case, eps_tol, rtol, strategy):
    # A small Krylov space, or even loose tolerances are met by far.
    model, weight, expected = case
    p = {"p": np.zeros(6)}
    objectives = [ga.objectives.Eigenvalue(1), ga.objectives.QuadraticForm(weight, (1,))]
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(
            pencil, count=4, normalization="2", solver_parameters={"eps_tol": eps_tol, "eps_ncv": 7}
        ) as pairs,
    ):
        found = ga.gradient(model, p, pairs, objectives, strategy=strategy, rtol=rtol)
    return [
        (item.relative_error, np.abs(item["p"] - e).max() / np.abs(e).max())
        for item, e in zip(found, expected, strict=True)
    ]


@pytest.mark.parametrize("strategy", ["direct", "ksp"])
@pytest.mark.parametrize(
    ("eps_tol", "rtol"),
    [(1e-12, 1e-10), (1e-9, 1e-10), (1e-6, 1e-10), (1e-4, 1e-10), (1e-12, 1e-3), (1e-12, 1e-6)],
)
def test_estimate_bounds_the_true_error(case, eps_tol, rtol, strategy):
    for estimate, true in estimated_and_true(case, eps_tol, rtol, strategy):
        assert true <= estimate


def test_estimate_is_small_where_all_is_solved_well(case):
    for estimate, _ in estimated_and_true(case, 1e-12, 1e-10, "direct"):
        # Ten times rtol at most; direct solves are better than they must be.
        assert 0 < estimate <= 1e-9


def test_estimate_notices_loose_pairs(case):
    sharp, loose = (
        [estimate for estimate, _ in estimated_and_true(case, tol, 1e-10, "direct")]
        for tol in (1e-12, 1e-4)
    )
    assert all(a > 10 * b for a, b in zip(loose, sharp, strict=True))


def test_estimate_without_left_vectors_bounds_the_true_error(comm):
    A = np.array([[2.0, 0.7, 0.0], [-0.3, 3.5, 0.4], [0.1, 0.0, 5.0]])
    values, left, right = scipy.linalg.eig(A, left=True)
    y, x = left[:, values.argmin()], right[:, values.argmin()]
    expected = (y.conj()[:, None] * x / (y.conj() @ x))[1, 0].real
    dA = np.zeros((3, 3))
    dA[1, 0] = 1.0
    mat = petsc_matrix(comm, A)
    with ga.MatrixModel(mat, None, {"p": [(petsc_matrix(comm, dA), None)]}) as model:
        p = {"p": np.zeros(1)}
        with (
            model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, count=2, left=False) as pairs,
        ):
            found = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))
    assert abs(found["p"][0] - expected) <= found.relative_error * abs(expected)
    assert found.relative_error <= 1e-9


def test_value_and_gradient_hands_the_estimate_on(case):
    model, _, _ = case
    with ga.value_and_gradient(model, ga.objectives.Eigenvalue(0), count=2) as f:
        _, found = f({"p": np.zeros(6)})
    assert 0 < found.relative_error <= 1e-9

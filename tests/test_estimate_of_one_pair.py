"""The estimated error of gradients where less is known: one pair, no factor, loose left vectors."""

import numpy as np
import pytest
import scipy.linalg
from pencils import petsc_matrix

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 60
ROWS = (3, 20, 40)
P = {"p": np.zeros(len(ROWS))}
FEW = 3
"""An estimate is one: a distance is only guessed where nothing but a single value is known."""
LARGEST = {"which": "largest_real"}


def isolated(skew):
    """Return a matrix whose largest value is as far from the others as from 0, or farther."""
    u = np.random.default_rng(2).uniform(0.5, 1.5, N)
    u /= np.linalg.norm(u)
    upper = np.triu(np.ones((N, N)), 1)
    return 13 * np.outer(u, u) + np.diag(np.linspace(-5.0, -1.0, N)) + 0.1 * skew * upper


def model_of(comm, skew):
    """Return the model with A_kk as parameters, and d lam / d A_kk of the largest, by LAPACK."""
    A = isolated(skew)
    values, left, right = scipy.linalg.eig(A, left=True)
    largest = int(np.argmax(values.real))
    assert values.real[largest] <= values.real[largest] - np.sort(values.real)[-2]
    y, x = left[:, largest], right[:, largest]
    expected = (y.conj() * x / (y.conj() @ x)).real[list(ROWS)]
    mats = [petsc_matrix(comm, M) for M in (A, *[np.diag(np.eye(N)[k]) for k in ROWS])]
    model = ga.MatrixModel(mats[0], None, {"p": [(unit, None) for unit in mats[1:]]})
    return model, expected


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["symmetric", "nonsymmetric"])
def case(request, comm):
    return model_of(comm, request.param)


def compared(case, eps_tol, *, like=None):
    """Return the estimated error, the true one, and the pairs."""
    model, expected = case
    # A small space: nothing else converges on the way, and no gap is known.
    options = {"eps_tol": eps_tol, "eps_ncv": 6}
    with model.assemble(P) as pencil:
        settings = {"count_check": "off", "solver_parameters": options, **LARGEST}
        with ga.solve_eigenproblem(pencil, 1, like=like, **settings) as pairs:
            found = ga.gradient(model, P, pairs, obj.Eigenvalue(0))
    return found.relative_error, np.abs(found["p"] - expected).max() / expected.max(), pairs


@pytest.mark.parametrize("eps_tol", [1e-2, 1e-4, 1e-6, 1e-12])
def test_one_pair_without_neighbours_or_factor(case, eps_tol):
    # Neither a second value nor a shift is known: the value itself must do for a distance.
    estimate, true, pairs = compared(case, eps_tol)
    assert not np.isfinite(pairs.gaps).any()
    assert pairs.info.sigma is None
    assert 0 < true <= FEW * estimate
    # The matrix is nearly normal and the value isolated: no reason for a gloomy number.
    assert estimate <= max(10 * eps_tol, 1e-10)


@pytest.mark.parametrize("eps_tol", [1e-2, 1e-4, 1e-6])
def test_left_vectors_that_are_worse_than_the_right_ones(comm, eps_tol):
    # The solve starts from the right vector and has nothing to do; nobody knows the left one.
    case = model_of(comm, 1.0)
    model, _ = case
    with (
        model.assemble(P) as pencil,
        ga.solve_eigenproblem(pencil, 1, left=False, **LARGEST) as earlier,
    ):
        estimate, true, pairs = compared(case, eps_tol, like=earlier)
    assert pairs.residuals[0] < 1e-13
    assert pairs.info.left_residuals[0] > 1e-12
    assert true > 1e-11  # the error of the left vector is one of the gradient
    assert true <= FEW * estimate


@pytest.mark.parametrize("objective", [obj.Eigenvalue(0), obj.QuadraticForm(np.arange(12.0), (0,))])
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_better_known_than_rounding(comm, objective, count):
    # Solved to all digits there are, residuals are as small as luck has it.
    n = 12
    rng = np.random.default_rng(4)
    A = np.diag(np.arange(1.0, n + 1)) + 0.1 * rng.standard_normal((n, n))
    mats = [petsc_matrix(comm, M) for M in (A + A.T, np.diag(np.eye(n)[0]))]
    model, p = ga.MatrixModel(mats[0], None, {"p": [(mats[1], None)]}), {"p": np.zeros(1)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, count) as pairs:
        estimate = ga.gradient(model, p, pairs, objective).relative_error
    # a hundred roundings
    assert 100 * np.finfo(float).eps <= estimate <= 1e-10

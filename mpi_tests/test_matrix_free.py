"""Matrix-free pairs around a target on several ranks: the same numbers, and errors everywhere."""

import numpy as np
import pytest
from builders import distributed, matrix, own_rows
from distributed_operators import CASES, POINT, N, arrays, derivative_arrays, product
from matrix_free import around, dense_around, distributed_model, flat, matrix_free, near
from mpi4py import MPI
from petsc4py import PETSc
from ranks import last, raised_everywhere

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

NAMES = [name for name in CASES if name != "positive B"]


def gradient_alone(name):
    """Return the gradient of a form on one rank."""
    model = matrix_free(name, MPI.COMM_SELF)
    with around(model) as pairs:
        whole = obj.QuadraticForm(np.linspace(1.0, 2.0, N), (0,))
        return flat(ga.gradient(model, POINT, pairs, whole))


@pytest.mark.parametrize("name", NAMES)
def test_pairs_and_gradients_do_not_depend_on_the_ranks(comm, name):
    model = matrix_free(name, comm)
    values, slopes = dense_around(name)
    D = np.linspace(1.0, 2.0, N)[slice(*own_rows(N, comm))]
    with around(model) as pairs:
        # eps_tol 1e-12 and conditions below 100
        assert np.allclose(pairs.values[:2], values, rtol=1e-9)
        found = ga.gradient(model, POINT, pairs, [obj.Eigenvalue(0), obj.QuadraticForm(D, (0,))])
        assert np.allclose(flat(found[0]), slopes[0], rtol=1e-8, atol=1e-9)
        assert len(set(comm.allgather(flat(found[1]).tobytes()))) == 1
        assert np.all(pairs.info.left_residuals < 1e-10)
    expected = comm.bcast(gradient_alone(name) if comm.rank == 0 else None)
    # rtol 1e-10 of the adjoint solves
    assert np.allclose(flat(found[1]), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["bjacobi", "asm", "sor"])
def test_parallel_preconditioners(comm, kind):
    options = {"st_pc_type": kind}
    with around(matrix_free("nonsymmetric", comm), solver_parameters=options) as pairs:
        assert np.allclose(pairs.values[:2], dense_around("nonsymmetric")[0], rtol=1e-9)
        assert np.all(pairs.info.left_residuals < 1e-10)


def test_distributed_parameters(comm):
    model, values = distributed_model(comm), np.linspace(1.0, 2.0, N)
    p = {"d": distributed(values, comm)}
    A = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1) + np.diag(values**2)
    exact, vectors = np.linalg.eigh(A)
    j = np.argmin(np.abs(exact - 3.9))
    with around(model, p, 1, 3.9) as pairs:
        assert np.isclose(pairs.values[0], exact[j], rtol=1e-10)
        gradient = ga.gradient(model, p, pairs, obj.Eigenvalue(0))["d"]
    first, end = gradient.getOwnershipRange()
    # dlam/dd_i = 2 d_i x_i^2
    assert np.allclose(gradient.array_r, (2 * values * vectors[:, j] ** 2)[first:end], atol=1e-10)
    report = ga.check_operator(model, p)
    assert report.passed, str(report)
    for vec in (gradient, p["d"]):
        vec.destroy()


def test_checks_and_products_by_columns(comm):
    model = matrix_free("nonsymmetric B", comm)
    report = ga.check_operator(model, POINT)
    assert report.passed, str(report)
    rows = slice(*own_rows(N, comm))
    assert model.rows == (rows.start, rows.stop)
    x = np.cos(np.arange(N))
    dA_x, dB_x = ga.derivative_products(model, POINT, x[rows], "b")
    for found, derivatives in zip((dA_x, dB_x), derivative_arrays("nonsymmetric B"), strict=True):
        expected = np.column_stack([d @ x for d in derivatives[:2]])
        assert np.allclose(found[rows, :], expected[rows])
        found.destroy()


def solve(model):
    with around(model):
        pass


def broken_on_one_rank(comm):
    good = near("symmetric", comm)

    def preconditioner(p, sigma):
        mat = good(p, sigma)
        if last(comm):
            raise ArithmeticError("no mesh here")
        return mat

    return {"preconditioner": preconditioner}, ArithmeticError, "no mesh here"


def nothing_on_one_rank(comm):
    good = near("symmetric", comm)

    def preconditioner(p, sigma):
        mat = good(p, sigma)
        return None if last(comm) else mat

    return {"preconditioner": preconditioner}, ga.InputError, "must be a PETSc.Mat, got NoneType"


def nan_on_one_rank(comm):
    diagonal = np.arange(1.0, N + 1)
    diagonal[-1] = np.nan
    made = matrix(np.diag(diagonal), comm)
    return {"preconditioner": made}, ga.InputError, "must be finite and regular, got NaN"


def other_layout(comm):
    local = {True: N, False: 0}[last(comm)]
    mat = PETSc.Mat().createAIJ(((local, N), (local, N)), nnz=1, comm=comm)
    for row in range(*mat.getOwnershipRange()):
        mat.setValue(row, row, 1.0 + row)
    mat.assemble()
    return {"preconditioner": mat}, ga.InputError, "must have the layout of A"


def different_kinds(comm):
    kind = {True: near("symmetric", comm), False: None}[last(comm)]
    match = "the same on every rank, got NoneType and a function"
    return {"preconditioner": kind}, ga.InputError, match


def product_that_raises(comm):
    right, count = product(comm, lambda p: arrays("symmetric", p)[0]), [0]

    def apply_a(p, block):
        count[0] += 1
        result = right(p, block)
        if last(comm) and count[0] == 60:
            raise ArithmeticError("the mesh is gone")
        return result

    return {"apply_a": apply_a}, ArithmeticError, "the mesh is gone"


ON_ONE_RANK = [broken_on_one_rank, nothing_on_one_rank, nan_on_one_rank, product_that_raises]
ON_SEVERAL = [other_layout, different_kinds]


@pytest.mark.parametrize("case", ON_ONE_RANK, ids=lambda case: case.__name__)
def test_trouble_of_one_rank_is_raised_by_all(comm, case):
    changes, kind, match = case(comm)
    model = matrix_free("symmetric", comm, **changes)
    raised_everywhere(comm, kind, match, solve, model)


@pytest.mark.parametrize("case", ON_SEVERAL, ids=lambda case: case.__name__)
def test_ranks_that_do_not_fit_together(comm, case):
    changes, kind, match = case(comm)
    model = matrix_free("symmetric", comm, **changes)
    refused_on_several(comm, kind, match, model)


def refused_on_several(comm, kind, match, model):
    for _ in range(comm.size > 1):  # on one rank there is nothing to differ
        raised_everywhere(comm, kind, match, solve, model)

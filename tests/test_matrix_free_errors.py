"""Preconditioners that cannot be used, and inner solves that fail: said, with what to do."""

import numpy as np
import pytest
from builders import matrix
from distributed_operators import POINT, N, arrays, product
from matrix_free import TARGET, around, mass_near, matrix_free, near
from petsc4py import PETSc

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj


def spread(comm, *, scale=1.0, size=N):
    return matrix(scale * np.diag(1.0 + np.arange(size)), comm)


def unassembled(comm):
    mat = PETSc.Mat().createAIJ((N, N), comm=comm)
    mat.setUp()
    for row in range(*mat.getOwnershipRange()):
        mat.setValue(row, row, 1.0)
    return mat


def shell(comm):
    mat = PETSc.Mat().createPython((N, N), object(), comm=comm)
    mat.setUp()
    return mat


WRONG = {
    "size": (lambda comm: spread(comm, size=N + 1), r"must have the layout of A, got \(\(17, 17"),
    "nan": (lambda comm: spread(comm, scale=np.nan), "must be finite and regular, got NaN or Inf"),
    "zero": (lambda comm: spread(comm, scale=0.0), "must be finite and regular, got zeros only"),
    "array": (lambda comm: np.eye(N), "must be (a|an assembled) PETSc.Mat"),
    "open": (unassembled, "must be an assembled matrix, got values still in transit"),
    "shell": (shell, "must be an assembled matrix, got an operator without entries"),
}


@pytest.mark.parametrize("case", WRONG)
def test_matrix_that_does_not_fit(comm, case):
    make, match = WRONG[case]
    model = matrix_free("symmetric", comm, preconditioner=make(comm))
    with pytest.raises(ga.InputError, match=f"preconditioner {match}"):
        model.assemble(POINT)


@pytest.mark.parametrize("case", WRONG)
def test_function_that_returns_a_matrix_that_does_not_fit(comm, case):
    make, match = WRONG[case]
    model = matrix_free("symmetric", comm, preconditioner=lambda p, sigma: make(comm))
    with pytest.raises(ga.InputError, match=f"preconditioner {match}"), around(model):
        pass


def test_preconditioner_of_b_is_checked(comm):
    model = matrix_free("positive B", comm, preconditioner_b=spread(comm, size=N + 1))
    with pytest.raises(ga.InputError, match="preconditioner_b must have the layout of A"):
        model.assemble(POINT)


def test_function_that_keeps_its_matrix_is_told(comm):
    kept = spread(comm)
    model = matrix_free("symmetric", comm, preconditioner=lambda p, sigma: kept)
    with around(model, target=0.0):
        pass
    with (
        pytest.raises(ga.InputError, match="must be a new matrix at every call, got one that was"),
        around(model, target=0.0),
    ):
        pass


def test_errors_of_the_function_pass(comm):
    def broken(p, sigma):
        raise ArithmeticError(f"no mesh at {sigma}")

    with (
        pytest.raises(ArithmeticError, match=f"no mesh at {TARGET}"),
        around(matrix_free("symmetric", comm, preconditioner=broken)),
    ):
        pass


def ones(comm):
    return matrix(np.ones((N, N)), comm)


def with_empty_row(comm):
    return matrix(np.diag(np.arange(float(N))), comm)


def floating(comm):
    # Its factor ends with a pivot of rounding, without complaint.
    free = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
    free[0, 0] = free[-1, -1] = 1.0
    return matrix(free / 3.0, comm)


@pytest.mark.parametrize("make", [ones, with_empty_row, floating])
@pytest.mark.parametrize("name", ["symmetric", "nonsymmetric"])
def test_singular_preconditioner_is_named(comm, name, make):
    singular = make(comm)
    with (
        pytest.raises(ga.ConvergenceError, match="the preconditioner must be a regular matrix"),
        around(matrix_free(name, comm, preconditioner=singular)),
    ):
        pass
    singular.destroy()


def test_target_without_a_preconditioner_asks_for_one(comm):
    model = matrix_free("symmetric", comm, preconditioner=None)
    with pytest.raises(ga.InputError, match=r"a target needs .* give it a preconditioner=, an"):
        around(model).__enter__()


def test_preonly_is_refused(comm):
    with (
        pytest.raises(ga.InputError, match=r'st_ksp_type must be a Krylov method .*"preonly"'),
        around(matrix_free("symmetric", comm), solver_parameters={"st_ksp_type": "preonly"}),
    ):
        pass


@pytest.mark.parametrize("name", ["symmetric", "nonsymmetric B"])
def test_too_few_inner_iterations_are_named(comm, name):
    match = (
        r"inner solves of the eigensolve must reach st_ksp_rtol 1.0e-13, got DIVERGED_MAX_IT after "
        r"3 of 3 iterations \(gmres with (lu|cholesky)\); .* give a preconditioner nearer to"
    )
    with (
        pytest.raises(ga.ConvergenceError, match=match) as caught,
        around(matrix_free(name, comm), solver_parameters={"st_ksp_max_it": 3}),
    ):
        pass
    assert (caught.value.reason, caught.value.iterations) == ("DIVERGED_MAX_IT", 3)


def test_failed_eigensolve_is_cut_short(comm):
    apply_a, count = failing_after(-1, comm, "symmetric")
    model = matrix_free("symmetric", comm, apply_a=apply_a)
    options = {"st_ksp_max_it": 3, "st_ksp_type": "gmres", "eps_ncv": 5, "eps_max_it": 60}
    with pytest.raises(ga.ConvergenceError), around(model, solver_parameters=options):
        pass
    assert count[0] < 24  # 30 where it goes on


def test_too_few_iterations_with_b_are_named(comm):
    model = matrix_free("nonsymmetric B", comm, preconditioner_b=mass_near("symmetric", comm))
    with (
        model.assemble(POINT) as pencil,
        pytest.raises(
            ga.ConvergenceError, match=r"inner solves of the eigensolve must reach .* after 2 of 2"
        ),
    ):
        ga.solve_eigenproblem(
            pencil, 2, which="largest_real", solver_parameters={"st_ksp_max_it": 2}
        )


def test_later_solves_that_fail_are_named(comm):
    with around(matrix_free("nonsymmetric", comm)) as pairs:
        pairs.factor.eps.getST().getKSP().setTolerances(max_it=1)
        with pytest.raises(ga.ConvergenceError, match="inner solves of an adjoint solve must"):
            pairs.factor.solve(np.ones((pairs.pencil.n_local, 2)))


def failing_after(calls, comm, name):
    """Return apply_a that raises at one of its calls, and says how many there were."""
    right = product(comm, lambda p: arrays(name, p)[0])
    count = [0]

    def apply_a(p, block):
        count[0] += 1
        if count[0] == calls:
            raise ArithmeticError("the mesh is gone")
        return right(p, block)

    return apply_a, count


@pytest.mark.parametrize("calls", [30, 90, 150])
@pytest.mark.parametrize("name", ["symmetric", "nonsymmetric B"])
def test_product_that_raises_inside_inner_iterations(comm, name, calls):
    apply_a, count = failing_after(calls, comm, name)
    model = matrix_free(name, comm, apply_a=apply_a)
    with pytest.raises(ArithmeticError, match="the mesh is gone"), around(model):
        pass
    assert count[0] < calls + 100  # the rest of the eigensolve is cut short


def test_product_that_raises_inside_an_adjoint_solve(comm):
    apply_a, count = failing_after(-1, comm, "nonsymmetric")
    model = matrix_free("nonsymmetric", comm, apply_a=apply_a)
    with around(model) as pairs:
        count[0] = -3
        with pytest.raises(ArithmeticError, match="the mesh is gone"):
            ga.gradient(model, POINT, pairs, obj.QuadraticForm(np.arange(float(N)), (0,)))


def test_direct_adjoints_need_entries(comm):
    model = matrix_free("symmetric", comm)
    with around(model) as pairs, pytest.raises(ga.InputError, match='"direct" needs assembled'):
        ga.gradient(
            model, POINT, pairs, obj.QuadraticForm(np.arange(float(N)), (0,)), strategy="direct"
        )


def test_rounding_of_a_far_preconditioner_is_not_accepted(comm):
    # st_ksp_rtol 1e-3: the residuals tell, and the message says which tolerance.
    with (
        pytest.raises(ga.ConvergenceError, match=r"inner solves stop at st_ksp_rtol 1.0e-03"),
        around(
            matrix_free("nonsymmetric", comm, preconditioner=near("symmetric", comm)),
            solver_parameters={"st_ksp_rtol": 1e-3},
        ),
    ):
        pass

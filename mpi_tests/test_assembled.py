"""`AssembledModel` on several ranks: generators that differ, and gradients that do not."""

import numpy as np
import pytest
from assembled_chain import P_DOT, Counted, P
from builders import distributed, mass, matrix, nonsymmetric
from mpi4py import MPI
from ranks import assert_from_the_last_rank, last, raised_everywhere, refused_if_different

import geneig_adjoint as ga

N = 8
A, B, SLOPE = nonsymmetric(N), mass(N), np.diag(np.arange(1.0, N + 1))
AT = {"p": np.array([0.3, -0.1])}
SOLVER = {"count": 2, "target": 0.9, "solver_parameters": {"eps_tol": 1e-13}}


def weighted(pairs):
    return ga.objectives.QuadraticForm(1.0 / (1.0 + np.arange(*pairs.rows)), (0,))(pairs)


def gradients(comm, p):
    model = Counted(comm).model
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        return ga.gradient(model, p, pairs, [ga.objectives.Eigenvalue(0), weighted], rtol=1e-12)


def test_gradients_are_those_of_one_rank(comm):
    for found, expected in zip(gradients(comm, P), gradients(MPI.COMM_SELF, P), strict=True):
        for name, part in found.items():
            assert set(comm.allgather(part.tobytes())) == {part.tobytes()}
            np.testing.assert_allclose(part, expected[name], rtol=1e-9, atol=1e-10)


def test_gradients_of_distributed_parameters(comm):
    p = {name: distributed(value, comm) for name, value in P.items()}
    for found, expected in zip(gradients(comm, p), gradients(comm, P), strict=True):
        for name, vec in found.items():
            part = expected[name][slice(*vec.owner_range)]
            np.testing.assert_allclose(vec.array_r.real, part, rtol=1e-9, atol=1e-10)


def test_hessian_is_symmetric(comm):
    model = Counted(comm).model
    other = {"k": np.array([1.0, 0.2, -0.7]), "m": np.array([0.5, 0.1])}
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        one, two = (
            ga.hessian_vector_product(model, P, pairs, ga.objectives.Eigenvalue(0), dot)
            for dot in (P_DOT, other)
        )
    there, back = (
        sum(h[name] @ dot[name] for name in P) for h, dot in ((one, other), (two, P_DOT))
    )
    assert there == pytest.approx(back, rel=1e-8)


def model_of(comm, on_the_last_rank):
    """Two derivatives, the last of which is another thing on the last rank."""

    def slopes(p, name, numbers):
        yield matrix(SLOPE, comm), None
        shared = matrix(SLOPE, comm)
        yield from on_the_last_rank(comm, shared) if last(comm) else [(shared, None)]

    return ga.AssembledModel((matrix(A, comm), matrix(B, comm)), slopes, {"p": 2})


def raising(comm, shared):
    raise ArithmeticError("no such element")


ON_ONE_RANK = {
    "early": (lambda comm, shared: [], r"of 'p' must yield 2 pairs .* ended before entry 1"),
    "late": (lambda comm, shared: [(shared, None)] * 2, r"'p' must yield 2 pairs .*, got more"),
    "type": (lambda comm, shared: [(SLOPE, None)], r"dA_1 of 'p' must be a PETSc.Mat"),
    "raises": (raising, r"no such element"),
}


@pytest.mark.parametrize("case", ON_ONE_RANK)
def test_generator_that_fails_on_one_rank(comm, case):
    generate, match = ON_ONE_RANK[case]
    model = model_of(comm, generate)
    kind = (ga.InputError, ArithmeticError)
    error = raised_everywhere(comm, kind, match, model.assemble, AT)
    assert_from_the_last_rank(comm, error)


def test_matrices_on_some_ranks_only(comm):
    model = model_of(comm, lambda comm, shared: [(None, None)])
    match = r"entry 1 of 'p' must have the same matrices on all ranks, got .*\[False, False\]"
    refused_if_different(comm, match, lambda: model.assemble(AT))


def test_sizes_that_differ(comm):
    match = r"sizes must be the same on every rank"
    refused_if_different(
        comm, match, lambda: ga.AssembledModel(iter, iter, {"p": 2 + last(comm)}, comm=comm)
    )


def test_function_that_fails_on_one_rank(comm):
    def assemble(p):
        mats = matrix(A, comm), None
        return "nothing" if last(comm) else mats

    model = ga.AssembledModel(assemble, iter, {"p": 2}, comm=comm)
    error = raised_everywhere(comm, ga.InputError, r"got str; return A, None", model.assemble, AT)
    assert_from_the_last_rank(comm, error)

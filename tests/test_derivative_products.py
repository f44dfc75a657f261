"""The assembled products (dA/dp_i) x and (dB/dp_i) x, and what they must agree with."""

from contextlib import ExitStack, nullcontext

import numpy as np
import pytest
from pencils import COMPLEX_BUILD
from petsc4py import PETSc
from problems import problems
from scenarios import Scenario, solved

import geneig_adjoint as ga

# The real build cannot hold products with complex vectors.
HELD = [p for p in problems() if COMPLEX_BUILD or "complex" not in p.traits]
REFUSED = pytest.raises(ga.InputError, match="x must be real in PETSc's real-scalar build")


@pytest.fixture(scope="module", params=HELD, ids=str)
def chain(request, comm):
    with solved(Scenario(request.param, "default"), comm) as found:
        yield found


def dense_products(chain, x, name, indices=None) -> list[np.ndarray]:
    problem = chain.problem
    with ExitStack() as stack:
        mats = ga.derivative_products(chain.model, problem.p, x, name, indices=indices)
        for mat in mats:
            stack.callback(mat.destroy)
        n, m = mats[0].getSize()
        rows = np.arange(n, dtype=PETSc.IntType)
        return [mat.getValues(rows, np.arange(m, dtype=PETSc.IntType)) for mat in mats]


def held(vector: np.ndarray) -> np.ndarray:
    """Return a vector of this build's scalars (a real one may come as complex numbers)."""
    return vector.astype(PETSc.ScalarType) if COMPLEX_BUILD else vector.real


def unit(p, name, i):
    zero = {other: np.zeros_like(value) for other, value in p.items()}
    return {**zero, name: np.eye(p[name].size)[i]}


def test_columns_equal_dense_derivatives(chain):
    problem = chain.problem
    x = held(problem.vector(5))
    for name, value in problem.p.items():
        found = dense_products(chain, x, name)
        tangents = [chain.reference.tangent(unit(problem.p, name, i)) for i in range(value.size)]
        # Exact derivatives; the reference takes differences of polynomials: rounding / 0.1
        for matrix, side in zip("AB", found, strict=True):
            expected = np.column_stack([getattr(t, matrix) @ x for t in tangents])
            np.testing.assert_allclose(side, expected, atol=1e-12 * (1 + np.abs(expected).max()))


def test_left_vector_times_products_is_the_gradient_of_the_eigenvalue(chain):
    problem, pairs = chain.problem, chain.pairs
    for j in range(pairs.count):
        y, x, lam = held(pairs.left[:, j]), held(pairs.right[:, j]), pairs.values[j]
        for name in problem.p:
            dA_x, dB_x = dense_products(chain, x, name)
            products = y.conj() @ dA_x - lam * (y.conj() @ dB_x)
            for part in ("real", "imag"):
                objective = ga.objectives.Eigenvalue(j, part=part)
                gradient = ga.gradient(chain.model, problem.p, pairs, objective)[name]
                # The same sums in another order
                np.testing.assert_allclose(
                    getattr(products, part), gradient, atol=1e-12 * (1 + np.abs(products).max())
                )


def test_products_equal_the_contraction(chain):
    problem = chain.problem
    left_a, left_b, x = (held(problem.vector(seed)) for seed in (6, 7, 8))
    contracted = chain.model.contract(problem.p, left_a[:, None], left_b[:, None], x[:, None])
    for name in problem.p:
        dA_x, dB_x = dense_products(chain, x, name)
        products = (left_a.conj() @ dA_x + left_b.conj() @ dB_x).real
        np.testing.assert_allclose(products, contracted[name], rtol=1e-12, atol=1e-13)


def test_chosen_columns_in_the_order_asked_for(chain):
    problem = chain.problem
    x = held(problem.vector(5))
    for name, value in problem.p.items():
        indices = np.arange(value.size)[::-2]
        everything, chosen = dense_products(chain, x, name), dense_products(chain, x, name, indices)
        for whole, part in zip(everything, chosen, strict=True):
            np.testing.assert_array_equal(part, whole[:, indices])


def test_no_columns(chain):
    name = next(iter(chain.problem.p))
    found = dense_products(chain, held(chain.problem.vector(5)), name, np.zeros(0, dtype=int))
    assert [part.shape for part in found] == [(chain.problem.n, 0)] * 2


def test_products_hold_only_the_rows_an_element_touches(chain):
    problem = chain.problem
    x = held(problem.vector(5))
    for name, value in problem.p.items():
        for mat, part in zip(
            ga.derivative_products(chain.model, problem.p, x, name), "AB", strict=True
        ):
            tangents = [
                chain.reference.tangent(unit(problem.p, name, i)) for i in range(value.size)
            ]
            touched = sum(np.count_nonzero(getattr(t, part).any(axis=1)) for t in tangents)
            assert mat.getInfo()["nz_used"] <= touched
            mat.destroy()


def test_unknown_names_are_refused(chain):
    with pytest.raises(ga.InputError, match=r"the parameter must be one of .* got 'mass'"):
        ga.derivative_products(chain.model, chain.problem.p, chain.pairs.right[:, 0], "mass")


@pytest.mark.parametrize("indices", [[-1], [0, 0], [10**6]], ids=str)
def test_bad_indices_are_refused(chain, indices):
    name = next(iter(chain.problem.p))
    with pytest.raises(ga.InputError, match="indices must be distinct numbers in 0"):
        ga.derivative_products(
            chain.model, chain.problem.p, chain.pairs.right[:, 0], name, indices=indices
        )


def test_complex_vectors_are_refused_by_the_real_build_only(chain):
    problem = chain.problem
    name = next(iter(problem.p))
    with {True: nullcontext(), False: REFUSED}[COMPLEX_BUILD]:
        for mat in ga.derivative_products(chain.model, problem.p, problem.vector(5), name):
            mat.destroy()


def test_a_model_without_products_is_refused(chain):
    class Bare:
        comm = chain.pairs.comm

    with pytest.raises(ga.InputError, match="derivative_products needs a model that has element"):
        ga.derivative_products(Bare(), chain.problem.p, chain.pairs.right[:, 0], "p")


def test_vector_of_another_length_is_refused(comm):
    model = ga.MatrixModel(identity(3, comm), None, {"p": [(identity(3, comm), None)]})
    with pytest.raises(ga.InputError, match=r"x must hold this rank's 3 rows, got shape \(4,\)"):
        ga.derivative_products(model, {"p": np.zeros(1)}, np.ones(4), "p")


def identity(n, comm):
    mat = PETSc.Mat().createAIJ((n, n), nnz=1, comm=comm)
    mat.setUp()
    for row in range(n):
        mat.setValue(row, row, 1.0)
    mat.assemble()
    return mat


def test_unknown_setting_of_a_gradient_is_refused(comm):
    model = ga.MatrixModel(identity(2, comm), None, {"p": [(identity(2, comm), None)]})
    p = {"p": np.zeros(1)}
    pairs = ga.solve_eigenproblem(model.assemble(p), 1, target=0.5)
    with pytest.raises(TypeError, match=r"must be among strategy, rtol, .* got 'tol'"):
        ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0), tol=1e-3)


def test_complex_elements_with_a_real_vector_of_the_complex_build(comm):
    dofs, ids = np.array([[0, 1], [1, 2]]), np.array([0, 1])
    factor = [3.0, 1.0 + 2.0j][COMPLEX_BUILD]
    kernel = ga.ScaledKernel(factor * np.array([[1.0, -1.0], [-1.0, 3.0]]))
    model = ga.ElementModel(3, [ga.ElementBlock("A", dofs, kernel, {"k": ids})], comm=comm)
    p = {"k": np.array([1.0, 2.0])}
    dA_x, dB_x = model.derivative_products(p, np.array([[1.0], [2.0], [4.0]]), "k")
    expected = factor * np.array([[-1.0, 0.0], [5.0, -2.0], [0.0, 10.0]])
    np.testing.assert_allclose(dA_x.getValues(range(3), range(2)), expected, rtol=1e-15)
    dA_x.destroy()
    dB_x.destroy()

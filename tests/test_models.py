"""`MatrixModel` and `OperatorModel`: known answers, ownership, and wrong input."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from builders import REAL, dense, mass, matrix, nonsymmetric, stiffness

import geneig_adjoint as ga

N = 6
A, B = nonsymmetric(N), mass(N)
DIAGONAL = np.diag(np.arange(1.0, N + 1))
CORNER = np.zeros((N, N))
CORNER[0, -1] = 1.0  # a place where A has no entry
EXAMPLE = Path(__file__).parents[1] / "examples" / "rank_one" / "rank_one.py"
VALUE = 12.638225653931972
GRADIENT = [-3.1242304192641748, 6.164897438708478, -1.6691693962201561]


def model_of(comm):
    derivatives = {
        "p": [(matrix(DIAGONAL, comm), None), (matrix(CORNER, comm), matrix(DIAGONAL, comm))],
        "q": [(None, matrix(mass(N), comm))],
    }
    return ga.MatrixModel(matrix(A, comm), matrix(B, comm), derivatives)


P = {"p": np.array([0.3, -0.2]), "q": np.array([0.1])}
A_AT_P = A + 0.3 * DIAGONAL - 0.2 * CORNER
B_AT_P = B - 0.2 * DIAGONAL + 0.1 * mass(N)


def test_matrices_are_affine(comm):
    with model_of(comm).assemble(P) as pencil:
        assert np.allclose(dense(pencil.A), A_AT_P, rtol=1e-15, atol=1e-15)
        assert np.allclose(dense(pencil.B), B_AT_P, rtol=1e-15, atol=1e-15)


def test_refill_equals_a_fresh_pencil(comm):
    model = model_of(comm)
    zero = {"p": np.zeros(2), "q": np.zeros(1)}
    with model.assemble(zero) as pencil:
        assert model.assemble(P, out=pencil) is pencil
        assert np.allclose(dense(pencil.A), A_AT_P, rtol=1e-15, atol=1e-15)
        assert np.allclose(dense(pencil.B), B_AT_P, rtol=1e-15, atol=1e-15)
        assert pencil.version > 0


def test_from_symmetric_to_nonsymmetric_by_refilling(comm):
    # A solve tells PETSc that A is symmetric; that must not outlive a refill.
    model = ga.MatrixModel(
        matrix(stiffness(N), comm), None, {"p": [(matrix(np.eye(N, k=1), comm), None)]}
    )
    objective = ga.objectives.LinearOutput(np.ones(N), 0)
    with ga.value_and_gradient(model, objective, target=0.1) as f:
        f({"p": np.zeros(1)})
        value, gradient = f({"p": np.array([0.4])})
    with ga.value_and_gradient(model, objective, target=0.1) as fresh:
        expected = fresh({"p": np.array([0.4])})
    # eps_tol 1e-12 and rtol 1e-10 times condition numbers below 100
    assert np.isclose(value, expected[0], rtol=1e-9)
    assert np.allclose(gradient["p"], expected[1]["p"], rtol=1e-8)


def test_users_matrices_are_neither_changed_nor_destroyed(comm):
    users = [matrix(array, comm) for array in (A, B, DIAGONAL, CORNER)]
    before = [dense(mat) for mat in users]
    model = ga.MatrixModel(users[0], users[1], {"p": [(users[2], users[3])]})
    p = {"p": np.array([0.5])}
    with ga.value_and_gradient(model, ga.objectives.Eigenvalue(0)) as f:
        f(p)
        f(p)
    with model, model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2) as pairs:
        ga.gradient(model, p, pairs, ga.objectives.LinearOutput(np.ones(N), 0))
        ga.jvp(model, p, pairs, p)
        for mat in ga.derivative_products(model, p, np.ones(N), "p"):
            mat.destroy()
    for mat, array in zip(users, before, strict=True):
        assert np.array_equal(dense(mat), array)


def test_parameter_without_effect_has_gradient_zero(comm):
    model = ga.MatrixModel(matrix(A, comm), None, {"p": [(None, None)]})
    p = {"p": np.ones(1)}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 1) as pairs:
        for objective in (ga.objectives.Eigenvalue(0), ga.objectives.LinearOutput(np.ones(N), 0)):
            assert ga.gradient(model, p, pairs, objective)["p"][0] == 0.0


def test_derivative_products_are_the_columns(comm):
    x = np.linspace(1.0, 2.0, N)
    dA_x, dB_x = ga.derivative_products(model_of(comm), P, x, "p")
    assert np.allclose(dense(dA_x), np.stack([DIAGONAL @ x, CORNER @ x], axis=1), rtol=1e-15)
    assert np.allclose(dense(dB_x), np.stack([0 * x, DIAGONAL @ x], axis=1), rtol=1e-15)
    second = ga.derivative_products(model_of(comm), P, x, "p", indices=np.array([1]))[1]
    assert np.allclose(dense(second)[:, 0], DIAGONAL @ x, rtol=1e-15)


def test_derivative_must_be_a_pair(comm):
    with pytest.raises(
        ga.InputError, match=r"'p' must be pairs \(dA_i, dB_i\), got 3 items for entry 0"
    ):
        ga.MatrixModel(matrix(A, comm), None, {"p": [(None, None, None)]})


def test_derivative_of_b_needs_b(comm):
    with pytest.raises(
        ga.InputError, match=r"dB_0 of 'p' needs a matrix B, got B=None; pass the id"
    ):
        ga.MatrixModel(matrix(A, comm), None, {"p": [(None, matrix(B, comm))]})


def test_derivative_must_have_the_layout(comm):
    with pytest.raises(ga.InputError, match=r"dA_1 of 'p' must have the layout of A"):
        ga.MatrixModel(matrix(A, comm), None, {"p": [(None, None), (matrix(mass(3), comm), None)]})


def test_example_prints_the_known_numbers():
    done = runpy.run_path(str(EXAMPLE))
    # Both numbers are sums of three products: a few roundings of size 10.
    assert abs(done["pairs"].values[0] - VALUE) < 1e-13
    assert np.abs(done["gradient"] - GRADIENT).max() < 1e-13


def test_example_runs_on_more_ranks(mpirun):
    result = mpirun(2, "python", str(EXAMPLE), timeout=60)
    assert result.returncode == 0, result.stderr
    errors = [float(text) for text in re.findall(r"error ([0-9.e-]+)", result.stdout)]
    assert len(errors) == 2
    assert max(errors) < 1e-13


# -- operators --


def operator(comm, array=None, **options):
    array = stiffness(N) if array is None else array
    fields = {"apply_a": lambda p, block: p["p"][0] * (array @ block), "vjp": sums(array)}
    return ga.OperatorModel(N, **{**fields, **options}, comm=comm)


def sums(array):
    return lambda p, a, b, right: {"p": np.array([np.vdot(a, array @ right).real])}


ONE = {"p": np.array([2.0])}


def solved(model, **options):
    pencil = model.assemble(ONE)
    return pencil, ga.solve_eigenproblem(pencil, 1, which="largest_real", **options)


def test_operator_equals_the_matrix(comm):
    output = ga.objectives.LinearOutput(np.arange(1.0, N + 1), 0)
    dense_model = ga.MatrixModel(
        matrix(0 * A, comm), None, {"p": [(matrix(stiffness(N), comm), None)]}
    )
    for objective in (ga.objectives.Eigenvalue(0), output):
        found = []
        for model in (operator(comm), dense_model):
            _, pairs = solved(model)
            found.append(ga.gradient(model, ONE, pairs, objective)["p"])
        assert np.allclose(found[0], found[1], rtol=1e-8, atol=1e-9)  # rtol 1e-10 of the adjoint


def test_operator_keeps_a_copy_of_the_parameters(comm):
    p = {"p": np.array([2.0])}
    pencil = operator(comm).assemble(p)
    p["p"][0] = 100.0
    assert np.allclose(pencil.multiply_a(np.eye(N)[:, :1]), 2 * stiffness(N)[:, :1], rtol=1e-15)


def test_generalized_operator(comm):
    model = operator(comm, apply_b=lambda p, block: 2.0 * block)
    _, pairs = solved(model)
    assert np.allclose(pairs.values, np.linalg.eigvalsh(stiffness(N))[-1], rtol=1e-10)


def test_operator_rows_must_add_up(comm):
    with pytest.raises(
        ga.InputError, match=r"n_local must add up to n = 6 over the ranks, got \[5\]"
    ):
        operator(comm, n_local=5)


def test_target_is_refused(comm):
    with pytest.raises(ga.InputError, match=r"a target needs assembled matrices"):
        ga.solve_eigenproblem(operator(comm).assemble(ONE), 1, target=1.0)


def test_tangent_needs_jvp(comm):
    model = operator(comm)
    _, pairs = solved(model)
    with pytest.raises(ga.InputError, match=r"OperatorModel without jvp; pass jvp=function"):
        ga.jvp(model, ONE, pairs, ONE)


def test_jvp_of_an_operator(comm):
    model = operator(comm, jvp=lambda p, d, x: (d["p"][0] * (stiffness(N) @ x), 0 * x))
    _, pairs = solved(model)
    assert np.allclose(ga.jvp(model, ONE, pairs, ONE).values, pairs.values, rtol=1e-12)


@pytest.mark.parametrize(
    "result", [{}, {"p": np.zeros(2)}, {"p": np.zeros(1), "q": np.zeros(1)}], ids=["0", "2", "q"]
)
def test_vjp_must_have_the_structure_of_p(comm, result):
    model = operator(comm, vjp=lambda *_: result)
    _, pairs = solved(model)
    with pytest.raises(ga.InputError, match=r"must return the structure of p, \{'p': 1\}.*got"):
        ga.gradient(model, ONE, pairs, ga.objectives.Eigenvalue(0))


def imaginary(p, block):
    return 1j * (stiffness(N) @ block)


PRODUCTS = {
    "shape": (lambda p, block: block[:, 0], r"apply_a must return .*\(6, 1\), got \(6,\)"),
    "nan": (lambda p, block: block * np.nan, r"apply_a must return finite numbers, got 6 NaN"),
    "error": (lambda p, block: 1 / 0, r"division by zero"),
    **({"complex": (imaginary, r"result of apply_a must be real.*complex build")} if REAL else {}),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_product_that_misbehaves(comm, case):
    apply_a, match = PRODUCTS[case]
    with pytest.raises((ga.InputError, ZeroDivisionError), match=match):
        solved(operator(comm, apply_a=apply_a))


def test_vjp_that_raises(comm):
    model = operator(comm, vjp=lambda *_: 1 / 0)
    _, pairs = solved(model)
    with pytest.raises(ZeroDivisionError):
        ga.gradient(model, ONE, pairs, ga.objectives.Eigenvalue(0))

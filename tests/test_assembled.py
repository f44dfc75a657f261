"""`AssembledModel`: one derivative at a time, what is destroyed, and wrong generators."""

import numpy as np
import pytest
from assembled_chain import P_DOT, SIZES, Counted, P, dense_derivative, dense_pair
from builders import dense, distributed, mass, matrix, nonsymmetric
from pages import run_page
from petsc4py import PETSc

import geneig_adjoint as ga

N = 4
A, B, SLOPE = nonsymmetric(N), mass(N), np.diag(np.arange(1.0, N + 1))
ALL = [("k", 0), ("k", 1), ("k", 2), ("m", 0), ("m", 1)]
SOLVER = {"count": 2, "target": 0.9}
FIRST = ga.objectives.Eigenvalue(0)


def test_one_derivative_exists_at_a_time(comm):
    made = Counted(comm)
    with made.model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        ga.gradient(made.model, P, pairs, ga.objectives.LinearOutput(np.ones(7), 0))
    assert made.asked == ALL  # once, whatever the objective
    assert made.most == 2  # dA_i and dB_i
    assert not [mat for mat in made.alive if mat.handle]


def test_derivatives_that_do_not_move_are_not_asked_for(comm):
    made = Counted(comm)
    made.model.assemble(P).close()
    direction = {"k": np.array([0.0, 2.0, 0.0]), "m": np.zeros(2)}
    dA_x, dB_x = made.model.tangent(P, direction, np.ones((7, 1)))
    assert made.asked == [("k", 1)]
    expected = 2 * dense_derivative(P, "k", 1)[0] @ np.ones((7, 1))
    np.testing.assert_allclose(dA_x, expected, rtol=1e-14)
    assert not dB_x.any()


def test_verification_of_a_model_that_is_not_affine(comm):
    report = ga.verify_gradient(Counted(comm).model, P, FIRST, **SOLVER)
    assert report.passed, str(report)
    assert report.dot_product_error < 1e-10


def test_derivative_products_are_the_columns(comm):
    made, x = Counted(comm), np.linspace(1.0, 2.0, 7)
    made.model.assemble(P).close()
    found = ga.derivative_products(made.model, P, x, "m", indices=np.array([1, 0]))
    pairs = [dense_derivative(P, "m", i) for i in (1, 0)]
    for side, mat in enumerate(found):
        zero = np.zeros((7, 7))
        columns = [(zero if pair[side] is None else pair[side]) @ x for pair in pairs]
        np.testing.assert_allclose(dense(mat), np.stack(columns, axis=1), rtol=1e-14)
    assert made.asked == [("m", 1), ("m", 0)]


def test_distributed_parameters(comm):
    p = {name: distributed(value, comm) for name, value in P.items()}
    made = Counted(comm)
    with made.model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, **SOLVER) as pairs:
        np.testing.assert_allclose(dense(pencil.A), dense_pair(P)[0], rtol=1e-14)
        found = ga.gradient(made.model, p, pairs, FIRST)
        expected = ga.gradient(made.model, P, pairs, FIRST)
    for name, vec in found.items():
        np.testing.assert_allclose(vec.array_r.real, expected[name], rtol=1e-12)
        vec.destroy()


# -- matrices that exist, derivatives that do not --


def affine(comm, generate=None, *, size=2, keep=False, with_b=True):
    def slopes(p, name, numbers):
        for i in numbers:
            yield matrix((1.0 + i) * SLOPE, comm), None

    bases = matrix(A, comm), matrix(B, comm) if with_b else None
    return ga.AssembledModel(bases, generate or slopes, {"p": size}, keep=keep)


AT = {"p": np.array([0.3, -0.1])}


def test_affine_model_is_summed_and_refilled(comm):
    model = affine(comm)
    with model.assemble({"p": np.zeros(2)}) as pencil:
        assert np.array_equal(dense(pencil.A), A)
        assert model.assemble(AT, out=pencil) is pencil
        np.testing.assert_allclose(dense(pencil.A), A + (0.3 - 0.2) * SLOPE, rtol=1e-14)
        np.testing.assert_allclose(dense(pencil.B), B, rtol=1e-14)


def test_affine_model_has_no_curvature_of_its_own(comm):
    model = affine(comm)
    with model.assemble(AT) as pencil, ga.solve_eigenproblem(pencil, 1, target=0.5) as pairs:
        found = model.contract_tangent(AT, AT, pairs.left, pairs.left, pairs.right)
    assert np.array_equal(found["p"], np.zeros(2))


def test_matrices_that_are_kept_are_filled_again(comm):
    mat = matrix(SLOPE, comm)

    def refilled(p, name, numbers):
        for i in numbers:
            matrix((1.0 + i) * SLOPE, comm).copy(mat)
            yield mat, None

    found = []
    for model in (affine(comm, refilled, keep=True), affine(comm)):
        with model.assemble(AT) as pencil, ga.solve_eigenproblem(pencil, 1, target=0.5) as pairs:
            found.append(ga.gradient(model, AT, pairs, FIRST)["p"])
    np.testing.assert_allclose(*found, rtol=1e-12)
    assert found[0][1] == pytest.approx(2 * found[0][0], rel=1e-12)
    assert np.array_equal(dense(mat), 2 * SLOPE)


def test_generator_cleans_up_after_an_error(comm):
    left = []

    def careful(p, name, numbers):
        try:
            for _ in numbers:
                yield matrix(SLOPE[:3, :3], comm), None
        finally:
            left.append(True)

    with pytest.raises(ga.InputError):
        affine(comm, careful).assemble(AT)
    assert left == [True]


def unassembled(comm):
    mat = PETSc.Mat().createAIJ((N, N), comm=comm)
    mat.setUp()
    mat.setValue(0, 0, 1.0)
    return mat


def destroyed(comm):
    mat = matrix(SLOPE, comm)
    mat.destroy()
    return mat


def yields(*makers):
    """Return a generator that ignores what is asked for."""
    return lambda comm: lambda p, name, numbers: (make(comm) for make in makers)


def good(comm):
    return matrix(SLOPE, comm), None


def raises(comm):
    raise ArithmeticError("the element is inside out")


WRONG = {
    "early": (yields(good), ga.InputError, r"of 'p' must yield 2 pairs .* ended before entry 1"),
    "late": (yields(good, good, good), ga.InputError, r"'p' must yield 2 pairs .*, got more"),
    "single": (
        yields(good, lambda comm: good(comm)[0]),
        ga.InputError,
        r"'p' must be pairs \(dA_i, dB_i\), got Mat for entry 1",
    ),
    "three": (yields(lambda comm: (None,) * 3), ga.InputError, r"got 3 items for entry 0"),
    "array": (
        yields(good, lambda comm: (SLOPE, None)),
        ga.InputError,
        r"dA_1 of 'p' must be a PETSc.Mat or None, got ndarray",
    ),
    "destroyed": (
        yields(lambda comm: (destroyed(comm), None)),
        ga.InputError,
        r"dA_0 of 'p' must be .*, got one that was destroyed; .* keep=True",
    ),
    "layout": (
        yields(good, lambda comm: (None, matrix(SLOPE[:3, :3], comm))),
        ga.InputError,
        r"dB_1 of 'p' must have the layout of A, got \(\(3, 3\), \(3, 3\)\)",
    ),
    "transit": (
        yields(lambda comm: (unassembled(comm), None)),
        ga.InputError,
        r"dA_0 of 'p' must be assembled",
    ),
    "nan": (
        yields(good, lambda comm: (None, matrix(SLOPE * [1, np.nan, 1, 1], comm))),
        ga.InputError,
        r"dB_1 of 'p' must be finite",
    ),
    "raises": (yields(good, raises), ArithmeticError, r"inside out"),
    "function": (
        lambda comm: lambda p, name, numbers: None,
        TypeError,
        r"'NoneType' object is not iterable",
    ),
    "call": (lambda comm: lambda p, name, numbers: 1 / 0, ZeroDivisionError, r"division"),
}


@pytest.mark.parametrize("case", WRONG)
def test_generator_that_misbehaves(comm, case):
    make, kind, match = WRONG[case]
    model = affine(comm, make(comm))
    with pytest.raises(kind, match=match):
        model.assemble(AT)
    vectors = np.ones((N, 1))
    with pytest.raises(kind, match=match):
        model.contract(AT, vectors, vectors, vectors)


def test_derivative_of_the_identity(comm):
    model = affine(comm, yields(lambda comm: (None, matrix(B, comm)))(comm), with_b=False)
    with pytest.raises(ga.InputError, match=r"dB_0 of 'p' needs a matrix B, got B=None"):
        model.assemble(AT)


def function_model(comm, result=None, **options):
    def assemble(p):
        return (matrix(A, comm), None) if result is None else result

    return ga.AssembledModel(assemble, lambda p, name, numbers: iter(()), {"p": 2}, **options)


REFUSED = {
    "made": (lambda comm: function_model(comm, "AB").assemble(AT), r"pair \(A, B\).* got str"),
    "one": (
        lambda comm: ga.AssembledModel(matrix(A, comm), iter, {"p": 2}),
        r"pair \(A, B\) of PETSc.Mat, .*, got Mat; return A, None",
    ),
    "out": (
        lambda comm: function_model(comm).assemble(AT, out=affine(comm).assemble(AT)),
        r"out= needs an AssembledModel made of matrices",
    ),
    "early": (
        lambda comm: ga.derivative_products(function_model(comm), AT, np.ones(N), "p"),
        r"rows of an AssembledModel must be known, .* call assemble\(p\)",
    ),
    "second": (
        lambda comm: function_model(comm).contract_tangent(AT, AT, *[np.ones((N, 1))] * 3),
        r"AssembledModel without second_derivatives; pass second_derivatives=generator",
    ),
    "length": (
        lambda comm: Counted(comm).model.assemble({"k": np.ones(4), "m": np.ones(2)}),
        r"parameter 'k' must have 3 entries",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(comm, case):
    action, match = REFUSED[case]
    with pytest.raises(ga.InputError, match=match):
        action(comm)


def test_matrices_of_a_failed_pencil_are_destroyed(comm):
    made = (matrix(A, comm), matrix(B[:3, :3], comm))
    with pytest.raises(ga.InputError, match=r"B must have the layout of A"):
        function_model(comm, made).assemble(AT)
    assert not any(mat.handle for mat in made)


def test_second_derivatives_follow_the_first(comm):
    made, step = Counted(comm), 1e-5
    made.model.assemble(P).close()
    rng = np.random.default_rng(5)
    blocks = rng.normal(size=(3, 7, 2))
    found = made.model.contract_tangent(P, P_DOT, *blocks)

    def beside(t):
        return made.model.contract({name: P[name] + t * P_DOT[name] for name in P}, *blocks)

    there, back = beside(step), beside(-step)
    for name in SIZES:
        # quadratic in p up to a cubic part: 1e-10 of truncation, 1e-16 / 1e-5 of rounding
        slope = (there[name] - back[name]) / (2 * step)
        np.testing.assert_allclose(found[name], slope, rtol=1e-8, atol=1e-9)


def test_page_runs():
    defined = run_page("my_own_matrices.md")
    # 20 springs in a row whose squares grow from 1 to 4, one end free: below the chain of all 4
    assert 0 < defined["lowest"] < 4 * (2 - 2 * np.cos(np.pi / 41))

"""Objectives and requests that have no answer: each says what it got and what to do instead."""

import numpy as np
import pytest
from builders import (
    REAL,
    chain,
    chain_parameters,
    generalized,
    matrix,
    nonsymmetric,
    rotation,
    stiffness,
)

import geneig_adjoint as ga
from geneig_adjoint import objectives as obj

N = 6
P = chain_parameters(N)


@pytest.fixture(scope="module")
def solved(comm):
    model = chain(N, comm)
    with model.assemble(P) as pencil, ga.solve_eigenproblem(pencil, 3) as pairs:
        yield model, pairs


def shift_model(A, comm, derivative=None):
    """Return A + p D and its point p = 0."""
    derivative = np.diag(np.arange(1.0, len(A) + 1)) if derivative is None else derivative
    model = ga.MatrixModel(matrix(A, comm), None, {"p": [(matrix(derivative, comm), None)]})
    return model, {"p": np.zeros(1)}


# -- what an objective may return --


def returns(value=1.0, **cotangent):
    def objective(pairs):
        return value, ga.EigenCotangent(**cotangent)

    return objective


RESULTS = {
    "no tuple": (
        lambda pairs: 1.0,
        r"must return \(value, EigenCotangent\), got float; return both",
    ),
    "triple": (lambda pairs: (1, 2, 3), r"must return \(value, EigenCotangent\), got tuple"),
    "array": (lambda pairs: (1.0, np.ones(3)), r"EigenCotangent as second item, got ndarray; wrap"),
    "complex": (returns(1j), r"objective must be one real number, got 1j; differentiate real and"),
    "vector": (returns(np.ones(2)), r"must be one real number, got array"),
    "nan": (returns(np.nan), r"objective must be finite, got nan; check its formula"),
    "values": (
        returns(values=np.ones(2)),
        r"cotangent 'values' of objective must have shape \(3,\)",
    ),
    "right": (returns(right=np.ones((N, 1))), r"cotangent 'right' .* shape \(6, 3\), got \(6, 1\)"),
    "left": (returns(left=np.ones(N)), r"cotangent 'left' of objective must have shape \(6, 3\)"),
    "nan values": (
        returns(values=np.full(3, np.nan)),
        r"'values' .* finite, got 3 NaN or Inf; check",
    ),
    "inf right": (returns(right=np.full((N, 3), np.inf)), r"'right' .*finite, got 18 NaN or Inf"),
    "unknown": (
        returns(parameters={"z": np.ones(2)}),
        r"explicit derivative for 'z' .*\(None entr",
    ),
    "long": (
        returns(parameters={"k": np.ones(9)}),
        r"explicit derivative for 'k' .*\(7 entries\), got 9",
    ),
}


@pytest.mark.parametrize("case", RESULTS)
def test_result_of_an_objective(solved, case):
    objective, match = RESULTS[case]
    model, pairs = solved
    with pytest.raises(ga.InputError, match=match):
        ga.gradient(model, P, pairs, objective)


def test_exception_of_an_objective_comes_through(solved):
    model, pairs = solved
    with pytest.raises(ZeroDivisionError):
        ga.gradient(model, P, pairs, lambda pairs: 1 / 0)


VECTOR = np.ones(N)
OBJECTIVES = {
    "pair": (obj.Eigenvalue(3), r"pair must be in 0 ... 2, got 3; raise count in the solve"),
    "negative": (obj.Frequency(-1), r"pair must be in 0 ... 2, got -1"),
    "part": (obj.Eigenvalue(0, part="abs"), r'part must be "real" or "imag", got \'abs\'; choose'),
    "linear part": (obj.LinearOutput(VECTOR, part=""), r'part must be "real" or "imag", got \'\''),
    "vector": (
        obj.LinearOutput(np.ones(5)),
        r"the vector must hold this rank's 6 rows, got shape \(5",
    ),
    "weight": (
        obj.QuadraticForm(np.ones(5)),
        r"the weight must hold this rank's 6 rows, got shape",
    ),
    "weight pair": (obj.QuadraticForm(VECTOR, (0, 9)), r"indices in 0 ... 2, got \[0, 9\]"),
    "reference": (obj.ModeShapeMatch(np.ones(5)), r"the reference must hold this rank's 6 rows"),
    "zero": (
        obj.ModeShapeMatch(0 * VECTOR),
        r"reference must not be zero, got a zero vector; give",
    ),
    "of": (obj.KSMinimum(of="k"), r'of must be "frequency" or "eigenvalue", got \'k\''),
    "rho": (obj.KSMinimum(rho=0.0), r"rho must be positive, got 0.0; larger values are sharper"),
    "KS pair": (obj.KSMinimum(pairs=(5,)), r"pairs must be indices in 0 ... 2, got \[5\]"),
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_ready_objective(solved, case):
    objective, match = OBJECTIVES[case]
    model, pairs = solved
    with pytest.raises(ga.InputError, match=match):
        ga.gradient(model, P, pairs, objective)


@pytest.mark.parametrize(
    ("objective", "what"),
    [(obj.Frequency(0), "a frequency"), (obj.KEffective(0), "a multiplication factor")],
    ids=["frequency", "k"],
)
@pytest.mark.parametrize("A", [rotation(4), -stiffness(4)], ids=["complex", "negative"])
def test_positive_values_only(comm, A, objective, what):
    model, p = shift_model(A, comm)
    pairs = ga.solve_eigenproblem(model.assemble(p), 1)
    with pytest.raises(
        ga.InputError, match=rf"{what} needs a positive real eigenvalue, got .*pair 0"
    ):
        ga.gradient(model, p, pairs, objective)


def test_rtol_must_make_sense(solved):
    model, pairs = solved
    for rtol in (0.0, 1.0, -1e-3):
        with pytest.raises(ga.InputError, match=r"rtol must lie between 0 and 1, got"):
            ga.gradient(model, P, pairs, obj.Eigenvalue(0), rtol=rtol)


def test_left_cotangent_needs_left_vectors(comm):
    with generalized(N, comm, "nonsymmetric") as pencil:
        pairs = ga.solve_eigenproblem(pencil, 1, left=False)
        model = ga.MatrixModel(pencil.A, pencil.B, {"p": [(pencil.A, None)]})
        objective = returns(left=np.ones(pairs.right.shape))
        with pytest.raises(ga.InputError, match=r"needs pairs with left vectors.*left=True"):
            ga.gradient(model, {"p": np.zeros(1)}, pairs, objective)


def test_model_without_a_method(solved):
    _, pairs = solved
    with pytest.raises(ga.InputError, match=r"jvp needs a model with tangent.*got object without"):
        ga.jvp(object(), P, pairs, P)
    with pytest.raises(
        ga.InputError, match=r"needs a model that has element .*got object; use jvp"
    ):
        ga.derivative_products(object(), P, VECTOR, "k")


def test_derivative_products_of_wrong_entries(solved):
    model, _ = solved
    with pytest.raises(ga.InputError, match=r"parameter must be one of \['k', 'm'\], got 'z'"):
        ga.derivative_products(model, P, VECTOR, "z")
    for indices in ([0, 7], [-1], [2, 2]):
        with pytest.raises(ga.InputError, match=r"distinct numbers in 0 ... 6, got .*count from 0"):
            ga.derivative_products(model, P, VECTOR, "k", indices=np.array(indices))


def complex_is_refused(model):
    with pytest.raises(ga.InputError, match=r"x must be real.*complex build"):
        ga.derivative_products(model, P, 1j * VECTOR, "k")


def complex_is_used(model):
    dA_x, _ = ga.derivative_products(model, P, 1j * VECTOR, "k")
    assert dA_x.getSize() == (N, N + 1)


def test_derivative_products_of_a_complex_vector(solved):
    check = complex_is_refused if REAL else complex_is_used
    check(solved[0])


# -- normalizations that cannot hold --

NORMALIZATIONS = {
    "word": ("A", r'normalization must be "B", "2", "bilinear".*got \'A\'; None chooses'),
    "pair word": (("row", 0), r'must start with "component" or "linear", got \'row\''),
    "row": (("component", 6), r"component must be a row in 0 ... 5, got 6; give a global row"),
    "row type": (("component", 1.0), r"component must be a row in 0 ... 5, got 1.0"),
    "rows": (
        ("linear", np.ones(5)),
        r"linear normalization must hold this rank's 6 rows, got .*\(5",
    ),
    "vanishes": (("linear", np.zeros(6)), r"'linear' needs c\^H x != 0, got 0.0e\+00 for pair 0"),
}


@pytest.mark.parametrize("case", NORMALIZATIONS)
def test_normalization(comm, case):
    normalization, match = NORMALIZATIONS[case]
    with generalized(N, comm, "symmetric") as pencil, pytest.raises(ga.InputError, match=match):
        ga.solve_eigenproblem(pencil, 2, normalization=normalization)


def test_component_where_a_vector_vanishes(comm):
    pencil = ga.Pencil(matrix(np.diag([1.0, 2.0, 3.0]), comm))
    with pytest.raises(
        ga.InputError, match=r"'component 2' needs .*pair 0; choose a component where"
    ):
        ga.solve_eigenproblem(pencil, 1, target=0.9, normalization=("component", 2))


def test_normalization_b_needs_a_hermitian_b(comm):
    pencil = ga.Pencil(matrix(stiffness(N), comm), matrix(nonsymmetric(N), comm))
    with pytest.raises(
        ga.InputError, match=r'"B" needs a Hermitian B, got one that is not; use "2"'
    ):
        ga.solve_eigenproblem(pencil, 1, normalization="B")


def test_neutral_vectors(comm):
    # A x = lam B x with B = diag(1, -1): lam = +-i, |x_0| = |x_1|, x^H B x = 0
    pencil = ga.Pencil(matrix([[0.0, 1.0], [1.0, 0.0]], comm), matrix(np.diag([1.0, -1.0]), comm))
    with pytest.raises(ga.InputError, match=r'"B" needs x\^H B x != 0, got about 0 for pair 0'):
        ga.solve_eigenproblem(pencil, 2, target=0.5, normalization="B")
    pairs = ga.solve_eigenproblem(pencil, 2, target=0.5)
    assert str(pairs.normalization) == "bilinear"


def test_bilinear_needs_a_square_that_does_not_vanish(comm):
    # eigenvectors of a rotation are (1, +-i): x^T x = 0
    pencil = ga.Pencil(matrix(rotation(2), comm))
    with pytest.raises(
        ga.InputError, match=r'"bilinear" needs x\^T B x != 0, got about 0 for pair 0'
    ):
        ga.solve_eigenproblem(pencil, 1, target=0.5, normalization="bilinear")

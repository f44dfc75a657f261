"""Hermitian pencils without a definite matrix: declared or measured, left vectors for nothing."""

from contextlib import nullcontext

import numpy as np
import pytest
import scipy.linalg
from pencils import COMPLEX_BUILD, petsc_matrix
from problems import problems

import geneig_adjoint as ga
from geneig_adjoint import left_vectors as module
from geneig_adjoint import objectives as obj

GALLERY = {problem.name: problem for problem in problems()}
NAMES = ["ghiep", "hermitian_ghiep"][: 1 + COMPLEX_BUILD]


@pytest.fixture
def held(comm):
    mats = []

    def pencil(*arrays, **options):
        mats.extend(petsc_matrix(comm, array) for array in arrays)
        return ga.Pencil(*mats[-len(arrays) :], **options)

    yield pencil
    for mat in mats:
        mat.destroy()


def matrices(name):
    return GALLERY[name].dense(GALLERY[name].p)


@pytest.mark.parametrize("declared", [None, "ghiep"])
@pytest.mark.parametrize("name", NAMES)
def test_class(held, name, declared):
    pencil = held(*matrices(name), problem_type=declared)
    assert pencil.problem_type == "ghiep"
    assert pencil.hermitian
    assert not pencil.definite
    assert pencil.block_dtype == np.complex128


@pytest.mark.parametrize("changed", ["A", "B"])
def test_declaration_is_checked(held, changed):
    mats = dict(zip("AB", matrices("ghiep"), strict=True))
    mats[changed][1, 4] += 0.25
    match = rf"'ghiep' needs {changed} Hermitian.*2.500e-01 at entry \((1, 4|4, 1)\)"
    with pytest.raises(ga.InputError, match=match):
        held(*mats.values(), problem_type="ghiep")


def test_declaration_needs_a_b(held):
    with pytest.raises(ga.InputError, match="does not fit a pencil without B"):
        held(np.eye(3), problem_type="ghiep")


def test_declaration_is_believed_of_b_but_a_may_be_definite(held):
    with held(np.diag([1.0, 2.0, 3.0]), np.eye(3), problem_type="ghiep") as pencil:
        assert not pencil.B_positive
        assert pencil.definite_by_a
    with held(np.diag([1.0, -2.0, 3.0]), np.eye(3), problem_type="ghiep") as pencil:
        assert pencil.problem_type == "ghiep"
        with ga.solve_eigenproblem(pencil, 2) as pairs:
            assert np.allclose(pairs.values, [1.0, -2.0], rtol=1e-12)


def test_declared_nonsymmetric_is_not_ghiep(held):
    assert held(*matrices("ghiep"), problem_type="gnhep").problem_type == "gnhep"


def never(*_, **__):
    raise AssertionError("no other left vectors must be computed")


def check_left_vectors(pairs, A, B):
    lam, X, Y = pairs.values, pairs.right, pairs.left
    defect = Y.conj().T @ A - lam[:, None] * (Y.conj().T @ B)
    # the gallery's eigenvalues have conditions below 1e2
    assert np.abs(defect).max() < 1e-11 * np.abs(A).max() * np.abs(Y).max()
    assert np.allclose(Y.conj().T @ B @ X, np.eye(len(lam)), atol=1e-10)
    assert pairs.info.left_residuals.max() < 1e-13


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_left_vectors_are_the_right_ones_of_the_conjugate(held, monkeypatch, name, count):
    monkeypatch.setattr(module, "_transposed_vectors", never)
    monkeypatch.setattr(module, "_from_bordered_system", never)
    A, B = matrices(name)
    with ga.solve_eigenproblem(held(A, B), count, target=0.4) as pairs:
        assert np.abs(pairs.values[:2].imag).min() > 0.1
        check_left_vectors(pairs, A, B)


@pytest.mark.parametrize("name", NAMES)
def test_half_a_pair_needs_the_transposed_problem(held, name):
    """One value was asked for; the real build completes the pair, the complex one need not."""
    A, B = matrices(name)
    with ga.solve_eigenproblem(held(A, B), 1, target=0.4) as pairs:
        check_left_vectors(pairs, A, B)


REFUSED = pytest.raises(ga.InputError, match=r"target=.* must be real")


@pytest.mark.parametrize("outcome", [[REFUSED, nullcontext()][COMPLEX_BUILD]])
@pytest.mark.parametrize("name", NAMES)
def test_values_on_one_side_of_the_real_axis(held, name, outcome):
    A, B = matrices(name)
    with outcome, ga.solve_eigenproblem(held(A, B), 2, target=0.9 + 2.0j) as pairs:
        assert pairs.values[0].imag > 0.1
        check_left_vectors(pairs, A, B)


@pytest.mark.parametrize("complex_", [False, True][: 1 + COMPLEX_BUILD])
def test_equal_values_of_both_signs(held, complex_):
    """A double real eigenvalue with x^H B x of both signs, and a double conjugate pair."""
    rng = np.random.default_rng(2)
    flip = np.array([[0.0, 1.0], [1.0, 0.0]])
    pair = np.array([[0.5, 0.9], [0.9, -0.5]])
    signs = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    values = np.array([0.7, 0.7, 4.0, 5.5, -6.0, 7.0])
    L = np.eye(10) + 0.2 * rng.standard_normal((10, 10))
    L = L + 0.1j * complex_ * rng.standard_normal((10, 10)) if complex_ else L
    A = L @ scipy.linalg.block_diag(pair, pair, np.diag(signs * values)) @ L.conj().T
    B = L @ scipy.linalg.block_diag(flip, flip, np.diag(signs)) @ L.conj().T
    A, B = (A + A.conj().T) / 2, (B + B.conj().T) / 2
    with ga.solve_eigenproblem(held(A, B), 6, target=0.6) as pairs:
        # semisimple, conditions below 1e2
        assert np.allclose(pairs.values.real, [0.7, 0.7, 0.9, 0.9, 0.9, 0.9], atol=1e-12)
        assert np.allclose(np.sort(pairs.values.imag), [-0.5, -0.5, 0, 0, 0.5, 0.5], atol=1e-12)
        check_left_vectors(pairs, A, B)


@pytest.mark.parametrize("name", NAMES)
def test_a_neutral_vector_has_no_b_length(held, name):
    with pytest.raises(ga.InputError, match=r"x\^H B x"):
        ga.solve_eigenproblem(held(*matrices(name)), 2, target=0.4, normalization="B")


@pytest.mark.parametrize("name", NAMES)
def test_conjugates_have_conjugate_derivatives(comm, name):
    problem = GALLERY[name]
    with (
        problem.model(comm) as model,
        model.assemble(problem.p) as pencil,
        ga.solve_eigenproblem(pencil, 2, target=0.4) as pairs,
    ):
        parts = [obj.Eigenvalue(j, part=part) for part in ("real", "imag") for j in (0, 1)]
        real_0, real_1, imag_0, imag_1 = (
            found["p"] for found in ga.gradient(model, problem.p, pairs, parts)
        )
    assert np.allclose(real_0, real_1, atol=1e-11)
    assert np.allclose(imag_0, -imag_1, atol=1e-11)
    assert np.abs(imag_0).max() > 1e-3

"""`Pencil`: what it measures, what it refuses, and what it leaves alone."""

import numpy as np
import pytest
from builders import REAL, dense, generalized, mass, matrix, nonsymmetric, stiffness
from petsc4py import PETSc

import geneig_adjoint as ga

# A complex Hermitian matrix where the build holds one.
HERMITIAN = [stiffness(4)]
if not REAL:
    HERMITIAN.append(stiffness(4) + 1j * (np.eye(4, k=1) - np.eye(4, k=-1)))
INDEFINITE = np.diag([1.0, -1.0, 2.0, 3.0])


@pytest.mark.parametrize("array", HERMITIAN, ids=["symmetric", "Hermitian"][: len(HERMITIAN)])
def test_hermitian_is_measured(comm, array):
    with ga.Pencil(matrix(array, comm), matrix(mass(4), comm), owned=True) as pencil:
        assert pencil.hermitian
        assert pencil.definite
        assert pencil.problem_type == "ghep"


@pytest.mark.parametrize(
    ("A", "B", "hermitian", "positive", "kind"),
    [
        (stiffness(4), None, True, True, "hep"),
        (nonsymmetric(4), None, False, True, "nhep"),
        (stiffness(4), np.diag([1.0, 1.0, 0.0, 0.0]), True, True, "ghep"),
        (stiffness(4), INDEFINITE, True, False, "ghep"),  # A is definite
        (stiffness(4), -mass(4), True, False, "ghep"),
        (INDEFINITE, INDEFINITE, True, False, "ghiep"),
        (stiffness(4), nonsymmetric(4), False, False, "gnhep"),
    ],
    ids=[
        "standard",
        "nonsymmetric",
        "semidefinite",
        "A_definite",
        "negative",
        "neither",
        "nonsymmetric_B",
    ],
)
def test_class_is_measured(comm, A, B, hermitian, positive, kind):
    with ga.Pencil(matrix(A, comm), B if B is None else matrix(B, comm), owned=True) as pencil:
        assert (pencil.hermitian, pencil.B_positive) == (hermitian, positive)
        assert pencil.problem_type == kind


def test_asymmetry_of_one_small_entry_is_seen(comm):
    A = stiffness(40)
    A[3, 30] = 1e-6
    assert not ga.Pencil(matrix(A, comm)).hermitian


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_measurement_does_not_depend_on_units(comm, factor):
    pencil = ga.Pencil(matrix(factor * stiffness(6), comm), matrix(mass(6) / factor, comm))
    assert pencil.problem_type == "ghep"


@pytest.mark.failure("not Hermitian as declared", through="api")
def test_declaration_against_hermitian_a_names_the_worst_entry(comm):
    A = stiffness(5)
    A[1, 4] = 0.25
    A[0, 1] += 0.125
    with pytest.raises(
        ga.InputError, match=r"'hep' needs A Hermitian.*2.500e-01 at entry \((1, 4|4, 1)\).*nhep"
    ):
        ga.Pencil(matrix(A, comm), problem_type="hep")


def test_declaration_against_nonsymmetric_b_names_b(comm):
    with pytest.raises(ga.InputError, match=r"needs B Hermitian.*at entry.*symmetrise"):
        ga.Pencil(matrix(stiffness(4), comm), matrix(nonsymmetric(4), comm), problem_type="ghep")


def test_declaration_against_indefinite_b(comm):
    with pytest.raises(ga.InputError, match=r"needs B positive semidefinite.*leave"):
        ga.Pencil(matrix(stiffness(4), comm), matrix(INDEFINITE, comm), problem_type="ghep")


def test_declared_nonsymmetric_is_believed(comm):
    pencil = ga.Pencil(matrix(stiffness(4), comm), problem_type="nhep")
    assert not pencil.definite
    assert pencil.block_dtype == np.complex128


def test_unknown_problem_type(comm):
    names = "one of hep, ghep, ghiep, nhep, gnhep or None"
    with pytest.raises(ga.InputError, match=f"{names}, got 'gep'"):
        ga.Pencil(matrix(stiffness(4), comm), problem_type="gep")


@pytest.mark.parametrize(
    ("kind", "B", "word"), [("hep", mass(4), "with"), ("ghep", None, "without")]
)
def test_problem_type_must_fit_b(comm, kind, B, word):
    B = B if B is None else matrix(B, comm)
    with pytest.raises(ga.InputError, match=rf"does not fit a pencil {word} B"):
        ga.Pencil(matrix(stiffness(4), comm), B, problem_type=kind)


def test_matrix_must_be_square(comm):
    wide = PETSc.Mat().createAIJ((3, 4), nnz=1, comm=comm)
    wide.assemble()
    with pytest.raises(ga.InputError, match=r"A must be square.*got 3 x 4"):
        ga.Pencil(wide)


def test_matrix_must_be_assembled(comm):
    mat = PETSc.Mat().createAIJ((3, 3), nnz=1, comm=comm)
    mat.setValue(0, 0, 1.0)
    with pytest.raises(ga.InputError, match=r"A must be assembled.*A.assemble\(\)"):
        ga.Pencil(mat)


@pytest.mark.failure("shapes", through="api")
def test_sizes_of_a_and_b_must_agree(comm):
    with pytest.raises(ga.InputError, match=r"B must have the layout of A.*\(5, 5\).*\(4, 4\)"):
        ga.Pencil(matrix(stiffness(4), comm), matrix(mass(5), comm))


@pytest.mark.failure("nan", through="api")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["A", "B"])
def test_entries_must_be_finite(comm, name, bad):
    arrays = {"A": stiffness(4), "B": mass(4)}
    arrays[name][2, 1] = bad
    match = rf"{name} must be finite, got 1 NaN or Inf entries, the first .* at \(2, 1\)"
    with pytest.raises(ga.InputError, match=match):
        ga.Pencil(matrix(arrays["A"], comm), matrix(arrays["B"], comm))


def test_refilled_matrices_are_checked_again(comm):
    A = matrix(stiffness(4), comm)
    pencil = ga.Pencil(A)
    assert pencil.hermitian
    A.setValue(0, 1, 7.0)
    A.assemble()
    pencil.entries_changed()
    assert not pencil.hermitian
    A.setValue(0, 1, np.nan)
    A.assemble()
    with pytest.raises(ga.InputError, match=r"A must be finite"):
        pencil.entries_changed()


def test_declaration_is_checked_again(comm):
    A = matrix(stiffness(4), comm)
    pencil = ga.Pencil(A, problem_type="hep")
    A.setValue(0, 1, 7.0)
    A.assemble()
    with pytest.raises(ga.InputError, match=r"needs A Hermitian"):
        pencil.entries_changed()


def test_closed_pencil_does_not_multiply(comm):
    pencil = generalized(4, comm, "symmetric")
    pencil.close()
    pencil.close()
    for action in (pencil.multiply_a, pencil.multiply_b, pencil.shifted):
        with pytest.raises(ga.StaleError, match=r"the pencil must be open.*solve again"):
            action(np.ones((4, 1)))


def test_closing_destroys_owned_matrices_only(comm):
    borrowed, owned = matrix(stiffness(4), comm), matrix(stiffness(4), comm)
    ga.Pencil(borrowed).close()
    with ga.Pencil(owned, owned=True):
        pass
    assert np.array_equal(dense(borrowed), stiffness(4))
    assert not owned


def test_norms_and_shifted_are_those_of_the_arrays(comm):
    A, B = nonsymmetric(5), mass(5)
    pencil = ga.Pencil(matrix(A, comm), matrix(B, comm))
    assert pencil.norms == (np.linalg.norm(A, np.inf), np.linalg.norm(B, np.inf))
    shifted = pencil.shifted(0.5)
    # one rounding per entry
    assert np.allclose(dense(shifted), A - 0.5 * B, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("kind", ["dense", "baij"])
def test_matrix_type_that_cannot_be_factored_is_named(comm, kind):
    # "PETSc error 92 or 56, choose another target" helps nobody.
    with pytest.raises(ga.InputError, match=rf"{kind}.*aij"):
        ga.Pencil(matrix(stiffness(4), comm).convert(kind))


class Product:
    """An operator without entries."""

    def __init__(self, array):
        self.array = array

    def mult(self, _, x, y):
        y.array[:] = self.array @ x.array_r


def test_operator_declared_hermitian_that_is_not(comm):
    mat = PETSc.Mat().createPython((4, 4), Product(nonsymmetric(4)), comm=comm)
    mat.setUp()
    with pytest.raises(ga.InputError, match=r"needs A Hermitian, got an operator with u"):
        ga.Pencil(mat, problem_type="hep")

"""Models and objectives of a study that do not fit: found before the long part of a run."""

import numpy as np
import pytest
from study_files import MODEL, PYTHON, result, study_folder

import geneig_adjoint as ga
from geneig_adjoint import exit_codes
from geneig_adjoint.errors import StudyError
from geneig_adjoint.study.check import check_study
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import about_the_study, read_study


def run(path, comm, *changes):
    return run_study(read_study(path, changes), comm)


BUILD_ERRORS = {
    "no colon": ("model.py", StudyError, r'must be "file.py:function", got .model.py'),
    "no name": ("model.py:", StudyError, r'must be "file.py:function"'),
    "no file": ("other.py:build", StudyError, r"must name an existing file, got no .*other.py"),
    "no function": ("model.py:biuld", StudyError, r"must define 'biuld', got no such name"),
    "result": ("model.py:empty", StudyError, r"must return \(model, p\).* got NoneType"),
    "mesh": (
        "model.py:meshed",
        ga.InputError,
        r"dofs of a mesh must lie in -1 ... 3, got -1 ... 7",
    ),
}
EXTRA = """
def empty(comm, options):
    pass

def meshed(comm, options):
    from study_files import chain_mesh
    return (*build(comm, {"n": 4}), chain_mesh())
"""


@pytest.mark.parametrize(("function", "kind", "message"), BUILD_ERRORS.values(), ids=BUILD_ERRORS)
def test_python_model_that_does_not_fit_is_refused(tmp_path, comm, function, kind, message):
    text = PYTHON.replace("model.py:build", function)
    with pytest.raises(kind, match=message):
        run(study_folder(tmp_path, text, model=MODEL + EXTRA), comm)


def objective(text):
    return '[model]\nelements = "elements.h5"\n[[objective]]\nname = "x"\n' + text


LATE_ERRORS = {
    "rows": ('kind = "linear"', r"objective 'x' needs rows = \[...\]"),
    "row": ('kind = "linear"\nrows = [0, 8]', r"objective 'x' must have rows in 0 ... 7, got 8"),
    "negative": ('kind = "quadratic"\nrows = [-1]', r"must have rows in 0 ... 7, got -1"),
    "weights": (
        'kind = "quadratic"\nrows = [1]\nweights = [1, 2]',
        r"one weight per row, got 2 we",
    ),
    "reference": ('kind = "mode_shape"', r"needs reference = \"shape.npy\", a global vector"),
    "function": ('python = "model.py:factory"\n[objective.options]\ny = 1', r"unexpected .*'y'"),
    "pair": ('kind = "frequency"\npair = 4', r"pair must be in 0 ... 0, got 4"),
    "part": ('kind = "eigenvalue"\npart = "rael"', r'part must be "real" or "imag", got .rael'),
}


@pytest.mark.parametrize(("text", "message"), LATE_ERRORS.values(), ids=LATE_ERRORS)
def test_objective_that_does_not_fit_is_refused(tmp_path, comm, text, message):
    model = MODEL + "\ndef factory(model, *, x=0):\n    return None\n"
    with pytest.raises(StudyError, match=message):
        run(study_folder(tmp_path, objective(text), model=model), comm)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("solver.count=0", r"count must be in 1 ... 8"),
        ("solver.which=largest", r"which must be one of .* got 'largest'"),
        ("adjoint.strategy=foo", r"strategy must be"),
        ("adjoint.rtol=2", r"rtol must lie between 0 and 1, got 2"),
        ("solver.options.eps_max_it=many", r"PETSc takes, got eps_max_it = 'many'"),
        ("adjoint.options.pc_type=xyz", r"PETSc takes, got pc_type = 'xyz'"),
    ],
)
def test_wrong_solver_entry_is_an_error_of_the_study(tmp_path, comm, change, message):
    with pytest.raises(StudyError, match=message):
        run(study_folder(tmp_path), comm, change)


def test_matrix_that_is_not_hermitian_is_not_an_error_of_the_study():
    with pytest.raises(ga.NotHermitianError, match=r"worst") as caught, about_the_study():
        raise ga.NotHermitianError("worst entry")
    assert exit_codes.of_error(caught.value) == exit_codes.INPUT


def test_options_nobody_has_read_are_noted(tmp_path, comm, capsys):
    changes = ["solver.options.eps_tlo=1e-9", "adjoint.options.ksp_rtlo=1e-9"]
    path = study_folder(tmp_path)
    run(path, comm, *changes, "adjoint.strategy=ksp")
    notes = [f"PETSc options that nothing has read: {name}" for name in ("eps_tlo", "ksp_rtlo")]
    assert [note for note in result(tmp_path / "out")["notes"] if "nothing" in note] == notes
    capsys.readouterr()
    check_study(read_study(path, changes), comm)
    assert f"note: {notes[0]}, ksp_rtlo\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones(7), r"must hold one vector of 8 rows, got shape \(7,\)"),
        (np.ones(9), r"must hold one vector of 8 rows, got shape \(9,\)"),
        (np.ones((8, 1)), r"must hold one vector of 8 rows, got shape \(8, 1\)"),
        (np.array([{}]), r"shape.npy must be a NumPy file, got .*Python objects in dtype"),
        (np.full(8, np.nan), r"shape.npy must hold finite numbers, got nan in row 0"),
        (np.array(["a"] * 8), r"must hold one vector of 8 rows, got shape \(8,\) of <U1"),
    ],
)
def test_reference_shape_must_fit(tmp_path, comm, content, message):
    path = study_folder(tmp_path, objective('kind = "mode_shape"\nreference = "shape.npy"'))
    np.save(tmp_path / "shape.npy", content)
    with pytest.raises(ga.InputError, match=message):
        run(path, comm)


@pytest.mark.parametrize("content", [b"", b"text"])
def test_reference_that_is_no_array_is_refused(tmp_path, comm, content):
    path = study_folder(tmp_path, objective('kind = "mode_shape"\nreference = "shape.npy"'))
    (tmp_path / "shape.npy").write_bytes(content)
    with pytest.raises(ga.InputError, match=r"shape.npy must be a NumPy file"):
        run(path, comm)

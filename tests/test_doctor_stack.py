"""Packages that are missing, broken, or of different builds, and what doctor says."""

import os

import pytest
from findings_of_tests import bad, only

from geneig_adjoint.machine import parallel, stack
from geneig_adjoint.machine.probes import Probe

pytestmark = pytest.mark.usefixtures("forgetful")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put modules in front of the real ones."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def put(name, source=""):
        file = tmp_path / (name.replace(".", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)

    return put


ABI = "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')"
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
NO_PETSC = "raise ModuleNotFoundError(\"No module named 'petsc4py'\", name='petsc4py')"
PETSC = {
    "not installed": (NO_PETSC, "apt-get install python3-petsc4py-real"),
    "other NumPy": (ABI, "it was built for another NumPy: pip install 'numpy<2'"),
    "crash": (CRASH, "two builds of PETSc or MPI in one process, most likely: select one build"),
    "library": ("raise ImportError('libpetsc.so: cannot open')", "select one build with both"),
    "no build": (
        "raise ImportError(\"No module named 'petsc4py.lib.PETSc'\")", "select one build with both"
    ),
    "no NumPy": (
        "raise ImportError(\"No module named 'numpy'\")", "pip install 'numpy<2'"
    ),
}  # fmt: skip


@pytest.mark.failure("environment", through="api")
@pytest.mark.parametrize(("source", "remedy"), PETSC.values(), ids=PETSC)
def test_petsc_that_cannot_be_imported(fake, source, remedy):
    fake("petsc4py", source)
    found = only(stack.check_petsc())
    assert found.fatal
    assert found.remedy.startswith(remedy)
    assert only(stack.check_slepc()).verdict == "warns"  # the cause is said once


def test_petsc_that_hangs(monkeypatch):
    monkeypatch.setattr(stack, "petsc", lambda: Probe(failure="no end after 60 s"))
    assert only(stack.check_petsc()).remedy.startswith("MPI cannot start")


def build(monkeypatch, **changes):
    data = {"version": "3.18.5", "folder": "/x", "scalars": "real", "bits": 32,
            "precision": "float64", "packages": ["mumps", "cholmod"],
            "libraries": []}  # fmt: skip
    monkeypatch.setattr(stack, "petsc", lambda: Probe(data | changes))


@pytest.mark.parametrize(
    ("changes", "name", "remedy", "fatal"),
    [
        ({"packages": ["cholmod"]}, "MUMPS", "configure PETSc with --download-mumps", True),
        ({"packages": ["mumps"]}, "CHOLMOD", "configure with --download-suitesparse", False),
        ({"libraries": ["/lib/x/blas/libblas.so.3.11.0"]}, "BLAS", "apt-get install lib", False),
        ({"precision": "float32"}, "petsc4py", "configure PETSc --with-precision=double", True),
    ],
)
def test_build_of_petsc_that_lacks_something(monkeypatch, changes, name, remedy, fatal):
    build(monkeypatch, **changes)
    found = only(bad(stack.check_petsc()))
    assert (found.name, found.fatal) == (name, fatal)
    assert found.remedy.startswith(remedy)


@pytest.mark.parametrize("packages", [["mumps"], ["mumps", "cholmod"]])
def test_cholmod_is_for_real_scalars_only(monkeypatch, packages):
    build(monkeypatch, scalars="complex", packages=packages)
    found = stack.check_petsc()
    assert not bad(found)
    assert not any("CHOLMOD" in one.found for one in found)


def test_slepc_of_another_release_or_missing(fake, monkeypatch):
    build(monkeypatch, version="3.17.1")
    found = only(stack.check_slepc())
    assert found.fatal
    assert found.remedy == "install SLEPc and PETSc of the same release (3.18 with 3.18)"
    fake("slepc4py", "raise ModuleNotFoundError(\"No module named 'slepc4py'\")")
    assert only(stack.check_slepc()).remedy.startswith("apt-get install")


def test_two_builds_in_one_process_as_they_are(monkeypatch, scalar_build, tmp_path):
    """SLEPc of the other scalars: what it really says is recognised."""
    other = {"real": "complex", "complex": "real"}[scalar_build]
    chosen = os.environ.get("SLEPC_DIR", "")
    monkeypatch.setenv("SLEPC_DIR", chosen.replace(scalar_build, other))
    found = bad([*stack.check_selection(os.environ), *stack.check_slepc()])
    assert [one.fatal for one in found] == [True] * len(found)
    assert all("PETSC_DIR" in one.remedy for one in found)
    assert len(found) == 2 * (chosen != "")


SELECTIONS = {
    "one": ({"PETSC_DIR": "/x/petsc3.18/real"}, "only PETSC_DIR is set, to /x/petsc3.18/real"),
    "no folder": ({"PETSC_DIR": "/nowhere", "SLEPC_DIR": "/"}, "PETSC_DIR is no folder: /nowhere"),
}


@pytest.mark.parametrize(("environ", "text"), SELECTIONS.values(), ids=SELECTIONS)
def test_selection_of_half_a_build(environ, text):
    found = only(stack.check_selection(environ))
    assert found.fatal
    assert found.found == text


def test_selection_of_two_builds(tmp_path):
    folders = {}
    for name in ("petsc3.18/a-real", "slepc3.18/a-real", "slepc3.18/a-complex", "slepc3.19/a-real"):
        folders[name] = tmp_path / name
        folders[name].mkdir(parents=True)

    def verdict(second):
        given = {"PETSC_DIR": str(folders["petsc3.18/a-real"]), "SLEPC_DIR": str(folders[second])}
        return only(stack.check_selection(given)).verdict

    assert verdict("slepc3.18/a-real") == "ok"
    assert verdict("slepc3.18/a-complex") == "lacks"
    assert verdict("slepc3.19/a-real") == "lacks"
    assert only(stack.check_selection({})).verdict == "ok"


@pytest.mark.parametrize("names", [("petsc3.20", "slepc"), ("petsc-real", "slepc"), ("p", "s")])
def test_folders_whose_names_say_less_are_no_two_builds(tmp_path, names):
    given = {}
    for key, name in zip(("PETSC_DIR", "SLEPC_DIR"), names, strict=True):
        (tmp_path / name).mkdir()
        given[key] = str(tmp_path / name)
    assert only(stack.check_selection(given)).verdict == "ok"


@pytest.mark.parametrize(("name", "check"), [("numpy", "check_numpy"), ("h5py", "check_h5py")])
@pytest.mark.parametrize(
    ("source", "remedy"),
    [(ABI, "it was built for another NumPy"), ("raise ImportError('lost')", "pip install")],
)
def test_numpy_and_h5py_that_cannot_be_imported(fake, name, check, source, remedy):
    fake(name, source)
    found = bad(getattr(stack, check)())[0]
    assert found.name == name
    assert found.fatal
    assert found.remedy.startswith(remedy)


def test_mpi4py_missing_or_without_its_library(fake):
    fake("mpi4py", "raise ModuleNotFoundError(\"No module named 'mpi4py'\", name='mpi4py')")
    assert only(parallel.check_mpi4py()).remedy.startswith("apt-get install python3-mpi4py")
    parallel.mpi.cache_clear()
    fake("mpi4py", "raise ImportError('libmpi.so.40: cannot open shared object file')")
    found = only(parallel.check_mpi4py())
    assert found.fatal
    assert found.remedy.startswith("its MPI library cannot be loaded")

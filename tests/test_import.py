"""The package and its command line work where PETSc is missing, and say so when it is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from geneig_adjoint.io import write_attributes, written_hdf5

STACK = ("petsc4py", "slepc4py", "mpi4py")

# Runs first in the other interpreter: there it is as if the stack were not installed.
WITHOUT_STACK = f"""
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {STACK}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
HELP = """
import sys
from geneig_adjoint.cli import main
sys.argv = ["geneig-adjoint", "--help"]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
"""
REPORT_STACK = f"""
import sys
loaded = sorted(name for name in sys.modules if name.partition(".")[0] in {STACK})
assert not loaded, loaded
"""


def python(*parts: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(parts)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("action", ["import geneig_adjoint", HELP], ids=["import", "help"])
def test_stack_is_not_loaded_before_it_is_needed(action):
    result = python(action, REPORT_STACK)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "action",
    ["import geneig_adjoint", "import geneig_adjoint as ga; dir(ga)", HELP],
    ids=["import", "dir", "help"],
)
def test_works_without_the_stack(action):
    result = python(WITHOUT_STACK, action)
    assert result.returncode == 0, result.stderr


def test_results_are_read_without_the_stack(tmp_path):
    summary = {"run": "x", "objectives": {"f": 1.0}, "gradients": {}, "failures": {}}
    (tmp_path / "result.json").write_text(json.dumps(summary), encoding="utf-8")
    with written_hdf5(tmp_path / "result.h5") as file:
        write_attributes(file, format="geneig_adjoint results", version=1, run="x")
        file["values"] = [1.0, 2.0]
        file["parameters/a/b"] = [3.0]
    result = python(
        WITHOUT_STACK,
        "from geneig_adjoint.io import read_results",
        f"print(read_results({str(tmp_path)!r}).parameters)",
    )
    assert result.stdout == "{'a/b': array([3.])}\n", result.stderr


@pytest.mark.failure("missing package", through="api")
@pytest.mark.parametrize("name", ["solve_eigenproblem", "gradient", "Pencil"])
def test_public_name_says_which_package_is_missing_and_the_remedy(name):
    result = python(
        WITHOUT_STACK,
        "import geneig_adjoint as ga",
        f"try:\n    ga.{name}\nexcept ImportError as error:\n    print(error)",
    )
    assert result.returncode == 0, result.stderr
    assert any(package in result.stdout for package in STACK)
    assert "pip install 'geneig-adjoint[petsc]'" in result.stdout


def test_unknown_public_name_is_an_attribute_error():
    result = python("import geneig_adjoint as ga", "ga.solve_eigenproblm")
    assert result.returncode == 1
    assert "AttributeError" in result.stderr


def test_console_script_prints_help():
    script = Path(sys.executable).with_name("geneig-adjoint")
    result = subprocess.run(
        [script, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "usage: geneig-adjoint" in result.stdout

"""PETSc's own options reach the solvers of a run, and those that nothing reads are named."""

import os
import re
import sys
from pathlib import Path

import pytest
from study_files import PYTHON, result, study_folder

HERE = str(Path(__file__).parent)
SHOWN = {
    "-ga_eps_monitor": r"Eigenvalue approximations and residual norms for ga_ solve",
    "-log_view": r"\d: +adjoint: ",
    "-ga_eps_view": r"EPS Object: \(ga_\) 2 MPI processes\n  type: krylovschur",
    "-options_left": r"Option left: name:-ga_eps_mnoitor",
}


@pytest.fixture(scope="module")
def finished(mpirun, tmp_path_factory):
    """A run on two ranks with all these options and a misspelt one; the text it printed."""
    folder = tmp_path_factory.mktemp("options")
    path = study_folder(folder, PYTHON)
    words = ["run", str(path), "--", *SHOWN, "-ga_eps_mnoitor"]
    environment = f"PYTHONPATH={HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = ["env", environment, sys.executable, "-m", "geneig_adjoint", *words]
    done = mpirun(2, *command, timeout=40)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize("option", SHOWN)
def test_option_does_what_it_should(finished, option):
    assert re.search(SHOWN[option], finished[1]), finished[1]


def test_only_the_misspelt_option_is_named(finished):
    folder, text = finished
    note = "PETSc options that nothing has read: -ga_eps_mnoitor"
    assert re.findall(r"^note: (PETSc options .*)$", text, flags=re.MULTILINE) == [note]
    assert note in result(folder / "out")["notes"]

"""`geneig-adjoint doctor`: the table, the exit code, and what happens in imports."""

import json
import sys

import pytest
from findings_of_tests import only
from pencils import HAS_CHOLMOD
from test_import import WITHOUT_STACK, python

from geneig_adjoint.cli import main
from geneig_adjoint.machine import doctor, probes, resources, stack
from geneig_adjoint.machine.findings import Finding, safely, table
from geneig_adjoint.machine.probes import probe

pytestmark = pytest.mark.usefixtures("forgetful")


def test_whole_machine_is_well(capsys, scalar_build, monkeypatch):
    monkeypatch.setattr(resources, "LITTLE_MEMORY", 0.0)
    monkeypatch.setattr(resources, "LITTLE_SHARED", 0.0)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"{scalar_build} scalars, 32-bit indices" in said or "64-bit indices" in said
    lines = ("Python", "numpy", "scipy", "mpi4py", "mpirun", "MUMPS", "slepc4py", "h5py", "memory")
    assert all(f"\nok     {name} " in f"\n{said}" for name in lines), said
    assert "all that is needed is there" in said
    assert not (HAS_CHOLMOD and "lacks  CHOLMOD" in said)
    assert max(len(line) for line in said.splitlines() if "/" not in line) <= 100


def test_json_has_the_same_and_the_exit_code_says_if_something_needed_is_missing(
    capsys, monkeypatch
):
    missing = Finding("x", "lacks", "gone", "get it", needed=True)
    optional = Finding("y", "lacks", "gone")
    for found, code in (([missing, optional], 2), ([optional], 0)):
        monkeypatch.setattr(doctor, "examine", lambda found=found: found)
        assert main(["doctor", "--json"]) == code
        content = json.loads(capsys.readouterr().out)
        assert content["ok"] == (code == 0)
        assert content["findings"][-1] == {
            "name": "y", "verdict": "lacks", "found": "gone", "remedy": "", "needed": False,
        }  # fmt: skip
    assert table([missing, optional]).endswith("needed and not right: x")
    assert table([Finding("z", "warns", "w", "r")]).endswith("needed is there; 1 warnings")


def test_letters_that_a_terminal_cannot_show_are_escaped(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("disk", "ok", "/tmp/Größe")])
    assert main(["doctor"]) == 0
    assert "/tmp/Gr\\xf6\\xdfe" in capsys.readouterr().out


def test_works_without_any_package(tmp_path):
    # Neither the stack nor NumPy, which nothing on the way to `doctor` may import.
    numpy = tmp_path / "numpy.py"
    numpy.write_text("raise ImportError('broken')")
    start = (
        f"sys.path.insert(0, {str(tmp_path)!r})",
        "from geneig_adjoint.machine import doctor; doctor.CHECKS = doctor.CHECKS[:1]",
        "from geneig_adjoint.cli import main; sys.exit(main(['doctor']))",
    )
    finished = python(WITHOUT_STACK, *start)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("ok     Python")


def test_check_that_fails_is_a_finding():
    def check_of_something():
        raise KeyError("mine")

    found = only(safely(check_of_something))
    assert found.verdict == "warns"
    assert found.found == "could not be looked at: KeyError: 'mine'"


def test_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    found = only(stack.check_python())
    assert found.fatal
    assert found.remedy == "install Python 3.11 or newer"


PROBED = {
    "crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
    "other signal": ("import os; os.kill(os.getpid(), 40)", "crashed (signal 40)"),
    "hang": ("import time; time.sleep(60)", "no end after 1 s"),
    "error": ("raise ValueError('mine')", "ValueError: mine"),
    "exit": ("raise SystemExit(3)", "exit code 3"),
}


@pytest.mark.parametrize(("code", "failure"), PROBED.values(), ids=PROBED)
def test_what_happens_in_an_import_is_seen(code, failure):
    assert probe(code, seconds=1 if failure.startswith("no end") else 30).failure == failure


def test_probe_tells_what_it_found_though_it_crashes_in_the_end():
    code = "import atexit, os; atexit.register(os._exit, 3); found['x'] = 1; print('other')"
    assert probe(code).data == {"x": 1}


def test_probe_does_not_join_the_job_it_is_started_in(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    code = "import os; found['size'] = os.environ.get('OMPI_COMM_WORLD_SIZE')"
    assert probe(code).data == {"size": None}
    assert probe(code, in_the_job=True).data == {"size": "2"}


def test_programs_that_cannot_be_started():
    assert probes.run(["/nowhere"]) == "cannot be started: No such file or directory"

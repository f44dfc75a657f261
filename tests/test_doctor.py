"""`geneig-adjoint doctor`: every lack, provoked, has its line and its remedy."""

import json
import os
import sys
from pathlib import Path

import pytest
from test_import import WITHOUT_STACK, python

from geneig_adjoint.cli import main
from geneig_adjoint.machine import doctor, parallel, probes, resources, stack
from geneig_adjoint.machine.findings import Finding, safely, table
from geneig_adjoint.machine.probes import Probe, probe


@pytest.fixture(autouse=True)
def forgetful():
    """Imports are looked at once in a process; here in every test."""
    stack.petsc.cache_clear()
    parallel.mpi.cache_clear()
    yield
    stack.petsc.cache_clear()
    parallel.mpi.cache_clear()


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put modules in front of the real ones."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def put(name, source=""):
        file = tmp_path / (name.replace(".", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)

    return put


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program in front of all others in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    def put(name, *says):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in says))
        file.chmod(0o755)

    return put


def only(findings):
    (found,) = findings
    return found


def bad(findings):
    return [one for one in findings if one.verdict != "ok"]


def test_whole_machine_is_well(capsys, scalar_build, monkeypatch):
    monkeypatch.setattr(resources, "LITTLE_MEMORY", 0.0)
    monkeypatch.setattr(resources, "LITTLE_SHARED", 0.0)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"{scalar_build} scalars, 32-bit indices" in said or "64-bit indices" in said
    lines = ("Python", "numpy", "scipy", "mpi4py", "mpirun", "MUMPS", "slepc4py", "h5py", "memory")
    assert all(f"\nok     {name} " in f"\n{said}" for name in lines), said
    assert "all that is needed is there" in said
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
            "precision": "float64", "packages": ["mumps", "suitesparse"]}  # fmt: skip
    monkeypatch.setattr(stack, "petsc", lambda: Probe(data | changes))


@pytest.mark.parametrize(
    ("changes", "name", "remedy", "fatal"),
    [
        ({"packages": ["suitesparse"]}, "MUMPS", "configure PETSc with --download-mumps", True),
        ({"packages": ["mumps"]}, "CHOLMOD", "configure with --download-suitesparse", False),
        ({"precision": "float32"}, "petsc4py", "configure PETSc --with-precision=double", True),
    ],
)
def test_build_of_petsc_that_lacks_something(monkeypatch, changes, name, remedy, fatal):
    build(monkeypatch, **changes)
    found = only(bad(stack.check_petsc()))
    assert (found.name, found.fatal) == (name, fatal)
    assert found.remedy.startswith(remedy)


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


MPIRUNS = {
    "MPICH": ("HYDRA build details:", "lacks", "put Open MPI's mpirun first in PATH"),
    "Intel": ("Intel(R) MPI Library for Linux* OS", "lacks", "put Open MPI's mpirun first"),
    "unknown": ("mpirun of my own", "warns", "compare by hand"),
}


@pytest.mark.parametrize(("says", "verdict", "remedy"), MPIRUNS.values(), ids=MPIRUNS)
def test_mpirun_of_another_mpi(program, monkeypatch, says, verdict, remedy):
    monkeypatch.setattr(parallel, "mpi", lambda: Probe({"library": "Open MPI v4.1.4", "size": 1}))
    program("mpirun", says)
    found = only(parallel.check_mpirun())
    assert found.verdict == verdict
    assert found.remedy.startswith(remedy)


def test_mpirun_that_refuses_root(program, monkeypatch):
    monkeypatch.setattr(parallel, "mpi", lambda: Probe({"library": "Open MPI v4.1.4", "size": 1}))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program("mpirun", "mpirun (Open MPI) 4.1.4")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    assert only(parallel.check_mpirun()).verdict == "ok"
    monkeypatch.delenv("OMPI_ALLOW_RUN_AS_ROOT")
    assert only(parallel.check_mpirun()).remedy.startswith("export OMPI_ALLOW_RUN_AS_ROOT=1")


def test_no_mpirun_but_perhaps_srun(program, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert only(parallel.check_mpirun()).remedy.startswith("apt-get install openmpi-bin")
    program("srun")
    assert only(parallel.check_mpirun()).verdict == "ok"


def test_broken_mpirun(program, tmp_path):
    program("mpirun")
    (tmp_path / "bin" / "mpirun").write_text("#!/no/such/program\n")
    found = only(parallel.check_mpirun())
    assert found.verdict == "warns"
    assert "cannot be started" in found.found


def test_launch_by_another_mpi(monkeypatch):
    assert parallel.check_launch({}) == []
    # With PMI of MPICH, Open MPI believes to be alone: this is the real thing.
    monkeypatch.setenv("PMI_SIZE", "2")
    found = only(parallel.check_launch(os.environ))
    assert found.fatal
    assert found.found.startswith("all 2 processes must be one MPI job, got a world of 1")
    assert "(PMI_SIZE=2)" in found.found
    assert found.remedy.startswith("start with the mpirun of mpi4py's MPI")


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [(Probe({"size": 2}), "ok"), (Probe(failure="crashed (SIGSEGV)"), "lacks")],
)
def test_launch_that_is_well_or_does_not_start(monkeypatch, seen, verdict):
    monkeypatch.setattr(parallel, "mpi", lambda: Probe({"library": "Open MPI", "size": 1}))
    monkeypatch.setattr(parallel, "probe", lambda *_, **__: seen)
    assert only(parallel.check_launch({"PMI_SIZE": "2"})).verdict == verdict


def test_doctor_under_mpirun_prints_once(mpirun):
    code = (
        "from geneig_adjoint.machine import doctor, parallel, stack\n"
        "doctor.CHECKS = (stack.check_python, parallel.check_launch)\n"
        "import sys; from geneig_adjoint.cli import main; sys.exit(main(['doctor']))"
    )
    finished = mpirun(2, sys.executable, "-c", code, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("ok     Python") == 1
    assert "2 processes of one job by Open MPI's mpirun" in finished.stdout


THREADS = {
    "unset": ({}, "OMP_NUM_THREADS is not set", "export OMP_NUM_THREADS=1"),
    "others": ({"MKL_NUM_THREADS": "4"}, "is not set: MKL_NUM_THREADS=4", "export OMP_NUM"),
    "nonsense": ({"OMP_NUM_THREADS": "many"}, "not a number of threads", "export OMP_NUM_THREADS"),
    "too many": ({"OMP_NUM_THREADS": "8"}, "8 threads on 4 cores", "export OMP_NUM_THREADS=1"),
    "ranks": (
        {"OMP_NUM_THREADS": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "6"}, "6 threads on 4 cores",
        "start at most 4 processes here",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("environ", "text", "remedy"), THREADS.values(), ids=THREADS)
def test_threads(monkeypatch, environ, text, remedy):
    monkeypatch.setattr(parallel, "cores", lambda: 4.0)
    found = only(parallel.check_threads(environ))
    assert found.verdict == "warns"
    assert text in found.found
    assert found.remedy.startswith(remedy)
    assert only(parallel.check_threads({"OMP_NUM_THREADS": "2,1"})).verdict == "ok"


def test_cores_are_those_of_the_control_group(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    monkeypatch.setattr(parallel, "QUOTA", quota)
    assert parallel.cores() == 0.5
    quota.write_text("max 100000\n")
    assert parallel.cores() == len(os.sched_getaffinity(0))


def test_memory_that_is_limited(monkeypatch, tmp_path):
    limit, info = tmp_path / "memory.max", tmp_path / "meminfo"
    info.write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    monkeypatch.setattr(resources, "MEMINFO", info)
    monkeypatch.setattr(resources, "CGROUPS", (limit,))
    monkeypatch.setattr(resources.resource, "getrlimit", lambda _: (-1, -1))
    assert only(resources.check_memory()).found == "8.2 GB, 4.1 GB available"
    limit.write_text("500000000\n")
    found = only(resources.check_memory())
    assert found.verdict == "warns"
    assert found.found.endswith("limited by control group 0.5 GB")
    limit.write_text("max\n")
    monkeypatch.setattr(resources.resource, "getrlimit", lambda _: (2e8, 2e8))
    assert only(resources.check_memory()).found.endswith("limited by ulimit -v 0.2 GB")
    info.write_text("")
    assert "KeyError" in only(safely(resources.check_memory)).found


def test_disk_and_shared_memory(monkeypatch):
    monkeypatch.setattr(resources, "LITTLE_DISK", 1e9)
    monkeypatch.setattr(resources, "LITTLE_SHARED", 1e9)
    remedies = [one.remedy for one in resources.check_disk()]
    assert remedies[0].startswith("make room")
    assert remedies[1] == "in a container: --shm-size=1g"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(resources, "SHARED", Path("/nowhere"))
    found = only(resources.check_disk())
    assert found.found.endswith("not writable")


@pytest.mark.parametrize(
    ("limits", "remedy"),
    [
        ((8e6, 1024), ""),
        ((-1, -1), ""),
        ((1e6, 1024), "ulimit -s unlimited"),
        ((8e6, 64), "ulimit -n 1024"),
    ],
)
def test_limits(monkeypatch, limits, remedy):
    names = (resources.resource.RLIMIT_STACK, resources.resource.RLIMIT_NOFILE)
    given = dict(zip(names, limits, strict=True))
    monkeypatch.setattr(resources.resource, "getrlimit", lambda which: (given[which], -1))
    assert only(resources.check_limits()).remedy == remedy


def test_encoding(monkeypatch):
    monkeypatch.setattr(resources.sys, "getfilesystemencoding", lambda: "ascii")
    found = only(resources.check_encoding())
    assert found.verdict == "warns"
    assert found.remedy == "export LC_ALL=C.UTF-8 (or PYTHONUTF8=1)"


def test_optional_packages_that_are_missing_are_not_fatal(monkeypatch):
    monkeypatch.setitem(resources.OPTIONAL, "no-such-package", ("dreams", "dream"))
    first, found = resources.check_optional()
    assert "matplotlib" in first.found
    assert found.remedy == "pip install 'geneig-adjoint[dream]'"
    assert not found.fatal


def test_options_that_act_unseen(monkeypatch, tmp_path):
    monkeypatch.setattr(resources.Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert resources.check_variables({}) == []
    (tmp_path / ".petscrc").write_text("-log_view")
    found = only(resources.check_variables({"PETSC_OPTIONS": "-ksp_type cg"}))
    assert "PETSC_OPTIONS=-ksp_type cg" in found.found
    assert str(tmp_path / ".petscrc") in found.found


def test_programs_that_cannot_be_started():
    assert probes.run(["/nowhere"]) == "cannot be started: No such file or directory"

"""MPI, threads, memory, disk and limits that are not right, and what doctor says."""

import os
import sys
from pathlib import Path

import pytest
from findings_of_tests import only

from geneig_adjoint.machine import control_groups, memory, parallel, resources, stack
from geneig_adjoint.machine.findings import safely
from geneig_adjoint.machine.probes import Probe, probe

pytestmark = [pytest.mark.any_scalars, pytest.mark.usefixtures("forgetful")]


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


@pytest.fixture
def job(monkeypatch, tmp_path):
    """The folder of a control group in which this process seems to be."""
    (tmp_path / "self").write_text("0::/job/step\n")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "self")
    monkeypatch.setattr(control_groups, "MOUNT", tmp_path / "mount")
    folder = tmp_path / "mount" / "job"
    folder.mkdir(parents=True)
    return folder


def test_cores_are_those_of_the_control_group(job):
    quota = job / "cpu.max"
    quota.write_text("50000 100000\n")
    assert parallel.cores() == 0.5
    quota.write_text("max 100000\n")
    assert parallel.cores() == len(os.sched_getaffinity(0))


def test_memory_that_is_limited(monkeypatch, tmp_path, job):
    limit, info = job / "memory.max", tmp_path / "meminfo"
    info.write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    (job / "memory.current").write_text("1000\n")
    (job / "memory.stat").write_text("inactive_file 0\n")
    monkeypatch.setattr(memory, "MEMINFO", info)
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


def test_folder_that_was_removed(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = only(resources.check_disk())
    assert found.fatal
    assert found.remedy == "cd into one that exists"
    assert probe("found['x'] = 1").data == {"x": 1}
    monkeypatch.chdir(tmp_path)


def test_helper_of_open_mpi_that_is_not_in_path(tmp_path, monkeypatch):
    said = "[vm] Local abort before MPI_INIT completed completed successfully"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert parallel.lost_helper(said).startswith("put the folder of mpirun into PATH")
    assert stack.petsc_remedy(Probe(text=said)) == parallel.lost_helper(said)
    assert parallel.lost_helper("another failure") == ""
    helper = tmp_path / "orted"
    helper.touch(mode=0o755)
    assert parallel.lost_helper(said) == ""

"""MPI and threads: one MPI everywhere, one process per core."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from functools import cache

from geneig_adjoint.launches import alone_by_mistake, launched
from geneig_adjoint.machine import control_groups
from geneig_adjoint.machine.findings import LACKS, OK, WARNS, Finding
from geneig_adjoint.machine.probes import Probe, probe, run

MPI4PY = """
import mpi4py
from mpi4py import MPI
found.update(package=mpi4py.__version__, library=MPI.Get_library_version().strip('\\0 \\n'),
             size=MPI.COMM_WORLD.size)
"""
VENDORS = {
    "Open MPI": r"Open MPI|OpenRTE|Open RTE|PRRTE",
    "Intel MPI": r"Intel\(R\) MPI|Intel MPI",
    "MVAPICH": r"MVAPICH",
    "MPICH": r"MPICH|HYDRA",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


@cache
def mpi() -> Probe:
    """Import mpi4py, once, outside of any job."""
    return probe(MPI4PY)


def vendor(text: str) -> str:
    """Return whose MPI a version text names."""
    return next((name for name, known in VENDORS.items() if re.search(known, text)), "unknown")


def lost_helper(text: str) -> str:
    """Return the remedy where Open MPI's helper is not in PATH, empty for other failures."""
    if "before MPI_INIT completed" not in text or shutil.which("orted") or shutil.which("prted"):
        return ""
    return "put the folder of mpirun into PATH: Open MPI starts a helper (orted) from there"


def check_mpi4py() -> list[Finding]:
    """Import mpi4py and ask for its MPI."""
    seen = mpi()
    if seen.failure:
        missing = "No module named" in seen.text
        remedy = "apt-get install python3-mpi4py, or pip install mpi4py" if missing else (
            "its MPI library cannot be loaded: load the MPI it was built with, or "
            "pip install --force-reinstall --no-binary mpi4py mpi4py"
        )  # fmt: skip
        remedy = lost_helper(seen.text) or remedy
        return [Finding("mpi4py", LACKS, seen.failure, remedy, needed=True)]
    library = re.split(r"[,\n]", str(seen.data["library"]))[0]
    return [Finding("mpi4py", OK, f"{seen.data['package']}, {library.strip()}", needed=True)]


def check_mpirun() -> list[Finding]:
    """Compare the mpirun that PATH gives with mpi4py's MPI."""
    path = shutil.which("mpirun") or shutil.which("mpiexec")
    if path is None:
        other = shutil.which("srun")
        found = f"not in PATH{', but srun is: ' + other if other else ''}"
        remedy = "" if other else "apt-get install openmpi-bin, or load the MPI module of mpi4py"
        return [Finding("mpirun", OK if other else WARNS, found, remedy)]
    finished = run([path, "--version"], seconds=20)
    said = finished if isinstance(finished, str) else finished.stdout + finished.stderr
    theirs, own = vendor(said), vendor(str(mpi().data.get("library", "")))
    text = f"{path}: {theirs}"
    if theirs == "unknown":
        return [Finding("mpirun", WARNS, f"{path}: not known ({said[:80]!r})", "compare by hand")]
    if own not in {theirs, "unknown"}:
        found = f"{text}, but mpi4py uses {own}: every process would believe it is alone"
        remedy = f"put {own}'s mpirun first in PATH, or reinstall mpi4py with {theirs}"
        return [Finding("mpirun", LACKS, found, remedy, needed=True)]
    if theirs == "Open MPI" and os.geteuid() == 0 and "OMPI_ALLOW_RUN_AS_ROOT" not in os.environ:
        remedy = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
        return [Finding("mpirun", WARNS, f"{text}, which refuses to run as root", remedy)]
    return [Finding("mpirun", OK, text)]


def check_launch(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Ask whether the processes of the launcher that started this one are one MPI job."""
    count, launcher, _ = launched(environ)
    if count == 1 or mpi().failure:
        return []
    seen = probe(MPI4PY, in_the_job=True)
    if seen.failure:
        remedy = f"start with the mpirun of {vendor(str(mpi().data['library']))}"
        found = f"MPI does not start under {launcher}: {seen.failure}"
        return [Finding("launch", LACKS, found, remedy, needed=True)]
    wrong = alone_by_mistake(environ, int(seen.data["size"]))
    if wrong is not None:
        found, _, remedy = wrong.partition("; ")
        return [Finding("launch", LACKS, found, remedy, needed=True)]
    return [Finding("launch", OK, f"{seen.data['size']} processes of one job by {launcher}")]


def cores() -> float:
    """Return the cores this process may use: affinity and the limits of its control groups."""
    count = float(len(os.sched_getaffinity(0)))
    for quota in (folder / "cpu.max" for folder in control_groups.folders()):
        limit, _, period = (quota.read_text() if quota.is_file() else "").partition(" ")
        if limit.isdecimal():
            count = min(count, int(limit) / int(period))
    return count


def check_threads(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Compare threads times processes with the cores."""
    given = {name: environ[name] for name in THREADS if environ.get(name)}
    text = ", ".join(f"{name}={value}" for name, value in given.items())
    here = int(environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or environ.get("MPI_LOCALNRANKS") or 1)
    available = cores()
    where = f"{available:g} cores, {here} process{'es' if here > 1 else ''} on this node"
    remedy = "export OMP_NUM_THREADS=1: one process per core, threads of BLAS compete with them"
    if "OMP_NUM_THREADS" not in given:
        found = f"{where}; OMP_NUM_THREADS is not set{': ' + text if text else ''}"
        return [Finding("threads", WARNS, found, remedy)]
    first = given["OMP_NUM_THREADS"].split(",")[0].strip()
    if not first.isdecimal() or int(first) < 1:
        return [Finding("threads", WARNS, f"{where}; {text}: not a number of threads", remedy)]
    if here * int(first) > available:
        found = f"{where}; {text}: {here * int(first)} threads on {available:g} cores"
        less = remedy if int(first) > 1 else f"start at most {int(available) or 1} processes here"
        return [Finding("threads", WARNS, found, less)]
    return [Finding("threads", OK, f"{where}; {text}")]

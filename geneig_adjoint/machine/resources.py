"""Memory, disk, limits and encoding of this machine, and packages that are optional."""

from __future__ import annotations

import locale
import os
import resource
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from geneig_adjoint.machine import memory
from geneig_adjoint.machine.findings import LACKS, OK, WARNS, Finding

GB = 1e9
LITTLE_MEMORY, LITTLE_DISK, LITTLE_SHARED = 1.0, 1.0, 0.25
"""In GB: what is below is worth a word."""
FEW_FILES, SMALL_STACK = 256, 4e6
SHARED = Path("/dev/shm")
OPTIONAL = {
    "meshio": ("modes.vtu for ParaView", "mesh"),
    "matplotlib": ("geneig-adjoint plot", "plot"),
    "pyvista": ("pictures of bodies", "plot3d"),
    "jax": ("elements and maps in JAX", "jax"),
    "scikit-fem": ("its adapter", "mesh"),
}


def check_memory() -> list[Finding]:
    """Look at the machine's memory and at what limits this process."""
    text = memory.MEMINFO.read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    total, free = (int(lines[key].split()[0]) * 1024 / GB for key in ("MemTotal", "MemAvailable"))
    groups = [limit / GB for limit in memory.limits_of_groups() if limit / GB < total]
    limits = [f"control group {min(groups):.1f} GB"] if groups else []
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        limits.append(f"ulimit -v {soft / GB:.1f} GB")
    usable = min(memory.free_memory() or 0.0, memory.left_for_process()) / GB
    text = f"{total:.1f} GB, {free:.1f} GB available"
    text += "".join(f", limited by {name}" for name in limits)
    if usable < LITTLE_MEMORY:
        remedy = "end other programs, raise the limit of the job or container, or take more nodes"
        return [Finding("memory", WARNS, text, remedy)]
    return [Finding("memory", OK, text)]


def check_disk() -> list[Finding]:
    """Look at the current folder, where results go, and at the memory that ranks share."""
    try:
        here = Path.cwd()
    except OSError as error:
        gone = f"the current folder is gone: {error.strerror}"
        return [Finding("disk", LACKS, gone, "cd into one that exists", needed=True)]
    free = shutil.disk_usage(here).free / GB
    text = f"{here}: {free:.1f} GB free"
    found = Finding("disk", OK, text)
    if not os.access(here, os.W_OK):
        remedy = "choose an output.directory elsewhere"
        found = Finding("disk", WARNS, f"{text}, not writable", remedy)
    elif free < LITTLE_DISK:
        found = Finding("disk", WARNS, text, "make room, or choose an output.directory elsewhere")
    if not SHARED.is_dir():
        return [found]
    shared = shutil.disk_usage(SHARED).free / GB
    text = f"{SHARED}: {shared:.2f} GB free, for messages between ranks"
    if shared < LITTLE_SHARED:
        remedy = "in a container: --shm-size=1g"
        return [found, Finding("shared memory", WARNS, text, remedy)]
    return [found, Finding("shared memory", OK, text)]


def check_limits() -> list[Finding]:
    """Look at the stack and at open files."""
    stack, files = (
        resource.getrlimit(which)[0] for which in (resource.RLIMIT_STACK, resource.RLIMIT_NOFILE)
    )
    unlimited = resource.RLIM_INFINITY
    shown = "unlimited" if stack == unlimited else f"{stack / 1e6:.1f} MB"
    text = f"stack {shown}, {'unlimited' if files == unlimited else files} open files"
    if stack != unlimited and stack < SMALL_STACK:
        return [Finding("limits", WARNS, text, "ulimit -s unlimited")]
    if files != unlimited and files < FEW_FILES:
        return [Finding("limits", WARNS, text, "ulimit -n 1024")]
    return [Finding("limits", OK, text)]


def check_encoding() -> list[Finding]:
    """Look at the encodings of names and texts."""
    found = {
        "files": sys.getfilesystemencoding(),
        "texts": locale.getpreferredencoding(False),
        "output": getattr(sys.stdout, "encoding", None) or "none",
    }
    text = ", ".join(f"{what} {name}" for what, name in found.items())
    plain = {name.lower().replace("-", "").replace("_", "") for name in found.values()}
    if plain <= {"utf8", "none"}:
        return [Finding("encoding", OK, text)]
    return [Finding("encoding", WARNS, text, "export LC_ALL=C.UTF-8 (or PYTHONUTF8=1)")]


def check_optional() -> list[Finding]:
    """Look for packages that only some commands need; they are not imported."""
    there, missing = [], []
    for name, (use, extra) in OPTIONAL.items():
        try:
            there.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            remedy = f"pip install 'geneig-adjoint[{extra}]'"
            missing.append(Finding(name, LACKS, f"not installed, for {use}", remedy))
    return [Finding("optional packages", OK, ", ".join(there) or "none"), *missing]


def check_variables(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look for options that act on every PETSc program without being seen."""
    options = environ.get("PETSC_OPTIONS", "").strip()
    home = Path.home() / ".petscrc"
    hidden = [f"PETSC_OPTIONS={options}"] if options else []
    hidden += [str(path) for path in (home, Path(".petscrc")) if path.is_file()]
    if not hidden:
        return []
    text = f"in force for every PETSc program: {', '.join(hidden)}"
    return [Finding("PETSc options", WARNS, text, "remove what is not meant for this package")]

"""The Python packages a study needs: do they import, are they one build, do they fit?"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from geneig_adjoint.machine.findings import LACKS, OK, WARNS, Finding
from geneig_adjoint.machine.parallel import lost_helper
from geneig_adjoint.machine.probes import Probe, probe

PYTHON = (3, 11)
INSTALL = (
    "apt-get install python3-petsc4py-real python3-petsc4py-complex python3-slepc4py-real "
    "python3-slepc4py-complex (Debian), or pip install petsc4py slepc4py"
)
SELECT = (
    "select one build with both PETSC_DIR and SLEPC_DIR (in this repository: . docker/env.sh real)"
)
PACKAGES = ("mumps", "cholmod", "superlu_dist", "hypre", "metis", "parmetis", "ptscotch")

OTHER_NUMPY = (
    "dtype size changed",
    "compiled using NumPy 1",
    "_ARRAY_API not found",
    "multiarray failed to import",
    "module compiled against ABI",
    "compiled against API",
)
"""Parts of what a package says that was built for another NumPy."""

PETSC = f"""
import pathlib
import numpy, petsc4py
petsc4py.init(['doctor'])
from petsc4py import PETSc
found.update(
    version='.'.join(map(str, PETSc.Sys.getVersion())), folder=petsc4py.get_config()['PETSC_DIR'],
    scalars='complex' if numpy.dtype(PETSc.ScalarType).kind == 'c' else 'real',
    bits=numpy.dtype(PETSc.IntType).itemsize * 8, precision=str(numpy.dtype(PETSc.RealType)),
    packages=[name for name in {PACKAGES!r} if PETSc.Sys.hasExternalPackage(name)
              or name == 'cholmod' and PETSc.Sys.hasExternalPackage('suitesparse')])
maps = pathlib.Path('/proc/self/maps')
loaded = maps.read_text().split() if maps.is_file() else []
found['libraries'] = sorted(set(word for word in loaded if word.startswith('/')))
"""
SLEPC = """
import slepc4py
slepc4py.init(['doctor'])
from slepc4py import SLEPc
SLEPc.EPS().create().destroy()
found.update(version='.'.join(map(str, SLEPc.Sys.getVersion())), folder=SLEPc.__file__)
"""
H5PY = """
import h5py, numpy
found.update(version=h5py.__version__, hdf5=h5py.version.hdf5_version, mpi=h5py.get_config().mpi)
with h5py.File('probe', 'w', driver='core', backing_store=False) as file:
    file['x'] = numpy.arange(3.0)
"""


@cache
def petsc() -> Probe:
    """Import petsc4py, once."""
    return probe(PETSC)


def check_python() -> list[Finding]:
    """Look at the interpreter."""
    text = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        return [Finding("Python", LACKS, text, f"install Python {wanted} or newer", needed=True)]
    return [Finding("Python", OK, text, needed=True)]


def check_selection(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at PETSC_DIR and SLEPC_DIR: both or neither, of one build."""
    name = "PETSC_DIR, SLEPC_DIR"
    folders = {key: environ.get(key, "") for key in ("PETSC_DIR", "SLEPC_DIR")}
    given = {key: folder for key, folder in folders.items() if folder}
    if not given:
        return [Finding(name, OK, "neither is set: the packages' own build")]
    if len(given) == 1:
        (key, folder), *_ = given.items()
        return [Finding(name, LACKS, f"only {key} is set, to {folder}", SELECT, needed=True)]
    for key, folder in given.items():
        if not Path(folder).is_dir():
            found = f"{key} is no folder: {folder}"
            return [Finding(name, LACKS, found, SELECT, needed=True)]
    facts = zip(*map(_build, given.values()), strict=True)
    found = ", ".join(given.values())
    if any(one and other and one != other for one, other in facts):
        found = f"two different builds: {found}"
        return [Finding(name, LACKS, found, SELECT, needed=True)]
    return [Finding(name, OK, found)]


def _build(folder: str) -> tuple[str, str]:
    """Return version and scalars if the folder's name gives them, as Debian's do."""
    version = re.search(r"(?:petsc|slepc)(\d+\.\d+)", folder)
    scalars = re.search(r"real|complex", Path(folder).name)
    return (version[1] if version else "", scalars[0] if scalars else "")


def check_numpy() -> list[Finding]:
    """Import NumPy and SciPy."""
    found = []
    for name, code in (("numpy", "numpy"), ("scipy", "scipy, scipy.linalg")):
        seen = probe(f"import {code}\nfound['version'] = {name}.__version__")
        if seen.failure:
            remedy = abi_remedy(seen) or f"pip install --force-reinstall {name}"
            found.append(Finding(name, LACKS, seen.failure, remedy, needed=True))
        else:
            found.append(Finding(name, OK, str(seen.data["version"]), needed=True))
    return found


def abi_remedy(seen: Probe) -> str:
    """Return the remedy for a package built for another NumPy, empty for other failures."""
    text = seen.text + seen.failure
    if not any(sign in text for sign in OTHER_NUMPY):
        return ""
    return (
        "it was built for another NumPy: pip install 'numpy<2' (Debian's petsc4py and h5py need "
        "NumPy 1), or build it again with this NumPy"
    )


def check_petsc() -> list[Finding]:
    """Import petsc4py and ask what it was built with."""
    seen = petsc()
    if seen.failure:
        return [Finding("petsc4py", LACKS, seen.failure, petsc_remedy(seen), needed=True)]
    data = seen.data
    found = f"PETSc {data['version']}, {data['scalars']} scalars, {data['bits']}-bit indices"
    first = Finding("petsc4py", OK, f"{found}, {data['folder']}", needed=True)
    if data["precision"] != "float64":
        first = Finding(
            "petsc4py", LACKS, f"{found}, {data['precision']}",
            "configure PETSc --with-precision=double", needed=True,
        )  # fmt: skip
    return [first, *_factorisations(data["packages"], data["scalars"]), *_blas(data["libraries"])]


def _blas(libraries: list[str]) -> list[Finding]:
    """Tell the reference BLAS from others; NumPy and SciPy have their own."""
    own = [Path(path) for path in libraries if not re.search(r"(numpy|scipy)\.libs/", path)]
    # Debian has a libblas in a folder of every implementation.
    slow = [path for path in own if path.parent.name == "blas" and path.name.startswith("libblas.")]
    if slow:
        found = f"the reference one, {slow[0]}: factors take several times as long"
        remedy = "apt-get install libopenblas0-serial (Debian), or an optimised BLAS of your system"
        return [Finding("BLAS", WARNS, found, remedy)]
    names = sorted({path.name for path in own if re.search(r"blas|mkl|blis|armpl", path.name)})
    return [Finding("BLAS", OK, ", ".join(names) or "inside of PETSc's own library")]


def petsc_remedy(seen: Probe) -> str:
    """Return what to do when petsc4py or slepc4py does not import."""
    text = seen.text + seen.failure
    if re.search(r"No module named '?numpy", text):
        return "pip install 'numpy<2'"
    if re.search(r"No module named '?(petsc4py|slepc4py)'?\s*$", text, re.M):
        return INSTALL
    if abi_remedy(seen) or lost_helper(text):
        return abi_remedy(seen) or lost_helper(text)
    if "crashed" in seen.failure or "already registered" in text:
        return (
            "two builds of PETSc or MPI in one process, most likely: " + SELECT + ", and use one "
            "MPI for mpi4py, petsc4py and slepc4py"
        )
    if "no end after" in seen.failure:
        return "MPI cannot start: look at the network settings of your MPI, try it on another node"
    return SELECT


def _factorisations(packages: list[str], scalars: str) -> list[Finding]:
    found = []
    if "mumps" in packages:
        found.append(Finding("MUMPS", OK, "factorisations on any number of ranks", needed=True))
    else:
        found.append(
            Finding(
                "MUMPS",
                LACKS,
                "PETSc was built without it: no factor, no shift-and-invert",
                "configure PETSc with --download-mumps --download-scalapack",
                needed=True,
            )
        )
    others = {
        "cholmod": ("CHOLMOD", "--download-suitesparse", "faster factors on one rank"),
        "superlu_dist": ("SuperLU_DIST", "--download-superlu_dist", "another parallel LU"),
        "hypre": ("hypre", "--download-hypre", "multigrid; not for complex scalars"),
        "metis": ("METIS", "--download-metis", "orderings"),
        "ptscotch": ("PT-Scotch", "--download-ptscotch", "orderings in parallel"),
    }
    if scalars == "complex":  # its interface in PETSc has real matrices only
        del others["cholmod"]
    there = [name for key, (name, _, _) in others.items() if key in packages]
    found.append(Finding("other libraries", OK, ", ".join(there) or "none of those known here"))
    if "cholmod" in others.keys() - set(packages):
        name, option, use = others["cholmod"]
        found.append(Finding(name, LACKS, f"not in PETSc: {use}", f"configure with {option}"))
    return found


def check_slepc() -> list[Finding]:
    """Import slepc4py and compare it with petsc4py."""
    if petsc().failure:
        return [Finding("slepc4py", WARNS, "not looked at: petsc4py comes first", "see petsc4py")]
    seen = probe(SLEPC)
    if seen.failure:
        return [Finding("slepc4py", LACKS, seen.failure, petsc_remedy(seen), needed=True)]
    versions = [str(data["version"]).rsplit(".", 1)[0] for data in (seen.data, petsc().data)]
    text = f"SLEPc {seen.data['version']}, {seen.data['folder']}"
    if versions[0] != versions[1]:
        text += f", but PETSc {petsc().data['version']}"
        remedy = "install SLEPc and PETSc of the same release (3.18 with 3.18)"
        return [Finding("slepc4py", LACKS, text, remedy, needed=True)]
    return [Finding("slepc4py", OK, text, needed=True)]


def check_h5py() -> list[Finding]:
    """Import h5py and write into memory."""
    seen = probe(H5PY)
    if seen.failure:
        remedy = abi_remedy(seen) or "pip install h5py"
        return [Finding("h5py", LACKS, seen.failure, remedy, needed=True)]
    kind = "with MPI" if seen.data["mpi"] else "serial (all that is needed)"
    text = f"{seen.data['version']}, HDF5 {seen.data['hdf5']}, {kind}"
    return [Finding("h5py", OK, text, needed=True)]

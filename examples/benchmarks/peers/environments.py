"""The environments of the peers: one virtual environment each, made by pip; standard library."""

import os
import subprocess
from pathlib import Path

REQUIREMENTS = {
    "scipy": ["numpy==2.2.*", "scipy==1.17.*"],
    # Newer versions of SciPy lack a private class that eigd imports.
    "eigd": ["numpy==2.2.*", "scipy==1.14.1", "eigd==1.0.0"],
    "eigd-cholmod": ["numpy==2.2.*", "scipy==1.14.1", "eigd==1.0.0", "scikit-sparse==0.4.15"],
    "pymoto": ["numpy==2.2.*", "scipy==1.17.*", "pyMOTO==2.0.1"],
    "pymoto-pardiso": ["numpy==2.2.*", "scipy==1.17.*", "pyMOTO==2.0.1", "mkl==2026.*"],
}
PYTHON = "/usr/bin/python3"


def own_error():
    """Return why this process cannot measure this package itself, with a remedy; None: it can."""
    remedy = "use `bash examples/benchmarks/run.sh`, or first `. docker/env.sh real`"
    try:
        from petsc4py import PETSc

        import geneig_adjoint  # noqa: F401
    except ImportError as error:
        return f"this Python must have geneig_adjoint and petsc4py, got: {error}; {remedy}"
    if issubclass(PETSc.ScalarType, complex):
        return f"the comparison is one of real matrices, got the complex PETSc; {remedy}"
    return None


def default_folder():
    """Return a folder of the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "geneig_adjoint-benchmarks"


def interpreter(folder, peer):
    """Return the Python of a peer's environment, made where it is missing, or why it cannot be.

    Returns
    -------
    tuple of Path or None, and str
        The interpreter; else None and a remedy.

    """
    place = Path(folder) / peer
    python, stamp = place / "bin" / "python", place / ".installed"
    wanted = "\n".join(REQUIREMENTS[peer])
    if stamp.exists() and stamp.read_text() == wanted:
        return python, ""
    if peer == "eigd-cholmod" and not Path("/usr/include/suitesparse/cholmod.h").exists():
        return None, "scikit-sparse needs CHOLMOD: apt-get install libsuitesparse-dev gcc libc6-dev"
    print(f"making the environment of {peer} in {place}", flush=True)
    commands = [
        [PYTHON, "-m", "venv", "--clear", str(place)],
        [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        + REQUIREMENTS[peer],
    ]
    for command in commands:
        # The variables of this process's environment are not those of the new one.
        clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        done = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            return None, f"{' '.join(command[1:4])} failed: {' '.join(last)}"
    stamp.write_text(wanted)
    return python, ""

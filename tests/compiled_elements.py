"""The elements of jax_elements.py compiled from C and Fortran, and what the tests do with them."""

import subprocess
from pathlib import Path

import numpy as np

import geneig_adjoint as ga

HERE = Path(__file__).parent
VALUES = {"area": 2, "length": 1}
COMPILERS = {
    "C": ("cc", "compiled_truss.c", "-lm"),
    "Fortran": ("gfortran", "compiled_truss.f90", "-J."),
}


def compiled(language, folder):
    """Compile the elements in a language into a folder; return the library's path."""
    compiler, source, last = COMPILERS[language]
    path = Path(folder) / f"{language}.so"
    command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, HERE / source]
    subprocess.run([*command, last], cwd=folder, check=True, timeout=60)
    return path


def truss(library, angle, name="truss", **options):
    """Return the kernel of a library's truss elements."""
    return ga.CompiledKernel(library, name, 3, VALUES, {"angle": angle}, **options)


def numpy_pair(k, base):
    """Return (0.01 + k^2) base as a pair, for a complex step."""
    scale = (0.01 + k**2)[:, None, None]
    return scale * base.real, scale * base.imag


def numpy_tangent(values, dots, base):
    return (2 * values["k"] * dots["k"])[:, None, None] * base


def spring_kernels(library, base, count):
    """Return kernels of (0.01 + k^2) base, for a real or complex base, by name."""
    bases = np.repeat(base[None], count, axis=0)
    if np.iscomplexobj(base):
        parts = {"re": bases.real, "im": bases.imag}
        found = {"C": ga.CompiledKernel(library, "damper", 2, {"k": 1}, parts, complex)}
    else:
        found = {"C": ga.CompiledKernel(library, "spring", 2, {"k": 1}, {"base": bases})}
    pair = ga.NumpyKernel(numpy_pair, {"base": bases})
    own = ga.NumpyKernel(
        lambda k, base: (0.01 + k**2)[:, None, None] * base, {"base": bases}, numpy_tangent
    )
    return found | ({"pair": pair} if np.iscomplexobj(base) else {}) | {"tangent": own}

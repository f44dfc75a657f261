"""`enzyme_kernel`: an element routine in C or C++ that Enzyme differentiates."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.compiled_kernels import CompiledKernel
from geneig_adjoint.errors import InputError, MissingPackageError

MODULE = "enzyme_ad.jax.enzyme_call"
PREFIX = "geneig_adjoint_"


def enzyme_kernel(
    source: str | os.PathLike[str],
    name: str,
    size: int,
    values: Mapping[str, int],
    data: Mapping[str, Block] | None = None,
    *,
    dtype: type = float,
    flags: Sequence[str] = ("-O2",),
) -> CompiledKernel:
    """Return the kernel of a routine in C or C++ with derivatives by Enzyme.

    Not collective; every rank compiles for itself, which takes about a second. Enzyme
    differentiates what the compiler has made of the routine, in forward and in reverse mode:
    branches, loops, functions of the same file and of ``math.h``, exactly up to rounding. What
    the file calls and does not contain must be known to Enzyme.

    Parameters
    ----------
    source
        File with the routine, compiled as C++20 (C that is valid C++). Headers of the system's
        C compiler are found, those of its C++ library where that is installed.
    name, size, values, data, dtype
        As of `CompiledKernel`; only the routine ``name`` itself is needed, and for
        ``dtype=complex`` it writes pairs of doubles.
    flags
        For the compiler inside Enzyme, clang's own ``-cc1`` options.

    Raises
    ------
    MissingPackageError
        When the package enzyme-ad 0.0.16 is not installed.
    InputError
        When the file cannot be compiled or differentiated; the compiler's messages are on the
        standard error.

    """
    path = Path(source)
    if not path.is_file():
        raise InputError(
            f"the source of an enzyme_kernel must be a file, got {os.fspath(source)!r}; correct "
            "the path"
        )
    arrays = dict(data or {})
    widths = [int(np.prod(np.shape(array)[1:])) for array in arrays.values()]
    entries = size**2 * (2 if dtype is complex else 1)
    wrapped = _wrapped(name, list(values.values()), widths, entries)
    addresses = _addresses(path.read_text() + wrapped, [*flags, *_headers()], path)
    names = (name, name + "_tangent", name + "_vjp")
    found = dict(zip(names, addresses, strict=True))
    return CompiledKernel(found, name, size, values, arrays, dtype)


def _wrapped(name: str, values: list[int], data: list[int], entries: int) -> str:
    """Return C++ that differentiates a routine element by element, and tells where it is."""
    inputs = [f"const double *v{i}" for i in range(len(values))]
    inputs += [f"const double *d{i}" for i in range(len(data))]
    one = ", ".join(["1", *(part.split("*")[1] for part in inputs), "K"])
    bars = [f"double *w{i}" for i in range(len(values))]
    dots = [f"const {bar}" for bar in bars]
    pairs = "".join(
        f"enzyme_dup, v{i} + {q} * e, w{i} + {q} * e, " for i, q in enumerate(values)
    ) + "".join(f"enzyme_const, d{i} + {q} * e, " for i, q in enumerate(data))

    def loop(mode: str, arguments: list[str], shadow: str, seed: str) -> str:
        signature = f"{PREFIX}{mode}({', '.join(['int count', *inputs, *arguments])})"
        routine = f"(void *){PREFIX}one, enzyme_const, &status"
        call = f"__enzyme_{mode}({routine}, {pairs}enzyme_dup, K, {shadow})"
        return _loop(signature, call, entries, seed)

    return f"""
extern int enzyme_dup, enzyme_const;
extern "C" void __enzyme_fwddiff(void *, ...);
extern "C" void __enzyme_autodiff(void *, ...);
static void {PREFIX}one({", ".join(["int *status", *inputs, "double *K"])})
{{
    *status = {name}({one});
}}
{loop("fwddiff", [*dots, "double *K_dot"], f"K_dot + {entries} * e", "0")}
{loop("autodiff", ["const double *K_bar", *bars], "B", f"K_bar[{entries} * e + i]")}
template <class Results, class Nothing>
void {PREFIX}addresses(Results &found, const Nothing &)
{{
    const void *all[3] = {{(void *){name}, (void *){PREFIX}fwddiff, (void *){PREFIX}autodiff}};
    for (int i = 0; i < 3; ++i) __builtin_memcpy(&found[i], all + i, sizeof(void *));
}}
"""


def _loop(signature: str, derivative: str, entries: int, seed: str) -> str:
    """Return C++ that differentiates K of one element after the other.

    signature: name and arguments; derivative: the call, for ``e``; seed: of the shadow B.
    """
    return f"""
int {signature}
{{
    double *K = (double *)__builtin_malloc({2 * entries} * sizeof(double)), *B = K + {entries};
    int status = 0;
    for (long e = 0; e < count && status == 0; ++e) {{
        for (int i = 0; i < {entries}; ++i) {{ K[i] = 0; B[i] = {seed}; }}
        {derivative};
        if (status != 0) status = e + 1;
    }}
    __builtin_free(K);
    return status;
}}"""


def _addresses(text: str, flags: list[str], path: Path) -> list[int]:
    """Compile; return the addresses of the routine, its tangent and its vjp."""
    enzyme = _enzyme()
    # What is compiled finds what the program has made public: here new and delete.
    ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)
    try:
        identifier, _ = enzyme.create_enzyme_kernel(
            text,
            PREFIX + "addresses",
            [("double", [3])],
            [("double", [1])],
            tuple(flags),
            enzyme.ABI.Primal,
            enzyme.Language.CPP,
            False,
            "",
            "cpu",
        )
    except ValueError as error:
        raise InputError(
            f"Enzyme must be able to compile and differentiate {os.fspath(path)!r} as C++, got "
            f"{str(error).strip()}; its messages are on the standard error"
        ) from error
    results = np.zeros(3, dtype=np.int64)
    numbers, nothing = np.array([identifier], dtype=np.int64), np.zeros(1)
    arguments = (ctypes.c_void_p * 2)(numbers.ctypes.data, nothing.ctypes.data)
    # The calling convention of XLA's custom calls: one result, an array of arguments.
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(
        _pointer_of(enzyme.get_callback())
    )
    call(results.ctypes.data, ctypes.addressof(arguments))
    return [int(address) for address in results]


def _pointer_of(capsule: Any) -> int:
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule)))


def _enzyme() -> ModuleType:
    """Return the compiled part of enzyme-ad alone: the rest needs another JAX than Debian's."""
    if MODULE in sys.modules:
        return sys.modules[MODULE]
    package = importlib.util.find_spec("enzyme_ad")
    folders = package.submodule_search_locations if package else None
    for folder in folders or []:
        path = Path(folder) / "jax" / "enzyme_call.so"
        spec = importlib.util.spec_from_file_location(MODULE, path)
        if path.exists() and spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            sys.modules[MODULE] = module
            return module
    raise MissingPackageError(
        "an enzyme_kernel needs enzyme-ad, which cannot be found; pip install --no-deps "
        "enzyme-ad==0.0.16 (123 MB; what it depends on is not needed here)",
        name="enzyme_ad",
    )


def _headers() -> list[str]:
    """Return options for the folders in which the system's compiler looks for headers."""
    for language in ("c++", "c"):
        command = ["cc", "-E", "-v", "-x", language, os.devnull]
        try:
            found = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        _, _, rest = found.stderr.partition("#include <...> search starts here:")
        folders = rest.partition("End of search list.")[0].split()
        return [option for folder in folders for option in ("-internal-isystem", folder)]
    return []

"""Routines of shared libraries that take a number of elements and pointers to doubles."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError

GUARD = 4096
"""Doubles behind every result of the first call, where a routine for larger elements writes."""
SENTINEL = -1.2345678987654321e-300

FUNCTIONS: tuple[type[Any], ...] = (ctypes.CFUNCTYPE(None).__mro__[1], ctypes.c_void_p)
"""Types of pointers: the base of all functions of ctypes has no public name."""

COMPILE = "cc -O2 -shared -fPIC -o element.so element.c"


class Routine:
    """``int name(int count, const double *input, ..., double *output, ...)``.

    Parameters
    ----------
    name
        For errors.
    address
        Where it is.
    pointers : int
        Number of arguments behind the first one.

    """

    def __init__(self, name: str, address: int, pointers: int) -> None:
        self.name = name
        # Called with the GIL released.
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * pointers)
        self._function = kind(address)
        self._tried = False

    def __call__(
        self, count: int, inputs: Sequence[Block], shapes: Sequence[tuple[int, ...]]
    ) -> tuple[int, list[Block]]:
        """Return the status and the results for ``count`` elements.

        Parameters
        ----------
        count
            Elements, at least one.
        inputs
            Contiguous arrays of doubles, the element as leading axis.
        shapes
            Of the results of one element.

        Raises
        ------
        InputError
            When the routine writes more than these for one element.

        """
        if not self._tried:
            # One element with room behind: many of them would spoil the memory of others.
            self._try(inputs, shapes)
            self._tried = True
        outputs = [np.zeros((count, *shape)) for shape in shapes]
        return self._run(count, inputs, outputs), outputs

    def _run(self, count: int, inputs: Sequence[Block], outputs: Sequence[Block]) -> int:
        pointers = [array.ctypes.data for array in (*inputs, *outputs)]
        return int(self._function(count, *pointers))

    def _try(self, inputs: Sequence[Block], shapes: Sequence[tuple[int, ...]]) -> None:
        sizes = [int(np.prod(shape)) for shape in shapes]
        outputs = [np.zeros(size + GUARD) for size in sizes]
        for output, size in zip(outputs, sizes, strict=True):
            output[size:] = SENTINEL
        self._run(1, inputs, outputs)
        for output, size in zip(outputs, sizes, strict=True):
            beyond = np.flatnonzero(output[size:] != SENTINEL)
            if beyond.size:
                raise InputError(
                    f"the routine {self.name!r} must write {size} doubles for one element, got "
                    f"{size + int(beyond[-1]) + 1}; correct size, values or dtype of the "
                    "CompiledKernel, or the routine"
                )


def load_library(library: Any) -> Any:
    """Return a library: a path is loaded, anything else is one already.  (Not collective.)"""
    if not isinstance(library, str | os.PathLike):
        return library
    path = os.fspath(library)
    try:
        # The loader looks for names without a folder elsewhere than here.
        return ctypes.CDLL(os.path.abspath(path) if os.path.exists(path) else path)
    except OSError as error:
        raise InputError(
            f"the library of a CompiledKernel must be one that can be loaded, got {path!r} "
            f"({error}); compile it: {COMPILE}"
        ) from error


def find_address(library: Any, name: str) -> int | None:
    """Return where a library has a routine, None without one.  (Not collective.)"""
    found = library.get(name) if isinstance(library, Mapping) else getattr(library, name, None)
    if found is None:
        return None
    address = _address(found)
    if not address:
        raise InputError(
            f"the routine {name!r} must be a function of ctypes, a pointer of cffi or an address, "
            f"got {found!r}; of a module that cffi compiled pass "
            f"{{{name!r}: ffi.addressof(lib, {name!r})}} as library"
        )
    return address


def _address(found: Any) -> int:
    """Return the address that a pointer to a function holds, 0 if it is none."""
    if isinstance(found, int):
        return found
    if isinstance(found, FUNCTIONS):
        return ctypes.cast(found, ctypes.c_void_p).value or 0
    if type(found).__module__ != "_cffi_backend":
        return 0
    ffi = importlib.import_module("_cffi_backend").FFI()
    try:
        kind = ffi.typeof(found)
    except TypeError:  # a function of a module that cffi compiled, not a pointer to it
        return 0
    is_pointer = kind.kind == "function" or kind is ffi.typeof("void *")
    return int(ffi.cast("uintptr_t", found)) if is_pointer else 0

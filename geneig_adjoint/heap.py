"""Memory that goes back to the system when it is freed.

A library that PETSc may be linked to, SuperLU_DIST, tells the C library as it is loaded to take
large blocks from the heap and to keep what is freed. A factor then leaves a hole there that the
next one, a little larger, does not fit into, and the process only grows.
"""

from __future__ import annotations

import ctypes
import os

LARGE = 32 << 20
"""Bytes from which a block is mapped: what the C library itself goes up to."""
MAPPED_BLOCKS = 65536
"""Their largest number, again the C library's own."""
MMAP_MAX, MMAP_THRESHOLD = -4, -3
"""Parameters of mallopt, as malloc.h numbers them."""
VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""By which users of the C library choose for themselves."""
COUNTS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in COUNTS.split()]


def give_back_large_blocks() -> bool:
    """Let the C library map large blocks again if somebody has told it not to.

    Not collective. Returns whether that was so. Nothing changes with settings of the environment
    (MALLOC_MMAP_MAX_ and its like, or glibc.malloc in GLIBC_TUNABLES), nor with other C libraries
    than glibc 2.33 and later. Smaller blocks stay on the heap for the next ones, as that library
    wants it: giving them back as well costs some 7 per cent of the time.
    """
    tuned = any(name in os.environ for name in VARIABLES)
    if tuned or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallinfo2") and hasattr(libc, "mallopt")) or maps_large_blocks(libc):
        return False
    libc.mallopt(ctypes.c_int(MMAP_MAX), ctypes.c_int(MAPPED_BLOCKS))
    libc.mallopt(ctypes.c_int(MMAP_THRESHOLD), ctypes.c_int(LARGE))
    libc.malloc_trim(ctypes.c_size_t(0))  # the heap that looking has made
    return True


def maps_large_blocks(libc: ctypes.CDLL) -> bool:
    """Tell whether a block of twice the size LARGE is mapped.  (Not collective.)"""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.mallinfo2.restype, libc.mallinfo2.argtypes = _Counts, []
    before = libc.mallinfo2().hblkhd
    block = libc.malloc(2 * LARGE)  # of which no page is touched
    mapped = libc.mallinfo2().hblkhd > before
    libc.free(block)
    return bool(mapped)

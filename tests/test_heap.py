"""Large blocks of memory go back to the system, whatever the libraries of PETSc have said."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.any_scalars,
    pytest.mark.skipif(
        not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library than glibc 2.33"
    ),
]

STEPS = """
import ctypes, os
from geneig_adjoint import _petsc
from geneig_adjoint.heap import MMAP_MAX, give_back_large_blocks, maps_large_blocks
libc = ctypes.CDLL(None)
print(maps_large_blocks(libc), give_back_large_blocks())
libc.mallopt(MMAP_MAX, 0)
for name, value in ("MALLOC_MMAP_MAX_", "0"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0"):
    os.environ[name] = value
    print(give_back_large_blocks(), maps_large_blocks(libc))
    del os.environ[name]
print(give_back_large_blocks(), maps_large_blocks(libc))
"""


def test_blocks_are_mapped_once_petsc_is_loaded():
    # In a process of its own: what earlier tests have freed could hold the block that is tried.
    finished = subprocess.run(
        [sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout.splitlines() == [
        "True False",  # as it should be
        *["False False"] * 2,  # forbidden, and the environment says that this is meant
        "True True",  # forbidden by a library, allowed again
    ]

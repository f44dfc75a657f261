"""Large blocks of memory go back to the system, whatever the libraries of PETSc have said."""

import ctypes

import pytest

from geneig_adjoint import _petsc
from geneig_adjoint.heap import MMAP_MAX, give_back_large_blocks, maps_large_blocks

LIBC = ctypes.CDLL(None)
pytestmark = [
    pytest.mark.any_scalars,
    pytest.mark.skipif(not hasattr(LIBC, "mallinfo2"), reason="another C library than glibc 2.33"),
]


@pytest.fixture
def forbidden():
    """Forbid to map blocks, as SuperLU_DIST does; allowed again at the end."""
    LIBC.mallopt(MMAP_MAX, 0)
    yield
    LIBC.mallopt(MMAP_MAX, 65536)


def test_blocks_are_mapped_once_petsc_is_loaded():
    assert _petsc.PETSc.Sys.isInitialized()
    assert maps_large_blocks(LIBC)
    assert not give_back_large_blocks()


def test_what_a_library_has_forbidden_is_allowed_again(forbidden):
    assert not maps_large_blocks(LIBC)
    assert give_back_large_blocks()
    assert maps_large_blocks(LIBC)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_MMAP_MAX_", "0"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0")],
)
def test_settings_of_the_environment_stay(forbidden, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not give_back_large_blocks()
    assert not maps_large_blocks(LIBC)

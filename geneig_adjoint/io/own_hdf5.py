"""h5py with the HDF5 it was built with, also where a process has loaded another one.

dolfinx shows the names of its HDF5 to all that is loaded after it. h5py would take half of its
functions from there, and cannot be imported then.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from geneig_adjoint.errors import MissingPackageError

__all__ = ["h5py"]


@contextmanager
def _own_names_first() -> Iterator[None]:
    """Let libraries look for names among their own first, if there is an HDF5 for all."""
    before = sys.getdlopenflags()
    if "h5py" not in sys.modules and hasattr(ctypes.CDLL(None), "H5open"):
        sys.setdlopenflags(before | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # HDF5's own, whichever it meets first
        raise MissingPackageError(
            f"h5py must be imported before dolfinx, which loads another HDF5, got {error!r}; put "
            "'import h5py' in front of 'import dolfinx'"
        ) from error
    finally:
        sys.setdlopenflags(before)


with _own_names_first():
    import h5py

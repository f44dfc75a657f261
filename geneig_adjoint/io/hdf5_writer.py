"""HDF5 files written with checksums, on disks that may be full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.io.mesh import Mesh
from geneig_adjoint.io.own_hdf5 import h5py

CHUNK_BYTES = 1_000_000
FORMATS = ("v110", "v110")
"""Readable since HDF5 1.10; older formats have no checksums for their own structures."""


class _PatientFile:
    """A file whose errors wait until HDF5 has closed it.

    HDF5 that cannot write what it still has to keeps the file open, fails again whenever it is
    asked to close it, and may crash the process at its end. It is told that all went well.
    """

    def __init__(self, descriptor: int) -> None:
        self.error: OSError | None = None
        self._descriptor = descriptor
        self._place = 0
        self._size = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place}.get(whence, self._size)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def write(self, data: Any) -> int:
        """Write, or pretend to."""
        part = memoryview(data)
        count = len(part)
        try:
            while part and self.error is None:
                done = os.pwrite(self._descriptor, part, self._place)
                self._place, part = self._place + done, part[done:]
        except OSError as error:
            self.error = error
        self._place += len(part)
        self._size = max(self._size, self._place)
        return count

    def read(self, count: int) -> bytes:
        """Read; h5py looks for this method, HDF5 uses the next one."""
        found = bytearray(count)
        self.readinto(found)
        return bytes(found)

    def readinto(self, buffer: Any) -> int:
        """Read what was written; zeros where that failed."""
        part = os.pread(self._descriptor, len(buffer), self._place)
        buffer[:] = part + bytes(len(buffer) - len(part))
        self._place += len(buffer)
        return len(buffer)

    def truncate(self, size: int) -> int:
        """Set the size, or pretend to."""
        self._size = size
        try:
            if self.error is None:
                os.ftruncate(self._descriptor, size)
        except OSError as error:
            self.error = error
        return size

    def flush(self) -> None:
        """Nothing is kept back."""


@contextmanager
def written_hdf5(path: Path, *, header: int = 0) -> Iterator[Any]:
    """Give an open HDF5 file that replaces ``path``; full disks are an OSError at the end.

    Not collective: call it on one rank. The file is not written atomically.

    Parameters
    ----------
    path
        File to write.
    header
        Bytes left free in front of what HDF5 writes: 0, or a power of two from 512 on.

    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        patient = _PatientFile(descriptor)
        try:
            with h5py.File(patient, "w", libver=FORMATS, userblock_size=header) as file:
                yield file
        except Exception:
            if patient.error is None:
                raise
        if patient.error is not None:
            raise patient.error
    finally:
        os.close(descriptor)


def write_attributes(place: Any, **values: Any) -> None:
    """Write attributes of a group or dataset.  (Not collective.)

    Texts as bytes of fixed length, in UTF-8: HDF5 has no checksums for those of any length.
    """
    for name, value in values.items():
        place.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def checked_dataset(group: Any, name: str, values: Block) -> None:
    """Write a dataset with checksums, cut into pieces along its first axis.

    Not collective.
    """
    values = np.asarray(values)
    if values.size == 0:
        group.create_dataset(name, data=values)
        return
    rows = max(1, CHUNK_BYTES * len(values) // values.nbytes)
    chunks = (min(len(values), rows), *values.shape[1:])
    group.create_dataset(name, data=values, chunks=chunks, fletcher32=True)


def write_mesh(file: Any, mesh: Mesh) -> None:
    """Write a mesh into an open HDF5 file.  (Not collective.)"""
    group = file.create_group("mesh")
    checked_dataset(group, "points", mesh.points)
    checked_dataset(group, "dofs", mesh.dofs)
    if mesh.cell_dofs is not None:
        checked_dataset(group, "cell_dofs", mesh.cell_dofs)
    group.create_group("cells")
    for index, (kind, numbers) in enumerate(mesh.cells):
        checked_dataset(group, f"cells/{index}", numbers)
        write_attributes(group[f"cells/{index}"], type=kind)

"""The file of a checkpoint: HDF5 behind a checksum, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import private_comm
from geneig_adjoint.errors import InputError
from geneig_adjoint.io import atomic_path, written_hdf5
from geneig_adjoint.io.own_hdf5 import h5py

if TYPE_CHECKING:
    from mpi4py import MPI

HEADER = 512
"""Bytes in front of what HDF5 writes: what the file is, and the checksum of the rest."""
MAGIC = b"geneig_adjoint checkpoint 2\n"
Rows = tuple[int, int]


class CheckpointWriter:
    """A checkpoint that is being written by rank 0, part by part.

    Collective. Errors of rank 0 are kept, so that the ranks stay in step: `commit` says
    what went wrong. Rank 0 holds the rows of one vector of one rank at a time.

    Parameters
    ----------
    comm
        Ranks that hold the rows of vectors.
    path
        Where the file is to be; it is replaced in one step.

    """

    def __init__(self, comm: MPI.Comm, path: Path) -> None:
        self._comm = private_comm(comm)
        self._path = path
        self._temporary = path
        self._file: h5py.File | None = None
        self._opened = ExitStack()
        self._error: Exception | None = None
        self._done(self._create)

    def _create(self) -> None:
        # Somebody may have removed the folder since the run began.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self._opened.enter_context(atomic_path(self._path))
        self._opened.push(self._closed)
        self._file = self._opened.enter_context(written_hdf5(self._temporary, header=HEADER))

    def _closed(self, failed: object, *_: object) -> None:
        if failed is None:
            self._seal()

    def _done(self, action: Callable[[], object]) -> None:
        """Do something on rank 0 unless something has gone wrong before."""
        if self._comm.rank == 0 and self._error is None:
            try:
                action()
            except Exception as error:
                self._error = error

    def array(self, name: str, values: Any) -> None:
        """Write an array that rank 0 has."""
        self._done(lambda: self._put(name, values))

    def json(self, name: str, content: Any) -> None:
        """Write numbers and texts that rank 0 has."""
        self._done(lambda: self._put(name, json.dumps(content)))

    def _put(self, name: str, values: Any) -> None:
        assert self._file is not None
        self._file[name] = values

    def rows(self, name: str, rows: Rows, block: Block) -> None:
        """Write a row block, (n_local, k) on every rank, as k vectors one after the other."""
        bounds = self._comm.gather(rows, root=0)
        is_complex = self._comm.allreduce(int(np.iscomplexobj(block)))
        block = np.asfortranarray(block, dtype=complex if is_complex else float)
        if bounds is None:
            for column in block.T:
                self._comm.Send(np.ascontiguousarray(column), dest=0)
            return
        total = bounds[-1][1]
        self._done(lambda: self._begin(name, (block.shape[1], total), block.dtype))
        for rank, (first, last) in enumerate(bounds):
            for j in range(block.shape[1]):
                part = block[:, j]
                if rank:
                    part = np.empty(last - first, dtype=block.dtype)
                    self._comm.Recv(part, source=rank)
                self._done(partial(self._fill, name, (j, slice(first, last)), part))

    def _begin(self, name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        assert self._file is not None
        self._file.create_dataset(name, shape, dtype)

    def _fill(self, name: str, place: tuple[int, slice], part: Block) -> None:
        assert self._file is not None
        self._file[name][place] = part

    def commit(self) -> str | None:
        """Put the file in place; return what went wrong, the same on every rank."""
        self._done(self._opened.close)
        if self._error is not None:
            with suppress(Exception):
                self._opened.__exit__(type(self._error), self._error, None)
        text = None if self._error is None else _described(self._error)
        found: str | None = self._comm.bcast(text, root=0)
        return found

    def _seal(self) -> None:
        """Put the checksum in front of what HDF5 has written."""
        with self._temporary.open("r+b") as stream:
            stream.seek(HEADER)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            stream.write(MAGIC + digest.encode())


def _described(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


class CheckpointReader:
    """A checkpoint as it was found; rank 0 alone looks at the file.

    Not collective, except for `rows`.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        A file that is not whole, or something else than a checkpoint.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        remedy = "start over with --overwrite"
        try:
            with path.open("rb") as stream:
                header = stream.read(HEADER)
                digest = hashlib.file_digest(stream, "sha256").hexdigest().encode()
        except OSError as error:
            raise InputError(
                f"the checkpoint must be readable, got {error.strerror} for {path}; {remedy}"
            ) from error
        if not header.startswith(MAGIC):
            raise InputError(
                f"{path} must be a checkpoint that this version can read, got something else; "
                f"{remedy}"
            )
        if header[len(MAGIC) :].rstrip(b"\0") != digest:
            raise InputError(
                f"{path} must be as it was written, got another checksum: it was cut or damaged; "
                f"{remedy}"
            )
        self._file = h5py.File(path, "r", locking=False)

    def array(self, name: str) -> Any:
        """Return an array."""
        return self._file[name][()]

    def json(self, name: str) -> Any:
        """Return numbers and texts."""
        return json.loads(self._file[name][()])

    def names(self, group: str) -> list[str]:
        """Return the names in a group; none if it does not exist."""
        return list(self._file[group]) if group in self._file else []

    def vector(self, name: str, j: int, rows: Rows) -> Block:
        """Return some rows of a vector."""
        return np.asarray(self._file[name][j, rows[0] : rows[1]])

    def shape(self, name: str) -> tuple[int, int, np.dtype[Any]]:
        """Return how many vectors of which length and type there are."""
        dataset = self._file[name]
        return (*dataset.shape, dataset.dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(comm: MPI.Comm, reader: CheckpointReader | None, name: str, rows: Rows) -> Block:
    """Return the rows of this rank of a block, (n_local, k).

    Collective. ``reader``: on rank 0.
    """
    comm = private_comm(comm)
    bounds = comm.gather(rows, root=0)
    count, _, dtype = comm.bcast(None if reader is None else reader.shape(name), root=0)
    block = np.empty((rows[1] - rows[0], count), dtype=dtype, order="F")
    if reader is None or bounds is None:
        for j in range(count):
            comm.Recv(block[:, j], source=0)
        return block
    for rank, theirs in enumerate(bounds):
        for j in range(count):
            part = reader.vector(name, j, theirs)
            if rank:
                comm.Send(np.ascontiguousarray(part), dest=rank)
            else:
                block[:, j] = part
    return block

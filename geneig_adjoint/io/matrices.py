"""Matrices from files: Matrix Market (also gzipped) and PETSc binary."""

from __future__ import annotations

import gzip
import io
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.io
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint.assembly import equal_layout
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import InputError

if TYPE_CHECKING:
    from mpi4py import MPI

PETSC_MATRIX_ID = 1211216
UNCLEAR = re.compile(rb"[0-9.][-+a-df-zA-DF-Z]|[eE](?![-+0-9])|[^-+.0-9eEnNaAiIfFtTyY\s]")
"""What numbers, nan, inf and infinity do not have: other letters, exponents without e."""


def read_matrix(path: str | Path, comm: MPI.Comm) -> PETSc.Mat:
    """Return a distributed matrix read from a file.

    Collective. Matrix Market (``.mtx``, ``.mtx.gz``) is read on rank 0 and distributed;
    anything else is taken as PETSc binary, whose header and size are verified on rank 0
    before any rank loads it.

    Raises
    ------
    InputError
        Missing or unreadable files, NaN or Inf entries (with their place), complex
        entries in the real build, PETSc files of another scalar type or cut short.

    """
    path = Path(path)
    if path.name.endswith((".mtx", ".mtx.gz")):
        return _distributed(comm, _read_on_root(comm, path))
    error = _binary_error(path) if comm.rank == 0 else None
    raise_together(comm, error)
    viewer = PETSc.Viewer().createBinary(str(path), mode="r", comm=comm)
    mat = PETSc.Mat().create(comm)
    mat.setType(PETSc.Mat.Type.AIJ)
    mat.load(viewer)
    viewer.destroy()
    return mat


def _read_on_root(comm: MPI.Comm, path: Path) -> Any:
    error: Exception | None = None
    matrix = None
    if comm.rank == 0:
        try:
            entries = scipy.sparse.coo_matrix(scipy.io.mmread(_market_text(path)))
            matrix = entries.tocsr()
            error = _repeated_error(path, entries, matrix) or _entries_error(path, matrix)
        except Exception as caught:  # also zlib's, and MemoryError for an absurd header
            error = InputError(
                f"{path} must be a Matrix Market file, got {type(caught).__name__}: {caught}; "
                "check name and format"
            )
    raise_together(comm, error)
    return matrix


def _market_text(path: Path) -> io.BytesIO:
    """Return a Matrix Market file with Fortran's D exponents written as E.

    SciPy stops at a character it does not know and takes the number read so far, so that
    2.5D-1 and 2.5-101 would become 2.5 without a word.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        content = stream.read()
    start = len(re.match(rb"(%.*\n)*", content).group())  # type: ignore[union-attr]
    body = content[start:].translate(bytes.maketrans(b"Dd", b"Ee"))
    unclear = UNCLEAR.search(body)
    if unclear is not None:
        number = content[:start].count(b"\n") + body[: unclear.start()].count(b"\n") + 1
        line = content.split(b"\n", number)[number - 1]
        raise ValueError(f"line {number}, {line.decode(errors='replace').strip()!r}")
    return io.BytesIO(content[:start] + body)


def _repeated_error(path: Path, entries: Any, matrix: Any) -> InputError | None:
    """Refuse what would be added up: repeated entries, both triangles of a symmetric file."""
    if matrix.nnz == entries.nnz:
        return None
    keys = entries.row.astype(np.int64) * entries.shape[1] + entries.col
    keys.sort()
    row, column = divmod(int(keys[:-1][keys[1:] == keys[:-1]][0]), entries.shape[1])
    return InputError(
        f"{path} must give every entry once, got {entries.nnz - matrix.nnz} repeated, the first at "
        f"row and column {(row + 1, column + 1)}; a symmetric file holds one triangle only"
    )


def _entries_error(path: Path, matrix: Any) -> InputError | None:
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    if bad.size:
        entries = matrix.tocoo()
        place = (int(entries.row[bad[0]]) + 1, int(entries.col[bad[0]]) + 1)
        return InputError(
            f"{path} must hold finite numbers, got {bad.size} NaN or Inf, the first at row and "
            f"column {place}; correct the file"
        )
    if np.iscomplexobj(matrix.data) and _petsc.REAL_SCALARS:
        return _petsc.real_scalar_error(f"the entries of {path}")
    return None


def _distributed(comm: MPI.Comm, matrix: Any) -> PETSc.Mat:
    shape = comm.bcast(None if matrix is None else matrix.shape, root=0)
    local_rows = equal_layout(comm, shape[0])[0]
    bounds = np.concatenate([[0], np.cumsum(comm.allgather(local_rows))])
    parts: list[Any] = []
    if matrix is not None:
        slices = [matrix[bounds[r] : bounds[r + 1]] for r in range(comm.size)]
        parts = [(part.indptr, part.indices, part.data) for part in slices]
    # Only the root's list is looked at.
    offsets, columns, values = comm.scatter(parts, root=0)
    csr = (
        offsets.astype(PETSc.IntType),
        columns.astype(PETSc.IntType),
        values.astype(PETSc.ScalarType),
    )
    sizes = ((local_rows, shape[0]), equal_layout(comm, shape[1]))
    mat = PETSc.Mat().createAIJ(sizes, csr=csr, comm=comm)
    mat.assemble()
    return mat


def _binary_error(path: Path) -> InputError | None:
    """Return what is wrong with a PETSc binary file: header, size, row lengths, columns."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            header = stream.read(16)
    except OSError as error:
        return InputError(f"{path} must be readable, got {error.strerror}; check name and rights")
    if len(header) < 16:
        return InputError(f"{path} must be a PETSc matrix, got {size} bytes; the file is cut short")
    identity, rows, columns, entries = struct.unpack(">4i", header)
    if identity != PETSC_MATRIX_ID or min(rows, columns) < 1 or entries < 0:
        return InputError(
            f"{path} must be a PETSc binary matrix with 32-bit indices (class id "
            f"{PETSC_MATRIX_ID}), got id {identity}, {rows} x {columns}, {entries} entries; "
            "Matrix Market files must end in .mtx or .mtx.gz"
        )
    scalar = np.dtype(PETSc.ScalarType).itemsize
    expected = 16 + 4 * rows + (4 + scalar) * entries
    if size == expected:
        return _indices_error(path, rows, columns, entries)
    other = 16 + 4 * rows + (4 + 24 - scalar) * entries
    reason = "it is cut short, or not one matrix alone"
    if size == other:
        reason = "the file was written by the other scalar build"
    return InputError(
        f"{path} must have {expected} bytes for {entries} entries in the {_petsc.SCALAR_NAME} "
        f"build, got {size}; {reason}"
    )


def _indices_error(path: Path, rows: int, columns: int, entries: int) -> InputError | None:
    """Return what PETSc would find while loading, where one rank alone would fail."""
    lengths = np.memmap(path, dtype=">i4", mode="r", offset=16, shape=(rows,))
    if lengths.min() < 0 or int(lengths.sum(dtype=np.int64)) != entries:
        return InputError(
            f"{path} must have row lengths that add up to {entries}, got "
            f"{int(lengths.sum(dtype=np.int64))}; the file is damaged, write it again"
        )
    if entries == 0:
        return None
    numbers = np.memmap(path, dtype=">i4", mode="r", offset=16 + 4 * rows, shape=(entries,))
    if numbers.min() >= 0 and numbers.max() < columns:
        return None
    return InputError(
        f"{path} must have column numbers in 0 ... {columns - 1}, got {numbers.min()} ... "
        f"{numbers.max()}; the file is damaged, write it again"
    )

"""Matrices from files: Matrix Market (also gzipped) and PETSc binary."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout
from geneig_adjoint.collective import guard, raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.io.market import Entries, MarketFile
from geneig_adjoint.io.petsc_binary import BinaryFile

if TYPE_CHECKING:
    from mpi4py import MPI

MatrixFile: TypeAlias = MarketFile | BinaryFile
ROW_BYTES = 24
"""What a row takes even without entries: offsets here and in PETSc."""
LARGEST = int(np.iinfo(PETSc.IntType).max)


def read_matrix(path: str | Path, comm: MPI.Comm) -> PETSc.Mat:
    """Return a distributed matrix read from a file.

    Collective. Matrix Market (``.mtx``, ``.mtx.gz``), else PETSc binary. Rank 0 reads and
    checks the file, a few megabytes at a time, and sends every row to its owner: no rank
    holds more than its rows. No matrix exists before the whole file has proved right.

    Parameters
    ----------
    path
        The file; only rank 0 must see it.
    comm
        Ranks of the matrix, which belongs to the caller.

    Raises
    ------
    InputError
        Missing or unreadable files; lines that are no entries, repeated entries (also both
        triangles of a symmetric file), counts and sizes that do not fit, NaN or Inf, complex
        entries in the real build; PETSc files of another build, with unsorted columns, or cut
        short. The message has line and text, or row and column.

    """
    path = Path(path)
    file, error = _opened(path, comm.size) if comm.rank == 0 else (None, None)
    raise_together(comm, error)
    shape = comm.bcast(None if file is None else file.shape, root=0)
    rows, columns = (equal_layout(comm, size) for size in shape)
    bounds = np.concatenate([[0], np.cumsum(comm.allgather(rows[0]))])
    entries = _received(comm, file, bounds)
    with guard(comm):
        entries = _sorted(entries)
        csr = _compressed(entries, bounds[comm.rank : comm.rank + 2])
        repeated = _repeated(entries)
    _check_repeated(comm, file, repeated)
    mat = PETSc.Mat().createAIJ((rows, columns), csr=csr, comm=comm)
    mat.assemble()
    return mat


def _opened(path: Path, ranks: int) -> tuple[MatrixFile | None, Exception | None]:
    try:
        file = (MarketFile if path.name.endswith((".mtx", ".mtx.gz")) else BinaryFile)(path)
        if file.is_complex and _petsc.REAL_SCALARS:
            return None, _petsc.real_scalar_error(f"the entries of {path}")
        return file, _layout_error(path, max(file.shape), max(file.shape) // ranks)
    except Exception as caught:
        return None, _described(path, caught)


def _described(path: Path, caught: Exception) -> Exception:
    """Return an error about the file for whatever reading it raised."""
    if isinstance(caught, InputError):
        return caught
    if isinstance(caught, EOFError | zlib.error) or type(caught).__name__ == "BadGzipFile":
        return InputError(
            f"{path} must be a Matrix Market file, gzipped and whole, got {caught}; copy or "
            "compress it again"
        )
    if isinstance(caught, OSError):
        return InputError(f"{path} must be readable, got {caught.strerror}; check name and rights")
    return InputError(
        f"{path} must be a matrix, got {type(caught).__name__}: {caught}; check name and format"
    )


def _layout_error(path: Path, largest: int, local_rows: int) -> InputError | None:
    """Refuse sizes that a damaged header promises, before memory is taken for them."""
    free = available_memory()
    if largest <= LARGEST and local_rows * ROW_BYTES <= free:
        return None
    return InputError(
        f"{path} must have sizes up to {LARGEST}, and rows that fit into memory, got {largest} "
        f"with {free / 1e9:.1f} GB free; check its header, take more nodes, or a PETSc with "
        "64-bit indices"
    )


def available_memory() -> float:
    """Return the bytes that are free on this machine; infinity if unknown.  (Not collective.)"""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next(
        (1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")),
        float("inf"),
    )


def _received(comm: MPI.Comm, file: MatrixFile | None, bounds: Block) -> Entries:
    """Return this rank's entries of all pieces that rank 0 reads.  (Collective.)"""
    nothing = np.zeros(0, dtype=np.int64)
    found = [Entries(nothing, nothing, np.zeros(0, dtype=PETSc.ScalarType), nothing)]
    parts = None if file is None else _parts(file, bounds)
    error: Exception | None = None
    while True:
        outgoing: list[Entries | None] = [None] * comm.size
        if file is not None and parts is not None:
            try:
                outgoing = next(parts, outgoing)
            except Exception as caught:
                error = _described(file.path, caught)
        mine = comm.scatter(outgoing, root=0)
        if mine is None:
            break
        found.append(mine)
    raise_together(comm, error)
    with guard(comm):
        columns = zip(*(vars(part).values() for part in found), strict=True)
        return Entries(*(np.concatenate(column) for column in columns))


def _parts(file: MatrixFile, bounds: Block) -> Iterator[list[Entries | None]]:
    """Yield what each rank owns of a piece."""
    for piece in file.pieces():
        owners = np.searchsorted(bounds, piece.rows, side="right") - 1
        order = np.argsort(owners, kind="stable")
        cuts = np.searchsorted(owners[order], np.arange(len(bounds)))
        columns = [part[order] for part in vars(piece).values()]
        columns[2] = columns[2].astype(PETSc.ScalarType)
        yield [
            Entries(*(part[cuts[r] : cuts[r + 1]] for part in columns))
            for r in range(len(bounds) - 1)
        ]


def _sorted(entries: Entries) -> Entries:
    """Return entries in the order of rows, columns and lines."""
    steps = np.diff(entries.rows)
    if not ((steps < 0) | ((steps == 0) & (np.diff(entries.columns) < 0))).any():
        return entries
    order = np.lexsort((entries.columns, entries.rows))
    return Entries(*(part[order] for part in vars(entries).values()))


def _compressed(entries: Entries, rows: Block) -> tuple[Block, Block, Block]:
    """Return sorted entries as the arrays of compressed rows."""
    if len(entries.rows) > LARGEST:
        raise InputError(
            f"a rank must own {LARGEST} entries at most, got {len(entries.rows)}; take more ranks, "
            "or a PETSc with 64-bit indices"
        )
    offsets = np.searchsorted(entries.rows, np.arange(rows[0], rows[1] + 1))
    return (
        offsets.astype(PETSc.IntType),
        entries.columns.astype(PETSc.IntType),
        entries.values,
    )


def _repeated(entries: Entries) -> tuple[int, int, int]:
    """Return how many entries are given again; the first such line, and the one before it.

    Mirror images are left out: they repeat where their originals do.
    """
    same = (np.diff(entries.rows) == 0) & (np.diff(entries.columns) == 0)
    same &= (entries.lines[1:] > 0) & (entries.lines[:-1] > 0)
    places = np.flatnonzero(same)
    if not places.size:
        return 0, 0, 0
    # Sorting was stable: lines rise at one place.
    place = places[np.argmin(entries.lines[1:][places])]
    return len(places), int(entries.lines[place + 1]), int(entries.lines[place])


def _check_repeated(comm: MPI.Comm, file: MatrixFile | None, local: tuple[int, int, int]) -> None:
    found = [other for other in comm.allgather(local) if other[0]]
    error = None
    if found and isinstance(file, MarketFile):
        _, second, first = min(found, key=lambda other: other[1])
        error = file.repeated_error(sum(other[0] for other in found), second, first)
    raise_together(comm, error)

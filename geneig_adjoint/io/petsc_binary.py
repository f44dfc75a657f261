"""PETSc's binary files of one matrix: checked while they are read, some rows at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError
from geneig_adjoint.io.market import Entries

MATRIX_ID = 1211216
OTHER_IDS = {1211214: "a vector", 1211218: "an index set", 1211219: "a bag", 1211221: "a mesh"}
PIECE = 1_000_000
"""Entries, and rows, read at once."""


class BinaryFile:
    """A PETSc binary file, its header, size and row lengths checked.

    Not collective. Indices of 32 bits and values of this build's scalars, all big-endian:
    class id, rows, columns, entries; row lengths; column numbers; values.

    Raises
    ------
    InputError
        Anything else, with what the file seems to be.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_complex = not _petsc.REAL_SCALARS
        self._scalar = np.dtype(PETSc.ScalarType).newbyteorder(">")
        with path.open("rb") as stream:
            header = stream.read(16)
        error = _header_error(path, header, self._scalar.itemsize)
        if error is not None:
            raise error
        _, rows, columns, self.entries = struct.unpack(">4i", header)
        self.shape = (rows, columns)
        self._check_lengths()

    def pieces(self) -> Iterator[Entries]:
        """Yield all entries, in the order of rows.

        Raises
        ------
        InputError
            Column numbers that do not rise within a row or lie outside, and, at the end,
            numbers that are not finite.

        """
        bad, place, before = 0, "", 0
        for first, lengths in self._rows():
            count = int(lengths.sum(dtype=np.int64))
            rows = first + np.repeat(np.arange(len(lengths)), lengths)
            columns = self._read(">i4", 16 + 4 * self.shape[0] + 4 * before, count)
            values = self._read(
                self._scalar,
                16 + 4 * (self.shape[0] + self.entries) + self._scalar.itemsize * before,
                count,
            )
            self._check_columns(rows, columns)
            finite = np.isfinite(values)
            if not finite.all():
                at = int(np.argmin(finite))
                place = place or f"row {rows[at]} and column {columns[at]}"
                bad += int(np.count_nonzero(~finite))
            before += count
            yield Entries(rows, columns.astype(np.int64), values, np.zeros(count, dtype=np.int64))
        if bad:
            raise InputError(
                f"{self.path} must hold finite numbers, got {bad} NaN or Inf, the first at "
                f"{place} (from 0); write it again"
            )

    def _check_lengths(self) -> None:
        total = 0
        for first in range(0, self.shape[0], PIECE):
            count = min(PIECE, self.shape[0] - first)
            lengths = self._read(">i4", 16 + 4 * first, count)
            total += int(lengths.sum(dtype=np.int64))
            outside = (lengths < 0) | (lengths > self.shape[1])
            if outside.any():
                row = int(np.argmax(outside))
                raise InputError(
                    f"{self.path} must have row lengths in 0 ... {self.shape[1]} that add up to "
                    f"{self.entries}, got {lengths[row]} in row {first + row}; the file is "
                    "damaged, write it again"
                )
        if total != self.entries:
            raise InputError(
                f"{self.path} must have row lengths that add up to {self.entries}, got {total}; "
                "the file is damaged, write it again"
            )

    def _rows(self) -> Iterator[tuple[int, Block]]:
        """Yield first row and lengths of runs of rows with some PIECE entries, or of one row."""
        for first in range(0, self.shape[0], PIECE):
            lengths = self._read(">i4", 16 + 4 * first, min(PIECE, self.shape[0] - first))
            ends = np.cumsum(lengths, dtype=np.int64)
            start = 0
            while start < len(lengths):
                done = int(ends[start - 1]) if start else 0
                stop = max(start + 1, int(np.searchsorted(ends, done + PIECE, side="right")))
                yield first + start, lengths[start:stop]
                start = stop

    def _read(self, dtype: str | np.dtype[np.generic], offset: int, count: int) -> Block:
        found = np.fromfile(self.path, dtype=dtype, count=count, offset=offset)
        if len(found) != count:
            raise InputError(f"{self.path} must not change while it is read, got less; try again")
        return found.astype(found.dtype.newbyteorder("="))

    def _check_columns(self, rows: Block, columns: Block) -> None:
        outside = (columns < 0) | (columns >= self.shape[1])
        if outside.any():
            at = int(np.argmax(outside))
            raise InputError(
                f"{self.path} must have column numbers in 0 ... {self.shape[1] - 1}, got "
                f"{columns[at]} in row {rows[at]}; the file is damaged, write it again"
            )
        falls = (np.diff(rows) == 0) & (np.diff(columns) <= 0)
        if falls.any():
            at = int(np.argmax(falls))
            raise InputError(
                f"{self.path} must have column numbers that rise within each row, got "
                f"{columns[at]}, {columns[at + 1]} in row {rows[at]}; sort them, and add up what "
                "stands at one place (scipy: matrix.sum_duplicates())"
            )


def _header_error(path: Path, header: bytes, scalar: int) -> InputError | None:
    size = path.stat().st_size
    if len(header) < 16:
        return InputError(f"{path} must be a PETSc matrix, got {size} bytes; the file is cut short")
    identity, rows, columns, entries = struct.unpack(">4i", header)
    if identity != MATRIX_ID or min(rows, columns) < 1 or entries < 0:
        return InputError(
            f"{path} must be a PETSc binary matrix with 32-bit indices (class id "
            f"{MATRIX_ID}), got id {identity}, {rows} x {columns}, {entries} entries"
            f"{_guess(header)}; Matrix Market files must end in .mtx or .mtx.gz"
        )
    expected = 16 + 4 * rows + (4 + scalar) * entries
    if size == expected:
        return None
    reason = "it is cut short, or not one matrix alone"
    if size == 16 + 4 * rows + (4 + 24 - scalar) * entries:
        reason = "the file was written by the other scalar build"
    return InputError(
        f"{path} must have {expected} bytes for {entries} entries in the {_petsc.SCALAR_NAME} "
        f"build, got {size}; {reason}"
    )


def _guess(header: bytes) -> str:
    """Say what a file with another header seems to be."""
    identity, _, _, entries = struct.unpack(">4i", header)
    if identity == MATRIX_ID and entries == -1:
        return ", a dense matrix: convert it to AIJ and write it again"
    if struct.unpack(">q", header[:8])[0] == MATRIX_ID:
        return ", a file of a PETSc with 64-bit indices: write it with 32-bit ones"
    if struct.unpack("<i", header[:4])[0] == MATRIX_ID:
        return ", little-endian numbers: PETSc's are big-endian"
    if identity in OTHER_IDS:
        return f", {OTHER_IDS[identity]}: write the matrix alone"
    return ""

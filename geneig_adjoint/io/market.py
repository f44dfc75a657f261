"""Matrix Market files: a strict reader that takes a piece of the file at a time.

Strict: what is not a number of the format is refused with its line and text, where lenient
readers stop at a character they do not know and take the number read so far (2.5D-1 as 2.5).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError

PIECE = 8_000_000
"""Bytes of text parsed at once."""
LONGEST_LINE = 100_000
DEFLATE_LIMIT = 1032
"""No gzipped file holds more than so many bytes of text per byte of its own."""
FIELDS = {"real": 1, "double": 1, "integer": 1, "complex": 2, "pattern": 0}
"""Numbers of an entry, beside row and column."""
SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")

_INTEGER = rb"\d++"
_WHOLE = rb"[-+]?+\d++"
_NUMBER = (
    rb"[-+]?+(?:(?:\d++\.?+\d*+|\.\d++)(?:[eEdD][-+]?+\d++)?|(?i:nan|inf(?:inity)?))"
    rb"(?![^ \t\r\n])"
)
_FORTRAN = bytes.maketrans(b"Dd", b"Ee")


@dataclass(frozen=True)
class Entries:
    """Some entries of a matrix: rows and columns from 0, values, line numbers from 1.

    Mirror images of what a file says have negative line numbers.
    """

    rows: Block
    columns: Block
    values: Block
    lines: Block


@dataclass(frozen=True)
class Header:
    """The first lines of a file; ``line``: the number of the last of them."""

    dense: bool
    field: str
    symmetry: str
    shape: tuple[int, int]
    entries: int
    line: int

    @property
    def width(self) -> int:
        """Numbers on a line."""
        return FIELDS[self.field] + (0 if self.dense else 2)


class MarketFile:
    """A Matrix Market file, its header read and checked.

    Not collective.

    Parameters
    ----------
    path
        The file; gzipped if it ends in .gz.

    Raises
    ------
    InputError
        Headers that are wrong, or promise more than the file can hold.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as stream:
            self.header = _header(path, stream)
        error = _size_error(path, self.header)
        if error is not None:
            raise error
        self.shape, self.is_complex = self.header.shape, self.header.field == "complex"

    def pieces(self) -> Iterator[Entries]:
        """Yield all entries, with the mirror images of symmetric files.

        Raises
        ------
        InputError
            At the first line that is wrong; at the end, where numbers are not finite.

        """
        count, bad, first = 0, 0, (0, 0, 0)
        for values, lines in self._numbers():
            entries = self._entries(values, lines, count)
            count += len(lines)
            finite = np.isfinite(entries.values)
            if not finite.all():
                place = int(np.argmin(finite))
                found = (entries.rows[place] + 1, entries.columns[place] + 1, lines[place])
                first = first if bad else (int(found[0]), int(found[1]), int(found[2]))
                bad += int(np.count_nonzero(~finite))
            yield _with_mirror_images(entries, self.header)
        if count != self.header.entries:
            raise InputError(
                f"{self.path} must hold the {self.header.entries} entries that its header "
                f"promises, got {count}; the file is cut short, or truncated while it was copied"
            )
        if bad:
            raise InputError(
                f"{self.path} must hold finite numbers, got {bad} NaN or Inf, the first on "
                f"{self.line(first[2])} at row and column {first[:2]}; correct the file"
            )

    def line(self, number: int) -> str:
        """Return "line 7, 'its text'", for messages."""
        with self._open() as stream:
            text = next(islice(stream, number - 1, None), b"")
        shown = text[:80].decode(errors="replace").strip()
        return f"line {number}, {shown!r}"

    def repeated_error(self, count: int, second: int, first: int) -> InputError:
        """Return the error for entries that the file gives more than once."""
        line = self.line(second)
        row, column = re.findall(r"\d+", line)[1:3]
        return InputError(
            f"{self.path} must give every entry once, got {count} repeated, the first on {line}, "
            f"row and column ({row}, {column}), after line {first}; a symmetric file holds one "
            "triangle only, and sums must be formed before they are written"
        )

    def _open(self) -> BinaryIO:
        opener = gzip.open if self.path.suffix == ".gz" else open
        return cast(BinaryIO, opener(self.path, "rb"))

    def _numbers(self) -> Iterator[tuple[Block, Block]]:
        """Yield the numbers of some lines (n, width) and the lines' numbers."""
        wrong, number, left = _wrong_line(self.header), self.header.line + 1, self.header.entries
        with self._open() as stream:
            for _ in range(self.header.line):
                stream.readline()
            while text := _whole_lines(self.path, stream):
                found = wrong.search(text, 0, len(text) - 1)
                if found is not None:
                    raise self._line_error(number + text.count(b"\n", 0, found.start()))
                numbers = np.fromstring(text.translate(_FORTRAN), dtype=float, sep=" ")
                numbers = numbers.reshape(-1, self.header.width)
                lines = _filled_lines(text, len(numbers)) + number
                number += text.count(b"\n") - 1
                if len(lines) > left:
                    raise InputError(
                        f"{self.path} must hold the {self.header.entries} entries that its header "
                        f"promises, got more, the first on {self.line(int(lines[left]))}; "
                        "correct the header"
                    )
                left -= len(lines)
                yield numbers, lines

    def _line_error(self, number: int) -> InputError:
        head = self.header
        kinds = [] if head.dense else ["row", "column"]
        kinds += {"integer": ["whole number"], "complex": ["real part", "imaginary part"]}.get(
            head.field, ["number"] * FIELDS[head.field]
        )
        return InputError(
            f"{self.path} must be a Matrix Market file with lines of {', '.join(kinds)}, got "
            f"{self.line(number)}; correct it"
        )

    def _entries(self, numbers: Block, lines: Block, before: int) -> Entries:
        head = self.header
        if head.dense:
            rows, columns = _dense_places(head, before + np.arange(len(lines)))
            values = numbers
        else:
            outside = (numbers[:, :2] < 1).any(axis=1) | (numbers[:, :2] > head.shape).any(axis=1)
            if outside.any():
                raise InputError(
                    f"{self.path} must be a Matrix Market file with rows in 1 ... {head.shape[0]} "
                    f"and columns in 1 ... {head.shape[1]}, got "
                    f"{self.line(int(lines[np.argmax(outside)]))}; count from 1"
                )
            rows, columns = (numbers[:, i].astype(np.int64) - 1 for i in (0, 1))
            values = numbers[:, 2:]
        entries = Entries(rows, columns, _scalars(values, head.field), lines)
        self._check_diagonal(entries)
        return entries

    def _check_diagonal(self, entries: Entries) -> None:
        """Raise for diagonals that contradict the symmetry."""
        kind = self.header.symmetry
        if kind not in {"skew-symmetric", "hermitian"}:
            return
        wrong = entries.values if kind == "skew-symmetric" else entries.values.imag
        bad = (entries.rows == entries.columns) & (wrong != 0)
        if bad.any():
            what = "zero" if kind == "skew-symmetric" else "real"
            raise InputError(
                f"{self.path} must have a diagonal that is {what}, because it is {kind}, got "
                f"{self.line(int(entries.lines[np.argmax(bad)]))}; correct the header or the entry"
            )


def _header(path: Path, stream: BinaryIO) -> Header:
    first = stream.readline(LONGEST_LINE)
    words = first.decode("latin-1").lower().split()
    good = (
        len(words) == 5
        and first.startswith(b"%%MatrixMarket ")
        and words[1] == "matrix"
        and words[2] in {"coordinate", "array"}
        and words[3] in FIELDS
        and words[4] in SYMMETRIES
        and (words[2], words[3]) != ("array", "pattern")
        and (words[4] != "hermitian" or words[3] == "complex")
        and (words[4] != "skew-symmetric" or words[3] != "pattern")
    )
    if not good:
        raise InputError(
            f"{path} must be a Matrix Market file that begins with '%%MatrixMarket matrix' and "
            "coordinate or array, real, integer, complex or pattern, general, symmetric, "
            "skew-symmetric or hermitian (complex only), got line 1, "
            f"{first[:80].decode(errors='replace').strip()!r}; check name, format and encoding"
        )
    number, line = 2, stream.readline(LONGEST_LINE)
    while line and (line.lstrip().startswith(b"%") or not line.strip()):
        number, line = number + 1, stream.readline(LONGEST_LINE)
    dense = words[2] == "array"
    sizes = line.split()
    if len(sizes) != (2 if dense else 3) or not all(re.fullmatch(_INTEGER, s) for s in sizes):
        what = "rows and columns" if dense else "rows, columns and entries"
        raise InputError(
            f"{path} must be a Matrix Market file with a line of {what} after the remarks, got "
            f"line {number}, {line[:80].decode(errors='replace').strip()!r}; the file is damaged "
            "or cut short"
        )
    # Numbers of more digits are refused by their size, and take long to convert.
    rows, columns, *count = (int(size[:30]) for size in sizes)
    entries = _dense_count(rows, columns, words[4]) if dense else count[0]
    return Header(dense, words[3], words[4], (rows, columns), entries, number)


def _dense_count(rows: int, columns: int, symmetry: str) -> int:
    if symmetry == "general":
        return rows * columns
    return rows * (rows + (-1 if symmetry == "skew-symmetric" else 1)) // 2


def _size_error(path: Path, header: Header) -> InputError | None:
    """Compare what the header promises with the size of the file."""
    rows, columns = header.shape
    if min(rows, columns) < 1 or (header.symmetry != "general" and rows != columns):
        return InputError(
            f"{path} must have rows and columns, as many of both if it is {header.symmetry}, got "
            f"{rows} x {columns}; correct line {header.line}"
        )
    size = path.stat().st_size * (DEFLATE_LIMIT if path.suffix == ".gz" else 1)
    # An entry has at least one digit and one separator per number; the last line may be open.
    if header.entries * 2 * header.width - 1 > size or header.entries > rows * columns:
        return InputError(
            f"{path} must hold the {header.entries} entries that its header promises, got "
            f"{path.stat().st_size} bytes for {rows} x {columns}; the file is damaged or cut "
            f"short, see line {header.line}"
        )
    return None


def _wrong_line(header: Header) -> re.Pattern[bytes]:
    """Return what finds the line end before the first line that is neither blank nor entry."""
    numbers = [_WHOLE if header.field == "integer" else _NUMBER] * FIELDS[header.field]
    if not header.dense:
        numbers = [_INTEGER, _INTEGER, *numbers]
    entry = rb"[ \t]++".join(numbers)
    return re.compile(rb"\n(?![ \t]*+(?:" + entry + rb")?[ \t\r]*+$)", re.MULTILINE)


def _whole_lines(path: Path, stream: BinaryIO) -> bytes:
    """Return the next lines with a line end in front and behind, nothing at the end."""
    text = stream.read(PIECE)
    rest = b"" if not text or text.endswith(b"\n") else stream.readline(LONGEST_LINE)
    if len(rest) == LONGEST_LINE:
        raise InputError(
            f"{path} must have lines of at most {LONGEST_LINE} characters, got more after "
            f"{text[-40:].decode(errors='replace')!r}; the file is damaged"
        )
    text += rest
    if not text:
        return text
    return b"\n" + text if text.endswith(b"\n") else b"\n" + text + b"\n"


def _filled_lines(text: bytes, count: int) -> Block:
    """Return the places of the lines that are not blank, of which there are so many."""
    if count == text.count(b"\n") - 1:
        return np.arange(count)
    return np.flatnonzero([bool(line.strip()) for line in text.split(b"\n")[1:]])


def _dense_places(header: Header, numbers: Block) -> tuple[Block, Block]:
    """Return rows and columns of the entries of a dense file, column after column."""
    rows = header.shape[0]
    if header.symmetry == "general":
        return numbers % rows, numbers // rows
    shift = 1 if header.symmetry == "skew-symmetric" else 0
    column = np.arange(rows, dtype=np.int64)
    starts = column * (rows - shift) - column * (column - 1) // 2
    columns = np.searchsorted(starts, numbers, side="right") - 1
    return columns + shift + numbers - starts[columns], columns


def _scalars(numbers: Block, field: str) -> Block:
    if field == "pattern":
        return np.ones(len(numbers))
    return numbers[:, 0] + 1j * numbers[:, 1] if field == "complex" else numbers[:, 0]


def _with_mirror_images(entries: Entries, header: Header) -> Entries:
    """Return entries without a dense file's zeros, those of symmetric files below the diagonal."""
    if header.dense:
        kept = entries.values != 0
        entries = Entries(*(part[kept] for part in vars(entries).values()))
    if header.symmetry == "general":
        return entries
    other = -entries.values if header.symmetry == "skew-symmetric" else entries.values
    other = other.conj() if header.symmetry == "hermitian" else other
    above = entries.rows < entries.columns
    rows = np.where(above, entries.columns, entries.rows)
    columns = np.where(above, entries.rows, entries.columns)
    values, images = np.where(above, other, entries.values), np.where(above, entries.values, other)
    off = rows != columns
    return Entries(
        np.concatenate([rows, columns[off]]),
        np.concatenate([columns, rows[off]]),
        np.concatenate([values, images[off]]),
        np.concatenate([entries.lines, -entries.lines[off]]),
    )

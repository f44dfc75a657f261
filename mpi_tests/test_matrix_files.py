"""Matrix files on several ranks: the same matrices, or the same error on every rank."""

import gzip

import numpy as np
import pytest
import scipy.io
from builders import REAL, dense
from petsc4py import PETSc
from study_files import market, petsc_binary

import geneig_adjoint as ga
from geneig_adjoint.io import read_matrix

SCALAR = "f8" if REAL else "c16"
OTHER = "c16" if REAL else "f8"
MATRIX = np.array([[2.0, 0.0, -1.5], [0.25, 3.0, 0.0], [0.0, 0.0, 7e-3]])


@pytest.fixture
def folder(comm, tmp_path):
    """A folder all ranks share."""
    return comm.bcast(tmp_path)


def on_root(comm, write, *arguments, **options):
    """Write a file on rank 0, before any rank goes on."""
    found = write(*arguments, **options) if comm.rank == 0 else None
    return comm.bcast(found)


def scipy_market(path, array, **options):
    scipy.io.mmwrite(path, array, **options)
    return path


GOOD = {
    "market": (market, "m.mtx", ("1 1 2", "2 1 .25", "1 3 -1.5", "2 2 3", "3 3 7e-3")),
    "gzipped": (market, "m.mtx.gz", ("1 1 2", "2 1 .25", "1 3 -1.5", "2 2 3", "3 3 7e-3")),
    "Fortran": (market, "m.mtx", ("1 1 2D0", "2 1 2.5D-1", "1 3 -1.5d0", "2 2 3", "3 3 7d-3")),
    "dense": (scipy_market, "m.mtx", (MATRIX,)),
    "binary": (petsc_binary, "m.bin", (MATRIX, SCALAR)),
}


@pytest.mark.parametrize(("write", "name", "arguments"), GOOD.values(), ids=GOOD)
def test_matrix_files_are_read_as_they_are(comm, folder, write, name, arguments):
    path = on_root(comm, write, folder / name, *arguments)
    mat = read_matrix(path, comm)
    np.testing.assert_array_equal(dense(mat), MATRIX)
    assert mat.getSizes()[0] == mat.getSizes()[1]  # what a pencil needs
    mat.destroy()


@pytest.mark.parametrize(
    ("kind", "sign"), [("real symmetric", 1), ("integer symmetric", 1), ("real skew-symmetric", -1)]
)
def test_one_triangle_stands_for_both(comm, folder, kind, sign):
    path = on_root(comm, market, folder / "m.mtx", "2 1 4", "3 2 5", kind=kind)
    mat = read_matrix(path, comm)
    expected = np.array([[0, sign * 4, 0], [4, 0, sign * 5], [0, 5, 0]])
    np.testing.assert_array_equal(dense(mat), expected)
    mat.destroy()


def test_matrix_written_by_petsc_is_read(comm, folder):
    written = on_root(comm, petsc_binary, folder / "a.bin", MATRIX, SCALAR)
    mat = read_matrix(written, comm)
    viewer = PETSc.Viewer().createBinary(str(folder / "b.bin"), mode="w", comm=comm)
    mat.view(viewer)
    viewer.destroy()
    again = read_matrix(folder / "b.bin", comm)
    np.testing.assert_array_equal(dense(again), MATRIX)
    again.destroy()
    mat.destroy()


SYMMETRIC = {"kind": "real symmetric"}
ENTRY = "must be a Matrix Market file with lines of row, column, number, got"
MARKET_ERRORS = {
    "nan": (("1 1 2", "2 3 nan"), {}, r"got 1 NaN or Inf, .* line 5, '2 3 nan' at .*\(2, 3\)"),
    "inf": (("1 1 inf", "3 3 -inf"), {}, r"finite numbers, got 2 NaN or Inf.*\(1, 1\)"),
    "overflow": (("1 1 1e999",), {}, r"finite numbers, got 1 NaN or Inf.*'1 1 1e999'"),
    "row": (("4 1 2",), {}, r"with rows in 1 ... 3 .* got line 4, '4 1 2'; count from 1"),
    "row 0": (("1 1 2", "0 1 2"), {}, r"with rows in 1 ... 3 .* got line 5, '0 1 2'"),
    "column": (("1 1 2", "1 4 2"), {}, r"columns in 1 ... 3, got line 5, '1 4 2'"),
    "negative": (("-1 1 2",), {}, ENTRY + r" line 4, '-1 1 2'"),
    "word": (("1 1 2", "2 2 two"), {}, ENTRY + r" line 5, '2 2 two'"),
    "suffix": (("1 1 2.5x",), {}, ENTRY + r" line 4, '1 1 2.5x'"),
    "exponent without e": (("1 1 2.5-101",), {}, ENTRY + r" line 4, '1 1 2.5-101'"),
    "exponent without number": (("1 1 2.5e",), {}, ENTRY + r" line 4, '1 1 2.5e'"),
    "comma": (("1 1 2,5",), {}, ENTRY + r" line 4, '1 1 2,5'"),
    "no number": (("1 1 2", "2 2"), {}, ENTRY + r" line 5, '2 2'"),
    "two numbers": (("1 1 2 0",), {}, ENTRY + r" line 4, '1 1 2 0'"),
    "remark": (("1 1 2", "% end"), {}, ENTRY + r" line 5, '% end'"),
    "twice": (
        ("1 1 2", "3 2 1", "3 2 1"),
        {},
        r"every entry once, got 1 repeated, the first on line 6, '3 2 1', .*\(3, 2\), after line 5",
    ),
    "both triangles": (
        ("2 1 4", "1 2 4", "3 3 1"),
        SYMMETRIC,
        r"every entry once, .* line 5, '1 2 4', .*\(1, 2\), after line 4; .*one triangle only",
    ),
    "all of both triangles": (
        ("2 1 4", "3 1 4", "1 2 4", "1 3 4"),
        SYMMETRIC,
        r"got 2 repeated, the first on line 6, '1 2 4'",
    ),
    "skew diagonal": (
        ("2 1 4", "3 3 1"),
        {"kind": "real skew-symmetric"},
        r"diagonal that is zero, because it is skew-symmetric, got line 5, '3 3 1'",
    ),
    "fraction": (("1 1 2.5",), {"kind": "integer general"}, r"whole number, got line 4, '1 1 2.5'"),
    "pattern": (("1 1 2",), {"kind": "pattern general"}, r"lines of row, column, got line 4"),
    "rectangle": (("1 1 2",), {**SYMMETRIC, "size": (3, 4)}, r"as many of both if it is symm"),
    "no rows": (("1 1 2",), {"size": (0, 3)}, r"rows and columns, .* got 0 x 3; correct line 3"),
    "hermitian": (
        ("1 1 2",),
        {"kind": "real hermitian"},
        r"hermitian \(complex only\), got line 1",
    ),
    "kind": (
        ("1 1 2",),
        {"kind": "reel general"},
        r"begins with .*'%%MatrixMarket matrix coord.* reel",
    ),
    "size": (
        ("1 1 2",),
        {"size": ("3 3 3", 3)},
        r"a line of rows, columns and entries .* got line 3",
    ),
    "rows": (("1 1 2",), {"size": (3 * 10**12, 3)}, r"sizes up to \d+, .* got 3000000000000 with"),
    "rows beyond memory": (("1 1 2",), {"size": (2**31 - 1, 3)}, r"rows that fit into memory, got"),
}


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """A machine with 4 GB free: what does not fit must not depend on the real one."""
    monkeypatch.setattr("geneig_adjoint.io.matrices.available_memory", lambda: 4e9)


@pytest.mark.failure("wrong Matrix Market file", through="api")
@pytest.mark.parametrize(("lines", "options", "message"), MARKET_ERRORS.values(), ids=MARKET_ERRORS)
@pytest.mark.parametrize("name", ["m.mtx", "m.mtx.gz"])
def test_damaged_market_file_is_refused(comm, folder, name, lines, options, message):
    path = on_root(comm, market, folder / name, *lines, **options)
    with pytest.raises(ga.InputError, match=message):
        read_matrix(path, comm)


HEAD = b"%%MatrixMarket matrix coordinate real general\n"
DENSE = b"%%MatrixMarket matrix array real symmetric\n"
PROMISED = r"must hold the \d+ entries that its header promises, got "
GZIPPED = gzip.compress(HEAD + b"3 3 1\n1 1 2.0\n" * 50, mtime=0)
FIRST = "must be a Matrix Market file that begins with .* got line 1, "
NO_MATRICES = {
    "empty": ("m.mtx", b"", FIRST + "''"),
    "text": ("m.mtx", b"hello\n", FIRST + "'hello'"),
    "UTF-16": ("m.mtx", HEAD.decode().encode("utf-16"), FIRST + ".*check name, format and encod"),
    "header only": ("m.mtx", HEAD, "with a line of rows, columns and entries .* got line 2, ''"),
    "fewer entries": ("m.mtx", HEAD + b"3 3 2\n1 1 2.0\n", PROMISED + "1; the file is cut short"),
    "more entries": (
        "m.mtx",
        HEAD + b"3 3 1\n1 1 2\n\n2 2 3",
        PROMISED + "more, .* line 5, '2 2 3'",
    ),
    "absurd": ("m.mtx", HEAD + b"2 2 100000000000000\n1 1 1\n", PROMISED + r"\d+ bytes for 2 x 2"),
    "absurd gz": (
        "m.mtx.gz",
        gzip.compress(HEAD + b"9999999 9999999 9999999\n"),
        PROMISED + r"\d+ by",
    ),
    "absurd array": ("m.mtx", DENSE + b"99999 99999\n1\n", PROMISED + r"\d+ bytes for 99999 x"),
    "long line": ("m.mtx", HEAD + b"3 3 1\n" + b" " * 9_000_000, "lines of at most 100000 charact"),
    "NUL": ("m.mtx", HEAD + b"3 3 1\n1 1 \0\n", r"got line 3, '1 1 \\x00'"),
    "not gzipped": ("m.mtx.gz", b"not gzipped", "gzipped and whole, got Not a gzipped file"),
    "gzip cut": ("m.mtx.gz", GZIPPED[:60], "gzipped and whole, got Compressed file ended"),
    "gzip sum": ("m.mtx.gz", GZIPPED[:-8] + b"12345678", "gzipped and whole, got CRC check failed"),
    "gzip damaged": (
        "m.mtx.gz",
        GZIPPED[:10] + b"\xff" * 9 + GZIPPED[19:],
        "gzipped and whole, got ",
    ),
    "short": ("m.bin", b"short", "must be a PETSc matrix, got 5 bytes; the file is cut short"),
    "market": ("m.bin", b"%%MatrixMarket matrix", r"got id 62320\d+.* must end in .mtx or .mtx.gz"),
}


@pytest.mark.parametrize(("name", "content", "message"), NO_MATRICES.values(), ids=NO_MATRICES)
def test_file_that_is_no_matrix_is_refused(comm, folder, name, content, message):
    on_root(comm, (folder / name).write_bytes, content)
    with pytest.raises(ga.InputError, match=message):
        read_matrix(folder / name, comm)


@pytest.mark.parametrize("name", ["no.mtx", "no.mtx.gz", "no.bin", "."])
def test_missing_file_is_named(comm, folder, name):
    with pytest.raises(ga.InputError, match=r"must be readable, got"):
        read_matrix(folder / name, comm)


BINARY_ERRORS = {
    "other build": ((OTHER,), {}, r"must have \d+ bytes for 5 .*written by the other scalar build"),
    "64-bit": (
        (SCALAR,),
        {"header": [0, 1211216, 0, 3, 0, 3, 0, 5]},
        r"32-bit indices.*got id 0.* of a PETSc with 64-bit indices: write it with 32-bit ones",
    ),
    "little-endian": (
        (SCALAR,),
        {"header": np.array([1211216, 3, 3, 5], "<i4").view(">i4")},
        r"got id 1350242816, .* little-endian numbers: PETSc's are big-endian",
    ),
    "vector": ((SCALAR,), {"header": [1211214, 3, 3, 5]}, r"got id 1211214, .*, a vector: write"),
    "dense": ((SCALAR,), {"header": [1211216, 3, 3, -1]}, r"-1 entries, a dense matrix: convert"),
    "rows": ((SCALAR,), {"header": [1211216, 0, 3, 5]}, r"got id 1211216, 0 x 3, 5 entries"),
    "entries": ((SCALAR,), {"header": [1211216, 3, 3, -1]}, r"3 x 3, -1 entries"),
    "absurd": ((SCALAR,), {"header": [1211216, 2**31 - 1, 3, 2**31 - 1]}, r"bytes.* cut short"),
    "lengths": ((SCALAR,), {"lengths": [3, 3, 0]}, r"row lengths that add up to 5, got 6"),
    "negative": ((SCALAR,), {"lengths": [3, -1, 3]}, r"add up to 5, got -1 in row 1"),
    "long row": ((SCALAR,), {"lengths": [0, 5, 0]}, r"lengths in 0 ... 3 .* got 5 in row 1"),
    "columns": ((SCALAR,), {"columns": [0, 2, 0, 1, 3]}, r"numbers in 0 ... 2, got 3 in row 2"),
    "negative column": ((SCALAR,), {"columns": [0, 2, -1, 1, 2]}, r"in 0 ... 2, got -1 in row 1"),
    "unsorted": (
        (SCALAR,),
        {"columns": [2, 0, 0, 1, 2]},
        r"rise within each row, got 2, 0 in row 0",
    ),
    "twice": ((SCALAR,), {"columns": [0, 2, 1, 1, 2]}, r"rise within each row, got 1, 1 in row 1"),
}


@pytest.mark.failure("wrong PETSc file", through="api")
@pytest.mark.parametrize(
    ("scalar", "changes", "message"), BINARY_ERRORS.values(), ids=BINARY_ERRORS
)
def test_damaged_binary_is_refused_before_any_rank_loads_it(comm, folder, scalar, changes, message):
    path = on_root(comm, petsc_binary, folder / "m.bin", MATRIX, *scalar, **changes)
    with pytest.raises(ga.InputError, match=message):
        read_matrix(path, comm)


@pytest.mark.failure("wrong PETSc file", through="api")
@pytest.mark.parametrize("missing", [1, 8, 44])
def test_truncated_binary_is_refused(comm, folder, missing):
    path = on_root(comm, petsc_binary, folder / "m.bin", MATRIX, SCALAR)
    on_root(comm, path.write_bytes, path.read_bytes()[:-missing] if comm.rank == 0 else b"")
    with pytest.raises(ga.InputError, match="it is cut short"):
        read_matrix(path, comm)


def read_complex(path, comm):
    mat = read_matrix(path, comm)
    array = dense(mat)
    mat.destroy()
    return array[0, 1]


def refused_complex(path, comm):
    with pytest.raises(ga.InputError, match="must be real in PETSc's real-scalar build"):
        read_matrix(path, comm)
    return 2.5 - 1j


# A file of complex entries is read in the one build and refused in the other.
@pytest.mark.parametrize("read", [refused_complex if REAL else read_complex])
def test_complex_entries_need_the_complex_build(comm, folder, read):
    lines = ("1 2 2.5 -1", "3 3 1 0", "2 2 1 0", "1 1 1 0")
    path = on_root(comm, market, folder / "m.mtx", *lines, kind="complex general")
    assert read(path, comm) == 2.5 - 1j

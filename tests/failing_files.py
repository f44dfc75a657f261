"""Input files of studies that go wrong: NaN, truncated, inconsistent, of other builds."""

import gzip
from dataclasses import replace

import numpy as np
from builders import REAL, stiffness
from failing_studies import Failing, study, value
from study_files import ELEMENTS, changed_table, market, market_array, petsc_binary

SCALAR, OTHER = ("f8", "c16") if REAL else ("c16", "f8")
MATRIX = stiffness(3)
FILES = (
    '[model]\nA = "A.%s"\n[solver]\ncount = 1\n[[objective]]\nname = "lam"\nkind = "eigenvalue"\n'
)
BOTH = FILES.replace("[solver]", 'B = "B.mtx"\n[solver]')
SYMMETRIC = {"kind": "real symmetric"}


def writes(name, write, *arguments, **options):
    """Return what writes one file into the folder of a study."""
    return lambda folder: write(folder / name, *arguments, **options)


def cut(missing):
    """Return what writes a binary without its last bytes."""

    def write(path):
        petsc_binary(path, MATRIX, SCALAR)
        path.write_bytes(path.read_bytes()[:-missing])

    return write


def refused(row, message, text, name, write, *arguments, **options):
    files = writes(name, write, *arguments, **options)
    return Failing(row, 3, (f"geneig-adjoint: .*{message}",), text=text, files=files)


def on_ranks(case):
    return replace(case, ranks=True)


def wrong_market(message, *lines, **options):
    row = "wrong Matrix Market file"
    return refused(row, rf"A\.mtx.*{message}", FILES % "mtx", "A.mtx", market, *lines, **options)


def wrong_bytes(message, name, content):
    row = "wrong Matrix Market file"
    return refused(row, message, FILES % name, f"A.{name}", lambda path: path.write_bytes(content))


def wrong_binary(message, scalar=SCALAR, **changes):
    text = FILES % "bin"
    return refused(
        "wrong PETSc file", rf"A\.bin.*{message}", text, "A.bin", petsc_binary, MATRIX, scalar,
        **changes,
    )  # fmt: skip


def wrong_table(row, message, change):
    return refused(row, rf"elements\.h5.*{message}", ELEMENTS, "elements.h5", changed_table, change)


def entry(name, place, number):
    """Return what changes one number of an element table."""

    def change(file):
        file[name][place] = number

    return change


def no_elements(file):
    """Take dof 0 out of its elements."""
    for block in file["blocks"].values():
        block["dofs"][0:2, :] = [[-1, -1], [-1, 1]]


def shorter(name):
    def change(file):
        values = file[name][()][:-1]
        del file[name]
        file[name] = values

    return change


HEAD = b"%%MatrixMarket matrix coordinate real general\n"
ABSURD = HEAD + b"2 2 100000000000000\n1 1 1\n"
CONFLICT = r"'3 2 1', .*\(3, 2\), after line 5"

MARKET = {
    "both triangles": wrong_market(
        r"line 5, '1 2 4'.*\(1, 2\).*one triangle only", "2 1 4", "1 2 4", "3 3 1", **SYMMETRIC
    ),
    "duplicates": on_ranks(wrong_market(f"line 6, {CONFLICT}", "1 1 2", "3 2 1", "3 2 1")),
    "no number": wrong_market(r"line 5, '2 2 two'", "1 1 2", "2 2 two"),
    "row": wrong_market(r"rows in 1 ... 3.*got line 4, '4 1 2'; count from 1", "4 1 2"),
    "absurd": wrong_bytes(r"promises, got \d+ bytes for 2 x 2", "mtx", ABSURD),
    "absurd, gzipped": wrong_bytes(r"promises, got \d+ byt", "mtx.gz", gzip.compress(ABSURD)),
    "cut short": wrong_bytes(r"promises, got 1; .*cut short", "mtx", HEAD + b"3 3 2\n1 1 2.0\n"),
    "Fortran": Failing(
        "wrong Matrix Market file", 0,
        text=FILES % "mtx",
        files=writes("A.mtx", market, "1 1 2.5D-1", "2 2 1.0d0", "3 3 3D+0"),
        failures={}, values=(0.25,), gradients=("lam",),
    ),
}  # fmt: skip
BINARY = {
    "truncated": refused("wrong PETSc file", r"A\.bin.*cut short", FILES % "bin", "A.bin", cut(8)),
    "other build": on_ranks(wrong_binary("written by the other scalar build", OTHER)),
    "64-bit": wrong_binary(
        "32-bit indices.* write it with 32-bit ones", header=[0, 1211216, 0, 3, 0, 3, 0, 7]
    ),
    "absurd": wrong_binary("bytes.* cut short", header=[1211216, 2**31 - 1, 3, 2**31 - 1]),
    "little-endian": wrong_binary(
        "little-endian", header=np.array([1211216, 3, 3, 7], "<i4").view(">i4")
    ),
}
NUMBERS = {
    "market": refused(
        "nan", r"A\.mtx.*got 1 NaN or Inf.*line 5, '2 3 nan' at .*\(2, 3\)",
        FILES % "mtx", "A.mtx", market, "1 1 2", "2 3 nan",
    ),
    "binary": refused(
        "nan", r"A\.bin must hold finite .*got 1 NaN or Inf, the first at row 1 and column 1",
        FILES % "bin", "A.bin", petsc_binary, MATRIX + np.diag([0, np.nan, 0]), SCALAR,
    ),
    "elements": wrong_table(
        "nan", r"NaN or Inf at element 7 of /blocks/1 and 0 more of those read",
        entry("blocks/1/matrices", (7, 0, 0), np.nan),
    ),
    "parameter of a table": wrong_table(
        "nan", r"'k' must be finite, got nan at entry 4 of /parameters/k and 0 more",
        entry("parameters/k", 4, np.nan),
    ),
    "kernel": Failing(
        "nan", 3, (r"NaN or Inf in .* elements of block 0, the first is element \d",),
        model="poisoned", text=study("", 'method = "matrices"', lam=value()),
        ranks=True,
    ),
    "derivative": Failing(
        "nan", 3, (r"contract must return finite numbers, got nan at entry 5 of 'k'",),
        model="poisoned", text=study("", 'method = "vjp"', lam=value()),
    ),
    "parameter of a study": Failing(
        "nan", 3, (r"parameter 'k' must be finite, got nan at entry 0 and 8 more",),
        text=ELEMENTS + "[parameters]\nk = nan\n",
    ),
}  # fmt: skip
SHAPES = {
    "A and B": Failing(
        "shapes", 3, (r"B.mtx must be square, with the 4 rows of A = 'A.mtx', got 3 x 3",),
        text=BOTH % "mtx",
        files=lambda folder: [
            market_array(folder / f"{name}.mtx", stiffness(n)) for name, n in [("A", 4), ("B", 3)]
        ],
    ),
    "not square": refused(
        "shapes", r"A\.mtx must be square, .* got 3 x 4", FILES % "mtx", "A.mtx", market, "1 1 2",
        size=(3, 4),
    ),
    "dof": wrong_table(
        "shapes", r"got 12 at element 3 of /blocks/0 and 0 more", entry("blocks/0/dofs", (3, 1), 12)
    ),
    "orphan": Failing(
        "shapes", 3, (r"every dof must belong to an element, got dof 0 and 0 more",),
        text=ELEMENTS, files=writes("elements.h5", changed_table, no_elements),
    ),
    "id": on_ranks(
        wrong_table("shapes", r"got 9 at element 8 of /blocks/1", entry("blocks/1/ids", 8, 9))
    ),
    "short": wrong_table("shapes", r"'k'.* 8 entries, got 8 at element 8", shorter("parameters/k")),
    "length": Failing(
        "shapes", 2, (r"\[parameters\].*k.* 9 .*got 2",),
        text=ELEMENTS + "[parameters]\nk = [1.0, 2.0]\n",
    ),
    "derivative": Failing(
        "shapes", 3, (r"dA.mtx must be square, with the 4 rows of A = 'A.mtx', got 3 x 3",),
        text=FILES % "mtx" + '[[derivative]]\nname = "p"\nA = "dA.mtx"\n',
        files=lambda folder: [
            market_array(folder / f"{name}.mtx", stiffness(n)) for name, n in [("A", 4), ("dA", 3)]
        ],
    ),
}  # fmt: skip

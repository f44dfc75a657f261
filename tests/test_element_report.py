"""What `check_elements` says about a table, and which tables are read."""

import functools
import subprocess

import h5py
import numpy as np
import pytest
from builders import REAL, dense
from fuzzed_files import plain_table
from study_files import N, P, chain_blocks, chain_mesh, chain_pencil, changed_table, write_chain

import geneig_adjoint as ga
from geneig_adjoint.builds import LARGEST_INDEX
from geneig_adjoint.io import check_elements, read_elements, write_elements


def test_report_of_a_good_table(tmp_path):
    report = check_elements(write_chain(tmp_path / "elements.h5", chain_mesh()))
    assert str(report).splitlines() == [
        "8 free dofs",
        "/blocks/0: 9 elements of 2 dofs in A, one real, PowerLaw(p=2.0, floor=0.01) of 'k'",
        "/blocks/1: 9 elements of 2 dofs in B, real, Linear() of 'm'",
        "parameter 'k': 9 entries",
        "parameter 'm': 9 entries",
    ]
    assert report.notes == ()


def entry(name, place, value):
    return lambda file: file[name].__setitem__(place, value)


def longer(file):
    del file["parameters/m"]
    file["parameters/m"] = np.ones(12)


ODD = {
    "one-sided": (
        entry("blocks/1/matrices", (3, 0, 1), 0.5),
        "1 matrices that are not Hermitian of /blocks/1, the first is 3",
    ),
    "shared": (
        entry("blocks/0/matrices", (0, 1), 0.5),
        "1 matrices that are not Hermitian of /blocks/0, the first is 0",
    ),
    "twice": (entry("blocks/1/dofs", 4, [4, 4]), "1 elements with a dof twice of /blocks/1, the f"),
    "only in A": (
        entry("blocks/1/dofs", slice(3, 5), [[2, -1], [-1, 4]]),
        "1 dofs without an element of B, the first is 3",
    ),
    "only in B": (
        entry("blocks/0/dofs", slice(3, 5), [[2, -1], [-1, 4]]),
        "1 dofs without an element of A, the first is 3",
    ),
    "unused": (longer, "3 entries without an element of parameter 'm', the first is 9"),
}


@pytest.mark.parametrize(("change", "note"), ODD.values(), ids=ODD)
def test_oddities_are_noted_with_their_place(tmp_path, comm, change, note):
    path = changed_table(tmp_path / "elements.h5", change)
    report = check_elements(path)
    assert [found for found in report.notes if found.startswith(note)]
    assert f"note: {note}" in str(report)
    read_elements(path, comm)


def test_more_rows_than_can_be_counted_are_refused_with_the_file(tmp_path, comm):
    rows = LARGEST_INDEX + 1
    path = changed_table(tmp_path / "elements.h5", lambda file: file.attrs.modify("n", rows))
    with pytest.raises(ga.InputError, match=rf"{path}: .* counts to .*, got {rows:,} rows"):
        read_elements(path, comm)


def test_table_is_looked_at_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("geneig_adjoint.io.element_checks.PIECE", 8)  # two elements
    path = changed_table(tmp_path / "elements.h5", entry("blocks/1/matrices", (7, 0, 0), np.nan))
    with pytest.raises(ga.InputError, match="got NaN or Inf at element 7 of /blocks/1"):
        check_elements(path)
    path = changed_table(tmp_path / "elements.h5", entry("blocks/1/matrices", (7, 0, 1), 3.0))
    assert check_elements(path).notes[0].endswith("the first is 7")


def changed_block(**changes):
    return ga.ElementBlock(**(vars(chain_blocks()[0]) | changes))


WRONG = {
    "dof": (changed_block(dofs=np.full((9, 2), N)), r"got 8 at element 0 of /blocks/1"),
    "id": (changed_block(parameters={"k": np.arange(1, 10)}), r"got 9 at element 8 of /blocks/1"),
    "nan": (changed_block(kernel=ga.ScaledKernel([[np.nan, 0], [0, 1]])), r"share"),
    "shape": (changed_block(kernel=ga.ScaledKernel(np.eye(3))), r"matrices of 2 x 2 as dofs has"),
    "parameter": (changed_block(parameters={"l": np.arange(9)}), r"/parameters \(k, m\), got 'l'"),
    "matrix": (changed_block(matrix="C"), r'matrix must be "A" or "B", got .C'),
}


@pytest.mark.parametrize(("block", "message"), WRONG.values(), ids=WRONG)
def test_table_that_could_not_be_read_is_not_written(tmp_path, block, message):
    with pytest.raises(ga.InputError, match=message):
        write_elements(tmp_path / "elements.h5", N, [chain_blocks()[1], block], P)
    assert list(tmp_path.iterdir()) == []


def check_chain(path, comm):
    model, p, _ = read_elements(path, comm)
    with model, model.assemble(p) as pencil:
        # The elements are added up in another order: a few roundings.
        for mat, expected in zip((pencil.A, pencil.B), chain_pencil(P), strict=True):
            np.testing.assert_allclose(dense(mat), expected, rtol=1e-15, atol=1e-15)


def test_table_of_another_code_is_read(tmp_path, comm):
    path = plain_table(tmp_path / "elements.h5")
    assert check_elements(path).notes == ()
    check_chain(path, comm)


def other_types(file):
    """Store everything as codes in Fortran or MATLAB do: short integers, arrays of one entry."""
    file.attrs["n"], file.attrs["version"] = np.array([[8]], dtype="i4"), np.array([1], dtype="u2")
    for group in file["blocks"].values():
        for name in ("matrix", "law", "parameter"):
            group.attrs[name] = np.array([group.attrs[name]])
        for name, kind in (("dofs", ">i4"), ("ids", "u2")):
            values = group[name][()]
            del group[name]
            group.create_dataset(name, data=values.astype(kind), compression="gzip")


def test_integers_and_texts_may_be_of_any_kind(tmp_path, comm):
    path = changed_table(tmp_path / "elements.h5", other_types)
    check_elements(path)
    check_chain(path, comm)


@pytest.mark.parametrize("name", ["dofs", "ids", "matrices"])
def test_changed_byte_of_data_is_noticed(tmp_path, comm, name):
    path = write_chain(tmp_path / "elements.h5")
    with h5py.File(path) as file:
        place = file["blocks/1"][name].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 17] ^= 1
    path.write_bytes(bytes(content))
    for read in (check_elements, functools.partial(read_elements, comm=comm)):
        with pytest.raises(ga.InputError, match=r"got OSError: .*; its checksums do not fit"):
            read(path)


def complex_table(path):
    hermitian = np.array([[2.0, 1j], [-1j, 1.0]])
    first, second = chain_blocks()
    block = ga.ElementBlock("A", first.dofs, ga.ScaledKernel(hermitian), first.parameters)
    write_elements(path, N, [block, second], P)


def read_complex(path, comm):
    complex_table(path)
    assert "one complex" in str(check_elements(path))
    model, p, _ = read_elements(path, comm)
    with model, model.assemble(p) as pencil:
        return dense(pencil.A)[0, 1]


def refused_complex(path, comm):
    with pytest.raises(ga.InputError, match=r"/blocks/0 must be real in PETSc's real-scalar buil"):
        complex_table(path)
    return P["k"][1] * 1j


@pytest.mark.parametrize("read", [refused_complex if REAL else read_complex])
def test_complex_matrices_need_the_complex_build(tmp_path, comm, read):
    assert read(tmp_path / "elements.h5", comm) == P["k"][1] * 1j


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ("import time; time.sleep(60)", "got no end after 0.5 s when it was opened"),
        ("import os; os.abort()", r"got a crash of HDF5 \(SIGABRT\) when it was opened"),
    ],
)
def test_file_in_which_hdf5_hangs_or_crashes_is_refused(tmp_path, comm, monkeypatch, look, message):
    monkeypatch.setattr("geneig_adjoint.io.hdf5_probe.LOOK", look)
    monkeypatch.setattr("geneig_adjoint.io.hdf5_probe.SECONDS", 0.5)
    path = plain_table(tmp_path / "elements.h5")
    for read in (check_elements, functools.partial(read_elements, comm=comm)):
        with pytest.raises(ga.InputError, match=message):
            read(path)


def long_text(file):
    file["blocks/0"].attrs["law"] = "power"


@pytest.mark.parametrize(
    ("write", "count"),
    [(write_chain, 0), (plain_table, 1), (lambda path: changed_table(path, long_text), 1)],
    ids=["checksums", "none", "long text"],
)
def test_files_without_checksums_are_looked_through_first(
    tmp_path, comm, monkeypatch, write, count
):
    calls, run = [], subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **kw: calls.append(args) or run(*args, **kw)
    )
    path = write(tmp_path / "elements.h5")
    calls.clear()
    read_elements(path, comm)
    assert len(calls) == count

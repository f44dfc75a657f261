"""Files with random damage, and what independent readers see in them."""

import ast
import gzip
import struct
import tomllib

import h5py
import numpy as np
import pytest
from builders import REAL
from damaged_bytes import damaged, damages
from hypothesis import HealthCheck, given, settings
from petsc4py import PETSc
from study_files import ELEMENTS, P, chain_blocks, chain_mesh, market, petsc_binary, write_chain
from table_readers import REFUSED, TableReaders

import geneig_adjoint as ga
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io import read_matrix, read_vector
from geneig_adjoint.study.settings import read_study

SCALAR = "f8" if REAL else "c16"


def campaign(examples, **options):
    """Return settings of hypothesis for so many damaged files, however long they take."""
    unhurried = {"deadline": None, "suppress_health_check": list(HealthCheck)}
    return settings(max_examples=examples, database=None, **unhurried, **options)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """A machine with little memory: sizes that a damaged header promises must not be tried."""
    monkeypatch.setattr("geneig_adjoint.io.matrices.available_memory", lambda: 1e8)


@pytest.fixture(scope="module")
def readers():
    """Processes that read damaged tables."""
    found = TableReaders()
    yield found
    found.close()


ENTRIES = {
    "real": ("1 1 2.5", "2 1 -.25D-1", "3 1 1e-3", "2 2 12.5", "4 3 7", "12 11 1.5E+2", "12 12 3"),
    "integer": ("2 1 4", "3 1 -7", "4 2 12", "12 11 30"),
    "pattern": ("1 1", "2 1", "3 1", "12 12"),
    "complex": ("1 1 2.5 0", "2 1 -.25D-1 1e-3", "3 1 1e-3 2", "12 11 1.5E+2 -1", "12 12 3 0"),
}


def market_content(path, kind):
    """Return a Matrix Market file of some kind."""
    return market(path, *ENTRIES[kind.split()[0]], kind=kind, size=(12, 12)).read_bytes()


def refused(path, error):
    """Return REFUSED for an error that names the file, or a part of a study."""
    assert str(path) in str(error) or isinstance(error, StudyError)
    return REFUSED


def read_entries(path, comm):
    """Return shape and entries as the package reads them, or REFUSED."""
    try:
        mat = read_matrix(path, comm)
    except ga.InputError as error:
        return refused(path, error)
    offsets, columns, values = mat.getValuesCSR()
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    shape = tuple(mat.getSize())
    mat.destroy()
    places = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert len(set(places)) == len(places)
    return shape, dict(zip(places, values.tolist(), strict=True))


def market_entries(path):
    """Return what a Matrix Market file says, word by word."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        lines = stream.read().decode("latin-1").split("\n")
    _, _, _, field, symmetry = lines[0].lower().split()
    words = [line.split() for line in lines[1:] if line.strip() and line.lstrip()[0] != "%"]
    sizes = [int(word) for word in words[0]]
    entries = {}
    for row, column, *numbers in words[1:]:
        parts = [float(word.lower().replace("d", "e")) for word in numbers]
        value = complex(*parts) if field == "complex" else ([*parts, 1.0])[0]
        i, j = int(row) - 1, int(column) - 1
        assert (i, j) not in entries
        assert 0 <= i < sizes[0]
        assert 0 <= j < sizes[1]
        entries[i, j] = value
        image = {"symmetric": value, "skew-symmetric": -value, "hermitian": np.conj(value)}
        if symmetry != "general" and i != j:
            assert (j, i) not in entries
            entries[j, i] = image[symmetry]
    assert len(words) - 1 == sizes[2]
    return tuple(sizes[:2]), entries


def binary_content(path):
    """Return a PETSc binary file of this build."""
    array = np.diag(np.arange(1.0, 9.0)) + np.diag(np.full(6, 0.5), 2) - np.diag(np.ones(3), -5)
    return petsc_binary(path, array, SCALAR).read_bytes()


def binary_entries(path):
    """Return what a PETSc binary file says, number by number."""
    data = path.read_bytes()
    identity, rows, columns, count = struct.unpack(">4i", data[:16])
    assert identity == 1211216
    lengths = struct.unpack(f">{rows}i", data[16 : 16 + 4 * rows])
    rest = data[16 + 4 * rows :]
    numbers = struct.unpack(f">{count}i", rest[: 4 * count])
    width = np.dtype(PETSc.ScalarType).itemsize // 8
    values = np.array(struct.unpack(f">{width * count}d", rest[4 * count :])).reshape(count, width)
    assert sum(lengths) == count
    row_of = [i for i, length in enumerate(lengths) for _ in range(length)]
    scalars = [complex(*value) if width == 2 else value[0] for value in values.tolist()]
    places = list(zip(row_of, numbers, strict=True))
    return (rows, columns), dict(zip(places, scalars, strict=True))


def check_vector(path, comm):
    """Compare a vector with what its file says; tell whether it was read."""
    try:
        found = read_vector(path, (0, 8), 8, comm)
    except ga.InputError as error:
        return refused(path, error) != REFUSED
    data = path.read_bytes()
    (length,) = struct.unpack("<H", data[8:10]) if data[6] == 1 else struct.unpack("<I", data[8:12])
    start = (10 if data[6] == 1 else 12) + length
    header = ast.literal_eval(data[start - length : start].decode("latin-1"))
    assert header["shape"] == (8,)
    expected = np.frombuffer(data[start:], dtype=header["descr"])
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).all()
    return True


TOML = ELEMENTS + '[adjoint]\nrtol = 1e-9\n[output]\ndirectory = "ü"\nvectors = true\n'


def check_study_file(path):
    """Compare a study with its tables; tell whether it was read."""
    try:
        study = read_study(path)
    except StudyError as error:
        return refused("study.toml", error) != REFUSED
    tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    assert study.model == tables["model"]
    assert study.solver == tables.get("solver", {})
    assert study.objectives == tables["objective"]
    return True


def plain_table(path):
    """Write the chain as a code without this package would: HDF5's oldest format, no checksums."""
    mesh = chain_mesh()
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "geneig_adjoint elements", "version": 1, "n": 8})
        for index, block in enumerate(chain_blocks()):
            name = next(iter(block.parameters))
            group = file.create_group(f"blocks/{index}")
            group.attrs.update({"matrix": block.matrix, "parameter": name})
            laws = [{"law": "power", "exponent": 2.0, "floor": 0.01}, {"law": "linear"}]
            group.attrs.update(laws[index])
            group["dofs"], group["ids"] = block.dofs, block.parameters[name]
            group["matrices"] = block.kernel.base
        for name, values in P.items():
            file[f"parameters/{name}"] = values
        file["mesh/points"], file["mesh/dofs"] = mesh.points, mesh.dofs
        file["mesh/cells/0"] = mesh.cells[0][1]
        file["mesh/cells/0"].attrs["type"] = "line"
    return path


def matrix_case(path, comm, says):
    found = read_entries(path, comm)
    assert found == REFUSED or found == says(path)
    return found != REFUSED


def market_campaign(name, kind):
    """Return (folder, comm, readers) -> file, content, check, for Matrix Market files."""

    def campaign(folder, comm, readers):
        path = folder / name
        return path, market_content(path, kind), lambda: matrix_case(path, comm, market_entries)

    return campaign


def binary_campaign(folder, comm, readers):
    path = folder / "m.bin"
    return path, binary_content(path), lambda: matrix_case(path, comm, binary_entries)


def vector_campaign(folder, comm, readers):
    path = folder / "v.npy"
    np.save(path, np.linspace(0.5, 2.0, 8))
    return path, path.read_bytes(), lambda: check_vector(path, comm)


def study_campaign(folder, comm, readers):
    path = folder / "study.toml"
    return path, TOML.encode(), lambda: check_study_file(path)


def checked_table_campaign(folder, comm, readers):
    path = write_chain(folder / "elements.h5", chain_mesh())
    original = readers.read(path)
    assert len(original) == 64

    def check():
        found = readers.read(path)
        assert found in {REFUSED, original}, found
        return found == original

    return path, path.read_bytes(), check


def plain_table_campaign(folder, comm, readers):
    path = plain_table(folder / "elements.h5")

    def check():
        found = readers.read(path)
        assert found == REFUSED or len(found) == 64, found
        return found != REFUSED

    return path, path.read_bytes(), check


KINDS = {
    "real": ["real general", "real symmetric", "integer skew-symmetric", "pattern symmetric"],
    "complex": ["real general", "complex hermitian"],
}
CAMPAIGNS = {
    **{kind: market_campaign("m.mtx", kind) for kind in KINDS["real" if REAL else "complex"]},
    "gzipped": market_campaign("m.mtx.gz", "real symmetric"),
    "PETSc binary": binary_campaign,
    "vector": vector_campaign,
    "study": study_campaign,
    "table with checksums": checked_table_campaign,
    "table without checksums": plain_table_campaign,
}


SLOW = {"table without checksums": 10}
"""Campaigns that start a process for every case, unless it is forked: fewer cases by so much."""


def fuzz(name, folder, comm, *, readers, how):
    """Check many damaged versions of a file; return how many there were, and were read."""
    count = how.max_examples // (1 if readers.forked else SLOW.get(name, 1))
    path, content, check = CAMPAIGNS[name](folder, comm, readers)
    path.write_bytes(content)
    assert check()
    read = []

    @settings(how, max_examples=count)
    @given(damages())
    def cases(changes):
        path.write_bytes(damaged(content, changes))
        read.append(check())

    cases()
    assert len(read) >= count
    return len(read), sum(read)

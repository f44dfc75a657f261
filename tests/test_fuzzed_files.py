"""Damaged files are refused, or read as what they say now: no crash, no hang, no silent error."""

import functools

import numpy as np
import pytest
from builders import REAL
from fuzzed_files import (
    REFUSED,
    TABLES,
    TOML,
    TableReaders,
    binary_content,
    binary_entries,
    check_study_file,
    check_vector,
    damaged,
    market_content,
    market_entries,
    read_entries,
    table_content,
)
from hypothesis import HealthCheck, given, settings

QUICK = settings(
    max_examples=120,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """A machine with little memory: sizes that a damaged header promises must not be tried."""
    monkeypatch.setattr("geneig_adjoint.io.matrices.available_memory", lambda: 1e8)


def fuzz(content, check, how):
    """Check many damaged versions; return how many were read."""
    read = []

    @how
    @given(damaged(content))
    def cases(changed):
        read.append(check(changed))

    cases()
    return sum(read), len(read)


def matrix_case(path, comm, says, changed):
    path.write_bytes(changed)
    found = read_entries(path, comm)
    if found == REFUSED:
        return False
    assert found == says(path)
    return True


KINDS = ["real general", "real symmetric", "integer skew-symmetric", "pattern symmetric"]
KINDS += [] if REAL else ["complex hermitian"]


@pytest.mark.parametrize("name", ["m.mtx", "m.mtx.gz"])
@pytest.mark.parametrize("kind", ["real general", "real symmetric"])
def test_market_files(tmp_path, comm, kind, name, how=QUICK):
    content = market_content(tmp_path, name, kind)
    check = functools.partial(matrix_case, tmp_path / name, comm, market_entries)
    assert check(content)
    fuzz(content, check, how)


def test_petsc_binaries(tmp_path, comm, how=QUICK):
    content = binary_content(tmp_path)
    check = functools.partial(matrix_case, tmp_path / "m.bin", comm, binary_entries)
    assert check(content)
    fuzz(content, check, how)


def test_vectors(tmp_path, comm, how=QUICK):
    np.save(tmp_path / "v.npy", np.linspace(0.5, 2.0, 8))
    path = tmp_path / "v.npy"

    def check(changed):
        path.write_bytes(changed)
        return check_vector(path, comm)

    fuzz(path.read_bytes(), check, how)


def test_study_files(tmp_path, how=QUICK):
    path = tmp_path / "study.toml"

    def check(changed):
        path.write_bytes(changed)
        return check_study_file(path)

    assert check(TOML.encode())
    fuzz(TOML.encode(), check, how)


@pytest.fixture(scope="module")
def readers():
    found = TableReaders()
    yield found
    found.close()


def test_tables_with_checksums_are_refused_or_what_they_were(tmp_path, readers, how=QUICK):
    content = table_content(tmp_path, TABLES["checked"])
    path = tmp_path / "elements.h5"
    original = readers.read(path)
    assert len(original) == 64

    def check(changed):
        path.write_bytes(changed)
        found = readers.read(path)
        assert found in {REFUSED, original}
        return found == original

    fuzz(content, check, how)


def test_tables_without_checksums_are_refused_or_what_hdf5_reads(tmp_path, readers, how=QUICK):
    content = table_content(tmp_path, TABLES["plain"])
    path = tmp_path / "elements.h5"

    def check(changed):
        path.write_bytes(changed)
        found = readers.read(path)
        assert found == REFUSED or len(found) == 64
        return found != REFUSED

    assert check(content)
    fuzz(content, check, how)

"""Damaged files, 10,000 of most kinds, with new random numbers in every run."""

import time

import pytest
from fuzzed_files import CAMPAIGNS, fuzz
from hypothesis import HealthCheck, settings
from table_readers import TableReaders

LONG = settings(
    max_examples=10_000,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """A machine with little memory: sizes that a damaged header promises must not be tried."""
    monkeypatch.setattr("geneig_adjoint.io.matrices.available_memory", lambda: 1e8)


@pytest.fixture(scope="module")
def readers():
    found = TableReaders()
    yield found
    found.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_damaged_files_are_refused_or_read_as_they_are(tmp_path, comm, readers, name, capsys):
    start = time.perf_counter()
    cases, read = fuzz(name, tmp_path, comm, readers=readers, how=LONG)
    with capsys.disabled():
        print(f"\n{name}: {cases} damaged files, {read} read, {time.perf_counter() - start:.0f} s")

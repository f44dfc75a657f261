"""Damaged files are refused, or read as what they say now: no crash, no hang, no silent error.

`tests/soak/test_fuzz_files.py` does the same 10,000 times.
"""

import pytest
from fuzzed_files import CAMPAIGNS, fuzz
from hypothesis import HealthCheck, settings
from table_readers import TableReaders

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


@pytest.fixture(scope="module")
def readers():
    found = TableReaders()
    yield found
    found.close()


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_damaged_files_are_refused_or_read_as_they_are(tmp_path, comm, readers, name):
    fuzz(name, tmp_path, comm, readers=readers, how=QUICK)


def test_a_reader_that_hangs_is_noticed(tmp_path):
    impatient = TableReaders(seconds=0.01)
    assert impatient.read(tmp_path / "x.h5") == "process hung for 0.01 s"

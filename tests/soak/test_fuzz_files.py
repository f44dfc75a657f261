"""Damaged files, 10,000 of every kind, with new random numbers in every run."""

import time

import pytest
from fuzzed_files import CAMPAIGNS, campaign, fuzz, small_machine
from table_readers import TableReaders

__all__ = ["small_machine"]  # fixture of every test
LONG = campaign(10_000, print_blob=True)


@pytest.fixture(scope="module")
def readers():
    """Processes that read damaged tables; those that look at them first are forks."""
    found = TableReaders(forked=True)
    yield found
    found.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_damaged_files_are_refused_or_read_as_they_are(
    tmp_path, comm, readers, name, report, scalar_build
):
    start = time.perf_counter()
    cases, read = fuzz(name, tmp_path, comm, readers=readers, how=LONG)
    seconds = time.perf_counter() - start
    report(f"{name}, {scalar_build}: {cases} damaged files, {read} read, {seconds:.0f} s")

"""Damaged files, 10,000 of most kinds, with new random numbers in every run."""

import time

import pytest
from fuzzed_files import CAMPAIGNS, campaign, fuzz, readers, small_machine

__all__ = ["readers", "small_machine"]  # fixtures of every test
LONG = campaign(10_000, print_blob=True)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_damaged_files_are_refused_or_read_as_they_are(tmp_path, comm, readers, name, capsys):
    start = time.perf_counter()
    cases, read = fuzz(name, tmp_path, comm, readers=readers, how=LONG)
    with capsys.disabled():
        print(f"\n{name}: {cases} damaged files, {read} read, {time.perf_counter() - start:.0f} s")

"""Damaged files are refused, or read as what they say now: no crash, no hang, no silent error.

`tests/soak/test_fuzz_files.py` does the same 10,000 times.
"""

import h5py
import numpy as np
import pytest
from fuzzed_files import CAMPAIGNS, campaign, fuzz, plain_table, readers, small_machine
from table_readers import TableReaders

__all__ = ["readers", "small_machine"]  # fixtures of every test


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_damaged_files_are_refused_or_read_as_they_are(tmp_path, comm, readers, name):
    fuzz(name, tmp_path, comm, readers=readers, how=campaign(120, derandomize=True))


def test_a_reader_that_hangs_is_noticed(tmp_path):
    impatient = TableReaders(seconds=0.01)
    assert impatient.read(tmp_path / "x.h5") == "process hung for 0.01 s"


@pytest.mark.parametrize("kind", [">f8", ">f4", ">i2"])
def test_numbers_of_another_byte_order_or_size_are_the_same(tmp_path, readers, kind):
    path = plain_table(tmp_path / "elements.h5")
    with h5py.File(path, "r+") as file:
        given = np.round(6 * file["blocks/1/matrices"][()])
        del file["blocks/1/matrices"]
        file["blocks/1/matrices"] = given
    expected = readers.read(path)
    with h5py.File(path, "r+") as file:
        del file["blocks/1/matrices"]
        file["blocks/1/matrices"] = given.astype(kind)
    assert len(expected) == 64
    assert readers.read(path) == expected

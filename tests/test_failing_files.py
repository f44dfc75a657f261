"""Wrong input files through the command line: refused before any work, the old results stay."""

import pytest
from failing_files import BINARY, MARKET, NUMBERS, SHAPES
from failing_studies import ends_as_it_must, params


@pytest.mark.parametrize("case", params(MARKET, BINARY, NUMBERS, SHAPES))
def test_study_ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys):
    ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys)

"""Failures of the table through the command line on several ranks: one message, the same code."""

import pytest
from failing_files import BINARY, MARKET, NUMBERS, SHAPES
from failing_jobs import JOBS, SMALL, USERS
from failing_pencils import PENCILS
from failing_studies import ends_as_it_must, params

ALL = params(PENCILS, MARKET, BINARY, NUMBERS, SHAPES, USERS, JOBS, SMALL, ranks=True)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", ALL)
def test_study_ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys):
    ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys)

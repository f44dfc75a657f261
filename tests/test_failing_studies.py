"""Every failure of the table through the command line: code, message, and what is left on disk."""

import pytest
from failing_pencils import PENCILS
from failing_studies import ends_as_it_must, params


@pytest.mark.parametrize("case", params(PENCILS))
def test_study_ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys):
    ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys)

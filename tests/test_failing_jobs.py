"""Jobs that go wrong through the command line: codes, messages, and what is kept."""

import pytest
from failing_jobs import JOBS, SMALL, USERS
from failing_studies import ends_as_it_must, params
from study_files import result


@pytest.mark.parametrize("case", params(USERS, JOBS, SMALL))
def test_study_ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys):
    ends_as_it_must(case, comm, tmp_path, monkeypatch, capsys)


@pytest.mark.failure("small problems", through="command")
def test_what_has_no_effect_has_the_gradient_zero(comm, tmp_path, monkeypatch, capsys):
    ends_as_it_must(SMALL["one row"], comm, tmp_path, monkeypatch, capsys)
    assert result(tmp_path / "out")["gradients"]["lam"]["k"]["entries"] == [1.0, 0.0]

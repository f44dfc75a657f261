"""SIGKILL of a rank costs the step under way; fifty of them: tests/soak/test_kills.py."""

import pytest
from kills import HERE, campaign


@pytest.mark.failure("killed", through="command")
@pytest.mark.parametrize("seed", [3, pytest.param(5, marks=pytest.mark.any_scalars)])
def test_killed_run_goes_on(tmp_path, monkeypatch, seed):
    monkeypatch.syspath_prepend(HERE)
    assert len(campaign(tmp_path, seed, kills=1, seconds=0.5, pauses=[0.3])) == 1

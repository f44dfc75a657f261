"""Fifty kills of random ranks at random moments: nothing is lost, nothing is left behind."""

import pytest
from kills import HERE, campaign

KILLS = 50
TOGETHER = 2


@pytest.mark.timeout(1200)
def test_nothing_is_lost(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(HERE)
    left = []
    seed = 0
    while len(left) < KILLS:
        left += campaign(tmp_path / str(seed), seed, kills=TOGETHER)
        seed += 1
    with capsys.disabled():
        for text in sorted(set(left)):
            print(f"\n{left.count(text):>3} x left {text}", end="")

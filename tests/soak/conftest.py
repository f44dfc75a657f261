"""Long campaigns print their numbers: ``bash tests/run.sh --soak``."""

import os
from pathlib import Path

import pytest

TESTS = str(Path(__file__).parents[1])


@pytest.fixture(autouse=True)
def helpers_on_path(monkeypatch):
    """Let scripts import the helpers of the tests."""
    monkeypatch.setenv("PYTHONPATH", TESTS, prepend=os.pathsep)


@pytest.fixture
def report(capsys):
    """Print numbers past the capture."""

    def say(*numbers):
        with capsys.disabled():
            print("\n   ", *numbers, flush=True)

    return say

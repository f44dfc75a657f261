"""Long campaigns say what they will take, and print their numbers: ``tests/run.sh --soak``."""

import os
from pathlib import Path

import pytest

TESTS = str(Path(__file__).parents[1])
MINUTES = {
    "test_chains": (3, "2,160 pairs at exceptional points"),
    "test_disks": (2, "full disks, every file"),
    "test_estimates": (2, "estimates of 1,400 pencils against fifty digits"),
    "test_faults": (10, "a function of every stage fails, on each of three ranks"),
    "test_fuzz_files": (15, "10,000 damaged files of every kind"),
    "test_kills": (10, "50 SIGKILLs of random ranks"),
    "test_load": (10, "2,000,000 parameters; 8 and 12 ranks; a failing rank among 8"),
    "test_memory": (30, "300 rounds of every kind of work, on 1 rank and on 2"),
    "test_optimize_memory": (1, "300 iterations of a search"),
    "test_properties": (5, "1,000 random pencils for every property"),
}
"""What campaigns take, roughly, with one build on two idle cores, and what they do."""


def pytest_report_header():
    """Say beforehand what takes how long, and how to choose."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    lines = [f"{MINUTES[name][0]:>4} min  {name:<22}{MINUTES[name][1]}" for name in names]
    total = sum(MINUTES[name][0] for name in names)
    how = "one of them: bash tests/run.sh --soak -- -k test_disks"
    return [
        "campaigns, roughly, for each build on two idle cores:",
        *lines,
        f"{total:>4} min  in all; {how}",
    ]


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

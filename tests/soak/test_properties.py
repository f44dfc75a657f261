"""Thousands of random pencils, others every time; a failure prints how to see it again."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
EXAMPLES = 1000


@pytest.mark.timeout(3000)
def test_properties_of_thousands_of_pencils(report, scalar_build):
    seed = random.SystemRandom().randrange(2**32)
    report(f"{EXAMPLES} examples each, {scalar_build}: --hypothesis-seed={seed}")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--color=no", "--timeout=2500",
         f"--hypothesis-seed={seed}", str(TESTS / "test_properties.py")],
        env={**os.environ, "PROPERTY_EXAMPLES": str(EXAMPLES)},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    report(f"seed {seed}, {scalar_build}:", finished.stdout.splitlines()[-1])
    assert finished.returncode == 0, finished.stdout
    assert re.search(r"\d+ passed", finished.stdout)

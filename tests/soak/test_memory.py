"""300 rounds of everything in one process: no more memory than before."""

import sys
from pathlib import Path

import pytest
from loops import LOOPS

SCRIPT = str(Path(__file__).parents[1] / "loops.py")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", LOOPS)
def test_memory_of_300_rounds_is_flat(mpirun, report, scalar_build, name, ranks):
    result = mpirun(ranks, sys.executable, "-W", "ignore", SCRIPT, name, "300", timeout=800)
    assert result.returncode == 0, result.stderr
    slopes = [float(word) for word in result.stdout.split("slopes")[-1].split()]
    texts = ", ".join(f"{1e3 * slope:.2f}" for slope in slopes)
    report(f"{name}, {scalar_build}, ranks {ranks}: {texts} kB per round")
    assert len(slopes) == ranks
    assert max(slopes) < 0.1  # MB

"""300 rounds of everything in one process: no more memory than before."""

import sys
import time
from pathlib import Path

import pytest
from long_loops import LONG_LOOPS

SCRIPT = str(Path(__file__).parents[1] / "long_loops.py")
ROUNDS = 300
MB_PER_ROUND = 0.1


@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks", [1, 2], ids=["alone", "two"])
@pytest.mark.parametrize("name", LONG_LOOPS)
def test_memory_of_300_rounds_is_flat(mpirun, report, scalar_build, name, ranks):
    start = time.monotonic()
    words = [sys.executable, "-W", "ignore", SCRIPT, name, str(ROUNDS)]
    result = mpirun(ranks, *words, timeout=800)
    assert result.returncode == 0, result.stderr
    slopes, sizes = result.stdout.split("slopes")[-1].split("sizes")
    slopes = [float(word) for word in slopes.split()]
    texts = ", ".join(f"{1e3 * slope:.2f}" for slope in slopes)
    report(
        f"{name}, {scalar_build}, ranks {ranks}: {texts} kB per round at {sizes.split()[0]} MB, "
        f"{time.monotonic() - start:.0f} s"
    )
    assert len(slopes) == ranks
    assert max(slopes) < MB_PER_ROUND

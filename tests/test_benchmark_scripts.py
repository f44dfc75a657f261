"""Every script of the benchmarks runs from its command line, at a size that takes a second."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"
RUNS = {
    "contraction.py": ("--elements 200 --repeats 1", "contract"),
    "convection3d.py": ("--nodes 5 --count 2", "gradient"),
    "design_loop.py": ("--columns 8 --rows 4 --steps 3", "fresh"),
    "diffusion2d.py": ("--cells 12", "gradient"),
    "elasticity2d.py": ("--columns 8 --rows 4 --count 3", "gradient"),
    "elasticity3d.py": ("--cells 4 3 2 --count 3", "gradient"),
    "ranks.py": ("--columns 8 --rows 4 --repeat 1", "speed-up"),
    "messages.py": ("--size tiny", "reductions"),
}


@pytest.mark.any_scalars
@pytest.mark.parametrize("script", RUNS)
def test_script_prints_its_table(script):
    options, expected = RUNS[script]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options.split()],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert any(expected in row for row in rows), done.stdout


def test_every_script_is_run_here_or_by_tests_of_its_own():
    scripts = {path.name for path in BENCHMARKS.glob("*.py")}
    assert scripts == {*RUNS, "growth.py", "run.py", "steps.py"}

"""300 iterations of a search in one process: memory stays flat."""

import shutil
from pathlib import Path

import numpy as np

from geneig_adjoint.cli import main
from geneig_adjoint.study.search import Search

EXAMPLE = Path(__file__).parents[2] / "examples" / "stiff_plate"
ITERATIONS, WARM = 300, 50
MB_PER_ITERATION = 0.1


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def test_memory_of_a_search_is_flat(tmp_path, monkeypatch, capsys):
    for name in ("model.py", "study.toml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    sizes = []
    note = Search._note

    def noting(search, *arguments):
        note(search, *arguments)
        sizes.append(resident_mb())

    monkeypatch.setattr(Search, "_note", noting)
    changes = [f"optimize.max_iterations={ITERATIONS}", "optimize.tolerance=1e-15"]
    words = [word for change in changes for word in ("--set", change)]
    assert main(["optimize", str(tmp_path / "study.toml"), *words]) == 0
    assert len(sizes) == ITERATIONS
    slope = np.polyfit(np.arange(WARM, ITERATIONS), sizes[WARM:], 1)[0]
    with capsys.disabled():
        print(f"\n{ITERATIONS} iterations: {sizes[WARM]:.1f} -> {sizes[-1]:.1f} MB, {slope:.4f}/it")
    assert slope < MB_PER_ITERATION

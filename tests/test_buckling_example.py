"""The buckling plate of the examples: what its page says, and its derivatives by differences."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import geneig_adjoint as ga

EXAMPLES = Path(__file__).parents[1] / "examples"
COUNT = 5


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location(
        "plate_example", EXAMPLES / "buckling" / "plate.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_plate_prints_the_numbers_of_its_page_and_draws(example, tmp_path, capsys, monkeypatch):
    """Timoshenko's load, and its derivative for an even thickness; see the page."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    picture = tmp_path / "picture.png"
    example.main([str(picture)])
    page = (EXAMPLES / "docs" / "base_states.md").read_text()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(f"    {line}\n" in page for line in lines)
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(content) > 10_000


def test_an_uneven_plate_by_differences(example, comm):
    plate = example.Plate(comm, COUNT)
    rng = np.random.default_rng(2)
    field, change = rng.uniform(0.8, 1.2, (2, COUNT**2)) * example.THICKNESS
    _, total, explicit = plate.derivatives({"thickness": field})

    def load(t):
        p = {"thickness": field + t * change}
        with (
            plate.model.assemble(p) as pencil,
            ga.solve_eigenproblem(pencil, 2) as pairs,
        ):
            return pairs.values[0].real

    h = 2e-3
    slope = (8 * (load(h) - load(-h)) - (load(2 * h) - load(-2 * h))) / (12 * h)
    # Truncation h^4 and rounding 1e-12 / h
    assert total @ change == pytest.approx(slope, rel=1e-8)
    assert explicit @ change < 0.8 * slope
    plate.model.close()
    plate.state.close()

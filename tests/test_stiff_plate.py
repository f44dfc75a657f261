"""The plate of the examples: its derivatives, and what the search makes of it."""

import importlib.util
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from searches import summary

import geneig_adjoint as ga
from geneig_adjoint.cli import main
from geneig_adjoint.study.build import build_objectives, build_problem
from geneig_adjoint.study.settings import read_study

EXAMPLE = Path(__file__).parents[1] / "examples" / "stiff_plate"


@pytest.fixture
def folder(tmp_path):
    """A copy of the example with fewer elements."""
    for name in ("model.py", "plot.py", "study.toml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    study = tmp_path / "study.toml"
    study.write_text(study.read_text().replace("rows = 16 ", "rows = 8 "))
    return tmp_path


def test_derivatives_of_the_plate(folder, comm):
    study = read_study(folder / "study.toml", ["model.options.rows=4"])
    with build_problem(study, comm) as problem:
        rng = np.random.default_rng(1)
        p = {**problem.p, "density": rng.uniform(0.2, 0.9, problem.p["density"].size)}
        named = build_objectives(study, problem, problem.model.rows, comm)
        for objective in named.values():
            report = ga.verify_gradient(problem.model, p, objective, **study.solver_arguments())
            assert report.passed, report


def test_solid_plate_is_a_beam_with_a_mass(folder, comm):
    """f = sqrt(k / (M + 33/140 m)) / 2 pi (Rayleigh), with shear: Timoshenko's beam, 5/6.

    A coarse mesh of bilinear elements is some percent too stiff.
    """
    study = read_study(folder / "study.toml", ["model.options.start=1.0", "model.options.rows=24"])
    with (
        build_problem(study, comm) as problem,
        problem.model.assemble(problem.p) as pencil,
        ga.solve_eigenproblem(pencil, count=1, target=0.0) as pairs,
    ):
        found = np.sqrt(pairs.values[0].real) / (2 * np.pi)
    E, G, t, h, L = 210e9, 210e9 / 2.6, 0.01, 1.0, 3.0
    stiffness = 1 / (L**3 / (3 * E * t * h**3 / 12) + L / (5 / 6 * G * t * h))
    mass = 100.0 + 33 / 140 * 7800.0 * t * h * L
    assert found == pytest.approx(np.sqrt(stiffness / mass) / (2 * np.pi), rel=0.02)


def test_search_doubles_the_lowest_frequency(folder, comm, monkeypatch, capsys):
    """40 iterations on 8 x 24 elements; the same volume, no violated constraint."""
    changes = ["--set", "optimize.max_iterations=40"]
    assert main(["optimize", str(folder / "study.toml"), *changes]) == 0
    end = summary(folder)
    assert end["first"]["objective"] == pytest.approx(21.039, rel=1e-4)
    assert end["best"]["objective"] == pytest.approx(41.8, rel=0.02)
    assert end["best"]["constraints"]["volume <= 0.5"] == pytest.approx(0.5, abs=0.01)
    assert end["best"]["violation"] < 1e-5
    with h5py.File(folder / "out" / "design.h5") as file:
        density = file["parameters/density"][()].reshape(8, 24)
    # Nothing tells the search about the symmetry of the plate.
    np.testing.assert_allclose(density, density[::-1], atol=0.1)
    capsys.readouterr()
    picture(folder, monkeypatch)


def picture(folder, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("plate_picture", folder / "plot.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plate_picture", module)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    spec.loader.exec_module(module)
    path = module.draw(folder / "out", {"rows": 8})
    monkeypatch.delitem(sys.modules, "model")
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(content) > 10_000

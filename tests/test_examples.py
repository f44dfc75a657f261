"""The studies of the examples as a reader of their README runs them: numbers, files, pictures."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import h5py
import matplotlib as mpl
import meshio
import numpy as np
import pytest

import geneig_adjoint as ga
from geneig_adjoint.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"
LITERATURE_K, PCM = 1.029585, 1e-5


@cache
def load(name):
    """Import an example's model.py, which is not part of a package."""
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / name / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(study, folder, *words):
    """Run a study of the examples into a folder; return result.json and the HDF5 file's name."""
    options = [option for word in words for option in ("--set", word)]
    directory = f"output.directory={json.dumps(str(folder))}"
    assert main(["run", str(EXAMPLES / study), "--set", directory, *options]) == 0
    return json.loads((folder / "result.json").read_text())


def draw(script, *words):
    """Run a plot script as its README says, without a screen."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / script), *map(str, words)],
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def script(monkeypatch):
    """Import a plot script of an example, with the modules beside it, for this test alone."""

    def imported(name):
        monkeypatch.syspath_prepend(str(EXAMPLES / name))
        for path in (EXAMPLES / name).glob("*.py"):
            # As it was before at the end: other studies have models of their own.
            monkeypatch.setitem(sys.modules, path.stem, None)
            del sys.modules[path.stem]
        spec = importlib.util.spec_from_file_location("plot", EXAMPLES / name / "plot.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return imported


def picture_size(path):
    """Return width and height of a PNG from its header."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


# Coarse meshes: the same studies, quick enough for a test.
@pytest.fixture(scope="module")
def reactor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iaea2d") / "out"
    return folder, run("iaea2d/study.toml", folder, "model.options.cell_size=5")


@pytest.fixture(scope="module")
def bracket(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bracket") / "out"
    return folder, run("bracket/study.toml", folder, "model.options.mesh=bracket_coarse.msh")


def test_reactor_by_material_on_the_finest_mesh_is_within_5_pcm_of_the_literature(
    tmp_path, script, monkeypatch, capsys
):
    content = run("iaea2d/study_material.toml", tmp_path / "out")
    k = content["objectives"]["keff"]
    assert abs(k - LITERATURE_K) < 5 * PCM
    # The independent reference of tests/test_iaea2d_reference.py for 1.25 cm.
    assert k == pytest.approx(1.02954438, abs=1e-8)
    assert content["objectives"]["flux_ratio"] == pytest.approx(0.390, abs=5e-4)
    # The row "fission" of the README's table, in pcm per percent, written with three digits.
    slope = np.array(content["gradients"]["keff"]["nuSf2"]["entries"])
    per_percent = 0.01 / PCM * slope * np.array([0.135, 0.135, 0.135, 0.0])
    np.testing.assert_allclose(per_percent, [149.942, 857.422, 22.181, 0.0], atol=5e-4)
    monkeypatch.setattr(sys, "argv", ["plot.py", str(tmp_path / "out")])
    with mpl.rc_context({"backend": "agg"}):
        script("iaea2d").main()
    assert "149.942" in capsys.readouterr().out
    assert min(picture_size(tmp_path / "out" / "iaea2d.png")) > 500


def test_reactor_by_cell_has_the_reference_numbers(reactor):
    folder, content = reactor
    # Also tests/test_iaea2d_reference.py: k, flux ratio, norm of the fission source for 5 cm.
    expected = {
        "keff": 1.0292403222,
        "flux_ratio": 0.32938652959,
        "fission_source_norm": 0.03069854887,
    }
    assert content["objectives"] == pytest.approx(expected, rel=1e-9)
    assert content["failures"] == {}
    with h5py.File(folder / "result.h5") as file:
        assert {name: part.shape for name, part in file["gradients/keff"].items()} == dict.fromkeys(
            ("D1", "D2", "Sa1", "Sa2", "S12", "nuSf2"), (964,)
        )


def test_reactor_sensitivities_can_be_seen_on_the_mesh(reactor):
    folder, _ = reactor
    found = meshio.read(folder / "modes.vtu")
    assert [block.type for block in found.cells] == ["quad"]
    assert len(found.cells[0].data) == 964
    assert len(found.cell_data) == 22  # two complex modes; three objectives, six cross sections
    with h5py.File(folder / "result.h5") as file:
        slope = file["gradients/keff/Sa2"][()]
        mode = file["right"][:, 1].reshape(-1, 2)  # fast and thermal flux of each cell
    np.testing.assert_array_equal(found.cell_data["mode_1_re"][0], mode.real)
    np.testing.assert_array_equal(found.cell_data["keff_Sa2"][0], slope)
    # More absorption never helps, and helps least far outside.
    centres = found.points[found.cells[0].data].mean(axis=1)
    assert slope.max() <= 0
    assert slope[np.argmin(np.hypot(*centres[:, :2].T))] < 10 * slope[np.argmax(centres[:, 0])] < 0


@pytest.mark.any_scalars
def test_reactor_plot_prints_the_table_and_draws_the_picture(reactor):
    folder, _ = reactor
    out = draw("iaea2d/plot.py", folder)
    assert "k = 1.029240 (-34.5 pcm from the literature's 1.029585)" in out
    assert min(picture_size(folder / "iaea2d.png")) > 500


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("cell_size=3", "cell_size must divide 10 cm, got 3.0"),
        ('parameters="assembly"', "parameters must be 'cell' or 'material', got 'assembly'"),
        ("cellsize=5", "model options must be cell_size and parameters, got ['cellsize']"),
    ],
)
def test_wrong_option_of_the_reactor_is_one_message(tmp_path, capsys, option, message):
    study, directory = EXAMPLES / "iaea2d" / "study.toml", f'output.directory="{tmp_path}"'
    words = ["--set", f"model.options.{option}", "--set", directory]
    assert main(["run", str(study), *words]) == 3
    text = capsys.readouterr().err
    assert f"geneig-adjoint: {message}" in text
    assert "Traceback" not in text


def test_bracket_has_the_numbers_of_its_readme(bracket):
    _, content = bracket
    expected = {"f1": 2004.374, "ks": 1987.714, "tip_motion": 18.9177}
    assert content["objectives"] == pytest.approx(expected, rel=3e-6)  # digits of the README
    frequencies = np.sqrt([value for value, _ in content["values"]]) / (2 * np.pi)
    known = [2004.37395, 2678.90185, 3620.47473, 4707.36311, 5963.37017, 7563.76692]
    np.testing.assert_allclose(frequencies, known, atol=1e-5)


def test_bracket_on_the_fine_mesh_has_the_known_frequencies(comm):
    model, p, _ = load("bracket").build(comm, {})
    assert model.n >= 60_000
    with (
        model.assemble(p) as pencil,
        ga.solve_eigenproblem(pencil, count=6, target=0.0) as pairs,
    ):
        frequencies = np.sqrt(pairs.values.real) / (2 * np.pi)
        known = [1612.74617, 2415.01485, 3419.78824, 4364.68495, 5838.36298, 7538.13402]
        # scikit-fem and SciPy alone gave them to 1e-5 Hz.
        np.testing.assert_allclose(frequencies, known, atol=1e-5)


def test_bracket_modes_and_sensitivities_can_be_seen_on_the_mesh(bracket):
    folder, _ = bracket
    part = load("bracket").load_part("bracket_coarse.msh")
    found = meshio.read(folder / "modes.vtu")
    assert [block.type for block in found.cells] == ["tetra10"]
    np.testing.assert_array_equal(found.cells[0].data, part.cells)
    np.testing.assert_allclose(found.points, part.points, rtol=1e-15)
    assert set(found.cell_data) == {f"{name}_density" for name in ("f1", "ks", "tip_motion")}
    # In the complex build a mode has two halves; the bracket's are real.
    modes = [field for name, field in found.point_data.items() if not name.endswith("_im")]
    assert [mode.shape for mode in modes] == [(len(part.points), 3)] * 6
    clamped = (part.dofs == -1).all(axis=1)
    assert not np.any([mode[clamped] for mode in modes])
    motion = np.linalg.norm(modes[0][part.tip], axis=1)
    assert motion.min() > 0.3 * np.linalg.norm(modes[0], axis=1).max()  # the ring nods
    with h5py.File(folder / "result.h5") as file:
        np.testing.assert_array_equal(
            found.cell_data["f1_density"][0], file["gradients/f1/density"]
        )


@pytest.mark.any_scalars
def test_bracket_plot_draws_both_pictures(bracket, script, monkeypatch):
    folder, _ = bracket
    plot = script("bracket")
    rendered = plot.render
    # Fewer dots, which are drawn sooner
    monkeypatch.setattr(plot, "render", lambda *a, size, **k: rendered(*a, size=size // 4, **k))
    plot.main(folder, "bracket_coarse.msh")
    for name in ("sensitivity_f1.png", "modes.png"):
        assert min(picture_size(folder / name)) > 500

"""`geneig-adjoint plot`: what is drawn of which results, what is left out and said to be."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from result_files import (
    cell_centres,
    events,
    frame_mesh,
    line_mesh,
    plane_mesh,
    write_events,
    write_folder,
)

from geneig_adjoint.pictures import style
from geneig_adjoint.pictures.draw import draw
from geneig_adjoint.pictures.folders import read_folder
from geneig_adjoint.pictures.modes import modes
from geneig_adjoint.pictures.sensitivities import sensitivities
from geneig_adjoint.pictures.spectrum import spectrum

pytestmark = pytest.mark.any_scalars


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Pictures of few dots, which are drawn sooner."""
    monkeypatch.setattr(style, "DPI", 50)


def drawn(folder, **options):
    """Return the names of the pictures; none of them may be empty."""
    made = draw(folder, folder / "seen", **options)
    for path in made.files:
        image = imread(path)[..., :3]
        assert image.shape[0] > 60
        assert image.shape[1] > 150
        # Something is drawn, and more than a frame.
        assert len(np.unique(image[::2, ::2].reshape(-1, 3), axis=0)) > 20, path.name
    return [path.stem for path in made.files], made.notes


def bending(points, count, axes=(0, 1)):
    x, y = points[:, axes[0]], points[:, axes[1]]
    return [
        np.column_stack([(0.5 - y) * np.cos((j + 0.5) * x), np.sin((j + 0.5) * x)])
        for j in range(count)
    ]


def test_run_on_a_line(tmp_path):
    mesh = line_mesh()
    x = mesh[0][:, 0]
    gradients = {"f1": {"k": np.cos(x[:-1]), "m": np.ones(3)}}
    folder = write_folder(
        tmp_path / "bar", [1, 4], mesh=mesh, modes=[np.sin(x), np.sin(2 * x)], gradients=gradients
    )
    write_events(folder, events())
    names, notes = drawn(folder)
    assert names == ["spectrum", "modes", "sensitivities", "convergence"]
    assert notes == ()


PLANES = {
    "quadrilaterals": plane_mesh(),
    "triangles": plane_mesh(kind="triangle"),
    "x-z": plane_mesh(plane=(0, 2)),
}


@pytest.mark.parametrize("mesh", PLANES.values(), ids=PLANES)
def test_plate_of_displacements_and_cell_fields(tmp_path, mesh):
    points, cells = mesh
    gradient = cell_centres(points, cells)[:, 0] - 1
    folder = write_folder(
        tmp_path, [1, 1, 2], mesh=mesh, modes=bending(points, 3), clusters=[[0, 1], [2]],
        gradients={"f1": {"density": gradient, "corner": points[:, 0], "far": np.arange(50)}},
    )  # fmt: skip
    assert drawn(folder)[0][:3] == ["spectrum", "modes", "sensitivities"]


def test_frame_of_bars(tmp_path):
    points, cells = frame_mesh()
    modes = [*bending(points, 1, (0, 2)), points[:, 0]]
    gradients = {"f": {"area": np.linspace(-1, 2, 25)}}
    folder = write_folder(tmp_path, [1, 2], mesh=(points, cells), modes=modes, gradients=gradients)
    assert drawn(folder)[0][:3] == ["spectrum", "modes", "sensitivities"]


def test_three_components_that_move_across_the_plane_are_a_scalar(tmp_path):
    points, cells = plane_mesh()
    across = np.zeros((len(points), 3))
    across[:, 2] = np.sin(points[:, 0])
    along = across[:, [2, 0, 1]]
    assert (
        "modes"
        in drawn(write_folder(tmp_path, [1, 2], mesh=(points, cells), modes=[across, along]))[0]
    )


PARTS = {
    "cells": (plane_mesh(), 192, 20),
    "points": (plane_mesh(), 225, 3),
    "bars of a frame": (frame_mesh(), 25, 20),
    "cells of a line": (line_mesh(), 20, 3),
    "few": (line_mesh(), 7, 3),
    "many": (line_mesh(), 50, 3),
}


@pytest.mark.parametrize(("mesh", "count", "dots"), PARTS.values(), ids=PARTS)
def test_what_is_not_finite_is_yellow_and_counted(tmp_path, mesh, count, dots):
    entries = np.linspace(-1.0, 2.0, count)
    entries[[1, 3]] = np.nan, np.inf
    folder = write_folder(tmp_path, [1], mesh=mesh, gradients={"f": {"k": entries}})
    (picture,) = sensitivities(read_folder(folder))
    assert panels(picture) == [f"d f / d k\nyellow: NaN or Inf, 2 of {count}"]
    image = imread(style.save(picture, tmp_path, "png"))[..., :3]
    assert (np.abs(image - np.array(to_rgb(style.MISSING))).max(axis=-1) < 0.3).sum() > dots


def panels(picture):
    return [axes.get_title() for axes in picture.figure.axes if axes.get_title()]


def test_complex_modes_have_a_real_part_and_a_modulus(tmp_path):
    points, cells = plane_mesh()
    x = points[:, 0]
    wave, real = np.exp(1j * x), np.sin(x) + 1e-13j
    folder = write_folder(tmp_path, [1 + 2j, 3], mesh=(points, cells), modes=[wave, real])
    assert drawn(folder)[0][:2] == ["spectrum", "modes"]
    (page,) = modes(read_folder(folder), 9)
    assert panels(page) == [
        "mode 0,  λ = 1 + 2i: real part", "mode 0: modulus",
        "mode 1,  λ = 3: real part", "mode 1: modulus",
    ]  # fmt: skip
    folder = write_folder(tmp_path / "real", [3], mesh=(points, cells), modes=[real])
    (page,) = modes(read_folder(folder), 9)
    assert panels(page) == ["mode 0,  λ = 3"]


def cell_modes(mesh):
    """Two modes of two unknowns per cell: the first has one sign."""
    x = cell_centres(*mesh)[:, 0]
    return [np.column_stack([2 + np.cos(x), 1 + x**2]), np.column_stack([np.cos(2 * x), -x])]


def test_modes_in_cells_of_the_plane_have_a_panel_for_each_unknown(tmp_path):
    mesh = plane_mesh()
    folder = write_folder(tmp_path, [1, 2], mesh=mesh, cell_modes=cell_modes(mesh))
    assert drawn(folder) == (["spectrum", "modes", "convergence"], ())
    (page,) = modes(read_folder(folder), 9)
    assert panels(page) == [
        "mode 0,  λ = 1, unknown 0", "mode 0, unknown 1",
        "mode 1,  λ = 2, unknown 0", "mode 1, unknown 1",
    ]  # fmt: skip
    shown = [axes.collections[0] for axes in page.figure.axes if axes.get_title()]
    scaled = [mode / np.abs(mode).max() for mode in cell_modes(mesh)]
    field, signed = scaled[0][:, 1], scaled[1][:, 0]
    np.testing.assert_allclose(shown[1].get_array(), field[: len(shown[1].get_array())])
    assert shown[1].get_clim() == (0.0, pytest.approx(field.max()))
    assert shown[2].get_clim() == pytest.approx((-np.abs(signed).max(), np.abs(signed).max()))


def test_complex_modes_in_cells_have_a_modulus_for_each_unknown(tmp_path):
    mesh = plane_mesh()
    wave = cell_modes(mesh)[0] * np.exp(1j)
    folder = write_folder(tmp_path, [1j], mesh=mesh, cell_modes=[wave])
    (page,) = modes(read_folder(folder), 9)
    assert page.figure.axes[0].get_gridspec().ncols == 2  # a row of real part and modulus
    assert panels(page) == [
        "mode 0,  λ = 0 + 1i, unknown 0: real\npart", "mode 0, unknown 0: modulus",
        "mode 0, unknown 1: real part", "mode 0, unknown 1: modulus",
    ]  # fmt: skip


def test_modes_in_cells_of_a_line_are_curves_through_their_middles(tmp_path):
    mesh = line_mesh(4)
    folder = write_folder(tmp_path, [1, 2], mesh=mesh, cell_modes=cell_modes(mesh))
    assert drawn(folder) == (["spectrum", "modes", "convergence"], ())
    (page,) = modes(read_folder(folder), 1)
    curve = page.figure.axes[0].lines[1]
    x = np.sort(cell_centres(*mesh)[:, 0])
    np.testing.assert_allclose(curve.get_xdata(), x)
    np.testing.assert_allclose(curve.get_ydata(), (1 + x**2) / np.abs(cell_modes(mesh)[0]).max())


def test_modes_go_on_on_further_pages_and_those_beyond_the_limit_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "PANELS", 2)
    mesh = line_mesh(4)
    waves = [np.sin((j + 1) * mesh[0][:, 0]) for j in range(6)]
    folder = write_folder(tmp_path, np.arange(6), mesh=mesh, modes=waves)
    names, notes = drawn(folder, limit=3)
    assert names == ["spectrum", "modes_1", "modes_2", "convergence"]
    assert notes == ("3 modes more: --modes 6 draws them",)


def test_objectives_stay_on_one_page():
    assert [len(page) for page in style.filled([[1] * 6, [2] * 4, [3] * 5, [4] * 11])] == [
        6,
        9,
        9,
        2,
    ]
    assert style.filled([]) == []


def test_without_a_mesh(tmp_path):
    rows = np.arange(60)[:, None] * [0.1, 0.2]
    folder = write_folder(tmp_path / "few", [1, 2j], right=np.exp(1j * rows))
    assert drawn(folder) == (
        ["spectrum", "modes", "convergence"],
        ("modes over the number of the row: no mesh that has modes",),
    )
    folder = write_folder(tmp_path / "many", [1], right=np.ones((5001, 1)), timings={})
    assert drawn(folder) == (
        ["spectrum"],
        ("no modes: without a mesh that has modes, 5001 rows say little",),
    )


def test_without_the_hdf5_file_short_gradients_are_drawn(tmp_path):
    gradients = {"f": {"k": {"path": "x", "size": 3, "entries": [1.0, -2.0, 0.0]},
                       "m": {"path": "y", "size": 2000}}}  # fmt: skip
    folder = write_folder(tmp_path, [1], residuals=[None])
    content = json.loads((folder / "result.json").read_text()) | {"gradients": gradients}
    (folder / "result.json").write_text(json.dumps(content))
    (folder / "result.h5").unlink()
    names, notes = drawn(folder)
    assert names == ["spectrum", "sensitivities", "convergence"]
    assert notes == ("no result.h5: gradients of up to 1000 entries only, and no modes",)


def test_axes_of_whole_numbers_have_no_others(tmp_path):
    folder = write_folder(tmp_path, [2.0], gradients={"f": {"mass": np.array([3.0])}})
    results = read_folder(folder)
    pages = [*sensitivities(results), *spectrum(results)]
    for page, axis in zip(pages, ("xaxis", "yaxis"), strict=True):
        axes = page.figure.axes[0]
        low, high = sorted(getattr(axes, f"get_{axis[0]}lim")())
        ticks = getattr(axes, axis).get_ticklocs()
        assert [tick for tick in ticks if low <= tick <= high] == [0]


def test_limits_of_colours():
    from geneig_adjoint.pictures.fields import colour_limit

    assert colour_limit(np.array([-3.0, 1.0])) == (3.0, False)
    assert colour_limit(np.zeros(4)) == (1.0, False)
    assert colour_limit(np.array([np.nan, 2.0])) == (2.0, False)
    spike = np.r_[np.ones(999), -100.0]
    assert colour_limit(spike) == (1.0, True)
    assert colour_limit(np.r_[np.zeros(999), 5.0]) == (5.0, False)

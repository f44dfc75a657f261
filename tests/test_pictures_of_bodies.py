"""Bodies and surfaces in space, rendered off-screen in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from matplotlib.image import imread
from result_files import box_mesh, cell_centres, write_folder

from geneig_adjoint.pictures import solids, style
from geneig_adjoint.pictures.draw import draw

pytestmark = pytest.mark.any_scalars


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Pictures of few dots, which are drawn sooner."""
    monkeypatch.setattr(style, "DPI", 50)


@pytest.fixture
def box(tmp_path):
    """A bent box; its faces at one end are cells, too."""
    points, cells = box_mesh()
    bent = np.zeros((len(points), 3))
    bent[:, 2] = points[:, 0] ** 2
    gradient = cell_centres(points, cells)[:, 0] - 2
    gradient[41] = np.nan  # at a corner
    gradients = {"f": {"rho": gradient, "few": np.arange(3.0)}}
    return write_folder(
        tmp_path, [1, 2], mesh=(points, cells), modes=[bent, points[:, 0]], gradients=gradients
    )


def test_modes_and_cells_of_a_body(box):
    made = draw(box)
    assert made.notes == ()
    names = ["spectrum", "modes", "sensitivities", "convergence"]
    assert [path.stem for path in made.files] == names
    # The picture has the blue of the near end, where the gradient is negative, and red.
    image = imread(made.files[2])[..., :3].reshape(-1, 3)
    blue, red = image[:, 2] - image[:, 0], image[:, 0] - image[:, 2]
    assert (blue > 0.2).sum() > 100
    assert (red > 0.3).sum() > 100
    assert ((image[:, 0] > 0.7) & (image[:, 1] > 0.7) & (image[:, 2] < 0.4)).sum() > 50


def test_modes_in_cells_of_a_body(tmp_path):
    points, cells = box_mesh()
    mode = cell_centres(points, cells)[:, :2] - [2.0, 0.0]  # the first unknown has both signs
    folder = write_folder(tmp_path, [1], mesh=(points, cells), cell_modes=[mode])
    made = draw(folder)
    assert made.notes == ()
    image = imread(folder / "pictures" / "modes.png")[..., :3]
    left, right = (half.reshape(-1, 3) for half in np.array_split(image, 2, axis=1))
    for half, red in ((left, True), (right, False)):
        assert ((half[:, 0] - half[:, 1] > 0.4).sum() > 100) == red
        assert ((half[:, 2] - half[:, 0] > 0.15).sum()) > 100


def test_points_and_lines_in_space():
    from geneig_adjoint.pictures.meshes import Cells, Shape

    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1.0]])
    ends = np.array([[0, 1], [1, 2], [2, 3]])
    shape = Shape(points, (Cells("line", ends, 0),), 3)
    assert shape.kind == "solid"
    images, note = solids.rendered(shape, [solids.Scene(np.arange(4.0), (0.0, 3.0))])
    assert note == ""
    assert min(images[0].shape[:2]) > 100


LACKS = "note: no modes: bodies need PyVista: pip install 'geneig-adjoint[plot3d]'"


def test_without_pyvista_the_rest_is_drawn(box, monkeypatch, capsys):
    from geneig_adjoint.cli import main

    def absent(name):
        return None if name == "pyvista" else find_spec(name)

    monkeypatch.setattr(solids, "find_spec", absent)
    assert main(["plot", str(box)]) == 0
    said = capsys.readouterr().out
    assert LACKS in said
    assert "note: no d f / d rho: bodies need PyVista" in said
    assert "sensitivities.png" in said  # of the parameter that is not on cells


def test_crash_of_the_renderer_is_a_note_and_both_kinds_of_windows_are_tried(box, monkeypatch):
    windows = []

    def crashing(command, *, env, **options):
        windows.append(env.get(solids.WINDOW))
        code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        return subprocess.run(
            [sys.executable, "-c", code], env=env, check=False, **options_of(options)
        )

    def options_of(options):
        return {key: value for key, value in options.items() if key != "check"}

    monkeypatch.delenv(solids.WINDOW, raising=False)
    monkeypatch.setattr(solids, "subprocess", Stub(crashing))
    notes = draw(box).notes
    assert windows == [solids.SOFTWARE, None] * 2
    assert [note.partition(":")[0] for note in notes] == ["no modes", "no d f / d rho"]
    assert all("could not render off-screen (signal 11)" in note for note in notes)
    monkeypatch.setenv(solids.WINDOW, "mine")
    windows.clear()
    draw(box)
    assert windows == ["mine"] * 2


class Stub:
    """`subprocess` with another ``run``."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, run):
        self.run = run


def test_renderer_that_fails_or_hangs_says_why(tmp_path, monkeypatch):
    said = solids._render(tmp_path, None, 60)
    assert said.startswith("exit code 1: FileNotFoundError")
    assert "job.npz" in said
    assert solids._render(tmp_path, None, 0.01) == "no end after 0 s"
    monkeypatch.setattr(solids.sys, "executable", os.devnull)
    with pytest.raises(PermissionError):
        solids._render(tmp_path, None, 1)


def test_fields_by_cell_leave_out_cells_of_boundaries(box):
    from geneig_adjoint.pictures.meshes import read_shape

    shape, _ = read_shape(box / "modes.vtu")
    assert shape.cell_count == 6 + 36
    scene = solids.Scene(np.arange(42.0), (0.0, 42.0), by_cell=True)
    np.testing.assert_array_equal(solids._job(shape, [scene])["field_0"], np.arange(6, 42))

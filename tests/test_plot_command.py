"""`geneig-adjoint plot`: what it refuses, what it says, what it leaves alone."""

import sys
from itertools import pairwise

import h5py
import matplotlib as mpl
import numpy as np
import pytest
from result_files import (
    line_mesh,
    write_folder,
)
from test_import import WITHOUT_STACK, python
from test_pictures import coarse, drawn

from geneig_adjoint.cli import main
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io import Mesh, write_vtu
from geneig_adjoint.pictures.draw import draw
from geneig_adjoint.pictures.meshes import chained
from geneig_adjoint.pictures.spectrum import sides, together

pytestmark = pytest.mark.any_scalars

__all__ = ["coarse"]  # a fixture of every test


def test_folder_without_results(tmp_path, capsys):
    with pytest.raises(StudyError, match=r"there must be result.json.*got none of them; give the"):
        draw(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(StudyError, match="write the table first: geneig-adjoint collect"):
        draw(tmp_path)
    assert main(["plot", str(tmp_path / "no such folder")]) == 2
    assert capsys.readouterr().err.startswith("geneig-adjoint: there must be result.json")


@pytest.mark.parametrize("name", ["result.json", "result.h5", "modes.vtu"])
@pytest.mark.parametrize("content", ["", "{}", "<VTKFile></VTKFile>"])
def test_broken_file_is_named(tmp_path, capsys, name, content):
    mesh = line_mesh()
    folder = write_folder(tmp_path, [1], mesh=mesh, modes=[mesh[0][:, 0]])
    (folder / name).write_text(content)
    assert main(["plot", str(folder)]) == 3
    assert f"{name} must be as a run writes it" in capsys.readouterr().err


def test_command_names_files_and_notes(tmp_path, capsys):
    folder = write_folder(tmp_path / "out", [1, 2], right=np.eye(4)[:, :2])
    assert main(["plot", str(folder), "-o", str(tmp_path / "p"), "--modes", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        str(tmp_path / "p" / f"{n}.png") for n in ("spectrum", "modes", "convergence")
    ]
    assert "note: 1 modes more: --modes 2 draws them" in said
    assert main(["plot", str(folder), "--modes", "-1"]) == 2
    assert "--modes must be 0 or more, got -1" in capsys.readouterr().err
    # Twice: pictures are replaced, and nothing else is left.
    assert main(["plot", str(folder), "--modes", "0"]) == 0
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == [
        "convergence.png", "spectrum.png",
    ]  # fmt: skip


def test_target_that_cannot_be_written(tmp_path, capsys):
    folder = write_folder(tmp_path, [1])
    (tmp_path / "file").write_text("")
    assert main(["plot", str(folder), "-o", str(tmp_path / "file" / "x")]) == 2
    assert "the folder of pictures must be writable, got Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "code", "message"),
    [
        ("matplotlib", 2, "pictures need matplotlib"),
        ("meshio", 0, "note: modes.vtu needs meshio, not installed"),
    ],
)
def test_missing_package(tmp_path, capsys, monkeypatch, package, code, message):
    mesh = line_mesh()
    folder = write_folder(tmp_path, [1], mesh=mesh, modes=[mesh[0][:, 0]])
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["plot", str(folder)]) == code
    said = capsys.readouterr()
    assert message in said.out + said.err


def test_works_without_petsc_and_mpi(tmp_path):
    folder = write_folder(tmp_path, [1])
    start = "import sys; from geneig_adjoint.cli import main"
    finished = python(WITHOUT_STACK, start, f"sys.exit(main(['plot', {str(folder)!r}]))")
    assert finished.returncode == 0, finished.stderr


def test_settings_of_matplotlib_are_left_alone(tmp_path):
    before = dict(mpl.rcParams)
    drawn(write_folder(tmp_path, [1]))
    assert dict(mpl.rcParams) == before


def test_files_of_two_runs_are_not_one_picture(tmp_path, capsys):
    folder = write_folder(tmp_path, [1], run="another")
    assert main(["plot", str(folder)]) == 3
    assert "must be of the same run, got those of two" in capsys.readouterr().err


def test_names_are_no_formulas_and_may_have_any_letters(tmp_path):
    gradients = {"price_$_per_$kg": {"a$^{$b": np.arange(3.0)}}
    folder = write_folder(tmp_path / "$日本$", [1], gradients=gradients, right=np.eye(3)[:, :1])
    assert drawn(folder)[0] == ["spectrum", "modes", "sensitivities", "convergence"]


def test_mesh_without_cells_is_a_note(tmp_path):
    folder = write_folder(tmp_path, [1], right=np.eye(3)[:, :1])
    mesh = Mesh(np.eye(3), [], np.arange(3)[:, None])
    write_vtu(folder / "modes.vtu", mesh, point_data={"mode_0": np.ones(3)})
    assert "modes.vtu has no lines, faces or bodies to draw" in drawn(folder)[1]


def test_pairs_that_lie_together_share_a_label():
    places = np.array([[0, 0], [1, 1], [0, 0.01], [1, -1], [1e-3, 0.02]])
    assert together(places, np.arange(5)) == [[3], [0, 2, 4], [1]]
    assert together(np.zeros((3, 2)), np.array([2, 0])) == [[0, 2]]


def test_label_that_would_lie_upon_another_pair_stands_elsewhere():
    places = np.array([[0, 0], [0.4, 0], [4, 0], [0, 9.0]])
    texts = ["0:  3e-14"] * 4
    assert sides(places, texts) == [(-1, 0), (1, 0), (1, 0), (1, 0)]
    assert sides(places, texts, free=True) == [(1, 0)] * 4
    # Nothing is free: better upon a text than upon a pair.
    crowd = np.array([[0, 0], [0.4, 0], [-0.4, 0], [0, 0.5], [0, -0.5], [9, 9], [-9, -9]])
    assert len(sides(crowd, ["0:  3e-14"] * 7)) == 7


def test_outline_is_one_line_around_each_part():
    square = np.array([[0, 1], [2, 3], [1, 2], [0, 3]])
    (loop,) = chained(square)
    assert loop[0] == loop[-1]
    assert {frozenset(edge) for edge in pairwise(loop)} == {
        frozenset(edge) for edge in square.tolist()
    }
    # Two triangles that share a corner, and an open line: every edge once.
    edges = np.array([[0, 1], [1, 2], [2, 0], [2, 3], [3, 4], [4, 2], [5, 6], [6, 7]])
    lines = chained(edges)
    found = [tuple(sorted(edge)) for line in lines for edge in pairwise(line)]
    assert sorted(found) == sorted(tuple(sorted(edge)) for edge in edges.tolist())
    assert sorted(map(len, lines)) == [3, 4, 4]


def test_window_that_only_a_notebook_has_is_not_wanted():
    """Its terminals have the variable, too; matplotlib refuses to be imported with it."""
    finished = python(
        "import os",
        "os.environ['MPLBACKEND'] = 'module://none_such.backend_inline'",
        "from geneig_adjoint.pictures.style import require_matplotlib",
        "print(require_matplotlib().get_backend(), os.environ['MPLBACKEND'])",
    )
    assert finished.stdout == "agg module://none_such.backend_inline\n", finished.stderr


def test_results_of_another_version_are_refused(tmp_path, capsys):
    folder = write_folder(tmp_path, [1])
    with h5py.File(folder / "result.h5", "a") as file:
        file.attrs["version"] = 2
    assert main(["plot", str(folder)]) == 3
    assert "version 1, got 'geneig_adjoint results' version 2; update" in capsys.readouterr().err

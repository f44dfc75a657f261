"""Files written by one rank: whole or not at all, and what a table or a mesh cannot hold."""

import base64
import fcntl
import json
import os
import re
import sys

import h5py
import meshio
import numpy as np
import pytest
from builders import K0
from study_files import N, P, chain_blocks, chain_mesh, write_chain

import geneig_adjoint as ga
from geneig_adjoint.io import atomic_path, read_elements, write_elements, write_json, write_vtu

FOLDER = "Prüfstand 東京"


def interrupted(path):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")


def test_failure_leaves_the_old_content_and_no_other_file(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"):
        interrupted(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_failure_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(RuntimeError, match="disk full"):
        interrupted(tmp_path / "result.json")
    assert os.listdir(tmp_path) == []


def test_old_content_stands_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.suffix == path.suffix  # writers choose their format by it
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["result.json"]


def test_json_holds_numpy_and_complex_numbers_and_no_nan(tmp_path):
    content = {
        "values": np.array([1 + 2j, 3.0]),
        "one": np.complex128(complex(np.nan, 1.0)),
        "size": np.int64(3),
        "flag": np.bool_(True),
        "bad": [np.inf, np.float32(0.5), -np.inf, np.nan],
        "clusters": ((0, 1), (2,)),
        7: "ü",
    }
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "values": [[1.0, 2.0], [3.0, 0.0]],
        "one": [None, 1.0],
        "size": 3,
        "flag": True,
        "bad": [None, 0.5, None, None],
        "clusters": [[0, 1], [2]],
        "7": "ü",
    }
    assert "ü" in text


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


BLOCK = chain_blocks()[0]


@pytest.mark.parametrize(
    ("kernel", "parameters", "message"),
    [
        (ga.NumpyKernel(lambda k: k), BLOCK.parameters, r"block 1 must have a ScaledKernel"),
        (ga.ScaledKernel(K0, np.exp), BLOCK.parameters, r"got ScaledKernel \(<ufunc 'exp'>\)"),
        (ga.ScaledKernel(K0), {}, r"block 1 must have one parameter, got \[\]"),
        (
            ga.ScaledKernel(K0),
            {"k": BLOCK.parameters["k"], "m": BLOCK.parameters["k"]},
            r"block 1 must have one parameter, got \['k', 'm'\]",
        ),
    ],
    ids=["kernel", "law", "none", "two"],
)
def test_block_that_a_table_cannot_hold_is_refused(tmp_path, kernel, parameters, message):
    path = tmp_path / "elements.h5"
    blocks = [BLOCK, ga.ElementBlock("A", BLOCK.dofs, kernel, parameters)]
    with pytest.raises(ga.InputError, match=message):
        write_elements(path, N, blocks, P)
    assert os.listdir(tmp_path) == []


def test_table_has_the_documented_layout(tmp_path):
    with h5py.File(write_chain(tmp_path / "elements.h5")) as file:
        assert dict(file.attrs) == {"format": b"geneig_adjoint elements", "version": 1, "n": N}
        first, second = file["blocks/0"], file["blocks/1"]
        law = {"matrix": b"A", "law": b"power", "exponent": 2.0, "floor": 0.01, "parameter": b"k"}
        assert dict(first.attrs) == law
        assert dict(second.attrs) == {"matrix": b"B", "law": b"linear", "parameter": b"m"}
        assert first["matrices"].shape == (2, 2)
        assert second["matrices"].shape == (N + 1, 2, 2)
        np.testing.assert_array_equal(first["dofs"], BLOCK.dofs)
        np.testing.assert_array_equal(second["ids"], np.arange(N + 1))
        np.testing.assert_array_equal(file["parameters/k"], P["k"])


def test_table_keeps_the_mesh(tmp_path, comm):
    mesh = chain_mesh()
    path = write_chain(tmp_path / "elements.h5", mesh)
    found = read_elements(path, comm)[2]
    np.testing.assert_array_equal(found.points, mesh.points)
    np.testing.assert_array_equal(found.dofs, mesh.dofs)
    assert [kind for kind, _ in found.cells] == ["line"]
    np.testing.assert_array_equal(found.cells[0][1], mesh.cells[0][1])


def changed_mesh(**changes):
    return ga.io.Mesh(**(vars(chain_mesh()) | changes))


def cell_mesh(**changes):
    """The chain with unknowns in its nine cells, of which the first has none."""
    nowhere, numbers = np.zeros((10, 0), int), np.arange(-1, N)[:, None]
    return changed_mesh(**{"dofs": nowhere, "cell_dofs": numbers, **changes})


def test_table_keeps_unknowns_in_cells(tmp_path, comm):
    found = read_elements(write_chain(tmp_path / "elements.h5", cell_mesh()), comm)[2]
    np.testing.assert_array_equal(found.cell_dofs, cell_mesh().cell_dofs)
    field = found.cell_field(np.arange(1.0, N + 1))
    np.testing.assert_array_equal(field[:, 0], np.arange(N + 1.0))
    assert read_elements(write_chain(tmp_path / "elements.h5"), comm)[2] is None


def test_modes_are_zero_where_the_mesh_is_clamped():
    field = chain_mesh().point_field(np.arange(1.0, N + 1))
    np.testing.assert_array_equal(field[:, 0], [0.0, *range(1, N + 1), 0.0])


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (changed_mesh(points=np.zeros((10, 2))), r"points \(n_points, 3\).*got \(10, 2\)"),
        (changed_mesh(dofs=np.zeros((9, 1), int)), r"got \(10, 3\) and \(9, 1\)"),
        (changed_mesh(dofs=np.zeros(10, int)), r"dofs \(n_points, d\), got \(10, 3\) and \(10,\)"),
        (changed_mesh(dofs=np.full((10, 1), N)), r"dofs of a mesh must lie in -1 ... 7, got 8"),
        (changed_mesh(dofs=np.full((10, 1), -2)), r"dofs of a mesh must lie in -1 ... 7, got -2"),
        (changed_mesh(cells=[("line", np.array([[0, 10]]))]), r"the line of a mesh must lie in 0"),
        (cell_mesh(cell_dofs=np.zeros((8, 1), int)), r"must have shape \(9, d\).*got \(8, 1\)"),
        (cell_mesh(cell_dofs=np.zeros((9, 0), int)), r"one row per cell, got \(9, 0\)"),
        (cell_mesh(cell_dofs=np.full((9, 1), N)), r"cell_dofs of a mesh must lie in -1 ... 7"),
        (cell_mesh(dofs=np.zeros((10, 1), int)), "at points or in cells, got dofs and cell_dofs"),
    ],
)
def test_mesh_that_does_not_fit_is_described(mesh, message):
    with pytest.raises(ga.InputError, match=message):
        raise mesh.error(N)


def test_good_mesh_has_no_error():
    assert chain_mesh().error(N) is None
    assert changed_mesh(dofs=np.zeros((10, 0), int)).error(N) is None
    assert cell_mesh().error(N) is None


def test_vtu_holds_real_and_split_complex_fields_of_several_cell_types(tmp_path):
    (tmp_path / FOLDER).mkdir()
    path = tmp_path / FOLDER / "modes.vtu"
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0]])
    cells = [("quad", np.array([[0, 1, 2, 3]])), ("triangle", np.array([[1, 4, 2]]))]
    mesh = ga.io.Mesh(points, cells, np.zeros((5, 0), int))
    mode = np.arange(5) + 1j
    write_vtu(path, mesh, point_data={"mode": mode}, cell_data={"g": np.array([3.0, 4.0])})
    found = meshio.read(path)
    np.testing.assert_array_equal(found.points, points)
    np.testing.assert_array_equal(found.point_data["mode_re"], mode.real)
    np.testing.assert_array_equal(found.point_data["mode_im"], mode.imag)
    assert [part.tolist() for part in found.cell_data["g"]] == [[3.0], [4.0]]
    assert os.listdir(tmp_path / FOLDER) == ["modes.vtu"]


def test_cell_field_of_wrong_length_is_refused(tmp_path):
    with pytest.raises(ga.InputError, match="cell field 'g' must have 9 entries, got 4"):
        write_vtu(tmp_path / "x.vtu", chain_mesh(), cell_data={"g": np.zeros(4)})
    assert os.listdir(tmp_path) == []


def test_vtu_needs_no_other_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "meshio", None)
    write_vtu(tmp_path / "x.vtu", chain_mesh(), point_data={"u": np.arange(N + 2.0)})
    assert os.listdir(tmp_path) == ["x.vtu"]


def test_vtu_of_wedges_in_pieces_and_with_any_name(tmp_path, monkeypatch):
    monkeypatch.setattr("geneig_adjoint.io.vtu.PIECE", 24)
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]])
    mesh = ga.io.Mesh(points, [("wedge", np.arange(6)[None])], np.zeros((6, 0), int))
    name = 'a<b & "c"\x01'
    write_vtu(tmp_path / "x.vtu", mesh, point_data={name: points + 1}, cell_data={"g": [2.0]})
    found = meshio.read(tmp_path / "x.vtu")
    np.testing.assert_array_equal(found.points, points)
    np.testing.assert_array_equal(found.point_data['a<b & "c"_'], points + 1)
    np.testing.assert_array_equal(found.cells[0].data, np.arange(6)[None])
    # VTK's wedge has its first triangle turned the other way; meshio turns it back.
    text = (tmp_path / "x.vtu").read_text()
    data = base64.b64decode(re.search(r'"connectivity"[^>]*>\n(.*)\n', text)[1])
    assert np.frombuffer(data[8:], dtype=np.int64).tolist() == [0, 2, 1, 3, 5, 4]


def test_point_field_of_wrong_length_is_refused(tmp_path):
    with pytest.raises(ga.InputError, match="point field 'u' must have 10 entries, got 4"):
        write_vtu(tmp_path / "x.vtu", chain_mesh(), point_data={"u": np.zeros(4)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": [("lyne", np.array([[0, 1]]))]}, "got 'lyne' of shape .*meshio's names"),
        ({"cells": [("line", np.array([[0, 1, 2]]))]}, r"got 'line' of shape \(1, 3\)"),
        ({"points": np.full((10, 3), np.nan)}, r"must be finite, got \[nan nan nan\] at point 0"),
    ],
)
def test_picture_of_a_mesh_that_does_not_fit_is_refused(tmp_path, change, message):
    with pytest.raises(ga.InputError, match=message):
        write_vtu(tmp_path / "x.vtu", changed_mesh(**change))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, ">u4"])
def test_vtu_keeps_whole_numbers_of_any_type(tmp_path, kind):
    largest = np.iinfo(kind).max
    values = np.array([0, 1, largest], dtype=kind)
    points = np.eye(3, dtype=kind) * values
    mesh = ga.io.Mesh(
        points, [("vertex", np.arange(3, dtype=kind)[:, None])], np.zeros((3, 0), int)
    )
    write_vtu(tmp_path / "x.vtu", mesh, cell_data={"material": values})
    found = meshio.read(tmp_path / "x.vtu")
    assert found.cell_data["material"][0].tolist() == values.tolist()
    assert found.points.tolist() == points.astype(float).tolist()


def test_fields_of_one_name_are_both_there(tmp_path):
    ones = np.ones(N + 2)
    write_vtu(tmp_path / "x.vtu", chain_mesh(), point_data={"u": ones + 2j, "u_re": 3 * ones})
    found = meshio.read(tmp_path / "x.vtu").point_data
    assert {name: part[0] for name, part in found.items()} == {"u_re": 1, "u_im": 2, "u_re_": 3}


def test_field_without_components_is_refused(tmp_path):
    with pytest.raises(ga.InputError, match=r"field 'u' must have numbers, got shape \(10, 0\)"):
        write_vtu(tmp_path / "x.vtu", chain_mesh(), point_data={"u": np.zeros((10, 0))})


def test_table_that_somebody_writes_is_no_damaged_one(tmp_path):
    path = write_chain(tmp_path / "elements.h5")
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(ga.InputError, match=r"wait until .* HDF5_USE_FILE_LOCKING=FALSE"):
            ga.io.check_elements(path)

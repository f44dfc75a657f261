"""Results on disk: what comes back, and what a full or read-only disk leaves behind."""

import json
import os
import resource
import shutil
import socket
import stat
import subprocess

import h5py
import meshio
import numpy as np
import pytest
from petsc4py import PETSc
from study_files import (
    DAMPED,
    DAMPED_MODEL,
    ELEMENTS,
    N,
    P,
    chain_mesh,
    chain_pencil,
    result,
    run,
    study_folder,
    write_chain,
)

import geneig_adjoint as ga
from geneig_adjoint.cli import main
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io import atomic_path, read_results
from geneig_adjoint.pictures.folders import read_folder
from geneig_adjoint.study.build import build_problem
from geneig_adjoint.study.results import write_results
from geneig_adjoint.study.settings import read_study


@pytest.fixture
def meshed(tmp_path):
    """A study of the chain with its mesh."""
    path = study_folder(tmp_path)
    write_chain(tmp_path / "elements.h5", chain_mesh())
    return path


def test_all_files_name_the_run(meshed, comm, capsys):
    folders = [run(meshed, comm, f"output.directory={name}")[1] for name in ("one", "two")]
    picture = folders[0] / "modes.vtu"
    names = [f"{meshio.read(f / 'modes.vtu').field_data['run'][0]:016x}" for f in folders]
    assert names == [result(folder)["run"] for folder in folders]
    assert names[0] != names[1]
    read_folder(folders[0])
    shutil.copy(folders[1] / "modes.vtu", picture)
    assert main(["plot", str(folders[0])]) == 3
    assert "modes.vtu and result.json must be of the same run" in capsys.readouterr().err


def test_results_come_back_as_they_were(meshed, comm):
    outcome, folder = run(meshed, comm)
    found = read_results(folder)
    A, B = chain_pencil(P)
    # Residuals of some 1e-15 of entries of size 1.
    np.testing.assert_allclose(A @ found.right, B @ found.right * found.values, atol=1e-12)
    np.testing.assert_allclose(found.left.T @ B @ found.right, np.eye(2), atol=1e-12)
    assert found.objectives == outcome.values
    assert found.gradients.keys() == outcome.gradients.keys()
    for name, gradient in outcome.gradients.items():
        for key, part in gradient.items():
            np.testing.assert_array_equal(found.gradients[name][key], part)
    assert {name: part.tolist() for name, part in found.parameters.items()} == {
        name: part.tolist() for name, part in P.items()
    }
    np.testing.assert_array_equal(found.mesh.points, chain_mesh().points)
    assert found.summary == result(folder)
    assert read_results(folder, vectors=False).right is None


@pytest.mark.parametrize("change", ["model.distributed=true", "model.distributed=false"])
def test_parameters_of_results_do_not_depend_on_their_distribution(meshed, comm, change):
    found = read_results(run(meshed, comm, change)[1])
    np.testing.assert_array_equal(found.parameters["k"], P["k"])
    assert set(found.gradients["f1"]) == {"k", "m"}


def test_large_parameters_are_distributed_unasked(meshed, comm, monkeypatch):
    monkeypatch.setattr("geneig_adjoint.io.elements.DISTRIBUTED_FROM", N)
    study = read_study(meshed)
    with build_problem(study, comm) as problem:
        assert {name: type(part) for name, part in problem.p.items()} == {
            "k": PETSc.Vec,
            "m": PETSc.Vec,
        }
    run(meshed, comm)


def test_complex_modes_are_split_in_the_picture(tmp_path, comm):
    _, folder = run(study_folder(tmp_path, DAMPED, model=DAMPED_MODEL), comm)
    found, picture = read_results(folder), meshio.read(folder / "modes.vtu")
    for j, mode in enumerate(found.right.T):
        parts = (picture.point_data[f"mode_{j}_{part}"][:, 0] for part in ("re", "im"))
        real, imaginary = parts
        np.testing.assert_array_equal(real + 1j * imaginary, [0, *mode, 0])


@pytest.mark.parametrize("change", ["model.distributed=true", "model.distributed=false"])
def test_gradients_by_cell_are_in_the_picture(meshed, comm, change):
    outcome, folder = run(meshed, comm, change)
    picture = meshio.read(folder / "modes.vtu")
    assert set(picture.cell_data) == {f"{o}_{p}" for o in outcome.values for p in "km"}
    np.testing.assert_array_equal(
        picture.cell_data["f1_k"][0].ravel(), read_results(folder).gradients["f1"]["k"]
    )


def damage(name, change):
    def damaged(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return damaged


def replace_run(folder):
    content = json.loads((folder / "result.json").read_text()) | {"run": "another"}
    (folder / "result.json").write_text(json.dumps(content))


def newer(folder):
    with h5py.File(folder / "result.h5", "r+") as file:
        file.attrs["version"] = 2


DAMAGES = {
    "no file": (lambda f: (f / "result.h5").unlink(), r"finished run, got FileNotFoundError"),
    "text": (damage("result.json", lambda c: c[:50]), r"finished run, got JSONDecodeError"),
    "cut": (damage("result.h5", lambda c: c[:-400]), r"finished run, got OSError"),
    "empty": (damage("result.json", lambda c: b"{}"), r"finished run, got KeyError: 'run'"),
    "runs": (
        replace_run,
        r"must be of the same run, got those of two: one was stopped while",
    ),
    "newer": (newer, r"version 1, got .* version 2; update geneig_adjoint"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_results_that_are_not_whole_are_refused(meshed, comm, change, message):
    _, folder = run(meshed, comm)
    change(folder)
    with pytest.raises(ga.InputError, match=message):
        read_results(folder)


ON_THE_WAY = {"events.jsonl", "checkpoint.h5"}
"""What a run that fails in the end leaves beside the results."""


def contents(folder):
    names = set(os.listdir(folder)) - ON_THE_WAY
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def limited(monkeypatch):
    """Limit files of results, as a full disk does: HDF5 and Python get errors of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        def write(*arguments, **options):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
            try:
                return write_results(*arguments, **options)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        monkeypatch.setattr("geneig_adjoint.study.run.write_results", write)

    return limit


@pytest.mark.parametrize("size", [0, 1, 100, 1000, 2000, 3000, 4096, 5000, 6000])
def test_disk_that_is_full_at_any_byte_leaves_the_old_results(meshed, comm, limited, size):
    _, folder = run(meshed, comm)
    old = contents(folder)
    assert size < max(map(len, old.values()))
    limited(size)
    with pytest.raises(StudyError, match=r"results must be writable, got File too large in .* mak"):
        run(meshed, comm, "output.overwrite=true", "solver.count=3")
    assert contents(folder) == old


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk; needs the rights of root."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no disk can be mounted: {done.stderr}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


@pytest.mark.failure("killed", through="api")
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_full_disk_is_named_and_left_as_it_was(meshed, comm, disk, blocks):
    folder = disk("-o", f"size={4096 * blocks}")
    with pytest.raises(StudyError, match=r"got No space left on device in .*disk; make room and"):
        run(meshed, comm, f"output.directory={folder}")
    assert set(os.listdir(folder)) <= ON_THE_WAY


def test_read_only_disk_is_named_before_any_work(meshed, comm, disk):
    folder = disk("-o", "ro")
    with pytest.raises(StudyError, match=r"writable, got Read-only file system for .*disk; choo"):
        run(meshed, comm, f"output.directory={folder}", "model.elements=missing.h5")


def test_files_and_their_names_are_on_the_disk_before_the_run_ends(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded(descriptor):
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("folder" if folder else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "replace", lambda *names: events.append("move") or replace(*names))
    with atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("x")
    assert events == ["file", "move", "folder"]


def test_what_killed_runs_have_left_is_removed(tmp_path):
    host = socket.gethostname()
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = {
        "ended": f".x.{host}.{ended.pid}.txt",
        "running": f".x.{host}.{os.getppid()}.txt",
        "elsewhere": f".x.not-{host}.{ended.pid}.txt",
        "other": f".y.{host}.{ended.pid}.txt",
    }
    for name in names.values():
        (tmp_path / name).write_text("half")
    with atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("x")
    kept = {names[key] for key in ("running", "elsewhere", "other")}
    assert set(os.listdir(tmp_path)) == {"x.txt", *kept}


@pytest.mark.parametrize("name", ["", ".", "a\\u0000b"])
def test_objective_must_have_a_name_that_files_can_hold(tmp_path, name):
    path = study_folder(tmp_path, ELEMENTS.replace('"f1"', f'"{name}"'))
    with pytest.raises(StudyError, match="needs a name without '/'"):
        read_study(path)


@pytest.mark.parametrize("text", ["x = " + "[" * 20_000, "x = 1" + "0" * 5000])
def test_study_that_no_parser_can_read_is_refused(tmp_path, text):
    path = study_folder(tmp_path, text)
    with pytest.raises(StudyError, match="must be TOML, got a syntax error"):
        read_study(path)


def test_picture_of_an_earlier_run_goes_where_the_next_one_has_no_mesh(meshed, comm, tmp_path):
    _, folder = run(meshed, comm)
    assert (folder / "modes.vtu").exists()
    write_chain(tmp_path / "elements.h5")
    run(meshed, comm, "output.overwrite=true")
    assert not (folder / "modes.vtu").exists()
    assert read_results(folder).mesh is None

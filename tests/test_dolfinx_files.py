"""Files of a process whose first HDF5 is that of dolfinx: the same bits as of any other."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from study_files import ELEMENTS, study_folder, write_chain

import geneig_adjoint as ga
from geneig_adjoint.cli import main

HERE = str(Path(__file__).parent)
BESIDE_DOLFINX = """
import sys
import dolfinx, dolfinx.io, dolfinx.mesh
from mpi4py import MPI

{before}
import geneig_adjoint as ga

ga.io.write_elements
from geneig_adjoint.cli import main
from study_files import write_chain
from test_dolfinx_files import bits

write_chain("beside.h5")
assert main(["run", "study.toml", "--set", "output.directory=beside"]) == 0
grid = dolfinx.mesh.create_unit_square(MPI.COMM_SELF, 2, 2)
with dolfinx.io.XDMFFile(grid.comm, "grid.xdmf", "w") as file:
    file.write_mesh(grid)
print(bits("elements.h5"), bits("out/result.h5"))
"""


def bits(path):
    """Return a checksum of all numbers, texts and names in a file, but not of the run's own."""
    digest = hashlib.sha256()

    def look(name, item):
        content = {key: np.asarray(value).tobytes() for key, value in item.attrs.items()}
        content.pop("run", None)
        values = item[()] if isinstance(item, h5py.Dataset) else np.zeros(0)
        digest.update(repr((name, content, str(values.dtype), values.tobytes())).encode())

    with h5py.File(path) as file:
        look("/", file)
        file.visititems(look)
    return digest.hexdigest()


def beside_dolfinx(folder, before=""):
    words = [sys.executable, "-W", "error:h5py", "-c", BESIDE_DOLFINX.format(before=before)]
    paths = os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_files_have_the_same_bits_beside_another_hdf5(tmp_path):
    path = study_folder(tmp_path, ELEMENTS)
    write_chain(tmp_path / "elements.h5")
    assert main(["run", str(path)]) == 0
    done = beside_dolfinx(tmp_path)
    assert done.returncode == 0, done.stderr
    read_there = done.stdout.split()[-2:]
    assert read_there == [bits(tmp_path / name) for name in ("elements.h5", "out/result.h5")]
    assert bits(tmp_path / "beside.h5") == bits(tmp_path / "elements.h5")
    found, text = ga.io.read_results(tmp_path / "beside"), tmp_path / "beside" / "result.json"
    for name, parts in json.loads(text.read_text())["gradients"].items():  # to the last digit
        for parameter, entry in parts.items():
            assert found.gradients[name][parameter].tolist() == entry["entries"]
    with h5py.File(tmp_path / "grid.h5") as file:
        assert file["Mesh/mesh/geometry"].shape == (9, 2)


@pytest.mark.failure("missing package", through="api")
def test_h5py_that_took_the_other_hdf5_is_explained(tmp_path):
    done = beside_dolfinx(tmp_path, "try:\n    import h5py\nexcept Exception: pass\n")
    assert "MissingPackageError: h5py must be imported before dolfinx" in done.stderr
    assert "put 'import h5py' in front of 'import dolfinx'" in done.stderr

"""Read the element tables named on stdin; print a digest of each, or why it was refused.

With the argument "forked" files are looked at by forks: see `forked_looks`.
"""

import hashlib
import json
import resource
import sys

import h5py
import numpy as np
from forked_looks import ForkedLooks
from mpi4py import MPI

import geneig_adjoint as ga
from geneig_adjoint.io import hdf5_probe, read_elements

WIDE = {"f": float, "c": complex}


def digest(parts):
    found = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part)
        if array.dtype.kind in WIDE:  # the same numbers in another byte order or size
            array = array.astype(WIDE[array.dtype.kind])
        found.update(f"{array.shape} {array.dtype.kind}".encode() + array.tobytes())
    return found.hexdigest()


def loaded(path):
    """Return the digest of what the package reads."""
    model, p, mesh = read_elements(path, MPI.COMM_SELF)
    parts = [model.n]
    for block in model.blocks:
        ((name, ids),) = block.parameters.items()
        law = f"{block.matrix} {name} {block.kernel.law}"
        parts += [np.frombuffer(law.encode(), np.uint8), block.dofs, ids, block.kernel.base]
    parts += [p[name] for name in sorted(p)]
    parts += [] if mesh is None else [mesh.points, mesh.dofs, *(part for _, part in mesh.cells)]
    return digest(parts)


def stored(path):
    """Return the digest of what h5py reads."""
    laws = {
        "linear": lambda attrs: ga.Linear(),
        "power": lambda attrs: ga.PowerLaw(float(attrs["exponent"]), float(attrs["floor"])),
    }

    def text(attrs, name):
        value = attrs[name]
        return value.decode() if isinstance(value, bytes) else value

    with h5py.File(path) as file:
        parts = [int(file.attrs["n"])]
        for key in sorted(file["blocks"], key=int):
            group = file["blocks"][key]
            law = laws[text(group.attrs, "law")](group.attrs)
            line = f"{text(group.attrs, 'matrix')} {text(group.attrs, 'parameter')} {law}"
            parts += [np.frombuffer(line.encode(), np.uint8)]
            parts += [group[name][()].astype(np.int64) for name in ("dofs", "ids")]
            matrices = group["matrices"][()]
            parts += [matrices if matrices.dtype.kind == "c" else matrices.astype(float)]
        group = file["parameters"]
        parts += [group[name][()].astype(float) for name in sorted(group)]
        if "mesh" in file:
            parts += [file["mesh"][name][()] for name in ("points", "dofs")]
            cells = file["mesh/cells"]
            parts += [cells[name][()] for name in sorted(cells, key=int)]
    return digest(parts)


def verdict(path):
    try:
        found = loaded(path)
    except ga.InputError as error:
        return "refused" if path in str(error) or "dof" in str(error) else f"no path in {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return found if found == stored(path) else "not what h5py reads"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
    hdf5_probe.SECONDS = 10.0
    if "forked" in sys.argv:
        hdf5_probe.subprocess, hdf5_probe.SECONDS = ForkedLooks(), 3.0
    for line in sys.stdin:
        print(json.dumps(verdict(line.rstrip("\n"))), flush=True)

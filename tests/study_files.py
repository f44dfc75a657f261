"""Files for tests: element tables, Matrix Market, PETSc binaries, study files, Python models."""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import scipy.linalg
from builders import K0, M0, chain_dofs, chain_parameters

import geneig_adjoint as ga
from geneig_adjoint.io import write_elements
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.settings import read_study

N = 8
P = chain_parameters(N)
FLOOR = 0.01


def chain_pencil(p):
    """Return the chain of `builders` as dense arrays, element by element."""
    A, B = np.zeros((2, N, N))
    for e, dofs in enumerate(chain_dofs(N)):
        free = np.flatnonzero(dofs >= 0)
        place, part = np.ix_(dofs[free], dofs[free]), np.ix_(free, free)
        A[place] += (FLOOR + p["k"][e] ** 2) * K0[part]
        B[place] += p["m"][e] * M0[part]
    return A, B


def chain_derivatives(p, j):
    """Return eigenvalue j of the chain and its derivatives, in closed form."""
    values, vectors = scipy.linalg.eigh(*chain_pencil(p))
    lam, x = values[j], np.append(vectors[:, j], 0.0)
    ends = x[chain_dofs(N)]
    stiffness, mass = (np.einsum("ei,ij,ej->e", ends, M, ends) for M in (K0, M0))
    return lam, {"k": 2 * p["k"] * stiffness, "m": -lam * mass}


def chain_blocks():
    """Return all elements of the chain; the second matrix is not shared."""
    ids, dofs = np.arange(N + 1), chain_dofs(N)
    return [
        ga.ElementBlock("A", dofs, ga.ScaledKernel(K0, ga.PowerLaw(2.0, FLOOR)), {"k": ids}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(np.tile(M0, (N + 1, 1, 1))), {"m": ids}),
    ]


def chain_mesh():
    """Return a line of points with one dof each."""
    points = np.zeros((N + 2, 3))
    points[:, 0] = np.arange(N + 2)
    ends = np.column_stack([np.arange(N + 1), np.arange(1, N + 2)])
    return ga.io.Mesh(points, [("line", ends)], np.r_[-1, np.arange(N), -1][:, None])


def write_chain(path, mesh=None):
    """Write the chain as an element table."""
    write_elements(path, N, chain_blocks(), P, mesh=mesh)
    return path


def changed_table(path, change):
    """Write the chain and change the open file."""
    with h5py.File(write_chain(path), "r+") as file:
        change(file)
    return path


def market(path, *entries, kind="real general", size=(3, 3)):
    """Write a Matrix Market file from lines of text; gzipped if its name says so."""
    lines = [f"%%MatrixMarket matrix coordinate {kind}", "% a remark"]
    lines += [f"{size[0]} {size[1]} {len(entries)}", *entries]
    text = "\n".join(lines) + "\n"
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as stream:
        stream.write(text)
    return path


def market_array(path, array):
    """Write the nonzero entries of a dense array as Matrix Market."""
    rows, columns = np.nonzero(array)
    lines = [f"{i + 1} {j + 1} {float(array[i, j])!r}" for i, j in zip(rows, columns, strict=True)]
    return market(path, *lines, size=array.shape)


def petsc_binary(path, array, dtype, **changes):
    """Write PETSc's format byte by byte: id, sizes, row lengths, columns, values."""
    array = np.asarray(array)
    rows, columns = np.nonzero(array)
    parts = {
        "header": [1211216, *array.shape, rows.size],
        "lengths": np.bincount(rows, minlength=array.shape[0]),
        "columns": columns,
    } | changes
    data = b"".join(np.asarray(part, dtype=">i4").tobytes() for part in parts.values())
    values = array[rows, columns].astype(np.dtype(dtype).newbyteorder(">"))
    path.write_bytes(data + values.tobytes())
    return path


# One line of progress.
STEP = r"\[ +\d+\.\d s\] .+ \(\d+\.\d\d s\)"

ELEMENTS = """
[model]
elements = "elements.h5"
[solver]
count = 2
[[objective]]
name = "f1"
kind = "frequency"
[[objective]]
name = "second"
kind = "eigenvalue"
pair = 1
[[objective]]
name = "motion"
kind = "linear"
rows = [0, 1]
weights = [1.0, -0.5]
"""
PYTHON = ELEMENTS.replace('elements = "elements.h5"', 'python = "model.py:build"')

MODEL = """
import numpy as np
import geneig_adjoint as ga
from builders import chain, chain_parameters

def build(comm, options):
    n = options.get("n", 8)
    return chain(n, comm), chain_parameters(n)
"""
# contract is wrong by a factor, tangent is right.
WRONG = (
    MODEL.replace("def build", "def right")
    + """
class Wrong:
    def __init__(self, model):
        self.model = model
        self.assemble, self.tangent = model.assemble, model.tangent

    def contract(self, p, *vectors):
        return {name: 1.5 * part for name, part in self.model.contract(p, *vectors).items()}

def build(comm, options):
    model, p = right(comm, options)
    return Wrong(model), p
"""
)
# Two equal masses on equal springs: a double eigenvalue beside a single one.
DOUBLE = """
import numpy as np
import geneig_adjoint as ga

def build(comm, options):
    own = np.arange(3)[comm.rank::comm.size]
    kernel = ga.ScaledKernel(np.ones((1, 1)))
    block = ga.ElementBlock("A", own[:, None], kernel, {"k": own})
    return ga.ElementModel(3, [block], comm=comm), {"k": np.array([1.0, 2.0, 2.0])}
"""
# A bar of N free dofs with uniform damping.
DAMPED_MODEL = """
import numpy as np
from damped_bars import damped_bar
from study_files import N, chain_mesh

def build(comm, options):
    p = {"k": np.array([3.0]), "c": np.array([0.4]), "m": np.array([2.0])}
    return damped_bar(N + 1, comm), p, chain_mesh()
"""
DAMPED = """
[model]
python = "model.py:build"
[solver]
count = 2
target = 0.0
[[objective]]
name = "decay"
kind = "decay_rate"
[[objective]]
name = "f"
kind = "natural_frequency"
pair = 1
[[objective]]
name = "end"
kind = "quadratic"
rows = [LAST]
""".replace("LAST", str(N - 1))


def study_folder(folder, text=ELEMENTS, **modules):
    """Write a study with its table and Python modules; return the study file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_chain(folder / "elements.h5")
    for name, source in {"model": MODEL, **modules}.items():
        (folder / f"{name}.py").write_text(source)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return folder / "study.toml"


def result(folder):
    """Return result.json of an output folder."""
    return json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))


def run(path, comm, *changes):
    """Run a study; return its outcome and output folder."""
    study = read_study(path, changes)
    return run_study(study, comm), study.directory

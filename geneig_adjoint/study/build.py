"""From a study to a model, parameters and objectives."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint import objectives as ready
from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.collective import (
    CollectiveContext,
    close_after,
    freed_on_error,
    users_code,
)
from geneig_adjoint.entrance import entered
from geneig_adjoint.errors import InputError, StudyError
from geneig_adjoint.evaluation import Objective
from geneig_adjoint.io import Mesh, read_elements, read_matrix, read_vector
from geneig_adjoint.models import MatrixModel
from geneig_adjoint.study.given_parameters import with_given_parameters
from geneig_adjoint.study.settings import Study

if TYPE_CHECKING:
    from mpi4py import MPI
    from petsc4py import PETSc


@dataclass(frozen=True)
class Problem(CollectiveContext):
    """What a study is about, built.

    Attributes
    ----------
    comm : MPI.Comm
    model : Model
    p : dict
        Parameters at which it is solved.
    mesh : Mesh or None
        On rank 0 at least.
    matrices : tuple of PETSc.Mat and PETSc.Vec
        What was read for the model; freed by `close`.

    """

    comm: MPI.Comm
    model: Any
    p: dict[str, Any]
    mesh: Mesh | None
    matrices: tuple[PETSc.Mat | PETSc.Vec, ...] = ()

    def close(self) -> None:
        """Free model and matrices.  (Collective.)"""
        model = [self.model.close] if hasattr(self.model, "close") else []
        close_after(None, *model, *(mat.destroy for mat in self.matrices))


def build_problem(study: Study, comm: MPI.Comm) -> Problem:
    """Return the model, parameters and mesh a study names.

    Collective.

    Raises
    ------
    StudyError
        A Python file or function that does not exist or returns something else, tables
        [parameters] and [scale] that do not fit the model.
    InputError
        Bad input files, matrices that are not square or not of one size.

    """
    problem = _as_named(study, comm)
    try:
        return replace(problem, p=with_given_parameters(study, problem.p))
    except StudyError:  # on every rank: the study is the same everywhere
        problem.close()
        raise


def _as_named(study: Study, comm: MPI.Comm) -> Problem:
    if "elements" in study.model:
        return _from_table(study, comm)
    if "python" in study.model:
        return _from_python(study, comm)
    return _from_matrices(study, comm)


def _from_table(study: Study, comm: MPI.Comm) -> Problem:
    path, distributed = study.folder / study.model["elements"], study.model.get("distributed")
    model, p, mesh = read_elements(path, comm, distributed=distributed)
    return Problem(comm, model, p, mesh, tuple(filter(params.is_distributed, p.values())))


def _from_python(study: Study, comm: MPI.Comm) -> Problem:
    function = load_function(study, study.model["python"], comm)
    with users_code(comm):
        result = function(comm, dict(study.model.get("options", {})))
    if not isinstance(result, tuple) or len(result) not in {2, 3}:
        raise StudyError(
            f"{study.model['python']} must return (model, p) or (model, p, mesh), got "
            f"{type(result).__name__}; return one of these tuples"
        )
    mesh = result[2] if len(result) == 3 else None
    model, p = entered(comm, result[0], result[1])
    return Problem(comm, model, p, mesh)


def _from_matrices(study: Study, comm: MPI.Comm) -> Problem:
    read: list[PETSc.Mat] = []

    def matrix(table: Mapping[str, Any], key: str) -> PETSc.Mat | None:
        if key not in table:
            return None
        read.append(read_matrix(study.folder / table[key], comm))
        _check_size(study, table[key], read[-1].getSize(), read[0].getSize()[0])
        return read[-1]

    with freed_on_error(comm, lambda: close_after(None, *(mat.destroy for mat in read))):
        A, B = matrix(study.model, "A"), matrix(study.model, "B")
        derivatives: dict[str, list[tuple[Any, Any]]] = {}
        for table in study.derivatives:
            entries = derivatives.setdefault(table["name"], [])
            entries.append((matrix(table, "A"), matrix(table, "B")))
    assert A is not None
    p = {name: np.zeros(len(entries)) for name, entries in derivatives.items()}
    return Problem(comm, MatrixModel(A, B, derivatives), p, None, tuple(read))


def _check_size(study: Study, name: str, size: tuple[int, int], n: int) -> None:
    """Raise where a matrix of a file is not n x n.  (Not collective.)"""
    if size != (n, n):
        raise InputError(
            f"{study.folder / name} must be square, with the {n} rows of A = "
            f"{study.model['A']!r}, got {size[0]} x {size[1]}; name matrices of one problem"
        )


def load_function(study: Study, reference: str, comm: MPI.Comm) -> Callable[..., Any]:
    """Return the function that "file.py:function" names.

    Collective. The folder of the file can be imported from while it is loaded.

    Raises
    ------
    StudyError
        A reference of another form, or a file or function that does not exist.

    """
    with users_code(comm):  # the file may communicate while it is loaded
        function: Callable[..., Any] = _loaded(study.folder, reference)
    return function


def _loaded(folder: Path, reference: str) -> Any:
    file, colon, name = reference.rpartition(":")
    path = (folder / file).resolve()
    if not colon or not name.isidentifier():
        raise StudyError(
            f'python must be "file.py:function", got {reference!r}; name file and function'
        )
    if not path.is_file():
        raise StudyError(f"{reference!r} must name an existing file, got no {path}; correct it")
    module = _module(path)
    if not hasattr(module, name):
        raise StudyError(f"{path} must define {name!r}, got no such name; correct the study")
    return getattr(module, name)


def _module(path: Path) -> Any:
    key = f"geneig_adjoint_study_{path.stem}_{abs(hash(path))}"
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def build_objectives(
    study: Study, problem: Problem, rows: tuple[int, int], comm: MPI.Comm
) -> dict[str, Objective]:
    """Return the objectives of a study by name.

    Collective.

    Parameters
    ----------
    study, problem
        The study and what was built from it.
    rows
        Row range of this rank.
    comm
        Communicator.

    Raises
    ------
    StudyError
        Missing keys, unknown options of a Python objective.
    InputError
        Bad files.

    """
    found = {}
    for table in study.objectives:
        if "python" in table:
            found[table["name"]] = _python_objective(study, table, problem, comm)
        else:
            found[table["name"]] = _ready_objective(study, table, rows, comm)
    return found


def _python_objective(
    study: Study, table: Mapping[str, Any], problem: Problem, comm: MPI.Comm
) -> Objective:
    factory = load_function(study, table["python"], comm)
    options = dict(table.get("options", {}))
    try:
        inspect.signature(factory).bind(problem.model, **options)
    except TypeError as error:
        raise StudyError(
            f"objective {table['name']!r}: {table['python']} is called as function(model, "
            f"**options), got {error}; correct [objective.options]"
        ) from error
    with users_code(comm):
        objective: Objective = factory(problem.model, **options)
    return objective


def _ready_objective(
    study: Study, table: Mapping[str, Any], rows: tuple[int, int], comm: MPI.Comm
) -> Objective:
    kind = table["kind"]
    simple = {
        "eigenvalue": ready.Eigenvalue,
        "frequency": ready.Frequency,
        "keff": ready.KEffective,
        "damping_ratio": ready.DampingRatio,
        "decay_rate": ready.DecayRate,
        "natural_frequency": ready.NaturalFrequency,
        "damped_frequency": ready.DampedFrequency,
        "ks": ready.KSMinimum,
    }
    options = {key: value for key, value in table.items() if key not in {"name", "kind"}}
    if kind in simple:
        return simple[kind](**options)
    if kind == "mode_shape":
        reference = _reference(study, table, rows, comm)
        return ready.ModeShapeMatch(reference, options.get("pair", 0))
    if kind == "linear":
        pair, part = options.get("pair", 0), options.get("part", "real")
        return ready.LinearOutput(_local_weights(table, rows, comm), pair, part)
    pairs = tuple(options.get("pairs", (0,)))
    if "matrix" in table:
        return ready.QuadraticForm(read_matrix(study.folder / table["matrix"], comm), pairs)
    return ready.QuadraticForm(_local_weights(table, rows, comm), pairs)


def _local_weights(table: Mapping[str, Any], rows: tuple[int, int], comm: MPI.Comm) -> Block:
    name = table["name"]
    if "rows" not in table:
        raise StudyError(
            f"objective {name!r} needs rows = [...], the global dofs it looks at; add them"
        )
    chosen = np.asarray(table["rows"], dtype=int)
    weights = np.asarray(table.get("weights", np.ones(chosen.size)), dtype=float)
    if weights.shape != chosen.shape:
        raise StudyError(
            f"objective {name!r} must have one weight per row, got {weights.size} weights for "
            f"{chosen.size} rows; leave weights out for ones"
        )
    n = comm.allreduce(rows[1] - rows[0])
    outside = chosen[(chosen < 0) | (chosen >= n)]
    if outside.size:
        raise StudyError(
            f"objective {name!r} must have rows in 0 ... {n - 1}, got {outside[0]}; "
            "count the free dofs from 0"
        )
    local = np.zeros(rows[1] - rows[0])
    mine = (chosen >= rows[0]) & (chosen < rows[1])
    np.add.at(local, chosen[mine] - rows[0], weights[mine])
    return local


def _reference(
    study: Study, table: Mapping[str, Any], rows: tuple[int, int], comm: MPI.Comm
) -> Block:
    if "reference" not in table:
        raise StudyError(
            f'objective {table["name"]!r} needs reference = "shape.npy", a global vector; add it'
        )
    n = comm.allreduce(rows[1] - rows[0])
    return read_vector(study.folder / table["reference"], rows, n, comm)

"""The files of a run: result.json, result.h5, pictures of the mesh; all of them or none."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import h5py

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._version import __version__
from geneig_adjoint.collective import raise_together
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io import Mesh, atomic_path, gathered, write_json, write_vtu
from geneig_adjoint.quadratic_pairs import QuadraticPairs
from geneig_adjoint.study.build import Problem
from geneig_adjoint.study.settings import Study

Pairs: TypeAlias = Eigenpairs | QuadraticPairs
INLINE_ENTRIES = 1000


@dataclass
class Outcome:
    """Results of a run, whole on rank 0.

    Attributes
    ----------
    values : dict
        Objective -> value.
    gradients : dict
        Objective -> parameter -> array.
    gradient_errors : dict
        Objective -> estimated relative error of its gradient.
    failures : dict
        Objective -> why it has no gradient.

    """

    values: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, dict[str, Any]] = field(default_factory=dict)
    gradient_errors: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def prepared_directory(study: Study) -> StudyError | None:
    """Make the output folder, or say why results cannot be written there."""
    directory = study.directory
    if (directory / "result.json").exists() and not study.output.get("overwrite", False):
        return StudyError(
            f"results must not be overwritten by accident, got {directory} with a result.json; "
            "give --overwrite, or another output.directory"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return StudyError(
            f"the output folder must be writable, got {error.strerror} for {directory}; "
            "choose another output.directory"
        )
    return None


def write_results(
    study: Study,
    problem: Problem,
    pairs: Pairs,
    *,
    outcome: Outcome,
    timings: dict[str, float],
) -> tuple[str, ...]:
    """Write all files and return what there is to note."""
    vectors = {"right": gathered(pairs.comm, pairs.right)}
    if pairs.left is not None:
        vectors["left"] = gathered(pairs.comm, pairs.left)
    notes = pairs.info.notes
    if problem.mesh is not None and find_spec("meshio") is None:
        notes += ("modes.vtu needs meshio: pip install 'geneig-adjoint[mesh]'",)
    error: Exception | None = None
    if pairs.comm.rank == 0:
        try:
            content = _json_content(pairs, outcome, timings, notes)
            _write_files(study, problem, vectors, outcome=outcome, content=content)
        except OSError as caught:
            error = StudyError(
                f"results must be writable, got {caught.strerror or caught} in {study.directory}; "
                "make room, or choose another output.directory"
            )
        except Exception as caught:
            error = caught
    raise_together(pairs.comm, error)
    return notes


def _write_files(
    study: Study,
    problem: Problem,
    vectors: Mapping[str, Any],
    *,
    outcome: Outcome,
    content: Mapping[str, Any],
) -> None:
    """Write all files, then move them into place together, result.json last."""
    with ExitStack() as files:

        def place(name: str) -> Path:
            return files.enter_context(atomic_path(study.directory / name))

        summary_path = place("result.json")
        with h5py.File(place("result.h5"), "w") as file:
            file["values"] = content["values"]
            for side, block in vectors.items() if study.output.get("vectors", True) else ():
                file[side] = block
            for name, gradient in outcome.gradients.items():
                for parameter, entries in gradient.items():
                    file[f"gradients/{name}/{parameter}"] = entries
            for parameter, entries in problem.p.items():
                if not params.is_distributed(entries):
                    file[f"parameters/{parameter}"] = entries
        if problem.mesh is not None and find_spec("meshio") is not None:
            points, cells = _mesh_fields(problem.mesh, vectors["right"], outcome)
            write_vtu(place("modes.vtu"), problem.mesh, point_data=points, cell_data=cells)
        write_json(summary_path, content)


def _mesh_fields(mesh: Mesh, right: Any, outcome: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the modes as point data and gradients by cell as cell data."""
    points = {}
    if mesh.dofs.shape[1] > 0:
        points = {f"mode_{j}": mesh.point_field(mode) for j, mode in enumerate(right.T)}
    cells = {
        f"{name}_{parameter}": entries
        for name, gradient in outcome.gradients.items()
        for parameter, entries in gradient.items()
        if len(entries) == mesh.cell_count
    }
    return points, cells


def _json_content(
    pairs: Pairs, outcome: Outcome, timings: dict[str, float], notes: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "values": pairs.values,
        "residuals": pairs.residuals,
        "left_residuals": pairs.info.left_residuals,
        "condition": pairs.condition,
        "clusters": pairs.clusters,
        "normalization": str(pairs.normalization),
        "completeness": asdict(pairs.info.completeness),
        "notes": notes,
        "objectives": outcome.values,
        "gradients": {
            name: {
                parameter: _reference(name, parameter, entries)
                for parameter, entries in gradient.items()
            }
            for name, gradient in outcome.gradients.items()
        },
        "gradient_errors": outcome.gradient_errors,
        "failures": outcome.failures,
        "timings": timings,
        "versions": versions(),
        "ranks": pairs.comm.size,
    }


def _reference(name: str, parameter: str, entries: Any) -> dict[str, Any]:
    reference = {"path": f"gradients/{name}/{parameter}", "size": len(entries)}
    if len(entries) <= INLINE_ENTRIES:
        reference["entries"] = entries
    return reference


def versions() -> dict[str, str]:
    """Return the versions a result depends on.  (Not collective.)"""
    found = {"geneig_adjoint": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "petsc4py", "slepc4py", "mpi4py", "h5py"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return {**found, "scalars": _petsc.SCALAR_NAME}

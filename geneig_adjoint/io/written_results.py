"""`read_results`: what a run has written, as arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError
from geneig_adjoint.io.mesh import Mesh
from geneig_adjoint.io.own_hdf5 import h5py
from geneig_adjoint.io.table_layout import read_mesh, text_attribute

RESULT_FORMAT = "geneig_adjoint results"
RESULT_VERSION = 1


@dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes
    ----------
    values : ndarray
        Eigenvalues, complex, (k,).
    objectives : dict
        Name -> value.
    gradients : dict
        Objective -> parameter -> array.
    failures : dict
        Objective -> why it has no gradient.
    parameters : dict
        Name -> array: where the study was solved.
    right, left : ndarray or None
        Vectors (n, k), global rows; None where none were written, or wanted.
    mesh : Mesh or None
    summary : dict
        All of result.json: residuals, condition, clusters, timings, versions, ...

    """

    values: Block
    objectives: dict[str, float]
    gradients: dict[str, dict[str, Block]]
    failures: dict[str, str]
    parameters: dict[str, Block]
    right: Block | None = None
    left: Block | None = None
    mesh: Mesh | None = None
    summary: dict[str, Any] = field(default_factory=dict)


def read_results(directory: str | Path, *, vectors: bool = True) -> Results:
    """Return the results in an output folder.

    Not collective: whole arrays, for one rank.

    Parameters
    ----------
    directory
        The folder with result.json and result.h5.
    vectors
        Read eigenvectors, too.

    Raises
    ------
    InputError
        Files that are missing, damaged or of two different runs.

    """
    directory = Path(directory)
    try:
        summary = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        with h5py.File(directory / "result.h5", "r") as file:
            return _results(file, summary, vectors=vectors)
    except InputError as error:
        error.args = (f"{directory}: {error}",)
        raise
    except Exception as caught:  # damaged files fail in any way
        raise InputError(
            f"{directory} must hold result.json and result.h5 of a finished run, got "
            f"{type(caught).__name__}: {' '.join(str(caught).split())}; run the study again"
        ) from caught


def check_format(file: Any) -> None:
    """Raise an InputError for files that another version has written.  (Not collective.)"""
    kind, version = text_attribute(file, "format"), int(file.attrs["version"])
    if (kind, version) != (RESULT_FORMAT, RESULT_VERSION):
        raise InputError(
            f"result.h5 must have format {RESULT_FORMAT!r} version {RESULT_VERSION}, got {kind!r} "
            f"version {version}; update geneig_adjoint, or run the study again"
        )


def _results(file: Any, summary: Any, *, vectors: bool) -> Results:
    check_format(file)
    check_run(file, summary["run"])
    gradients = {
        name: {key: file[entry["path"]][()] for key, entry in gradient.items()}
        for name, gradient in summary["gradients"].items()
    }
    sides = {
        side: file[side][()] if vectors and side in file else None for side in ("right", "left")
    }
    return Results(
        values=np.asarray(file["values"][()], dtype=complex),
        objectives=summary["objectives"],
        gradients=gradients,
        failures=summary["failures"],
        parameters=dict(datasets(file["parameters"])) if "parameters" in file else {},
        mesh=read_mesh(file),
        summary=summary,
        **sides,
    )


def check_run(file: Any, run: str) -> None:
    """Raise if an open result.h5 is of another run than result.json.  (Not collective.)"""
    check_name("result.h5", text_attribute(file, "run"), run)


def check_name(file: str, found: str, run: str) -> None:
    """Raise if a file names another run than result.json.  (Not collective.)"""
    if found != run:
        raise InputError(
            f"{file} and result.json must be of the same run, got those of two: one was "
            "stopped while it moved its files into place; run the study again"
        )


def datasets(group: Any, above: str = "") -> Iterator[tuple[str, Block]]:
    """Yield names and arrays below a group, which is names -> groups or datasets.

    Not collective. Names of structured parameters have slashes, which make groups of their own.
    """
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield from datasets(item, f"{above}{name}/")
        else:
            yield f"{above}{name}", np.atleast_1d(item[()])


def gradients_of(file: Any) -> dict[str, dict[str, Block]]:
    """Return objective -> parameter -> array of an open result.h5.  (Not collective.)"""
    return {name: dict(datasets(group)) for name, group in file.get("gradients", {}).items()}

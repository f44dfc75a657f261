"""What an output folder holds, as far as pictures need it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError, StudyError
from geneig_adjoint.io.own_hdf5 import h5py
from geneig_adjoint.io.written_results import check_format, check_name, check_run, gradients_of
from geneig_adjoint.pictures.meshes import Shape, read_shape

RESULT, FIELDS, MESH = "result.json", "result.h5", "modes.vtu"
FEW_ROWS = 5000
"""Up to here modes without a mesh are drawn, over the number of the row."""
EVENTS, TABLE, HISTORY, SWEEP = "events.jsonl", "table.csv", "history.jsonl", "sweep.json"


@dataclass
class Folder:
    """Content of an output folder; what is not there is empty.

    Attributes
    ----------
    title : str
        The name of the folder, or of the study's folder above an ``out``.
    summary : dict
        result.json.
    values : ndarray
        Eigenvalues, complex.
    rows : int
        Length of a vector; 0 without any.
    right : ndarray or None
        Right vectors (rows, count), if they have `FEW_ROWS` at most.
    gradients : dict
        Objective -> parameter -> array.
    shape : Shape or None
        The mesh, with modes by point.
    events, table, history : list of dict
        Lines of events.jsonl, of table.csv, and of an optimisation's history.jsonl.
    notes : list of str
        What could not be read, and why.

    """

    title: str
    summary: dict[str, Any] = field(default_factory=dict)
    values: Block = field(default_factory=lambda: np.zeros(0, dtype=complex))
    rows: int = 0
    right: Block | None = None
    gradients: dict[str, dict[str, Block]] = field(default_factory=dict)
    shape: Shape | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    table: list[dict[str, str]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def numbers(self, key: str) -> Block:
        """Return one number per pair from result.json, nan where there is none."""
        found = self.summary.get(key) or []
        listed = [np.nan if entry is None else float(entry) for entry in found]
        return (
            np.array(listed)
            if len(listed) == len(self.values)
            else np.full(len(self.values), np.nan)
        )


def read_folder(folder: Path) -> Folder:
    """Return what a folder of results, or one table of a sweep, holds.

    Raises
    ------
    StudyError
        A folder without results.
    InputError
        Files that are not what a run writes.

    """
    if folder.suffix == ".csv" and folder.is_file():
        return Folder(folder.stem, table=_checked(folder, _table))
    names = (RESULT, EVENTS, TABLE, HISTORY)
    present = [name for name in names if (folder / name).is_file()]
    if not present:
        raise StudyError(
            f"there must be {', '.join(names[:-1])} or {HISTORY} in {folder}, got none of them; "
            + _instead(folder)
        )
    results = Folder(_title(folder))
    if RESULT in present:
        results.summary = _checked(folder / RESULT, _summary)
        results.values = np.array([complex(*pair) for pair in results.summary["values"]])
    if (folder / FIELDS).is_file():
        _checked(folder / FIELDS, partial(_read_fields, results=results))
    elif RESULT in present:
        results.gradients = _inline(results.summary)
        results.notes.append(f"no {FIELDS}: gradients of up to 1000 entries only, and no modes")
    if (folder / MESH).is_file():
        results.shape, note = _checked(folder / MESH, partial(_read_mesh, results=results))
        results.notes += [note] if note else []
    if EVENTS in present:
        results.events = _checked(folder / EVENTS, _lines)
    if HISTORY in present:
        results.history = _checked(folder / HISTORY, _lines)
    if TABLE in present:
        results.table = _checked(folder / TABLE, _table)
    return results


def _instead(folder: Path) -> str:
    if (folder / SWEEP).is_file():
        return f"write the table first: geneig-adjoint collect {folder} -o {folder / TABLE}"
    return "give the output folder of a `geneig-adjoint run`, or a table of `collect`"


def _title(folder: Path) -> str:
    whole = folder.resolve()
    return whole.parent.name if whole.name == "out" else whole.name


def _checked(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except Exception as error:  # of JSON, CSV, HDF5, XML: all say that the file is no such file
        raise InputError(
            f"{path} must be as a run writes it, got {type(error).__name__}: {error}; run the "
            "study again, or move this file away"
        ) from error


def _summary(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    for pair in found["values"]:
        complex(*pair)
    return dict(found)


def _read_fields(path: Path, results: Folder) -> None:
    with h5py.File(path, "r") as file:
        check_format(file)
        if results.summary:
            check_run(file, results.summary["run"])
        results.gradients = gradients_of(file)
        results.rows = file["right"].shape[0] if "right" in file else 0
        if 0 < results.rows <= FEW_ROWS:
            results.right = file["right"][()]


def _read_mesh(path: Path, results: Folder) -> tuple[Shape | None, str]:
    shape, note = read_shape(path)
    if shape is not None and shape.run and results.summary:
        check_name(MESH, shape.run, results.summary["run"])
    return shape, note


def _inline(summary: dict[str, Any]) -> dict[str, dict[str, Block]]:
    return {
        objective: {
            name: np.asarray(entry["entries"], dtype=float)
            for name, entry in group.items()
            if "entries" in entry
        }
        for objective, group in summary.get("gradients", {}).items()
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        try:
            found.append(dict(json.loads(line)))
        except ValueError:
            # The last line of a run that was killed may be cut.
            if number + 1 < len(lines):
                raise
    return found


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))

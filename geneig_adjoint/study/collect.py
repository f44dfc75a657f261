"""`geneig-adjoint collect`: one table of the results of many runs.

Not collective, and without PETSc: the table can be made anywhere, also while a sweep runs.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint.errors import StudyError
from geneig_adjoint.exit_codes import MISSING_GRADIENT, OK
from geneig_adjoint.io.hdf5_writer import checked_dataset, written_hdf5
from geneig_adjoint.io.own_hdf5 import h5py
from geneig_adjoint.io.results import atomic_path, write_json
from geneig_adjoint.io.table_layout import text_attribute
from geneig_adjoint.io.written_results import datasets
from geneig_adjoint.study.sweep_state import (
    DEFINITION,
    DONE,
    RECORD,
    WAITING,
    read_json,
    stored_record,
)

Row = dict[str, Any]
FIRST = ("sample", "folder", "status", "exit_code", "reason", "seconds")
BROKEN = "result.json is not one of a run"
FORMATS = (".csv", ".json", ".h5")
OF_OBJECTIVES, OF_VALUES, OF_NORMS = "objective.", "value.", "norm."


def collected(folders: Sequence[str | Path], *, norms: bool = False) -> list[Row]:
    """Return a row per run, sorted; samples that have not begun are rows, too.

    Parameters
    ----------
    folders
        Folders of runs, or of whole sweeps.
    norms
        Add the norms of all gradients.

    Raises
    ------
    StudyError
        A folder that does not exist, or none at all.

    """
    chosen: dict[Path, Row] = {}
    sweep_of = functools.cache(_sweep_of)  # the shell may name thousands of samples
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise StudyError(
                f"collect needs folders of results, got {folder}, which is none; give for example "
                "out/*/"
            )
        if (folder / DEFINITION).is_file():
            chosen.update(sweep_of(folder)[0])
            continue
        listed, nowhere = sweep_of(folder.parent)
        chosen.update(nowhere)
        # Pictures of the sweep, for example, are no sample.
        if not listed or folder in listed or _has_run(folder):
            chosen[folder] = listed.get(folder, {})
    if not chosen:
        raise StudyError("collect needs folders of results, got none; give for example out/*/")
    ordered = sorted(chosen, key=_natural)
    return [_row(folder, chosen[folder], norms) for folder in ordered]


def _sweep_of(folder: Path) -> tuple[dict[Path, Row], dict[Path, Row]]:
    """Return the samples of a sweep, and those without a folder: no pattern names them."""
    listed = {folder / sample["folder"]: sample for sample in _samples(folder / DEFINITION)}
    return listed, {path: sample for path, sample in listed.items() if not path.exists()}


def _has_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (RECORD, "result.json"))


def _samples(definition: Path) -> list[Row]:
    """Return what a sweep says of its samples; none where it is none."""
    listed = (read_json(definition) or {}).get("samples")
    known = isinstance(listed, list) and all(isinstance(s, dict) and "folder" in s for s in listed)
    return listed if known and listed else []


def _natural(path: Path) -> list[Any]:
    """Return a key that sorts sample_10000 behind sample_9999."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def _row(folder: Path, sample: Mapping[str, Any], norms: bool) -> Row:
    record = stored_record(folder)
    result = read_json(folder / "result.json")
    if result is not None and not _is_result(result):
        result = {}
    standing = _standing(record, result, listed=bool(sample))
    entries = (record or {}).get("entries") or sample.get("entries", {})
    row: Row = {"sample": (record or {}).get("number"), "folder": str(folder), **standing}
    if row["sample"] is None and sample:
        row["sample"] = int(folder.name.rpartition("_")[2])
    row.update(entries)
    if result and (record or {"results": True}).get("results"):
        row.update(_numbers(result))
        row.update(_norms(folder) if norms else {})
    return row


def _is_result(found: Row) -> bool:
    objectives, values = found.get("objectives"), found.get("values")
    failures, timings = found.get("failures", {}), found.get("timings", {})
    return (
        all(isinstance(part, dict) for part in (objectives, failures, timings))
        and isinstance(values, list)
        and all(isinstance(value, list) and len(value) == 2 for value in values)
        and all(isinstance(seconds, int | float) for seconds in timings.values())
    )


def _standing(record: Row | None, result: Row | None, *, listed: bool) -> Row:
    if record is not None:
        reason = str(record.get("reason", f"{RECORD} is not one of a sample"))
        found = {
            "status": record.get("status", "unreadable"),
            "exit_code": record.get("exit_code"),
            "reason": (reason.splitlines() or [""])[0],
            "seconds": record.get("seconds"),
        }
        if record.get("results") and not result:
            broken = BROKEN if result is not None else "result.json is missing"
            found.update(status="unreadable", reason=broken)
        return found
    if result is None:
        reason = "not begun" if listed else f"no {RECORD} and no result.json"
        return {"status": WAITING, "exit_code": None, "reason": reason, "seconds": None}
    if not result:
        return {"status": "unreadable", "exit_code": None, "reason": BROKEN, "seconds": None}
    failures = result.get("failures", {})
    return {
        "status": DONE,
        "exit_code": result.get("exit_code", MISSING_GRADIENT if failures else OK),
        "reason": "; ".join(f"{name}: {text}" for name, text in failures.items()),
        "seconds": sum(result.get("timings", {}).values()),
    }


def _numbers(result: Row) -> Row:
    """Return objectives and eigenvalues; imaginary parts only where there are any."""
    found: Row = {f"{OF_OBJECTIVES}{k}": value for k, value in result["objectives"].items()}
    for j, (real, imag) in enumerate(result["values"]):
        found[f"{OF_VALUES}{j}"] = real
        if imag:
            found[f"{OF_VALUES}{j}.imag"] = imag
    return found


def _norms(folder: Path) -> Row:
    found = {name: float(np.linalg.norm(entries)) for name, entries in _gradients(folder)}
    keys = _without_slashes(found, 1)
    return {f"{OF_NORMS}{keys[name]}": norm for name, norm in found.items()}


def _without_slashes(names: Iterable[str], first: int = -1) -> dict[str, str]:
    """Return names with their (first) slashes as points; as %2F if two would become the same."""
    points = {name: name.replace("/", ".", first) for name in names}
    if len(set(points.values())) == len(points):
        return points
    return {name: name.replace("%", "%25").replace("/", "%2F") for name in points}


def _gradients(folder: Path) -> Iterator[tuple[str, Any]]:
    """Give "objective/parameter" and the entries of every gradient of a run."""
    run = (read_json(folder / "result.json") or {}).get("run")
    try:
        file = h5py.File(folder / "result.h5")
    except OSError:  # not there, or just being replaced
        return
    with file:
        if text_attribute(file, "run") == run:  # else one of the files was replaced just now
            yield from datasets(file.get("gradients", {}))


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the columns: what all have, what was varied, objectives, values, norms."""
    names = dict.fromkeys(name for row in rows for name in row)
    groups = (OF_OBJECTIVES, OF_VALUES, OF_NORMS)
    computed = {prefix: [n for n in names if n.startswith(prefix)] for prefix in groups}
    rest = [n for n in names if n not in FIRST and not n.startswith(groups)]
    computed[OF_VALUES].sort(key=lambda name: _natural(Path(name)))
    return [*FIRST[:2], *rest, *FIRST[2:], *(n for prefix in groups for n in computed[prefix])]


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as CSV; what a row does not have is empty, lists are JSON."""
    stream = io.StringIO()
    columns = columns_of(rows)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | dict | bool) else value


def write_table(path: Path, rows: Sequence[Row], *, overwrite: bool = False) -> None:
    """Write rows as .csv, .json, or .h5 with all gradients; whole or not at all.

    Raises
    ------
    StudyError
        Another suffix, a file that exists already, or one that cannot be written.

    """
    if path.suffix not in FORMATS:
        raise StudyError(
            f"a table must end in {', '.join(FORMATS)}, got {path}; choose one of them"
        )
    if path.exists() and not overwrite:
        raise StudyError(
            f"a table must have a name that is free, got {path}, which exists; give --overwrite to "
            "replace it, or another name"
        )
    try:
        _write(path, rows)
    except OSError as error:
        raise StudyError(
            f"a table must be writable, got {error.strerror or error} for {path}; choose another "
            "name"
        ) from error


def _write(path: Path, rows: Sequence[Row]) -> None:
    if path.suffix == ".json":
        write_json(path, list(rows))
        return
    with ExitStack() as files:
        temporary = files.enter_context(atomic_path(path))
        if path.suffix == ".csv":
            temporary.write_text(csv_text(rows), encoding="utf-8", errors="backslashreplace")
            return
        with written_hdf5(temporary) as file:
            _fill(file, rows)


def _fill(file: Any, rows: Sequence[Row]) -> None:
    """Write columns as table/<name> and gradients as gradients/<row>/<objective>/<parameter>."""
    for name, key in _without_slashes(columns_of(rows)).items():
        column = [row.get(name) for row in rows]
        if all(value is None or isinstance(value, int | float) for value in column):
            numbers = [np.nan if value is None else float(value) for value in column]
            checked_dataset(file, f"table/{key}", np.asarray(numbers))
        else:
            file[f"table/{key}"] = [str(_cell(value)) for value in column]
    for number, row in enumerate(rows):
        if row["status"] == DONE:
            for name, entries in _gradients(Path(row["folder"])):
                checked_dataset(file, f"gradients/{number}/{name}", entries)

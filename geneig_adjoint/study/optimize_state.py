"""What a search for a better design leaves on disk: the best design so far, and its history."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io.hdf5_writer import checked_dataset, write_attributes, written_hdf5
from geneig_adjoint.io.own_hdf5 import h5py
from geneig_adjoint.io.results import as_json, atomic_path
from geneig_adjoint.io.table_layout import text_attribute
from geneig_adjoint.study.earlier_runs import NAME
from geneig_adjoint.study.fingerprint import Fingerprints, of_content
from geneig_adjoint.study.results import FILES as RESULTS
from geneig_adjoint.study.results import SUMMARY as SUMMARY_OF_RUN
from geneig_adjoint.study.results import make_writable
from geneig_adjoint.study.set_aside import set_aside
from geneig_adjoint.study.settings import Study
from geneig_adjoint.study.sweep_state import read_json

CHECKPOINT, HISTORY, SUMMARY = "design.h5", "history.jsonl", "optimize.json"
STOPPED = "stopped"
FORMAT = 1
FREE = {"max_iterations", "tolerance", "options"}
"""Keys of [optimize] that may change when a search goes on."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a search stands.

    Attributes
    ----------
    z : ndarray
        The best design so far.
    values : ndarray
        Eigenvalues there, by place.
    phase_rows : ndarray or None
        Rows that fix the phases of the vectors.
    reference : float
        What objectives are measured by: the size of the first.
    history : list of dict
        A row per iteration.

    """

    z: Block
    values: Block
    phase_rows: Block | None
    reference: float
    history: list[dict[str, Any]]


def fingerprint_of(study: Study) -> str:
    """Return what a search that goes on must share with the earlier one.  (Not collective.)"""
    table = {key: value for key, value in study.optimize.items() if key not in FREE}
    return of_content([Fingerprints().of(study), table])


def earlier_search(study: Study, fingerprint: str, *, resume: bool) -> Checkpoint | None:
    """Return where an earlier search stands; None where there is none, or it is replaced.

    Not collective: call it on one rank. Makes the folder.

    Raises
    ------
    StudyError
        An earlier search or run that is neither resumed nor replaced, a search of another study, a
        folder that cannot be written.

    """
    directory = study.directory
    path = directory / CHECKPOINT
    make_writable(directory)
    if resume and path.exists():
        return _read(directory, fingerprint)
    _refuse_to_lose(study, fingerprint, resume=resume)
    make_writable(directory, CHECKPOINT, HISTORY, SUMMARY)
    return None


def _refuse_to_lose(study: Study, fingerprint: str, *, resume: bool) -> None:
    """Raise if there is something in the folder that may be there by accident."""
    directory = study.directory
    kept = [name for name in (CHECKPOINT, SUMMARY_OF_RUN, NAME) if (directory / name).exists()]
    if kept and not study.output.get("overwrite", False):
        ways = "give --overwrite to replace what is there"
        if not resume:
            ways = "give --resume to go on with a search, --overwrite to replace what is there"
        raise StudyError(
            f"the output folder must be free of results, got {directory / kept[0]} of an earlier "
            f"job; {ways}, or choose another output.directory"
        )
    if kept and _unfinished(directory, fingerprint):
        raise StudyError(
            f"an unfinished search must not be lost by accident, got {directory / CHECKPOINT} of "
            "this study; go on with --resume, or remove this file to begin anew"
        )


def refuse_folder_of_a_search(study: Study) -> None:
    """Raise if results of a single run would pass for those of a search.  (Not collective.)"""
    path = study.directory / CHECKPOINT
    if path.exists():
        raise StudyError(
            f"the output folder of a run must not be that of a search, got {path}; choose another "
            "output.directory, or remove what the search has left"
        )


def _unfinished(directory: Path, fingerprint: str) -> bool:
    """Tell whether a search of this study has a checkpoint and has not come to its end."""
    try:
        with h5py.File(directory / CHECKPOINT) as file:
            if text_attribute(file, "fingerprint") != fingerprint:
                return False
            count = int(file.attrs["iterations"])
    except (OSError, KeyError, TypeError, ValueError):
        return False  # damaged, or none at all
    end = read_json(directory / SUMMARY) or {}
    ended = end.get("iterations") == count and end.get("reason") != STOPPED
    return not (ended and (directory / SUMMARY_OF_RUN).exists())


def _read(directory: Path, fingerprint: str) -> Checkpoint:
    try:
        with h5py.File(directory / CHECKPOINT) as file:
            same = text_attribute(file, "fingerprint") == fingerprint
            rows = file["phase_rows"][()] if "phase_rows" in file else None
            reference, count = float(file.attrs["reference"]), int(file.attrs["iterations"])
            z, values = file["z"][()], file["values"][()]
        lines = (directory / HISTORY).read_text(encoding="utf-8").splitlines()
        # A job may end between the line of an iteration and its checkpoint.
        history = [json.loads(line) for line in lines[:count]]
        if not count == len(history) > 0 or not any(row["best"] for row in history):
            raise ValueError(f"{len(history)} rows in {HISTORY} for {count} iterations")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StudyError(
            f"{directory / CHECKPOINT} must be a checkpoint of a search, got {error}; give "
            "--overwrite to begin anew"
        ) from error
    if not same:
        raise StudyError(
            f"a search can go on with the same study only, got {directory / CHECKPOINT} of another "
            "one, or of files that have changed since; undo the change, or give --overwrite to "
            "begin anew"
        )
    write_history(directory, history)
    return Checkpoint(z, values, rows, reference, history)


def write_history(directory: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write all rows, whole or not at all.  (Not collective.)"""
    with atomic_path(directory / HISTORY) as temporary:
        temporary.write_text("".join(map(line_of, history)), encoding="utf-8")


def begin_history(directory: Path, row: Mapping[str, Any]) -> bool:
    """Replace what an earlier search has left by a first row; tell whether it was set aside.

    Not collective. Not before there is a row: a study that cannot be carried out costs no earlier
    results. Those are set aside as a whole: none of them may pass for one of this search.
    """
    moved = set_aside(directory, (*RESULTS, SUMMARY, NAME, HISTORY, CHECKPOINT))
    for name in (SUMMARY, CHECKPOINT):
        (directory / name).unlink(missing_ok=True)
    write_history(directory, [row])
    return moved


def leave_results(directory: Path) -> bool:
    """Set results aside that a search, which goes on, has left behind; tell whether it did.

    Not collective.
    """
    complete = (directory / SUMMARY_OF_RUN).exists()
    return complete and set_aside(directory, (*RESULTS, SUMMARY))


def append_history(directory: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Append the last row; all of them where somebody has removed the file.  (Not collective.)"""
    if not (directory / HISTORY).exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_history(directory, history)
        return
    with (directory / HISTORY).open("a", encoding="utf-8") as stream:
        stream.write(line_of(history[-1]))
        stream.flush()
        os.fsync(stream.fileno())


def line_of(row: Mapping[str, Any]) -> str:
    """Return a row as one line of JSON.  (Not collective.)"""
    return as_json(row) + "\n"


def write_checkpoint(
    directory: Path, fingerprint: str, at: Checkpoint, parameters: Mapping[str, Block]
) -> None:
    """Write where a search stands, whole or not at all.  (Not collective.)

    Parameters
    ----------
    directory
        Folder of the results.
    fingerprint
        Of the study.
    at
        Where it stands.
    parameters
        The best design by name of parameter, for readers.

    """
    with atomic_path(directory / CHECKPOINT) as temporary, written_hdf5(temporary) as file:
        write_attributes(
            file,
            format=FORMAT,
            fingerprint=fingerprint,
            reference=at.reference,
            iterations=len(at.history),
        )
        checked_dataset(file, "z", at.z)
        checked_dataset(file, "values", np.asarray(at.values))
        if at.phase_rows is not None:
            checked_dataset(file, "phase_rows", at.phase_rows)
        for name, entries in parameters.items():
            checked_dataset(file, f"parameters/{name}", entries)

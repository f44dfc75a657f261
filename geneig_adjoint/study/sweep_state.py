"""What a sweep leaves on disk: its definition, and where each sample stands."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geneig_adjoint import exit_codes
from geneig_adjoint.errors import StudyError
from geneig_adjoint.io.results import write_json
from geneig_adjoint.study.fingerprint import Fingerprints, of_tables
from geneig_adjoint.study.samples import Sample
from geneig_adjoint.study.set_aside import set_folder_aside

FORMAT = 1
DEFINITION, RECORD = "sweep.json", "sample.json"
WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
STATUSES = (WAITING, RUNNING, DONE, FAILED, STOPPED)
KINDS = {
    "number": int,
    "entries": dict,
    "fingerprint": str,
    "exit_code": int | None,
    "reason": str,
    "attempts": int,
    "results": bool,
    "seconds": int | float | None,
}
"""Of what the record of a sample says, as far as it is said."""
ATTEMPTS = 2
"""A sample in which the job was killed so often is not tried again unasked."""
FINISHED = (exit_codes.OK, exit_codes.MISSING_GRADIENT)
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")


@dataclass(frozen=True)
class Plan:
    """What a sweep has to do.

    Attributes
    ----------
    todo : list of int
        Numbers of the samples to run, in this order.
    records : list of dict
        Where each sample stands, by number.

    """

    todo: list[int]
    records: list[dict[str, Any]]


def prepared_plan(
    directory: Path,
    samples: Sequence[Sample],
    chosen: Sequence[int],
    *,
    retry: bool,
    overwrite: bool,
) -> Plan:
    """Store the definition of a sweep and return what is to be done.

    Not collective: call it on one rank.

    Raises
    ------
    StudyError
        Another definition, or finished samples of other files, without ``overwrite``; a
        folder that cannot be written.

    """
    fingerprints = Fingerprints()
    prints = {number: fingerprints.of(samples[number].study) for number in chosen}
    try:
        _store_definition(directory, samples, chosen, overwrite)
        records = [read_record(directory / sample.folder, sample) for sample in samples]
        for number in chosen:
            _refuse_other_files(directory, samples[number], records, prints[number], overwrite)
    except OSError as error:
        raise StudyError(
            f"the folder of a sweep must be writable, got {error.strerror} for "
            f"{error.filename or directory}; choose another output.directory"
        ) from error
    for number in chosen:
        records[number]["fingerprint now"] = prints[number]
    return Plan(_todo(records, chosen, retry), records)


def definition_of(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return what makes a sweep this one and no other.  (Not collective.)"""
    listed = [
        {"folder": sample.folder, "entries": sample.entries, "study": of_tables(sample.study)}
        for sample in samples
    ]
    # As it will be read again: tuples are lists, dates are text.
    return dict(json.loads(json.dumps({"format": FORMAT, "samples": listed}, default=str)))


def _store_definition(
    directory: Path, samples: Sequence[Sample], chosen: Sequence[int], overwrite: bool
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    definition, path = definition_of(samples), directory / DEFINITION
    earlier = read_json(path)
    if earlier == definition:
        return
    if earlier is not None and not overwrite:
        raise StudyError(
            f"a sweep must not change once it has begun, got another definition in {path}; give "
            "--overwrite to replace it, or another output.directory"
        )
    write_json(path, definition)
    if earlier is not None:
        _set_others_aside(directory, earlier, definition, {samples[j].folder for j in chosen})


def _set_others_aside(
    directory: Path, earlier: dict[str, Any], definition: dict[str, Any], chosen: set[str]
) -> None:
    """Set samples of an earlier definition aside that are none of this one, or other ones."""
    now = {sample["folder"]: sample for sample in definition["samples"]}
    for sample in earlier.get("samples", []):
        folder = sample["folder"]
        if sample != now.get(folder) and (folder in chosen or folder not in now):
            done = (stored_record(directory / folder) or {}).get("status") == DONE
            set_folder_aside(directory, folder, complete=done)


def _refuse_other_files(
    directory: Path,
    sample: Sample,
    records: list[dict[str, Any]],
    fingerprint: str,
    overwrite: bool,
) -> None:
    record = records[sample.number]
    if record["status"] == WAITING or record["fingerprint"] == fingerprint:
        return
    if record["status"] == DONE and not overwrite:
        raise StudyError(
            f"a finished sample must be of this study, got {directory / sample.folder} of another "
            "one, or of files that have changed since; give --overwrite to run it again, or "
            "another output.directory"
        )
    if record["status"] == DONE:  # nobody may take it for a result of this study
        set_folder_aside(directory, sample.folder, complete=True)
        records[sample.number] = read_record(directory / sample.folder, sample)
        return
    records[sample.number] = {**record, "status": WAITING, "attempts": 0}


def _todo(records: list[dict[str, Any]], chosen: Sequence[int], retry: bool) -> list[int]:
    """Return what is to run: what was never tried first, then what a killed job left."""
    fresh = [j for j in chosen if records[j]["status"] in {WAITING, STOPPED}]
    interrupted = [
        j
        for j in chosen
        if records[j]["status"] == RUNNING and (retry or records[j]["attempts"] < ATTEMPTS)
    ]
    failed = [j for j in chosen if records[j]["status"] == FAILED and retry]
    return fresh + interrupted + failed


def read_record(folder: Path, sample: Sample) -> dict[str, Any]:
    """Return where a sample stands.  (Not collective.)"""
    empty = {"status": WAITING, "exit_code": None, "reason": "", "attempts": 0, "fingerprint": ""}
    found = stored_record(folder) or {}
    return {**empty, **found, "number": sample.number, "entries": sample.entries}


def stored_record(folder: Path) -> dict[str, Any] | None:
    """Return the record in a sample's folder: None without one, {} for what is none.

    Not collective.
    """
    found = read_json(folder / RECORD)
    if not found:
        return found
    known = all(isinstance(found[name], kind) for name, kind in KINDS.items() if name in found)
    return found if known and found.get("status") in STATUSES else {}


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, None where there is no file or something else.  (Not collective.)"""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:  # half of it, or no text
        return {}
    return content if isinstance(content, dict) else {}


def begun(record: dict[str, Any], ranks: int) -> dict[str, Any]:
    """Return the record of a sample that begins now.  (Not collective.)"""
    job = next((os.environ[name] for name in JOBS if name in os.environ), None)
    return {
        "number": record["number"],
        "entries": record["entries"],
        "fingerprint": record["fingerprint now"],
        "status": RUNNING,
        "exit_code": None,
        "reason": "",
        "attempts": record["attempts"] + 1,
        "began": _now(),
        "results": False,
        "ended": None,
        "ranks": ranks,
        "job": job,
    }


@dataclass(frozen=True)
class Ending:
    """How the run of a sample ended.

    Attributes
    ----------
    code : int
        Its exit code.
    reason : str
        Why it is not 0.
    results : bool
        Whether it has written results.

    """

    code: int
    reason: str
    results: bool

    @property
    def status(self) -> str:
        """Where the sample stands."""
        if self.code == exit_codes.STOPPED:
            return STOPPED
        return DONE if self.code in FINISHED else FAILED


def ended(record: dict[str, Any], ending: Ending, seconds: float) -> dict[str, Any]:
    """Return the record of a sample that ends now.  (Not collective.)"""
    return {
        **record,
        "status": ending.status,
        "exit_code": ending.code,
        "reason": ending.reason,
        "results": ending.results,
        "ended": _now(),
        "seconds": seconds,
    }


def interrupted(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a sample during which somebody at the keyboard ended the job.

    Not collective. That says nothing about the sample: it is not one of its attempts.
    """
    reason = exit_codes.MEANINGS[exit_codes.INTERRUPTED]
    stopped = {"status": STOPPED, "exit_code": exit_codes.INTERRUPTED, "reason": reason}
    return {**record, **stopped, "attempts": record["attempts"] - 1, "ended": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write where a sample stands.  (Not collective.)"""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, record)

"""`geneig-adjoint sweep`: run the samples of a study one after the other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geneig_adjoint import exit_codes
from geneig_adjoint.collective import from_first_rank, leave_together
from geneig_adjoint.errors import StudyError
from geneig_adjoint.study import sweep_state as state
from geneig_adjoint.study.earlier_runs import resumable
from geneig_adjoint.study.fingerprint import Fingerprints
from geneig_adjoint.study.progress import show, tell
from geneig_adjoint.study.run import run_study
from geneig_adjoint.study.samples import Sample, samples_of
from geneig_adjoint.study.set_aside import EARLIER, drop_set_aside
from geneig_adjoint.study.settings import Study, with_entries
from geneig_adjoint.study.signals import StopRequest

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass(frozen=True)
class Wishes:
    """What the user wants of a sweep.

    Attributes
    ----------
    only : sequence of int or None
        Numbers of samples; None: all.
    retry : bool
        Run failed samples again.
    overwrite : bool
        Replace the results of another definition.

    """

    only: Sequence[int] | None = None
    retry: bool = False
    overwrite: bool = False


def run_sweep(study: Study, comm: MPI.Comm, wishes: Wishes) -> int:
    """Run the samples of a sweep that are not finished and return the exit code.

    Collective. A sample that fails on all ranks is recorded and the next one goes on; a rank
    that fails alone ends the job, and the next one goes on after it.

    Raises
    ------
    StudyError, InputError
        See `samples_of` and `prepared_plan`.

    """
    samples, plan = _agreed(study, comm, wishes)
    codes = {number: plan.records[number]["exit_code"] for number in _chosen(samples, wishes)}
    stopped = False
    with StopRequest(comm) as stop:
        for place, number in enumerate(plan.todo):
            stopped = stop.agreed() is not None
            if stopped:
                break
            tell(comm, _heading(samples[number], f"{place + 1} of {len(plan.todo)}"))
            codes[number] = _run_one(samples[number], plan.records, comm, wishes.overwrite)
            if codes[number] == exit_codes.STOPPED:
                stopped = True
                break
    _close(study, comm, plan.records, wishes, samples)
    return exit_codes.STOPPED if stopped else _exit_code(codes)


def listing(study: Study) -> str:
    """Return the table of samples and where each stands.  (Not collective.)"""
    samples = samples_of(study)
    names = list(dict.fromkeys(name for sample in samples for name in sample.entries))
    rows = [["sample", *names, "status"]]
    for sample in samples:
        record = state.read_record(study.directory / sample.folder, sample)
        entries = [str(sample.entries.get(name, "")) for name in names]
        rows.append([str(sample.number), *entries, _standing(record)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _standing(record: dict[str, Any]) -> str:
    words = [record["status"], record["reason"].splitlines()[:1]]
    return ": ".join(word for word in (words[0], *words[1]) if word)


def _chosen(samples: Sequence[Sample], wishes: Wishes) -> list[int]:
    if wishes.only is None:
        return list(range(len(samples)))
    unknown = [number for number in wishes.only if not 0 <= number < len(samples)]
    if unknown:
        raise StudyError(
            f"--only must name samples among 0 ... {len(samples) - 1}, got {unknown[0]}; --list "
            "shows them"
        )
    return sorted(set(wishes.only))


def _agreed(study: Study, comm: MPI.Comm, wishes: Wishes) -> tuple[list[Sample], state.Plan]:
    """Return samples and plan as rank 0 sees them, on every rank.  (Collective.)"""

    def planned() -> tuple[list[Sample], state.Plan]:
        samples = samples_of(study)
        chosen = _chosen(samples, wishes)
        retry, overwrite = wishes.retry, wishes.overwrite
        plan = state.prepared_plan(
            study.directory, samples, chosen, retry=retry, overwrite=overwrite
        )
        return samples, plan

    return from_first_rank(comm, planned)


def _run_one(sample: Sample, records: list[dict[str, Any]], comm: MPI.Comm, overwrite: bool) -> int:
    """Run one sample, record how it ended and return its exit code.  (Collective.)"""
    earlier, now = records[sample.number], records[sample.number]["fingerprint now"]
    # Another job may have come here since the plan was made.
    found = from_first_rank(comm, lambda: state.read_record(sample.study.directory, sample))
    if found["fingerprint"] == now and found["status"] == state.DONE:
        records[sample.number] = found
        tell(comm, f"{sample.folder}: done by another job")
        return int(found["exit_code"])
    known = bool(earlier["fingerprint"] or found["fingerprint"]) or overwrite  # of this sweep
    record = state.begun(earlier, comm.size)
    _write(sample, record, comm)
    study = with_entries(sample.study, {"output.overwrite": True}) if known else sample.study
    start = time.perf_counter()
    same = now in {earlier["fingerprint"], found["fingerprint"]}
    if same and overwrite:  # what was kept may be damaged, or of another build: replaced then
        same = from_first_rank(comm, lambda: resumable(study, Fingerprints().of_parts(study)))
    try:
        outcome = _outcome(study, comm, resume=same)
    except KeyboardInterrupt:
        if comm.rank == 0:  # the others may not get here
            with suppress(OSError):
                state.write_record(sample.study.directory, state.interrupted(record))
        raise
    record = state.ended(record, outcome, time.perf_counter() - start)
    records[sample.number] = record
    _write(sample, record, comm)
    if comm.rank == 0 and outcome.status == state.DONE:
        drop_set_aside(sample.study.directory.parent, sample.folder)
    tell(comm, f"{sample.folder}: {_standing(record)} ({record['seconds']:.2f} s)")
    return outcome.code


def _outcome(study: Study, comm: MPI.Comm, *, resume: bool) -> state.Ending:
    """Run a study and return how it ended, as rank 0 sees it.  (Collective.)"""
    try:
        outcome = run_study(study, comm, resume=resume)
    except (Exception, SystemExit) as error:  # user code may call sys.exit
        if not leave_together(comm, error):
            raise  # this rank alone: the job ends
        found = _described(error)
    else:
        code = exit_codes.worst(outcome.codes.values())
        reason = "; ".join(f"{name}: {text}" for name, text in outcome.failures.items())
        found = state.Ending(code, reason, results=True)
    agreed: state.Ending = comm.bcast(found, root=0)
    return agreed


def _described(error: BaseException) -> state.Ending:
    code, reason = exit_codes.of_error(error), f"{type(error).__name__}: {error}"
    if code == exit_codes.INTERNAL:
        reason += "\n" + "".join(traceback.format_exception(error))
    return state.Ending(code, reason, results=False)


def _write(sample: Sample, record: dict[str, Any], comm: MPI.Comm) -> None:
    def written() -> None:
        try:
            state.write_record(sample.study.directory, record)
        except OSError as error:
            raise StudyError(
                f"the record of a sample must be writable, got {error.strerror or error} for "
                f"{sample.study.directory}; make room, or choose another output.directory"
            ) from error

    from_first_rank(comm, written)


def _close(
    study: Study,
    comm: MPI.Comm,
    records: list[dict[str, Any]],
    wishes: Wishes,
    samples: Sequence[Sample],
) -> None:
    """Say how the samples stand, and which the next job will not try.  (Not collective.)"""
    standings = [records[number]["status"] for number in _chosen(samples, wishes)]
    counts = {status: standings.count(status) for status in dict.fromkeys(standings)}
    lines = [f"\nsamples: {', '.join(f'{count} {status}' for status, count in counts.items())}"]
    given_up = [
        str(number)
        for number in _chosen(samples, wishes)
        if records[number]["status"] == state.RUNNING
    ]
    if given_up:
        lines.append(
            f"the job ended {state.ATTEMPTS} times in samples {', '.join(given_up)}: they are not "
            "tried again without --retry"
        )
    lines.append(f"geneig-adjoint collect {study.directory} -o table.csv makes a table of them")
    show(comm, "\n".join(lines))
    if comm.rank == 0:
        _drop_replaced(study.directory, samples)


def _drop_replaced(directory: Path, samples: Sequence[Sample]) -> None:
    """Remove what was set aside of samples that are none any more: the sweep is complete."""
    if (directory / EARLIER).exists():
        records = [state.read_record(directory / sample.folder, sample) for sample in samples]
        if all(record["status"] == state.DONE for record in records):
            drop_set_aside(directory)


def _exit_code(codes: dict[int, int | None]) -> int:
    """Return that of the first sample that failed, else of the first without some gradient.

    A sample without a code is one in which jobs were killed.
    """
    found = [exit_codes.INTERNAL if code is None else code for code in codes.values()]
    failed = [code for code in found if code not in {exit_codes.OK, exit_codes.MISSING_GRADIENT}]
    incomplete = [code for code in found if code == exit_codes.MISSING_GRADIENT]
    return next(iter([*failed, *incomplete]), exit_codes.OK)


def _heading(sample: Sample, place: str) -> str:
    entries = ", ".join(f"{name} = {value}" for name, value in sample.entries.items())
    return f"\n{sample.folder} ({place}): {entries}"

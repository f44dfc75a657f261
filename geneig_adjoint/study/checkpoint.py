"""What a run has done so far, kept in `checkpoint.h5`, and a run that goes on from there."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint.adjoint import Contraction
from geneig_adjoint.errors import StudyError
from geneig_adjoint.gradient_steps import Adjoint
from geneig_adjoint.io.temporary_files import remove_leftovers
from geneig_adjoint.observers import observed
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.study.build import Problem
from geneig_adjoint.study.checkpoint_file import CheckpointReader, CheckpointWriter, read_rows
from geneig_adjoint.study.earlier_runs import NAME, Found
from geneig_adjoint.study.identity import probes, same_probes
from geneig_adjoint.study.kept_pairs import read_block, read_pairs, write_block, write_pairs
from geneig_adjoint.study.results import Outcome, Pairs, versions
from geneig_adjoint.study.settings import Study
from geneig_adjoint.study.spread import Spread, spread

if TYPE_CHECKING:
    pass

SIDES = ("left_a", "left_b", "right")
AGREE = 1e-8
"""Eigenvalues solved for again differ by less, relative to the largest of them."""


@dataclass
class Work:
    """What a run has done so far.

    Attributes
    ----------
    pairs : Pairs
    outcome : Outcome
        Of finished objectives.
    adjoints : dict
        Objective -> what is to be contracted.
    timings : dict
        Step -> seconds, of steps that need not be done again.

    """

    pairs: Pairs
    outcome: Outcome = field(default_factory=Outcome)
    adjoints: dict[str, Adjoint] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    def finished(self, name: str) -> bool:
        """Tell whether nothing is left to do for an objective."""
        return name in self.outcome.gradients or name in self.outcome.failures


class Checkpoint:
    """The checkpoint of a run.

    Collective.

    Parameters
    ----------
    study, problem, pencil
        What is being solved.
    digests
        `Fingerprints.of_parts`, on rank 0.

    Attributes
    ----------
    saves : int
        How often the file was written.
    took : float
        Seconds it took last.

    """

    def __init__(
        self, study: Study, problem: Problem, pencil: Pencil, digests: dict[str, str]
    ) -> None:
        self._digests, self._problem, self._pencil = digests, problem, pencil
        self._path = study.directory / NAME
        self._wanted = study.output.get("checkpoint", True)
        self._about: dict[str, Any] = {}
        self._ended, self.took = -np.inf, 0.0
        self.saves = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def about(self) -> dict[str, Any]:
        """Return what identifies this run.  (Collective.)"""
        if not self._about:
            with observed(lambda *_: None):  # no progress of a step
                found = probes(self._problem, self._pencil)
            self._about = {
                "study": self._digests,
                "probes": found,
                "scalars": _petsc.SCALAR_NAME,
                "ranks": self._problem.comm.size,
                "versions": versions(),
            }
        return self._about

    def save(self, work: Work, *, always: bool) -> str | None:
        """Write what was done, and return what went wrong.

        Collective. Unless ``always``, only if the work done since the last time has taken
        longer than writing did then: a checkpoint never costs more than what it saves.
        """
        comm = self._problem.comm
        begin = time.perf_counter()
        due = comm.bcast(always or begin - self._ended >= self.took, root=0)
        if not due or not self._wanted:
            return None
        about = self.about()  # calls the model, which may fail: before there is a file
        writer = CheckpointWriter(comm, self._path)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        writer.json("about", {**about, "written": now})
        write_pairs(writer, work.pairs)
        for i, adjoint in enumerate(work.adjoints.values()):
            self._write_adjoint(writer, f"adjoints/{i}", adjoint)
        _write_outcome(writer, work)
        wrong = writer.commit()
        self._ended = time.perf_counter()
        self.took = self._ended - begin
        self.saves += wrong is None
        return wrong

    def remove(self) -> None:
        """Remove the file: the results are in place.  (Not collective.)

        Ranks of a killed run may have died after this one began: what they have left goes, too.
        """
        if self._problem.comm.rank == 0:
            with suppress(OSError):
                self._path.unlink()
            remove_leftovers(self._path.parent)

    def restored(self, found: Found) -> Work | None:
        """Return the work of a checkpoint, None where its vectors cannot be used.

        Collective. That is on another number of ranks, where the model numbers its rows or
        its parameters in another way.

        Raises
        ------
        StudyError
            Another model, although the study looks the same.
        InputError
            Pairs that are not those of the matrices.

        """
        if not same_probes(found.about["probes"], self.about()["probes"]):
            if found.about["ranks"] == self._problem.comm.size:
                raise StudyError(
                    "only the same study can be resumed, got other matrices, parameters or "
                    "derivatives from its [model] than when the checkpoint was written; undo "
                    f"the change, or remove {self._path} to start over"
                )
            return None
        pairs = read_pairs(found.reader, self._pencil)
        work = Work(pairs, *_read_outcome(found.reader, self._problem))
        for i, about in enumerate(self._bcast(found, "adjoints_about")):
            work.adjoints[about["name"]] = self._read_adjoint(found, f"adjoints/{i}", about)
        return work

    def check_values(self, found: Found, pairs: Pairs) -> None:
        """Raise unless eigenvalues solved for again are those of a checkpoint.

        Collective.

        Raises
        ------
        StudyError
            Other values: the model has changed.

        """
        comm = self._problem.comm
        old = comm.bcast(None if found.reader is None else found.reader.array("pairs/values"), 0)
        new = pairs.values
        limit = AGREE * np.abs(old).max(initial=0.0)
        if len(old) != len(new) or not (np.abs(np.sort(old) - np.sort(new)) <= limit).all():
            raise StudyError(
                "only the same study can be resumed, got other eigenvalues than when the "
                f"checkpoint was written ({new[:3]} in place of {old[:3]}): its [model] has "
                f"changed, or depends on the number of ranks; undo that, or remove {self._path} to "
                "start over"
            )

    def _bcast(self, found: Found, name: str) -> Any:
        content = None if found.reader is None else found.reader.json(name)
        return self._problem.comm.bcast(content, root=0)

    def _write_adjoint(self, writer: CheckpointWriter, name: str, adjoint: Adjoint) -> None:
        blocks = adjoint.contraction.blocks(self._pencil.n_local)
        for side, block in zip(SIDES, blocks, strict=True):
            write_block(writer, f"{name}/{side}", self._pencil, block)
        for i, part in enumerate((adjoint.explicit or {}).values()):
            if params.is_distributed(part):
                local = np.asarray(params.local_values(part), dtype=float)
                writer.rows(f"{name}/explicit/{i}", _range(part), local[:, None])
            else:
                writer.array(f"{name}/explicit/{i}", np.asarray(part, dtype=float))

    def _read_adjoint(self, found: Found, name: str, about: dict[str, Any]) -> Adjoint:
        blocks = [read_block(found.reader, f"{name}/{side}", self._pencil) for side in SIDES]
        left_a, left_b, right = ([block] for block in blocks)
        contraction = Contraction(left_a, left_b, right, about["accuracy"], about["relative_error"])
        explicit: dict[str, Any] | None = None
        if about["explicit"] is not None:
            explicit = {
                parameter: self._read_explicit(found, f"{name}/explicit/{i}", parameter)
                for i, parameter in enumerate(about["explicit"])
            }
        return Adjoint(about["value"], contraction, explicit)

    def _read_explicit(self, found: Found, name: str, parameter: str) -> Any:
        like, comm = self._problem.p[parameter], self._problem.comm
        if not params.is_distributed(like):
            return comm.bcast(None if found.reader is None else found.reader.array(name), root=0)
        vec = like.duplicate()
        vec.array[:] = read_rows(comm, found.reader, name, _range(like))[:, 0]
        return vec


def _range(vec: Any) -> tuple[int, int]:
    first, last = vec.getOwnershipRange()
    return int(first), int(last)


def _write_outcome(writer: CheckpointWriter, work: Work) -> None:
    outcome = work.outcome
    content = {
        "values": outcome.values,
        "gradient_errors": outcome.gradient_errors,
        "failures": outcome.failures,
        "codes": outcome.codes,
        "gradients": {name: list(parts) for name, parts in outcome.gradients.items()},
    }
    writer.json("outcome", content)
    writer.json("timings", work.timings)
    adjoints = [
        {
            "name": name,
            "value": adjoint.value,
            "accuracy": float(adjoint.contraction.accuracy),
            "relative_error": float(adjoint.contraction.relative_error),
            "explicit": None if adjoint.explicit is None else list(adjoint.explicit),
        }
        for name, adjoint in work.adjoints.items()
    ]
    writer.json("adjoints_about", adjoints)
    for i, parts in enumerate(outcome.gradients.values()):
        for j, entries in enumerate(parts.values()):
            if isinstance(entries, Spread):
                writer.rows(f"gradients/{i}/{j}", entries.rows, entries.local[:, None])
            else:
                writer.array(f"gradients/{i}/{j}", entries)


def _read_outcome(
    reader: CheckpointReader | None, problem: Problem
) -> tuple[Outcome, dict[str, Adjoint], dict[str, float]]:
    """Return results as they were, the work under way without its adjoints.  (Collective.)"""
    content = None
    if reader is not None:
        content = {**reader.json("outcome"), "timings": reader.json("timings")}
    content = problem.comm.bcast(content, root=0)
    gradients = {
        name: {
            parameter: _read_gradient(reader, problem, f"gradients/{i}/{j}", parameter)
            for j, parameter in enumerate(parts)
        }
        for i, (name, parts) in enumerate(content["gradients"].items())
    }
    outcome = Outcome(
        content["values"],
        gradients,
        content["gradient_errors"],
        content["failures"],
        content["codes"],
    )
    return outcome, {}, content["timings"]


def _read_gradient(
    reader: CheckpointReader | None, problem: Problem, name: str, parameter: str
) -> Any:
    """Return a gradient with respect to one parameter.  (Collective.)"""
    like, comm = problem.p[parameter], problem.comm
    if params.is_distributed(like):
        return spread(like, read_rows(comm, reader, name, _range(like))[:, 0])
    return comm.bcast(None if reader is None else reader.array(name), root=0)

"""A method of search on rank 0 and evaluations on all ranks, noted on disk one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import from_first_rank, raise_together
from geneig_adjoint.errors import StudyError
from geneig_adjoint.study.evaluations import FEASIBLE, Evaluation, Evaluator
from geneig_adjoint.study.optimize_state import (
    STOPPED,
    Checkpoint,
    append_history,
    begin_history,
    leave_results,
    write_checkpoint,
)
from geneig_adjoint.study.progress import tell
from geneig_adjoint.study.set_aside import EARLIER
from geneig_adjoint.study.settings import about_the_study
from geneig_adjoint.study.steps import Steps
from geneig_adjoint.tracking import Placed

if TYPE_CHECKING:
    from mpi4py import MPI

HEADER = "iteration  objective        violation  change    residual  confidence  seconds"


class _EndedError(Exception):
    """The search ends here, whatever the method wants."""


class Search:
    """What a search has found so far.

    Parameters
    ----------
    directory
        Folder of the results.
    fingerprint
        Of the study.
    evaluator
        Evaluates designs.
    comm
        All ranks.
    steps
        Told of each iteration, knows of requests to stop.

    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        evaluator: Evaluator,
        comm: MPI.Comm,
        steps: Steps,
    ) -> None:
        self.evaluator = evaluator
        self.history: list[dict[str, Any]] = []
        self._directory, self._fingerprint = directory, fingerprint
        self._comm, self._steps = comm, steps
        self._best: Checkpoint | None = None
        self._last: Evaluation | None = None
        self._previous: Block | None = None
        self._limit = 0
        self._failed_together = False

    @property
    def best_row(self) -> dict[str, Any]:
        """Row of the history that belongs to the best design."""
        return next(row for row in reversed(self.history) if row["best"])

    def standing(self) -> tuple[Block, bool]:
        """Return the best design and whether it satisfies the constraints."""
        assert self._best is not None
        return self._best.z, bool(self.best_row["violation"] <= FEASIBLE)

    def named_best(self) -> dict[str, Block]:
        """Return the best design by name of parameter."""
        assert self._best is not None
        return self.evaluator.design.named(self._best.z)

    def begin(self, earlier: Checkpoint | None) -> Block:
        """Return the design to start from.  (Collective.)"""
        self._say(HEADER)
        if earlier is None:
            return self.evaluator.design.start()
        self.history, self._best = earlier.history, earlier
        self.evaluator.reference = earlier.reference
        self.evaluator.function.start_from(Placed(earlier.values, earlier.phase_rows))
        self._say(f"goes on after iteration {len(self.history)} from the best design")
        return earlier.z

    def led(self, method: Callable[[], str], limit: int) -> str:
        """Run a method on rank 0, which calls `objective` and `constraints`.

        Collective. Returns why it ended; what an evaluation raises is raised on all ranks.

        Parameters
        ----------
        method
            Returns why it ended.
        limit
            Largest number of iterations, earlier ones included.

        """
        self._limit = limit
        return self._lead(method) if self._comm.rank == 0 else self._follow()

    def _lead(self, method: Callable[[], str]) -> str:
        error: Exception | None = None
        reason = ""
        try:
            reason = method()
        except _EndedError as ended:
            reason = str(ended)
        except Exception as caught:
            if self._failed_together:
                raise
            error = caught
        self._comm.bcast(("end", reason if error is None else ""), root=0)
        raise_together(self._comm, error)
        return reason

    def _follow(self) -> str:
        while True:
            word, content = self._comm.bcast(None, root=0)
            if word == "end":
                raise_together(self._comm, None)
                return str(content)
            self._evaluate(content)

    def objective(self, z: Block) -> tuple[float, Block]:
        """Return the scaled objective and its derivatives.  (Rank 0; the others follow.)"""
        return self.evaluator.objective(self._at(z))

    def constraints(self, z: Block) -> tuple[Block, Block]:
        """Return the scaled constraints and their derivatives.  (Rank 0; the others follow.)"""
        return self.evaluator.constraints(self._at(z))

    def _at(self, z: Block) -> Evaluation:
        """Evaluate a design unless it was the last one."""
        if self._last is not None and np.array_equal(self._last.z, z):
            return self._last
        if len(self.history) >= self._limit:
            raise _EndedError("max_iterations")
        z = np.array(z, dtype=float)
        self._comm.bcast(("evaluate", z), root=0)
        self._failed_together = True
        found, stopped = self._evaluate(z)
        self._failed_together = False
        if stopped:
            raise _EndedError(STOPPED)
        return found

    def _evaluate(self, z: Block) -> tuple[Evaluation, bool]:
        """Evaluate a design, note it and tell whether to stop.  (Collective.)"""
        begin = time.perf_counter()
        with self._steps.part(f"iteration {len(self.history) + 1}"):
            found = self._evaluated(z)
            if not self.history:
                self.evaluator.reference = abs(found.values[self.evaluator.goal.objective]) or 1.0
            self._note(found, time.perf_counter() - begin)
        self._last = found
        return found, self._steps.requested() is not None

    def _evaluated(self, z: Block) -> Evaluation:
        if self.history:
            return self.evaluator(z)
        with about_the_study():  # its solver and objectives are looked at for the first time
            return self.evaluator(z)

    def _note(self, found: Evaluation, seconds: float) -> None:
        """Add an evaluation to the history, on disk and in memory.  (Collective.)"""
        moved = 0.0 if self._previous is None else float(np.max(np.abs(found.z - self._previous)))
        self._previous = found.z
        best = self._improves(found)
        row = {
            "iteration": len(self.history) + 1,
            "objective": found.values[self.evaluator.goal.objective],
            "objectives": found.values,
            "constraints": found.constraints,
            "violation": found.violation,
            "change": moved,
            "residual": found.residual,
            "confidence": found.confidence,
            "best": best,
            "seconds": seconds,
        }
        self.history.append(row)
        if best:
            placed, reference = found.placed, self.evaluator.reference
            self._best = Checkpoint(
                found.z, placed.values, placed.phase_rows, reference, self.history
            )
        self._write(row)
        self._say(_line(row))

    def _improves(self, found: Evaluation) -> bool:
        """Tell whether a design is better than the best: feasible ones by their objective."""
        if self._best is None:
            return True
        goal, row = self.evaluator.goal, self.best_row
        if row["violation"] > FEASIBLE or found.violation > FEASIBLE:
            return bool(found.violation < row["violation"])
        return bool(goal.sign * found.values[goal.objective] < goal.sign * row["objective"])

    def _write(self, row: dict[str, Any]) -> None:
        from_first_rank(self._comm, lambda: self._keep(row))

    def _keep(self, row: dict[str, Any]) -> None:
        assert self._best is not None
        try:
            self._keep_row(row)
            write_checkpoint(self._directory, self._fingerprint, self._best, self.named_best())
        except OSError as error:
            raise StudyError(
                f"the checkpoint of a search must be writable, got {error.strerror or error} in "
                f"{self._directory}; make room, then go on with --resume"
            ) from error

    def _keep_row(self, row: dict[str, Any]) -> None:
        if len(self.history) == 1:
            moved = begin_history(self._directory, row)
        else:
            moved = leave_results(self._directory)
            append_history(self._directory, self.history)
        if moved:
            aside = self._directory / EARLIER
            self._say(f"earlier results are kept in {aside} until this search has ended")

    def _say(self, text: str) -> None:
        tell(self._comm, text)


def _line(row: dict[str, Any]) -> str:
    confidence = "-" if row["confidence"] is None else f"{row['confidence']:.3f}"
    mark = "*" if row["best"] else " "
    return (
        f"{row['iteration']:>9}{mark} {row['objective']:<15.9g}  {row['violation']:<9.1e}  "
        f"{row['change']:<8.1e}  {row['residual']:<8.1e}  {confidence:<10}  {row['seconds']:.2f}"
    )

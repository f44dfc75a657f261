"""The derivatives of a study, in steps that can be kept: adjoints by batches, contractions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from geneig_adjoint import exit_codes
from geneig_adjoint import parameters as params
from geneig_adjoint.adjoint_settings import AdjointSettings
from geneig_adjoint.eigenpairs import Eigenpairs, linear_pairs
from geneig_adjoint.errors import ArgumentError, ConvergenceError, InputError
from geneig_adjoint.evaluation import Objective, evaluate
from geneig_adjoint.gradient_steps import adjoints, contracted
from geneig_adjoint.study.build import Problem
from geneig_adjoint.study.checkpoint import Checkpoint, Work
from geneig_adjoint.study.results import Outcome
from geneig_adjoint.study.spread import spread
from geneig_adjoint.study.steps import Steps

BATCH = 16
"""Objectives whose adjoints are solved for together: what a kill may cost."""


@dataclass(frozen=True)
class Differentiation:
    """What derivatives are to be found, and where they are kept.

    Attributes
    ----------
    problem : Problem
    objectives : mapping
        Name -> objective.
    settings : AdjointSettings
    steps : Steps
    checkpoint : Checkpoint
    partial : bool
        Whether the eigensolve gave fewer pairs than were asked for: objectives of the others
        are failures, too.

    """

    problem: Problem
    objectives: Mapping[str, Objective]
    settings: AdjointSettings
    steps: Steps
    checkpoint: Checkpoint
    partial: bool = False

    def run(self, work: Work) -> None:
        """Do what is left of the work.

        Collective.

        Raises
        ------
        StoppedError
            When a signal asked for it; what is done has been kept.

        """
        self._contract(work, [*work.adjoints])
        open_ = [name for name in self.objectives if not work.finished(name)]
        for first in range(0, len(open_), BATCH):
            names = open_[first : first + BATCH]
            with self.steps.part(f"adjoints of {', '.join(names)}"):
                self._adjoints(work, names)
            self.checkpoint_or_stop(work)
            self._contract(work, names)
        _sort(work.outcome, self.objectives)

    def checkpoint_or_stop(self, work: Work, *, always: bool = False) -> None:
        """Keep what is done if it is worth it, and stop if that was asked for.

        Collective. ``always``: keep it in any case. When only results are to be written, the run
        goes on: nothing would be saved by stopping.
        """
        signal = self.steps.requested()
        done = all(map(work.finished, self.objectives))
        stops = signal is not None and not done
        kept = self._keep(work, always=always or stops)
        if stops:
            again = "nothing could be kept: give the same command again to start over"
            if kept:
                again = f"give the same command with --resume to go on from {self.checkpoint.path}"
            self.steps.stop(str(signal), again)

    def _keep(self, work: Work, *, always: bool) -> bool:
        """Write a checkpoint if it is worth it; tell whether there is one.  (Collective.)"""
        work.timings = {**work.timings, **self.steps.progress.timings}
        before = self.checkpoint.saves
        wrong = self.checkpoint.save(work, always=always)
        if wrong is not None:
            self.steps.note(f"{self.checkpoint.path} cannot be written, the run goes on: {wrong}")
        if self.checkpoint.saves > before:
            done = sum(map(work.finished, self.objectives))
            took = round(self.checkpoint.took, 3)
            self.steps.kept(took=took, finished=done, adjoints=len(work.adjoints))
        return self.checkpoint.saves > 0

    def _adjoints(self, work: Work, names: list[str]) -> None:
        """Find the adjoints of objectives, all together or, where one fails, one by one."""
        failures = self._failures
        wanted = [self.objectives[name] for name in names]
        pairs = linear_pairs(work.pairs)
        try:
            found = adjoints(self.problem.model, self.problem.p, pairs, wanted, self.settings)
        except failures as error:
            if len(names) > 1:
                for name in names:
                    self._adjoints(work, [name])
            else:
                self._failed(work, names[0], error)
            return
        work.adjoints.update(zip(names, found, strict=True))

    @property
    def _failures(self) -> tuple[type[Exception], ...]:
        return (*exit_codes.MISSING, ConvergenceError, *((InputError,) if self.partial else ()))

    def _failed(self, work: Work, name: str, error: Exception) -> None:
        outcome = work.outcome
        kind = InputError if isinstance(error, ArgumentError) else type(error)
        outcome.failures[name] = f"{kind.__name__}: {error}"
        missing = isinstance(error, exit_codes.MISSING)
        outcome.codes[name] = exit_codes.MISSING_GRADIENT if missing else exit_codes.CONVERGENCE
        with suppress(*self._failures):
            pairs: Eigenpairs = linear_pairs(work.pairs)
            value, _ = evaluate(self.objectives[name], pairs, self.problem.p)
            outcome.values[name] = value

    def _contract(self, work: Work, names: Iterable[str]) -> None:
        """Turn adjoints into gradients, one objective after the other."""
        problem, outcome = self.problem, work.outcome
        pairs: Eigenpairs = linear_pairs(work.pairs)
        for name in names:
            if name not in work.adjoints:
                continue
            with self.steps.part(f"contraction of {name}"):
                adjoint = work.adjoints.pop(name)
                gradient = contracted(problem.model, problem.p, pairs, adjoint)
                outcome.values[name] = adjoint.value
                outcome.gradients[name] = {key: _kept(part) for key, part in gradient.items()}
                outcome.gradient_errors[name] = gradient.relative_error
                params.release(gradient)
            self.checkpoint_or_stop(work)


def _kept(value: Any) -> Any:
    """Return a gradient entry as it is kept: where it is, if distributed.  (Collective.)"""
    return spread(value) if params.is_distributed(value) else value


def _sort(outcome: Outcome, names: Iterable[str]) -> None:
    """Put results in the order of the study, however they came about."""
    order = {name: place for place, name in enumerate(names, start=1)}

    def ordered(results: dict[str, Any]) -> dict[str, Any]:
        return dict(sorted(results.items(), key=lambda item: order.get(item[0], 0)))

    outcome.values = ordered(outcome.values)
    outcome.gradients = ordered(outcome.gradients)
    outcome.gradient_errors = ordered(outcome.gradient_errors)
    outcome.failures = ordered(outcome.failures)

"""The bordered systems of pairs: all together where there is a factor, else one by one.

Together means by blocked solves with the eigensolver's factor, or with factors of single
bordered matrices that are kept with the pairs or cheaper than those solves (`near_factors`).

What has to be solved for a pair is written as a generator that yields a `Question` and is
sent its `Answer`. So the questions of all pairs can be collected and solved in blocks
(`block_krylov`), while one system at a time is alive where each needs a solver of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.adjoint_settings import AdjointSettings, remedy_of
from geneig_adjoint.block_krylov import BlockKrylov, System
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.collective import freed_at_end, freed_on_error
from geneig_adjoint.deflated_cg import DeflatedCG
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.errors import (
    ConvergenceError,
    IllConditionedWarning,
    InputError,
    UnreadOptionWarning,
)
from geneig_adjoint.near_factors import (
    NearSystem,
    factors_pay_in_blocks,
    is_kept,
    keep,
    kept_system,
)
from geneig_adjoint.observers import report
from geneig_adjoint.user_options import is_watched, unread_text, watched


@dataclass(frozen=True, eq=False)
class Question:
    """Right-hand sides (n_local, k) and lower parts (g, k); see `BorderedSystem.solve`.

    judged: the asker looks at the answer before anybody is warned of it, see `Answer.warn`.
    """

    rhs: Block
    rho: Block
    hermitian: bool
    judged: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """Both parts of solutions, an estimate of their relative error, warnings held back."""

    v: Block
    nu: Block
    accuracy: float
    withheld: tuple[Warning, ...] = ()

    def warn(self) -> None:
        """Give the warnings that were held back.  (Not collective; the same on all ranks.)"""
        for warning in self.withheld:
            warnings.warn(warning, stacklevel=4)


Steps: TypeAlias = Generator[Question, Answer, Any]


@dataclass(eq=False)
class Task:
    """What has to be solved for a pair, with the pairs whose vectors are in its border."""

    pair: int
    members: tuple[int, ...]
    steps: Steps
    result: Any = None


def run(pairs: Eigenpairs, tasks: Iterable[Task], settings: AdjointSettings) -> list[Any]:
    """Answer all questions, and return what the tasks return.

    Collective.

    Raises
    ------
    ConvergenceError
        When a solve misses its tolerance; what tasks raise themselves passes.
    InputError
        For strategy="block-krylov" without a factor or without left vectors.

    """
    prefix = f"{settings.prefix}ga_adjoint_"
    followed = any(is_watched(prefix + name) for name in settings.options)
    with watched((prefix,), settings.options) as watch:
        results = _run(pairs, list(tasks), settings)
    unread = [] if followed else watch.unread(pairs.comm)
    if unread:
        text = f"{unread_text(unread)}; correct them, or leave them out"
        warnings.warn(text, UnreadOptionWarning, stacklevel=5)
    return results


def _run(pairs: Eigenpairs, tasks: list[Task], settings: AdjointSettings) -> list[Any]:
    solver = _solver_of_all(pairs, settings)
    if solver is not None:
        _run_together(pairs, tasks, settings, solver)
    else:
        for number, task in enumerate(tasks, start=1):
            _run_alone(pairs, task, settings)
            report("adjoint", solved=number, columns=len(tasks))
    return [task.result for task in tasks]


SolverOfAll: TypeAlias = type[BlockKrylov] | type[DeflatedCG]


def _solver_of_all(pairs: Eigenpairs, settings: AdjointSettings) -> SolverOfAll | None:
    """Return what solves the systems of all pairs together, None: each alone.  (Collective.)"""
    lacks: dict[str, tuple[SolverOfAll, str | None]] = {
        "block-krylov": (BlockKrylov, _lack_of_factor(pairs)),
        "deflated-cg": (DeflatedCG, _lack_of_definiteness(pairs)),
    }
    asked = settings.strategy
    if isinstance(asked, str) and asked in lacks:
        solver, lack = lacks[asked]
        if lack is not None:
            raise InputError(f'strategy "{asked}" needs {lack}; or leave strategy out')
        return solver
    if asked is not None or settings.options:
        return None
    return next((solver for solver, lack in lacks.values() if lack is None), None)


def _lack_of_factor(pairs: Eigenpairs) -> str | None:
    factor = pairs.factor
    if factor is None or not factor.inverts or factor.inner_rtol is not None:
        return "a factor of A - sigma B, kept by pairs solved with target="
    if pairs.left is None and not pairs.pencil.definite:
        return "left vectors: solve with left=True"
    return None


def _lack_of_definiteness(pairs: Eigenpairs) -> str | None:
    factor = pairs.factor
    if factor is None or not factor.inverts or not factor.iterative:
        return (
            "the preconditioner of an eigensolve without a factor: give solve_eigenproblem a "
            "near_null_space="
        )
    pencil = pairs.pencil
    if not (pencil.definite and pencil.B_positive):
        return "a Hermitian pencil with B positive definite"
    # Below the shift there may be values that nobody knows.
    if np.real(factor.sigma or 0.0) > pairs.values.real.min():
        return "the lowest pairs of the pencil: a target below all eigenvalues"
    return None


def _run_alone(pairs: Eigenpairs, task: Task, settings: AdjointSettings) -> None:
    """Solve the systems of a pair by a solver of its own.  (Collective.)"""
    with ExitStack() as stack:
        system: BorderedSystem | NearSystem | None = None
        question = _next(task, None)
        while question is not None:
            if system is None:
                system = _system_alone(pairs, task, settings)
                stack.enter_context(system)
            question = _next(task, _answer(system, question))


def _system_alone(
    pairs: Eigenpairs, task: Task, settings: AdjointSettings
) -> BorderedSystem | NearSystem:
    """Return the system of a pair, with a kept factor if that is what was asked for."""
    direct = settings.strategy == "direct" and not settings.options
    known = _kept(pairs, task, settings) if direct and len(task.members) == 1 else None
    return known or bordered_system(pairs, task, settings)


def _run_together(
    pairs: Eigenpairs, tasks: list[Task], settings: AdjointSettings, solver_of: SolverOfAll
) -> None:
    solvers: dict[bool, BlockKrylov | DeflatedCG] = {}
    questions = {task: _next(task, None) for task in tasks}

    def release() -> None:
        for solver in solvers.values():
            solver.release()

    with freed_at_end(pairs.comm, release):
        while waiting := {task: item for task, item in questions.items() if item is not None}:
            answers: dict[Task, Answer | ConvergenceError] = {
                **_near_answers(pairs, waiting, settings)
            }
            others = {task: item for task, item in waiting.items() if task not in answers}
            for hermitian in (False, True):
                asked = {task: item for task, item in others.items() if item.hermitian == hermitian}
                if asked:
                    if hermitian not in solvers:
                        solvers[hermitian] = solver_of(
                            pairs, hermitian=hermitian, rtol=settings.rtol
                        )
                    answers |= _solved(pairs, asked, solvers[hermitian], settings)
            questions = {task: _next(task, answers[task]) for task in waiting}


def _near_answers(
    pairs: Eigenpairs, waiting: dict[Task, Question], settings: AdjointSettings
) -> dict[Task, Answer]:
    """Return what factors of bordered matrices answer, kept ones and new ones that pay.

    Collective. Nonsymmetric pencils only: for others the eigensolve leaves a space that
    holds nearly all of the answers.
    """
    answers: dict[Task, Answer] = {}
    if pairs.pencil.definite or settings.strategy is not None:
        return answers
    simple = [task for task in waiting if len(task.members) == 1]
    new = [task for task in simple if not is_kept(pairs.factor, complex(pairs.values[task.pair]))]
    columns = sum(waiting[task].rhs.shape[1] for task in new)
    pay = factors_pay_in_blocks(pairs, [task.pair for task in new], columns)
    for task in simple if pay else [task for task in simple if task not in new]:
        # One factor serves both conjugates of a real pencil.
        if not is_kept(pairs.factor, complex(pairs.values[task.pair])):
            with suppress(ConvergenceError):  # blocked solves are left
                _keep_new(pairs, task, settings)
        system = _kept(pairs, task, settings)
        found = None if system is None else _answer(system, waiting[task])
        if isinstance(found, Answer):
            answers[task] = found
    return answers


def _keep_new(pairs: Eigenpairs, task: Task, settings: AdjointSettings) -> None:
    system = bordered_system(pairs, task, replace(settings, strategy="direct"))
    with freed_on_error(pairs.comm, system.close):
        system.factor()
        keep(pairs.factor, complex(pairs.values[task.pair]), system)


def _kept(pairs: Eigenpairs, task: Task, settings: AdjointSettings) -> NearSystem | None:
    pair = (complex(pairs.values[task.pair]), pairs.right[:, task.pair])
    return kept_system(pairs.factor, pair, settings, f"eigenpair {task.pair}")


def _solved(
    pairs: Eigenpairs,
    asked: dict[Task, Question],
    solver: BlockKrylov | DeflatedCG,
    settings: AdjointSettings,
) -> dict[Task, Answer | ConvergenceError]:
    systems = [
        System(task.pair, task.members, item.rhs, _columns(item, len(task.members)))
        for task, item in asked.items()
    ]
    answers: dict[Task, Answer | ConvergenceError] = {}
    for (task, item), found in zip(asked.items(), solver.solve(systems), strict=True):
        if np.isfinite(found.accuracy):
            nu = np.reshape(found.nu, np.shape(item.rho))
            answers[task] = Answer(found.v, nu, found.accuracy)
        elif settings.strategy is None:
            with bordered_system(pairs, task, settings) as system:
                answers[task] = _answer(system, item)
        else:
            answers[task] = _refused(task.pair, settings)
    return answers


def _columns(question: Question, width: int) -> Block:
    return np.reshape(question.rho, (width, question.rhs.shape[1]))


def _answer(system: BorderedSystem | NearSystem, question: Question) -> Answer | ConvergenceError:
    with warnings.catch_warnings(record=question.judged) as caught:
        if question.judged:
            warnings.simplefilter("always", IllConditionedWarning)
        try:
            v, nu = system.solve(question.rhs, question.rho, hermitian=question.hermitian)
        except ConvergenceError as error:
            return error
    messages = (item.message for item in caught or ())
    withheld = tuple(message for message in messages if isinstance(message, Warning))
    return Answer(v, nu, system.accuracy, withheld)


def _next(task: Task, answer: Answer | ConvergenceError | None) -> Question | None:
    """Send an answer, and return the next question; None at the end."""
    try:
        if isinstance(answer, ConvergenceError):
            return task.steps.throw(answer)
        return next(task.steps) if answer is None else task.steps.send(answer)
    except StopIteration as stop:
        task.result = stop.value
        return None


def _refused(pair: int, settings: AdjointSettings) -> ConvergenceError:
    strategy = str(settings.strategy)
    means = {
        "block-krylov": "blocked solves with the eigensolver's factor",
        "deflated-cg": "conjugate gradients with the eigensolver's preconditioner",
    }
    return ConvergenceError(
        f"the adjoint solve of eigenpair {pair} must reach rtol {settings.rtol:.1e}, but "
        f"{means[strategy]} do not; {remedy_of(strategy, assembled=True)}",
        reason="stalled",
    )


def bordered_system(pairs: Eigenpairs, task: Task, settings: AdjointSettings) -> BorderedSystem:
    """Return the system of a pair, with all members of its group in the border.  (Collective.)"""
    columns = list(task.members)
    return BorderedSystem(
        pairs.pencil,
        complex(pairs.values[task.pair]),
        pairs.right[:, columns],
        members=pairs.values[columns],
        transformation=pairs.factor,
        settings=settings,
        name=f"eigenpair {task.pair}",
    )

"""The bordered systems of pairs: all together where there is a factor, else one by one.

What has to be solved for a pair is written as a generator that yields a `Question` and is
sent its `Answer`. So the questions of all pairs can be collected and solved in blocks
(`block_krylov`), while one system at a time is alive where each needs a solver of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.adjoint_settings import AdjointSettings, remedy_of
from geneig_adjoint.block_krylov import BlockKrylov, System
from geneig_adjoint.bordered import BorderedSystem
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.errors import ConvergenceError, InputError


@dataclass(frozen=True, eq=False)
class Question:
    """Right-hand sides (n_local, k) and lower parts (g, k); see `BorderedSystem.solve`."""

    rhs: Block
    rho: Block
    hermitian: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """Both parts of solutions, and an estimate of their relative error."""

    v: Block
    nu: Block
    accuracy: float


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
    tasks = list(tasks)
    if _together(pairs, settings):
        _run_together(pairs, tasks, settings)
    else:
        for task in tasks:
            _run_alone(pairs, task, settings)
    return [task.result for task in tasks]


def _together(pairs: Eigenpairs, settings: AdjointSettings) -> bool:
    """Tell whether systems are solved in blocks.  (Not collective.)"""
    factor = pairs.factor
    lack = None
    if factor is None or not factor.inverts or factor.inner_rtol is not None:
        lack = "a factor of A - sigma B, kept by pairs solved with target="
    elif pairs.left is None and not pairs.pencil.definite:
        lack = "left vectors: solve with left=True"
    if settings.strategy == "block-krylov":
        if lack is not None:
            raise InputError(f'strategy "block-krylov" needs {lack}; or leave strategy out')
        return True
    return settings.strategy is None and not settings.options and lack is None


def _run_alone(pairs: Eigenpairs, task: Task, settings: AdjointSettings) -> None:
    """Solve the systems of a pair by a solver of its own.  (Collective.)"""
    with ExitStack() as stack:
        system: BorderedSystem | None = None
        question = _next(task, None)
        while question is not None:
            if system is None:
                system = stack.enter_context(bordered_system(pairs, task, settings))
            question = _next(task, _answer(system, question))


def _run_together(pairs: Eigenpairs, tasks: list[Task], settings: AdjointSettings) -> None:
    solvers: dict[bool, BlockKrylov] = {}
    questions = {task: _next(task, None) for task in tasks}
    while waiting := {task: item for task, item in questions.items() if item is not None}:
        answers: dict[Task, Answer | ConvergenceError] = {}
        for hermitian in (False, True):
            asked = {task: item for task, item in waiting.items() if item.hermitian == hermitian}
            if asked:
                if hermitian not in solvers:
                    solvers[hermitian] = BlockKrylov(pairs, hermitian=hermitian, rtol=settings.rtol)
                answers |= _solved(pairs, asked, solvers[hermitian], settings)
        questions = {task: _next(task, answers[task]) for task in waiting}
    for solver in solvers.values():
        solver.release()


def _solved(
    pairs: Eigenpairs,
    asked: dict[Task, Question],
    solver: BlockKrylov,
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


def _answer(system: BorderedSystem, question: Question) -> Answer | ConvergenceError:
    try:
        v, nu = system.solve(question.rhs, question.rho, hermitian=question.hermitian)
    except ConvergenceError as error:
        return error
    return Answer(v, nu, system.accuracy)


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
    return ConvergenceError(
        f"the adjoint solve of eigenpair {pair} must reach rtol {settings.rtol:.1e}, but blocked "
        f"solves with the eigensolver's factor do not; {remedy_of('block-krylov', assembled=True)}",
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

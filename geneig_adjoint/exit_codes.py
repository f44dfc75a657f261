"""What the exit codes of the command line mean; the same on every rank."""

from __future__ import annotations

from collections.abc import Iterable

from geneig_adjoint.errors import (
    ConstrainedRowError,
    ConvergenceError,
    DefectiveEigenvalueError,
    DegenerateEigenvalueError,
    GaugeError,
    InputError,
    MissingPackageError,
    ModeTrackingError,
    StoppedError,
    StudyError,
    UndefinedObjectiveError,
)

OK = 0
STUDY = 2
INPUT = 3
CONVERGENCE = 4
VERIFICATION = 5
MISSING_GRADIENT = 6
INTERNAL = 70
STOPPED = 75
INTERRUPTED = 130

MEANINGS = {
    OK: "ok",
    STUDY: "usage or study",
    INPUT: "bad input file",
    CONVERGENCE: "not converged",
    VERIFICATION: "verification failed",
    MISSING_GRADIENT: "some gradient does not exist (the others are written)",
    INTERNAL: "internal error",
    STOPPED: "stopped on request, to be continued with --resume",
    INTERRUPTED: "interrupted from the keyboard",
}

OF_ERRORS: tuple[tuple[type[BaseException], int], ...] = (
    (StoppedError, STOPPED),
    (StudyError, STUDY),
    (MissingPackageError, STUDY),
    (ConstrainedRowError, MISSING_GRADIENT),
    (UndefinedObjectiveError, MISSING_GRADIENT),
    (InputError, INPUT),
    (ConvergenceError, CONVERGENCE),
    (ModeTrackingError, CONVERGENCE),
    (DegenerateEigenvalueError, MISSING_GRADIENT),
    (DefectiveEigenvalueError, MISSING_GRADIENT),
    (GaugeError, MISSING_GRADIENT),
    (KeyboardInterrupt, INTERRUPTED),
)
"""The first that fits an exception; all others are internal."""
MISSING = tuple(kind for kind, code in OF_ERRORS if code == MISSING_GRADIENT)
"""Errors that mean: this derivative does not exist; the others are still worth having."""


WORST_FIRST = (INTERNAL, CONVERGENCE, MISSING_GRADIENT)


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of a run in which some parts have failed.  (Not collective.)"""
    found = set(codes)
    return next((code for code in WORST_FIRST if code in found), OK)


def of_error(error: BaseException) -> int:
    """Return the exit code an exception stands for.  (Not collective.)"""
    return next((code for kind, code in OF_ERRORS if isinstance(error, kind)), INTERNAL)

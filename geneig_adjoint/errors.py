"""Exceptions of the package; each carries the data a program needs to react."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class GeneigError(Exception):
    """Base class of all errors this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions travel between ranks; keyword-only data must survive pickling.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[GeneigError], args: tuple[Any, ...], state: dict[str, Any]) -> GeneigError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(GeneigError, ValueError):
    """An argument, a file or a model is not what it must be."""


class ArgumentError(InputError):
    """An argument of a solve, a derivative or an objective says something that cannot be done."""


class StudyError(InputError):
    """A study file or the command line says something that cannot be done."""


class OptionError(StudyError):
    """PETSc refuses the value of an option, given in Python, in a study or on the command line."""


class NotHermitianError(InputError):
    """A matrix was declared Hermitian and is not."""


class StoppedError(GeneigError):
    """A run was asked to stop and has done so; it can be continued."""


class MissingPackageError(GeneigError, ImportError):
    """An optional package is needed and not there; the message says how to get it."""


class StaleError(GeneigError, RuntimeError):
    """Eigenpairs are used after their pencil has changed or was closed."""


class ConvergenceError(GeneigError, RuntimeError):
    """An eigensolve or a linear solve did not reach its tolerance.

    Attributes
    ----------
    reason : str
        PETSc's or SLEPc's name of the reason.
    iterations : int
        Iterations spent.
    residual_norm : float
        Worst true relative residual.
    pairs : Eigenpairs or None
        What did converge (eigensolves only); the caller closes it. Only the
        rank-local object is carried, so it is dropped when an error is pickled.

    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        iterations: int = 0,
        residual_norm: float = float("nan"),
        pairs: Any = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.iterations = iterations
        self.residual_norm = residual_norm
        self.pairs = pairs

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {**self.__dict__, "pairs": None})


class MissingEigenvaluesError(ConvergenceError):
    """Copies of a multiple eigenvalue, or whole eigenvalues, were not found.

    Attributes
    ----------
    found, expected : int
        Eigenvalues found and counted in the window.
    window : tuple of float or None
        The interval.

    """

    def __init__(
        self,
        message: str,
        *,
        found: int,
        expected: int,
        window: tuple[float, float] | None,
        pairs: Any = None,
    ) -> None:
        super().__init__(message, reason="MISSING_EIGENVALUES", pairs=pairs)
        self.found = found
        self.expected = expected
        self.window = window


class ModeTrackingError(GeneigError, RuntimeError):
    """A mode of the previous parameters has no continuation at the new ones.

    Attributes
    ----------
    modes : tuple of int
        Places of the lost modes.
    confidence : tuple of float
        Of their best continuations.

    """

    def __init__(self, message: str, *, modes: Sequence[int], confidence: Sequence[float]) -> None:
        super().__init__(message)
        self.modes = tuple(modes)
        self.confidence = tuple(confidence)


class ConstrainedRowError(InputError):
    """The pair belongs to constrained rows kept in the matrices: it is no mode of the problem.

    Attributes
    ----------
    members : tuple of int
        Indices of the pairs.

    """

    def __init__(self, message: str, *, members: Sequence[int]) -> None:
        super().__init__(message)
        self.members = tuple(members)


class UndefinedObjectiveError(InputError):
    """An objective has no value at these eigenpairs, such as the frequency of a negative value."""


class IllConditionedWarning(UserWarning):
    """An eigenvalue whose derivative is asked for is very sensitive to rounding."""


class UnreadOptionWarning(UserWarning):
    """PETSc options given for a derivative have been read by nobody: misspelt, or not needed."""


class TruncationWarning(UserWarning):
    """A sum over all eigenvalues leaves out some that may matter: not all were computed."""


class DegenerateEigenvalueError(GeneigError, RuntimeError):
    """The derivative asked for does not exist, or not to working accuracy, in a cluster.

    Attributes
    ----------
    members : tuple of int
        Indices of the eigenpairs of the cluster.
    gap : float
        Smallest distance between the members whose derivative is asked for.
    defect : float
        How far the cotangent is from that of a function of the whole cluster.

    """

    def __init__(self, message: str, *, members: Sequence[int], gap: float, defect: float) -> None:
        super().__init__(message)
        self.members = tuple(members)
        self.gap = gap
        self.defect = defect


class DefectiveEigenvalueError(GeneigError, RuntimeError):
    """Left and right vectors are orthogonal: the eigenvalue is not differentiable.

    Attributes
    ----------
    condition : float
        Condition number of the eigenvalue.

    """

    def __init__(self, message: str, *, condition: float) -> None:
        super().__init__(message)
        self.condition = condition


class GaugeError(GeneigError, RuntimeError):
    """The objective depends on the phase of an eigenvector and the phase is free.

    Attributes
    ----------
    defect : float
        Gauge defect of the cotangent (0: the objective ignores the phase).

    """

    def __init__(self, message: str, *, defect: float) -> None:
        super().__init__(message)
        self.defect = defect

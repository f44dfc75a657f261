"""`solve_quadratic`: the pairs of a quadratic problem."""

from __future__ import annotations

from typing import Any

from geneig_adjoint.collective import raise_together
from geneig_adjoint.eigenpairs import linear_pairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.quadratic_pairs import QuadraticPairs
from geneig_adjoint.quadratic_pencil import QuadraticPencil
from geneig_adjoint.solve import solve_eigenproblem


def solve_quadratic(pencil: QuadraticPencil, count: int = 1, **settings: Any) -> QuadraticPairs:
    """Return eigenpairs of ``(lam^2 M + lam C + K) x = 0`` with left vectors.

    Collective. By `solve_eigenproblem` on the pencil of twice the size, with its settings.

    Parameters
    ----------
    pencil
        A `QuadraticPencil`, for example of `QuadraticModel.assemble`.
    count
        Number of pairs; in the real build more come back where half of a conjugate pair
        would be left out.
    settings
        As of `solve_eigenproblem`: ``target`` (default 0), ``which``, ``left``, ... Of
        ``normalization``, "2" (x^H x = 1, the default), ("component", k) and ("linear", c) of
        x, and with form="symmetric" "bilinear" (x^T (2 lam M + C) x = 1).

    Returns
    -------
    QuadraticPairs
        Belong to the caller; ``close`` frees the factor.

    Raises
    ------
    InputError
        A pencil that is no `QuadraticPencil`, and as `solve_eigenproblem`.
    ConvergenceError, MissingEigenvaluesError
        As `solve_eigenproblem`.

    """
    error = None
    if not isinstance(pencil, QuadraticPencil):
        error = InputError(
            f"solve_quadratic needs a QuadraticPencil, got {type(pencil).__name__}; use "
            "solve_eigenproblem, or make one: QuadraticPencil(K, C, M)"
        )
        if hasattr(pencil, "comm"):
            raise_together(pencil.comm, error)
        raise error
    if "like" in settings:
        settings["like"] = linear_pairs(settings["like"])
    pairs = QuadraticPairs(solve_eigenproblem(pencil, count, **settings))
    pairs.measure()
    return pairs

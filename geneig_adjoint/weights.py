"""Constant weights D of quadratic forms x^H D x, and numbers given per row."""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.errors import InputError


def weighted(weight: Any, x: Block, *, hermitian: bool = False) -> Block:
    """Return D x or D^H x for a PETSc.Mat or a real diagonal D.

    Collective for a PETSc.Mat. x: this rank's rows, (n_local, k), as is what comes back.

    Raises
    ------
    InputError
        A diagonal that does not fit, on this rank alone: `check_weight` before.

    """
    if isinstance(weight, PETSc.Mat):
        return _petsc.multiply(weight, x, hermitian=hermitian)
    diagonal = np.asarray(weight)
    error = _rows_error("the weight", diagonal, x.shape[0], real=True)
    if error is not None:
        raise error
    return np.asarray(diagonal[:, None] * x)


def check_weight(weight: Any, pairs: Eigenpairs) -> None:
    """Raise on all ranks unless a matrix or a real diagonal fits the rows of pairs.

    Collective.

    Raises
    ------
    InputError
        A matrix of another layout, a diagonal of another length, or one that is not real.

    """
    if not isinstance(weight, PETSc.Mat):
        checked_rows("the weight", weight, pairs, real=True)
        return
    size, expected = weight.getLocalSize(), (pairs.right.shape[0],) * 2
    error = None
    if size != expected:
        error = InputError(
            f"the weight must have the layout of A, {expected} rows and columns on this rank, got "
            f"{size}; create it with the same local sizes"
        )
    raise_together(pairs.comm, error)


def checked_rows(what: str, local: Any, pairs: Eigenpairs, *, real: bool = False) -> Block:
    """Return numbers that a user gives for this rank's rows.

    Collective.

    Parameters
    ----------
    what
        What messages call them.
    local
        As the user gave them, (n_local,).
    pairs
        Pairs with these rows.
    real
        Whether they must be real.

    Raises
    ------
    InputError
        Another shape, no numbers, or complex ones where real ones are needed.

    """
    rows = np.asarray(local)
    raise_together(pairs.comm, _rows_error(what, rows, pairs.right.shape[0], real=real))
    return rows


def _rows_error(what: str, rows: Block, n_local: int, *, real: bool) -> InputError | None:
    if rows.dtype.kind not in "biufc":
        return InputError(
            f"{what} must hold numbers, got dtype {rows.dtype}; give an array of this rank's rows"
        )
    if real and np.iscomplexobj(rows):
        return InputError(f"{what} must be real, got dtype {rows.dtype}; pass its real part")
    if rows.shape != (n_local,):
        return InputError(
            f"{what} must hold this rank's {n_local} rows, got shape {rows.shape}; cut it to "
            "pairs.rows"
        )
    return None

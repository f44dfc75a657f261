"""Matrices a user assembles to precondition what is not factored: checked before use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint.collective import raise_together, users_code
from geneig_adjoint.errors import InputError

PreconditionerSource: TypeAlias = PETSc.Mat | Callable[..., PETSc.Mat] | None
"""A matrix of the user, which stays theirs, or a function that makes a new one."""


def check_source(A: PETSc.Mat, source: PreconditionerSource, name: str) -> None:
    """Raise on all ranks unless a source is a usable matrix, a function or None.

    Collective. What a function returns is checked when it is called.

    Raises
    ------
    InputError
        Neither a matrix nor a function; a matrix `made` refuses.

    """
    comm = A.comm.tompi4py()
    kinds = comm.allgather("a function" if _is_function(source) else type(source).__name__)
    wrong = None
    if len(set(kinds)) > 1 or not (source is None or isinstance(source, PETSc.Mat)
                                   or _is_function(source)):  # fmt: skip
        wrong = InputError(
            f"{name} must be an assembled PETSc.Mat, or a function that returns one, the same on "
            f"every rank, got {' and '.join(sorted(set(kinds)))}; None: there is none"
        )
    raise_together(comm, wrong)
    if isinstance(source, PETSc.Mat):
        _check(A, source, name)


def made(
    A: PETSc.Mat, source: PreconditionerSource, arguments: tuple[Any, ...], name: str
) -> tuple[PETSc.Mat, bool]:
    """Return a preconditioner's matrix, and whether the caller has to destroy it.

    Collective.

    Parameters
    ----------
    A
        The matrix or operator whose layout is asked for.
    source
        What the user gave, not None.
    arguments
        For a function.
    name
        What messages call it.

    Raises
    ------
    InputError
        Not an assembled matrix in the layout of A, NaN or Inf entries, or only zeros.
    Exception
        What the user's function raises, on all ranks.

    """
    if isinstance(source, PETSc.Mat):
        _check(A, source, name)  # it may have been changed
        return source, False
    assert source is not None
    with users_code(A.comm.tompi4py()):
        mat: Any = source(*arguments)
    try:
        _check(A, mat, name)
    except InputError:
        if isinstance(mat, PETSc.Mat):
            _petsc.destroy_quietly(mat)
        raise
    return mat, True


def _check(A: PETSc.Mat, mat: Any, name: str) -> None:
    comm = A.comm.tompi4py()
    raise_together(comm, _form_error(A, mat, name))
    norm = float(mat.norm(PETSc.NormType.FROBENIUS))
    if not np.isfinite(norm) or norm == 0:
        got = "zeros only" if norm == 0 else "NaN or Inf entries"
        raise InputError(
            f"{name} must be finite and regular, got {got}; check where it is assembled"
        )


def _form_error(A: PETSc.Mat, mat: Any, name: str) -> InputError | None:
    if not isinstance(mat, PETSc.Mat):
        return InputError(
            f"{name} must be a PETSc.Mat, got {type(mat).__name__}; return the assembled matrix"
        )
    if not mat.handle:
        return InputError(
            f"{name} must be a new matrix at every call, got one that was destroyed after its "
            "last use; return a copy of a matrix you keep, or pass that matrix itself"
        )
    if mat.comm.size != A.comm.size:
        return InputError(
            f"{name} must live on the {A.comm.size} ranks of A, got a matrix on {mat.comm.size}; "
            "create it with the communicator of the pencil"
        )
    if mat.getSizes() != A.getSizes():
        return InputError(
            f"{name} must have the layout of A, got {mat.getSizes()}, A has {A.getSizes()}; "
            "create it with the same local and global sizes"
        )
    if _petsc.is_shell(mat) or not mat.isAssembled():
        got = "an operator without entries" if _petsc.is_shell(mat) else "values still in transit"
        return InputError(f"{name} must be an assembled matrix, got {got}; call its assemble()")
    return None


def _is_function(source: Any) -> bool:
    return callable(source) and not isinstance(source, PETSc.Mat)  # it can be called, too


def bound(source: PreconditionerSource, *first: Any) -> PreconditionerSource:
    """Return a source whose function gets these arguments first.  (Not collective.)"""
    if source is None or isinstance(source, PETSc.Mat) or not callable(source):
        return source
    return partial(source, *first)

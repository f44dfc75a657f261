"""What is wrong with the matrices of a pencil."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint.errors import InputError

AIJ_TYPES = ("aij", "seqaij", "mpiaij")
PROBLEM_TYPES = ("hep", "ghep", "ghiep", "nhep", "gnhep")


def layout_error(A: PETSc.Mat, B: PETSc.Mat | None) -> InputError | None:
    """Return an error unless A and B are square, assembled and of one layout.  (Not collective.)"""
    for name, mat in (("A", A), ("B", B)):
        if mat is None:
            continue
        (rows_local, rows), (columns_local, columns) = mat.getSizes()
        if rows != columns or rows_local != columns_local:
            return InputError(
                f"{name} must be square with equal row and column layouts, got {rows} x {columns} "
                f"with {rows_local} local rows and {columns_local} local columns; "
                "create it with equal row and column sizes"
            )
        if not mat.isAssembled():
            return InputError(
                f"{name} must be assembled, got a matrix with values still in transit; "
                f"call {name}.assemble() first"
            )
        if not _petsc.is_shell(mat) and not mat.getType().startswith(AIJ_TYPES):
            return InputError(
                f"{name} must be of a type that can be factored, got {mat.getType()!r}; use "
                f'{name}.convert("aij")'
            )
    if B is not None and A.getSizes() != B.getSizes():
        return InputError(
            f"B must have the layout of A, got {B.getSizes()[0]} rows (local, global) where A has "
            f"{A.getSizes()[0]}; create both with the same sizes"
        )
    return None


def type_error(problem_type: str | None, B: PETSc.Mat | None) -> InputError | None:
    """Return an error for a problem type that does not exist or fit.  (Not collective.)"""
    if problem_type is not None and problem_type not in PROBLEM_TYPES:
        return InputError(
            f"problem_type must be one of {', '.join(PROBLEM_TYPES)} or None, got "
            f"{problem_type!r}; leave it out to have the matrices measured"
        )
    if problem_type is not None and problem_type.startswith("g") != (B is not None):
        return InputError(
            f"problem_type {problem_type!r} does not fit a pencil {'with' if B else 'without'} B; "
            "the types with a leading g are the generalized ones"
        )
    return None


def entries_error(name: str, mat: PETSc.Mat) -> InputError | None:
    """Return the error that names the first NaN or Inf of this rank's rows.  (Not collective.)"""
    offsets, columns, values = mat.getValuesCSR()
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size == 0:
        return None
    row = mat.getOwnershipRange()[0] + int(np.searchsorted(offsets, bad[0], side="right")) - 1
    return InputError(
        f"{name} must be finite, got {bad.size} NaN or Inf entries, the first {values[bad[0]]} at "
        f"({row}, {int(columns[bad[0]])}); check the element or file this entry comes from"
    )


def empty_b_error() -> InputError:
    """Return the error for a B without entries.  (Not collective.)"""
    return InputError(
        "B must have entries, got zeros only: A x = lam B x has no finite "
        "eigenvalue then; leave B out for the identity"
    )


def negative_b_error(declared: str) -> InputError:
    """Return the error for an indefinite B declared to be definite.  (Not collective.)"""
    return InputError(
        f"problem_type={declared!r} needs B positive semidefinite, got a direction v "
        "with v^H B v < 0; leave problem_type out: with A definite it is solved in 1 / lam"
    )


def refill_error(
    found: tuple[tuple[int, int], bool], wanted: tuple[tuple[int, int], bool]
) -> InputError:
    """Return the error for a pencil of another model: its rows, and whether it has a B.

    Not collective.
    """
    words = {True: "a", False: "no"}
    return InputError(
        f"out must be a pencil of this model, got rows {found[0]} and {words[found[1]]} B where "
        f"the model has {wanted[0]} and {words[wanted[1]]} B; assemble without out"
    )

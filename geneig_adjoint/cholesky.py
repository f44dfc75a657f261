"""A Cholesky factor of CHOLMOD in place of MUMPS, where A - sigma B is positive definite.

On one rank its single solves take a third (plane) to two thirds (solid) of the time of MUMPS,
and blocked ones half to nine tenths. It exists for real symmetric matrices only, and only
positive definite ones have such a factor: whether this one is, the factorisation tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.wanted import Wanted

PACKAGE = "st_pc_factor_mat_solver_type"
KIND = "st_mat_cholmod_factor"
CHOLMOD_OPTIONS: dict[str, Any] = {
    PACKAGE: PETSc.Mat.SolverType.CHOLMOD,
    # L L^T whatever the size: it fails unless the matrix is positive definite, where the
    # L D L^T that CHOLMOD makes of small ones does not, and is unstable.
    KIND: "supernodal",
    "st_mat_cholmod_print": 0,  # a matrix that is not positive definite is no news for users
}
REFUSALS = {*_petsc.SINGULAR_FACTOR, 92}
"""PETSc's codes for a factorisation that failed, and for a package it was built without."""


def tries_cholmod(pencil: Pencil, wanted: Wanted, sigma: complex | None) -> bool:
    """Tell whether A - sigma B may be positive definite and CHOLMOD factor it.

    Collective. One rank, real scalars, a definite pencil, a shift that is not above 0, and a
    positive diagonal; the user may have named CHOLMOD, but no other way to solve.
    """
    if sigma is None or not _petsc.REAL_SCALARS or pencil.comm.size > 1:
        return False
    if not pencil.factorable or not pencil.definite:
        return False
    package = wanted.option(PACKAGE, wanted.options)
    if package is not None:
        return bool(package == PETSc.Mat.SolverType.CHOLMOD)
    if pencil.kept is not None and pencil.kept.refused:
        return False
    named = (wanted.option(name, wanted.options) for name in ("st_pc_type", "st_ksp_type"))
    if np.real(sigma) > 0 or any(name is not None for name in named):
        return False
    diagonal = _petsc.diagonal(pencil.A).real
    if sigma != 0:
        shifts = 1.0 if pencil.B is None else _petsc.diagonal(pencil.B).real
        diagonal = diagonal - np.real(sigma) * shifts
    return bool((diagonal > 0).all())


def proves_positive(pc: PETSc.PC, wanted: Wanted) -> bool:
    """Tell whether a PC holds a factor L L^T of CHOLMOD, which only positive ones have.

    Not collective.
    """
    if pc.getType() != PETSc.PC.Type.CHOLESKY:
        return False
    kind = wanted.option(KIND, {**CHOLMOD_OPTIONS, **wanted.options})
    made = pc.getFactorSolverType() == PETSc.Mat.SolverType.CHOLMOD
    return bool(made and kind == CHOLMOD_OPTIONS[KIND])


def set_up_cholmod(eps: SLEPc.EPS) -> Callable[[], object] | None:
    """Factor by CHOLMOD; return what is left to do by MUMPS if there is no such factor.

    Collective. Its options are in force. A matrix that is not positive definite has no
    Cholesky factor, and one too large for CHOLMOD's integers none of this package.
    """
    try:
        with _petsc.plain_errors():
            eps.setUp()
    except PETSc.Error as error:
        if int(error.ierr) not in REFUSALS:
            raise
    else:
        return None
    ksp = eps.getST().getKSP()
    operators = ksp.getOperators()
    ksp.getPC().reset()
    ksp.getPC().setFactorSolverType(PETSc.Mat.SolverType.MUMPS)
    ksp.setOperators(*operators)
    left: Callable[[], object] = eps.setUp
    return left

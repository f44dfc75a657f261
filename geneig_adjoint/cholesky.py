"""A Cholesky factor of CHOLMOD in place of MUMPS, where A - sigma B is positive definite.

On one rank its single solves take a third (plane) to two thirds (solid) of the time of MUMPS,
and blocked ones half to nine tenths. It exists for real symmetric matrices only, and only
positive definite ones have such a factor: whether this one is, the factorisation tells. In the
plane a few ranks have a factor each (`factor_copies`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from petsc4py import PETSc
from slepc4py import SLEPc

from geneig_adjoint import _petsc, builds
from geneig_adjoint.factor_copies import REFUSALS, FactorCopies, copies_of, forget_at_exit
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.sparse_lu import has_flat_graph
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
COPIES_OPTIONS: dict[str, Any] = {
    "st_pc_type": PETSc.PC.Type.PYTHON,
    "st_mat_mumps_icntl_13": 1,  # where MUMPS takes over, negative pivots are counted
}


def tries_cholmod(pencil: Pencil, wanted: Wanted, sigma: complex | None) -> bool:
    """Tell whether A - sigma B may be positive definite and CHOLMOD factor it.

    Collective. A PETSc with CHOLMOD, a definite pencil, a shift that is not above 0, a positive
    diagonal, and one rank, or a few and a mesh of the plane; the user may have named CHOLMOD,
    but no other way to solve.
    """
    if sigma is None or not builds.HAS_CHOLMOD:
        return False
    if not pencil.factorable or not pencil.definite:
        return False
    package = wanted.option(PACKAGE, wanted.options)
    if package is not None:
        return bool(package == PETSc.Mat.SolverType.CHOLMOD)
    if pencil.kept is not None and pencil.kept.refused:
        return False
    named = (wanted.option(name, wanted.options) for name in ("st_pc_type", "st_ksp_type"))
    chosen = any(name is not None for name in named)
    if np.real(sigma) > 0 or chosen or not _has_room(pencil, wanted):
        return False
    diagonal = _petsc.diagonal(pencil.A).real
    if sigma != 0:
        shifts = 1.0 if pencil.B is None else _petsc.diagonal(pencil.B).real
        diagonal = diagonal - np.real(sigma) * shifts
    # Another rank may see a well of the potential.
    return not pencil.comm.allreduce(np.count_nonzero(~(diagonal > 0)))


def _has_room(pencil: Pencil, wanted: Wanted) -> bool:
    """Tell whether there is but one rank, or each of several is to have a factor of its own.

    Collective, the same on all ranks: nothing is timed, and no free memory asked for. In the
    plane sweeps through a factor are what takes time, and factors are small; in space the
    factorisation is, which ranks that share a factor do share.
    """
    if pencil.comm.size == 1:
        return True
    chosen = any(name.startswith("st_mat_mumps_") for name in wanted.options)
    return not chosen and has_flat_graph(pencil.A)


def cholmod_options(pencil: Pencil) -> dict[str, Any]:
    """Return what an eigensolve that is to try CHOLMOD is told.  (Not collective.)"""
    return CHOLMOD_OPTIONS | (COPIES_OPTIONS if pencil.comm.size > 1 else {})


def proves_positive(ksp: PETSc.KSP, wanted: Wanted) -> bool:
    """Tell whether a KSP holds a factor L L^T of CHOLMOD, which only positive ones have.

    Not collective.
    """
    kind = wanted.option(KIND, {**CHOLMOD_OPTIONS, **wanted.options})
    if kind != CHOLMOD_OPTIONS[KIND]:
        return False
    copies, pc = copies_of(ksp), ksp.getPC()
    if copies is not None:
        return copies.made
    cholesky = pc.getType() == PETSc.PC.Type.CHOLESKY
    return bool(cholesky and pc.getFactorSolverType() == PETSc.Mat.SolverType.CHOLMOD)


def set_up_cholmod(eps: SLEPc.EPS) -> Callable[[], object] | None:
    """Factor by CHOLMOD; return what is left to do by MUMPS if there is no such factor.

    Collective. Its options are in force. A matrix that is not positive definite has no
    Cholesky factor, and one too large for CHOLMOD's integers none of this package.
    """
    if eps.comm.size > 1:
        return _set_up_copies(eps)
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


def _set_up_copies(eps: SLEPc.EPS) -> Callable[[], object] | None:
    """Factor by CHOLMOD on every rank; return what is left to do by MUMPS where that fails.

    Collective.
    """
    ksp = eps.getST().getKSP()
    if copies_of(ksp) is None:
        pc = ksp.getPC()
        pc.setType(PETSc.PC.Type.PYTHON)
        pc.setPythonContext(FactorCopies(ksp.getOptionsPrefix()))
    forget_at_exit(eps)
    with _petsc.plain_errors():
        eps.setUp()
    copies, pc = copies_of(ksp), ksp.getPC()
    if copies is not None and copies.made:
        return None
    operators = ksp.getOperators()
    pc.setType(PETSc.PC.Type.CHOLESKY)
    pc.setFactorSolverType(PETSc.Mat.SolverType.MUMPS)
    ksp.setOperators(*operators)
    left: Callable[[], object] = ksp.setUp  # an EPS is set up once
    return left

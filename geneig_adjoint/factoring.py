"""Set-up of factors: more workspace for MUMPS where it had too little, and what its codes mean."""

from __future__ import annotations

from collections.abc import Callable

from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint.builds import MISSING_FACTOR, missing_factor_error

MUMPS_SINGULAR = {-6, -10}
"""MUMPS's codes for a singular matrix."""
FAILED_LIBRARY = 76
"""PETSc's code for an error of another library, such as a factorisation of MUMPS. After other
errors there may be no factor, and PETSc 3.26 must not be asked about it then."""
WORKSPACE_TOO_SMALL = {-8, -9, -17, -20}
"""MUMPS's codes for an estimate of its workspace that was too small."""
WORKSPACES = (100, 400, 1600)
"""Per cent by which the estimate is then enlarged, in turn; MUMPS starts with 20 to 35."""


def set_up_factor(ksp: PETSc.KSP, prefix: str, action: Callable[[], object] | None = None) -> int:
    """Factor a KSP's matrix, again with more workspace as long as MUMPS had too little.

    Collective. MUMPS estimates its workspace before it knows the pivots; a matrix that forces
    it to delay many of them (small diagonals beside large entries) needs more. The user's own
    ``mat_mumps_icntl_14`` is left alone, and nothing is tried again then.

    Parameters
    ----------
    ksp
        Configured, except that it may have no operators before ``action``.
    prefix
        In front of the KSP's options.
    action
        What factors: ``ksp.setUp`` (None), or e.g. ``eps.setUp`` for the KSP of its ST.

    Returns
    -------
    int
        MUMPS's verdict, INFOG(1), the same on all ranks: negative where it failed without an
        error of PETSc's; 0 for other factorisations and for KSPs without any.

    Raises
    ------
    PETSc.Error
        Where ``action`` raises one that more workspace does not help.
    MissingPackageError
        Where PETSc was built without the package that is to factor.

    """
    option = prefix + "mat_mumps_icntl_14"
    for percent in (None, *WORKSPACES):
        final = percent == WORKSPACES[-1] or _petsc.has_option(option)
        inserted = {} if percent is None else {"mat_mumps_icntl_14": percent}
        try:
            with _petsc.inserted_options(prefix, inserted), _petsc.plain_errors():
                (action or ksp.setUp)()
        except PETSc.Error as error:
            if int(error.ierr) == MISSING_FACTOR:
                pc = ksp.getPC()
                raise missing_factor_error(pc.getFactorSolverType(), pc.getType()) from error
            failed = int(error.ierr) == FAILED_LIBRARY
            if final or not failed or _mumps_status(ksp) not in WORKSPACE_TOO_SMALL:
                raise
        status = _mumps_status(ksp)
        if final or status not in WORKSPACE_TOO_SMALL:
            break
        # PETSc does not factor the same matrix twice, and options are read with a new factor.
        operators = ksp.getOperators()
        ksp.getPC().reset()
        ksp.setOperators(*operators)
    return status


def _mumps_status(ksp: PETSc.KSP) -> int:
    pc = ksp.getPC()
    if pc.getType() not in {"lu", "cholesky"} or pc.getFactorSolverType() != "mumps":
        return 0
    return int(pc.getFactorMatrix().getMumpsInfog(1))


def mumps_trouble(status: int) -> str:
    """Return what a negative INFOG(1) of MUMPS means, for messages.  (Not collective.)"""
    meanings = {
        **dict.fromkeys(MUMPS_SINGULAR, "the matrix is singular"),
        **dict.fromkeys((-5, -7, -13, -19), "not enough memory"),
        **dict.fromkeys(
            WORKSPACE_TOO_SMALL, "its workspace is too small: raise mat_mumps_icntl_14"
        ),
    }
    return f"MUMPS error {status} ({meanings.get(status, 'see INFOG(1) in its manual')})"

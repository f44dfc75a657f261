"""What a build of PETSc cannot do, found before PETSc fails."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from geneig_adjoint.errors import InputError, MissingPackageError

LARGEST_INDEX = int(np.iinfo(PETSc.IntType).max)
"""2,147,483,647 unless PETSc was built with 64-bit indices."""
HAS_CHOLMOD = np.dtype(PETSc.ScalarType).kind == "f" and any(
    PETSc.Sys.hasExternalPackage(name) for name in ("suitesparse", "cholmod")
)
"""Whether CHOLMOD can factor: its interface has real matrices only.

PETSc 3.18 knows SuiteSparse as a whole, 3.26 the libraries it consists of.
"""
MISSING_FACTOR = 92
"""PETSc's code for a factorisation by a package that it was built without."""


OPTIONS = dict.fromkeys(("cholmod", "klu", "spqr", "umfpack"), "suitesparse")
"""What packages are called when PETSc is configured, where that is another name."""


def index_error(count: int, what: str) -> InputError | None:
    """Return the error for more rows or entries than PETSc can number.  (Not collective.)

    Parameters
    ----------
    count
        How many there are.
    what
        Of what, for the message, and how to have fewer: "rows", "entries on one rank (...)".

    """
    if count <= LARGEST_INDEX:
        return None
    return InputError(
        f"this build of PETSc counts to {LARGEST_INDEX:,}, got {count:,} {what}; use a PETSc "
        "configured with --with-64-bit-indices"
    )


def missing_factor_error(package: str, kind: str) -> MissingPackageError:
    """Return the error for a factorisation this PETSc does not have.  (Not collective.)"""
    return MissingPackageError(
        f"PETSc must have been built with {package}, which is to factor a matrix ({kind}), got a "
        f"build without; configure PETSc with --download-{OPTIONS.get(package, package)}, or "
        "choose another package by ..._pc_factor_mat_solver_type "
        "(`geneig-adjoint doctor` lists what there is)",
        name=package,
    )

"""Whether a solve shows that a pencil that looked definite is not.

Positive entries and a few steps of Lanczos may miss one negative direction among many
positive ones. A solver in the inner product of such a matrix fails, or goes wrong.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.completeness import negative_pivots_of
from geneig_adjoint.eigenpairs import Completeness
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import column_norms
from geneig_adjoint.symmetry import is_positive

BAD_PRODUCT = 95
"""SLEPc's code for v^H B v that is negative, or not real (and for other input it cannot use)."""
STEPS = 300
"""Of Lanczos where no inertia is available: enough for a second look, not for a proof."""
ROUNDING = 1e-10
"""Of v^H B v for an eigenvector, relative to |v| |B v|."""


def contradicts_definiteness(pencil: Pencil, right: Block, completeness: Completeness) -> bool:
    """Tell whether computed pairs show that the matrix taken for definite is not.

    Collective. They do when some x^H B x is negative, or when the count by inertia, which
    rests on definiteness, is lower than what was found.

    Parameters
    ----------
    pencil
        Classified as definite or not.
    right
        This rank's rows of the eigenvectors, (n_local, k).
    completeness
        The count.

    """
    if not pencil.definite or pencil.B is None:
        return False
    product = pencil.multiply_a(right) if pencil.definite_by_a else pencil.multiply_b(right)
    squares = column_dots(pencil.comm, right, product).real
    sizes = column_norms(pencil.comm, right) * column_norms(pencil.comm, product)
    if bool(np.any(squares < -ROUNDING * sizes)):
        return True
    expected, found = completeness.expected, completeness.found
    more = expected is not None and found is not None and found > expected
    return more and has_negative_direction(pencil)


def failed_as_indefinite(pencil: Pencil, error: Exception) -> bool:
    """Tell whether a solve failed because the matrix taken for definite is not.  (Collective.)"""
    if not pencil.definite or pencil.B is None:
        return False
    if isinstance(error, PETSc.Error) and not is_bad_product(error):
        return False
    return has_negative_direction(pencil)


def is_bad_product(error: Exception) -> bool:
    """Tell whether SLEPc could not use the inner product of B.

    Not collective. With complex scalars rounding is enough: v^H B v need only be small against
    |v| |B v|, so that its imaginary part is not far below it.
    """
    return isinstance(error, PETSc.Error) and int(error.ierr) == BAD_PRODUCT


def has_negative_direction(pencil: Pencil) -> bool:
    """Look again, and harder, for v with v^H B v < 0 (A where A is the definite one).

    Collective. By the inertia of a factor in the real build, otherwise by more steps.
    """
    mat = pencil.A if pencil.definite_by_a else pencil.B
    if _petsc.REAL_SCALARS and not _petsc.is_shell(mat) and pencil.factorable:
        count = negative_pivots_of(mat)
        if count is not None:
            return count > 0
    return not is_positive(mat, steps=STEPS)

"""Constant weights D of quadratic forms x^H D x: matrices or real diagonals."""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError


def weighted(weight: Any, x: Block, *, hermitian: bool = False) -> Block:
    """Return D x or D^H x for a PETSc.Mat or a real diagonal D.  (Collective.)"""
    if isinstance(weight, PETSc.Mat):
        return _petsc.multiply(weight, x, hermitian=hermitian)
    diagonal = np.asarray(weight)
    if np.iscomplexobj(diagonal):
        raise InputError(
            f"a diagonal weight must be real, got dtype {diagonal.dtype}; x^H D x is real for "
            "Hermitian D only"
        )
    if diagonal.shape != x.shape[:1]:
        raise InputError(
            f"the weight must hold this rank's {x.shape[0]} rows, got shape {diagonal.shape}; cut "
            "it to pairs.rows"
        )
    return np.asarray(diagonal[:, None] * x)

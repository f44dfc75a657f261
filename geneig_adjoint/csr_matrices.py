"""PETSc matrices around the arrays of sparse rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block


def matrix_of(csr: tuple[Block, Block, Block], sizes: Any, comm: Any) -> PETSc.Mat:
    """Return a matrix of offsets, sorted global columns and values of this rank's rows.

    Collective. On one rank it uses the arrays as they are, where inserting them row by row takes
    longer than all products and many factorisations. The caller destroys it.

    Parameters
    ----------
    csr
        Must not be changed as long as the matrix lives.
    sizes
        Local and global sizes of rows and columns, as PETSc takes them.
    comm
        The ranks.

    """
    offsets, columns, values = csr
    arrays = (
        np.ascontiguousarray(offsets, dtype=PETSc.IntType),
        np.ascontiguousarray(columns, dtype=PETSc.IntType),
        np.ascontiguousarray(values, dtype=PETSc.ScalarType),
    )
    make = PETSc.Mat().createAIJWithArrays if comm.size == 1 else PETSc.Mat().createAIJ
    mat = make(sizes, csr=arrays, comm=comm)
    mat.assemble()
    return mat

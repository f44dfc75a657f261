"""Near-null spaces: the vectors that a multigrid preconditioner must not lose.

Of elasticity the rigid body motions: they deform nothing, so that smoothing, which sees local
forces only, cannot reduce errors that look like them. Coarse levels made of them can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.reductions import inner

if TYPE_CHECKING:
    from mpi4py import MPI

DEPENDENT = 1e-10
"""Smallest share of a vector that the vectors before it may leave, squared."""
DIMENSIONS = (1, 2, 3)


@dataclass(frozen=True, eq=False)
class NearNullSpace:
    """Vectors that A - sigma B hardly changes, and how its rows belong to nodes.

    Attributes
    ----------
    vectors : ndarray
        This rank's rows (n_local, k).
    block_size : int
        Consecutive rows that belong to one node: 3 for displacements in space, 1 for a scalar.

    """

    vectors: Block
    block_size: int = 1


def rigid_body_modes(coordinates: Block) -> NearNullSpace:
    """Return translations and rotations of nodes, for ``near_null_space=``.

    Not collective. Rows are ordered node by node: u_x, u_y, u_z of the first node, then of the
    second one.

    Parameters
    ----------
    coordinates
        Of the nodes whose rows this rank owns, in the order of the rows, (nodes, 2) or
        (nodes, 3). Nodes that are clamped, and so have no rows, are left out.

    Returns
    -------
    NearNullSpace
        3 vectors in the plane, 6 in space; one along a line.

    Raises
    ------
    InputError
        When the coordinates are not a table of finite numbers with 1, 2 or 3 columns.

    """
    points = np.asarray(coordinates, dtype=float)
    if points.ndim != 2 or points.shape[1] not in DIMENSIONS or not np.isfinite(points).all():
        raise InputError(
            "coordinates must be finite numbers of shape (nodes, 2) or (nodes, 3), one row for "
            f"every node of this rank, got shape {points.shape}; leave clamped nodes out"
        )
    dim = points.shape[1]
    planes = [(a, b) for a in range(dim) for b in range(a + 1, dim)]
    modes = np.zeros((*points.shape, dim + len(planes)))
    for axis in range(dim):
        modes[:, axis, axis] = 1.0
    for number, (a, b) in enumerate(planes, start=dim):
        modes[:, a, number], modes[:, b, number] = -points[:, b], points[:, a]
    return NearNullSpace(modes.reshape(points.size, modes.shape[2]), dim)


def check_near_null_space(comm: MPI.Comm, rows: tuple[int, int], space: Any) -> None:
    """Raise on all ranks unless a near-null space fits the rows of a rank.

    Collective.

    Raises
    ------
    InputError
        Given on some ranks only, or of another type; vectors of another number of rows, with
        NaN or Inf, or dependent ones; rows that are no multiple of the block size.

    """
    kinds = comm.allgather(_kind(space))
    if len(set(kinds)) == 1 and not isinstance(kinds[0], str):
        wrong = _form_error(space, rows)
    else:
        wrong = InputError(
            "near_null_space must be a NearNullSpace, such as rigid_body_modes(coordinates) "
            f"returns, with the same number of vectors on every rank, got {kinds}; None: there "
            "is a factor"
        )
    raise_together(comm, wrong)
    gram = inner(comm, space.vectors, space.vectors)
    sizes = np.sqrt(np.maximum(np.diag(gram).real, np.finfo(float).tiny))
    least = float(np.linalg.eigvalsh(gram / np.outer(sizes, sizes))[0])
    if not least > DEPENDENT:
        raise InputError(
            "the vectors of near_null_space must be independent, got a Gram matrix of unit vectors "
            f"with an eigenvalue of {least:.1e}; leave out those that the others contain, and "
            "rotations where all nodes lie on a line"
        )


def attach(mat: PETSc.Mat, space: NearNullSpace) -> None:
    """Give a matrix its near-null space and block size.  (Collective.)

    The vectors become orthonormal: PETSc wants that.
    """
    mat.setBlockSize(space.block_size)
    comm = mat.comm.tompi4py()
    block = space.vectors / np.maximum(np.abs(space.vectors).max(initial=1.0), 1.0)
    for _ in range(2):  # the second pass removes the rounding of the first
        gram = inner(comm, block, block)
        block = np.asarray(np.linalg.solve(np.linalg.cholesky(gram), block.conj().T).conj().T)
    vectors = [_petsc.vec_from(mat, column) for column in block.T]
    nullspace = PETSc.NullSpace().create(constant=False, vectors=vectors, comm=mat.comm)
    mat.setNearNullSpace(nullspace)
    _petsc.destroy(nullspace, *vectors)


def no_entries_error(matrix_free: bool) -> InputError | None:
    """Return the error for an operator that multigrid cannot see.  (Not collective.)"""
    if not matrix_free:
        return None
    return InputError(
        "near_null_space needs a matrix that multigrid can coarsen, got an operator without "
        "entries; give the model a preconditioner=, an assembled matrix near A - sigma B"
    )


def _kind(space: Any) -> Any:
    if not isinstance(space, NearNullSpace) or np.ndim(space.vectors) != 2:
        return f"{type(space).__name__} of shape {np.shape(getattr(space, 'vectors', space))}"
    return int(np.shape(space.vectors)[1]), space.block_size


def _form_error(space: NearNullSpace, rows: tuple[int, int]) -> InputError | None:
    n_local, vectors = rows[1] - rows[0], space.vectors
    if len(vectors) != n_local or not vectors.shape[1]:
        return InputError(
            f"near_null_space must hold this rank's {n_local} rows of at least one vector, got "
            f"shape {vectors.shape}; leave clamped nodes out, and give n_local= where rows are not "
            "split as PETSc does"
        )
    if space.block_size < 1 or n_local % space.block_size:
        return InputError(
            f"the {n_local} rows of a rank must be whole nodes of block_size = "
            f"{space.block_size} rows; give n_local= a multiple of it"
        )
    if not np.isfinite(vectors).all():
        return InputError(
            "near_null_space must hold finite numbers, got NaN or Inf; check the coordinates"
        )
    if np.iscomplexobj(vectors) and _petsc.REAL_SCALARS:
        return _petsc.real_scalar_error("near_null_space")
    return None

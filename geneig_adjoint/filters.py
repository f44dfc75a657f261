"""Linear maps of one parameter: any matrix, ties, symmetries, density filters."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.collective import guard, raise_together
from geneig_adjoint.errors import InputError
from geneig_adjoint.maps import Named
from geneig_adjoint.parameters import is_distributed
from geneig_adjoint.sparse_rows import SparseRows, rows_of

if TYPE_CHECKING:
    from mpi4py import MPI

BATCH = 50_000
"""Points whose neighbours are looked for at a time: bounds the memory."""


class LinearMap(Named):
    """q = W p for one parameter, or q = W p + offset.

    Collective with a communicator.

    Parameters
    ----------
    parameter
        Name of the parameter.
    matrix
        W, real: a PETSc.Mat with rows on any ranks, or a scipy.sparse matrix; that is all of W,
        the same on every rank, or with ``comm`` this rank's rows, (n_local, n). It is copied.
        p may be replicated or a PETSc.Vec in either case, and q is what p is. As a PETSc.Vec,
        q has the rows of W; if all ranks have all of W, the layout of p where W is square, else
        PETSc's default.
    offset
        A constant to be added, such as the nodes' coordinates where p moves them: one entry per
        row of ``matrix``. None: nothing.
    output, keep
        As in `Named`.
    comm
        The ranks that share the rows of a scipy matrix.

    Raises
    ------
    InputError
        A matrix that is not sparse, real and finite, an offset of another length; at the first
        use, a matrix that does not fit.

    """

    def __init__(
        self,
        parameter: str,
        matrix: Any,
        *,
        offset: Block | None = None,
        output: str | None = None,
        keep: bool = False,
        comm: MPI.Comm | None = None,
    ) -> None:
        if isinstance(matrix, PETSc.Mat):
            comm = matrix.comm.tompi4py()
            matrix = rows_of(matrix)
        rows = SparseRows(matrix, comm)
        function = rows if offset is None else _Shifted(rows, np.asarray(offset))
        super().__init__(parameter, function, output=output, keep=keep)


class _Shifted:
    """The function W value + offset; its derivatives are those of W value.  (Collective.)"""

    def __init__(self, rows: SparseRows, offset: Block) -> None:
        _raise(rows.comm, _offset_error(offset, rows.matrix.shape[0]))
        self.rows = rows
        self.jvp, self.vjp, self.vjp_tangent = rows.jvp, rows.vjp, rows.vjp_tangent
        self.offset = offset.astype(float)
        self.first = 0 if rows.comm is None else int(rows.ranges[rows.comm.rank])

    def __call__(self, value: Any) -> Any:
        """Return W value + offset: an array, or a PETSc.Vec that belongs to the caller."""
        result = self.rows(value)
        if is_distributed(result):
            first, last = result.getOwnershipRange()
            result.array[:] += self.offset[first - self.first : last - self.first]
            return result
        comm = self.rows.comm
        whole = self.offset if comm is None else np.concatenate(comm.allgather(self.offset))
        return result + whole


class Tied(LinearMap):
    """Entries that share one design variable: q_i = p[ids_i].

    Collective with a communicator.

    Parameters
    ----------
    parameter
        Name of the parameter.
    ids
        Which entry of p each entry of q takes its value from; all of them, or with ``comm``
        this rank's share in the order of the ranks.
    size
        Entries of p; None: the largest id + 1.
    output, keep, comm
        As in `LinearMap`.

    Raises
    ------
    InputError
        Ids out of range or not integers.

    """

    def __init__(
        self,
        parameter: str,
        ids: Block,
        *,
        size: int | None = None,
        output: str | None = None,
        keep: bool = False,
        comm: MPI.Comm | None = None,
    ) -> None:
        with _together(comm):
            ids = np.asarray(ids)
            _raise(None, _kind_error("ids", ids, 1))
        if size is None:
            size = _agreed_maximum(comm, int(ids.max(initial=-1)) + 1)
        _raise(comm, _range_error("ids", ids, size))
        columns = ids.astype(np.int64)
        matrix = scipy.sparse.csr_matrix(
            (np.ones(ids.size), columns, np.arange(ids.size + 1)), shape=(ids.size, size)
        )
        super().__init__(parameter, matrix, output=output, keep=keep, comm=comm)


class Symmetry(LinearMap):
    """The symmetric part of a field: q_i = mean of p_i and its images.

    Collective with a communicator.

    Parameters
    ----------
    parameter
        Name of the parameter.
    images
        Indices of the entries that each entry is mapped to, (n,) for a reflection, (n, s) for
        s motions beside the identity: all motions of the group, for q to be symmetric. All
        rows, or with ``comm`` this rank's share in the order of the ranks.
    output, keep, comm
        As in `LinearMap`.

    Raises
    ------
    InputError
        Indices out of range or not integers.

    """

    def __init__(
        self,
        parameter: str,
        images: Block,
        *,
        output: str | None = None,
        keep: bool = False,
        comm: MPI.Comm | None = None,
    ) -> None:
        with _together(comm):
            images = np.asarray(images)
            _raise(None, _kind_error("images", images, 2))
        first, n = _share(comm, len(images))
        _raise(comm, _range_error("images", images, n))
        orbit = np.column_stack([first + np.arange(len(images)), images]).astype(np.int64)
        count = orbit.shape[1]
        starts = count * np.arange(len(orbit) + 1)
        weights = np.full(orbit.size, 1.0 / count)
        matrix = scipy.sparse.csr_matrix((weights, orbit.ravel(), starts), shape=(len(orbit), n))
        matrix.sum_duplicates()  # an entry on the mirror is its own image
        super().__init__(parameter, matrix, output=output, keep=keep, comm=comm)


class DensityFilter(LinearMap):
    r"""Mean of a field over neighbours, with weights that fall like a cone.

    Collective with a communicator.

    .. math::

        q_i = \frac{\sum_j w_{ij} p_j}{\sum_j w_{ij}}, \qquad
        w_{ij} = v_j \max(0, r - |c_i - c_j|)

    A constant field stays what it is. Neighbours are found by a k-d tree on every rank; of the
    other ranks' points only those within r of this rank's bounding box are fetched.

    Parameters
    ----------
    parameter
        Name of the parameter, with one entry per element.
    centroids
        Of the elements, (n, d) or (n,): all of them, or with ``comm`` this rank's share, in the
        order in which the ranks' entries follow each other in the parameter.
    radius
        r, positive, in the unit of the centroids. Below the distance of neighbours nothing
        happens.
    volumes
        v of the elements, positive, (n,); None: 1.
    output, keep, comm
        As in `LinearMap`.

    Raises
    ------
    InputError
        Points, volumes or a radius that make no sense.

    References
    ----------
    .. [1] T. E. Bruns, D. A. Tortorelli, "Topology optimization of non-linear elastic structures
       and compliant mechanisms", Comput. Methods Appl. Mech. Eng. 190, 3443-3459, 2001.

    """

    def __init__(
        self,
        parameter: str,
        centroids: Block,
        radius: float,
        *,
        volumes: Block | None = None,
        output: str | None = None,
        keep: bool = False,
        comm: MPI.Comm | None = None,
    ) -> None:
        with _together(comm):  # what is no array at all fails everywhere, too
            points = np.asarray(centroids)
            points = points[:, None] if points.ndim == 1 else points
            sizes = np.ones(points.shape[:1]) if volumes is None else np.asarray(volumes)
            _raise(None, _geometry_error(points, radius, sizes))
        _raise(comm, _agreement_error(comm, points, radius))
        matrix = cone_weights(points.astype(float), radius, sizes.astype(float), comm)
        super().__init__(parameter, matrix, output=output, keep=keep, comm=comm)


def cone_weights(
    points: Block, radius: float, volumes: Block, comm: MPI.Comm | None
) -> scipy.sparse.csr_matrix:
    """Return this rank's rows of the matrix of `DensityFilter`.  (Collective with a comm.)"""
    first, n = _share(comm, len(points))
    ids, others, sizes = first + np.arange(len(points)), points, volumes
    if comm is not None and comm.size > 1:
        ids, others, sizes = _with_halo(comm, (ids, points, volumes), radius)
    if len(others) == 0:
        return scipy.sparse.csr_matrix((0, n))
    from scipy.spatial import cKDTree  # here: few programs need it

    tree = cKDTree(others)
    parts = [scipy.sparse.csr_matrix((0, n))]
    for start in range(0, len(points), BATCH):
        batch = points[start : start + BATCH]
        near = cKDTree(batch).sparse_distance_matrix(tree, radius, output_type="ndarray")
        rows, columns = near["i"], near["j"]
        weights = sizes[columns] * (radius - near["v"])
        part = scipy.sparse.csr_matrix((weights, (rows, ids[columns])), shape=(len(batch), n))
        part.eliminate_zeros()
        part.sort_indices()  # sums do not depend on the number of ranks
        total = np.add.reduceat(part.data, part.indptr[:-1])  # no row is empty: w_ii > 0
        part.data /= np.repeat(total, np.diff(part.indptr))
        parts.append(part)
    return scipy.sparse.vstack(parts, format="csr")


def _with_halo(
    comm: MPI.Comm, own: tuple[Block, Block, Block], radius: float
) -> tuple[Block, Block, Block]:
    """Return (ids, points, volumes) of this rank and of what lies near it.  (Collective.)"""
    points = own[1]
    box = (points.min(axis=0), points.max(axis=0)) if len(points) else None
    outgoing: list[tuple[Block, ...] | None] = []
    for rank, other in enumerate(comm.allgather(box)):
        if other is None or rank == comm.rank:
            outgoing.append(None)
            continue
        outside = np.maximum(np.maximum(other[0] - points, points - other[1]), 0.0)
        near = np.linalg.norm(outside, axis=1) <= radius
        outgoing.append(tuple(part[near] for part in own) if near.any() else None)
    found = [own, *(part for part in comm.alltoall(outgoing) if part is not None)]
    ids, others, sizes = (np.concatenate([part[i] for part in found]) for i in range(3))
    return ids, others, sizes


def _share(comm: MPI.Comm | None, size: int) -> tuple[int, int]:
    """Return the global index of this rank's first entry, and the global size.  (Collective.)"""
    if comm is None:
        return 0, size
    sizes = comm.allgather(size)
    return sum(sizes[: comm.rank]), sum(sizes)


def _agreed_maximum(comm: MPI.Comm | None, size: int) -> int:
    return size if comm is None else max(comm.allgather(size))


def _raise(comm: MPI.Comm | None, error: InputError | None) -> None:
    if comm is not None:
        raise_together(comm, error)
    elif error is not None:
        raise error


def _together(comm: MPI.Comm | None) -> AbstractContextManager[None]:
    """Leave a block on all ranks or on none.  (Collective with a comm.)"""
    return nullcontext() if comm is None else guard(comm)


def _kind_error(what: str, ids: Block, dimensions: int) -> InputError | None:
    if ids.dtype.kind not in "iu" or not 1 <= ids.ndim <= dimensions:
        return InputError(
            f"{what} must be integers in an array of {dimensions} dimension(s) at most, got "
            f"dtype {ids.dtype}, shape {ids.shape}; number the entries from 0"
        )
    return None


def _range_error(what: str, ids: Block, size: int) -> InputError | None:
    bad = ids[(ids < 0) | (ids >= size)]
    if bad.size:
        return InputError(
            f"{what} must lie in 0 ... {size - 1}, got {bad[0]} and {bad.size - 1} more outside; "
            "number the entries of the parameter from 0, over all ranks"
        )
    return None


def _offset_error(offset: Block, size: int) -> InputError | None:
    usable = offset.shape == (size,) and offset.dtype.kind in "fiu"
    if usable and np.isfinite(offset).all():
        return None
    return InputError(
        f"the offset must be finite real numbers, one per row of the matrix ({size}), got dtype "
        f"{offset.dtype}, shape {offset.shape}; pass points.ravel() for coordinates"
    )


def _geometry_error(points: Block, radius: float, volumes: Block) -> InputError | None:
    if not 0 < radius < np.inf:
        return InputError(
            f"radius must be positive and finite, got {radius}; take some element widths"
        )
    if points.ndim != 2 or points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        return InputError(
            f"centroids must be finite real points (n, d), got dtype {points.dtype}, shape "
            f"{points.shape}; pass one row per element"
        )
    usable = volumes.shape == points.shape[:1] and volumes.dtype.kind in "fiu"
    if not usable or not (np.isfinite(volumes) & (volumes > 0)).all():
        return InputError(
            f"volumes must be positive and finite, one per centroid ({len(points)}), got shape "
            f"{volumes.shape}, smallest {np.min(volumes, initial=np.inf)}; leave them out for "
            "elements of equal size"
        )
    return None


def _agreement_error(comm: MPI.Comm | None, points: Block, radius: float) -> InputError | None:
    if comm is None:
        return None
    found = comm.allgather((points.shape[1], float(radius)))
    if len(set(found)) == 1:
        return None
    return InputError(
        "the dimension of the centroids and the radius must be the same on every rank, got "
        f"{found}; a rank without elements passes an array of shape (0, d)"
    )

"""Integrals over cells of a mesh with linear shape functions: sizes, loads, mass, stiffness."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError

BATCH = 20_000
"""Cells integrated at a time: bounds the memory."""
FLAT = 1e-12
"""A cell whose size is below this fraction of its extent's power is degenerate."""
ORDER = (
    "list the nodes of a quadrilateral around its edge, those of a hexahedron around its bottom "
    "and in the same order around its top, and remove cells without extent"
)


@dataclass(frozen=True)
class CellKind:
    """Shape functions of one kind of cell at the points of its quadrature.

    Attributes
    ----------
    name : str
    shapes : ndarray
        Values of the shape functions, (points, nodes).
    slopes : ndarray
        Their derivatives in the reference cell, (points, nodes, dimensions).
    weights : ndarray
        Of the points, (points,).
    looked_at : ndarray
        Derivatives where a cell may be inside out: at the points, the corners and the middle.

    """

    name: str
    shapes: Block
    slopes: Block
    weights: Block
    looked_at: Block


@dataclass(frozen=True)
class CellIntegrals:
    """Integrals over some cells; N are the shape functions.

    Attributes
    ----------
    loads : ndarray
        Of N, (m, nodes); a cell's sum is its size.
    mass, stiffness : ndarray
        Of N N^T and of grad N . grad N^T, (m, nodes, nodes).

    """

    loads: Block
    mass: Block
    stiffness: Block


def _simplex(name: str, points: Block) -> CellKind:
    """Return a kind with shape functions 1 - sum x, x_1, x_2 ..."""
    dimensions = points.shape[1]
    slopes = np.vstack([-np.ones(dimensions), np.eye(dimensions)])
    shapes = np.column_stack([1 - points.sum(axis=1), points])
    size = 1.0 / np.prod(np.arange(1, dimensions + 1))
    weights = np.full(len(points), size / len(points))
    # Constant: one corner stands for all.
    return CellKind(name, shapes, np.stack([slopes] * len(points)), weights, slopes[None])


def _box(name: str, corners: Block) -> CellKind:
    """Return a kind on [-1, 1]^d with shape functions prod (1 + c x) / 2 and 2^d Gauss points."""
    dimensions = corners.shape[1]
    points = np.array(list(itertools.product((-1, 1), repeat=dimensions))) / np.sqrt(3)

    def slopes(at: Block) -> Block:
        factors = (1 + corners * at[:, None]) / 2
        found = np.empty(factors.shape)
        for axis in range(dimensions):
            others = np.delete(factors, axis, axis=2).prod(axis=2)
            found[:, :, axis] = corners[:, axis] / 2 * others
        return found

    shapes = ((1 + corners * points[:, None]) / 2).prod(axis=2)
    places = np.concatenate([points, corners, np.zeros((1, dimensions))])
    return CellKind(name, shapes, slopes(points), np.ones(len(points)), slopes(places))


def _kinds() -> dict[tuple[int, int], CellKind]:
    """Return (nodes, dimension of the space) -> kind."""
    edge = np.array([[-1], [1]]) / np.sqrt(12) + 0.5
    inner = (5 - np.sqrt(5)) / 20  # of the rule of degree 2 on a tetrahedron
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    line = _simplex("line", edge)
    triangle = _simplex("triangle", np.array([[1, 1], [4, 1], [1, 4]]) / 6)
    corners = np.vstack([np.zeros(3), np.eye(3)])
    solid = _simplex("tetrahedron", inner + (1 - 4 * inner) * corners)
    cube = np.vstack([np.column_stack([square, np.full(4, side)]) for side in (-1, 1)])
    return {
        **{(2, dim): line for dim in (1, 2, 3)},
        **{(3, dim): triangle for dim in (2, 3)},
        (4, 2): _box("quadrilateral", square),
        (4, 3): solid,
        (8, 3): _box("hexahedron", cube),
    }


KINDS = _kinds()


def cell_batches(coordinates: Block) -> Iterator[tuple[slice, CellIntegrals]]:
    """Yield (cells, integrals) batch by batch.

    Not collective.

    Parameters
    ----------
    coordinates
        Of the nodes of the cells, (m, nodes, dim), without `cell_error`.

    """
    kind = KINDS[coordinates.shape[1], coordinates.shape[2]]
    outer = (kind.shapes[:, :, None] * kind.shapes[:, None]).reshape(len(kind.weights), -1)
    for start in range(0, len(coordinates), BATCH):
        rows = slice(start, min(start + BATCH, len(coordinates)))
        jacobians = _jacobians(kind.slopes, coordinates[rows])
        sizes = np.linalg.norm(_wedges(jacobians), axis=2) * kind.weights
        # grad N = slopes (J^T J)^-1 J^T, also for a surface in space
        metric = jacobians.transpose(0, 1, 3, 2) @ jacobians
        inverse = np.linalg.solve(metric, jacobians.transpose(0, 1, 3, 2))
        weighted = kind.slopes @ inverse * np.sqrt(sizes)[:, :, None, None]
        flat = weighted.transpose(0, 2, 1, 3).reshape(len(sizes), coordinates.shape[1], -1)
        mass = (sizes @ outer).reshape(len(sizes), *[coordinates.shape[1]] * 2)
        yield (
            rows,
            CellIntegrals(sizes @ kind.shapes, mass, flat @ flat.transpose(0, 2, 1)),
        )


def _jacobians(slopes: Block, coordinates: Block) -> Block:
    """Return dx / dreference, (m, points, dim, dimensions of the cell)."""
    return np.asarray(coordinates.transpose(0, 2, 1)[:, None] @ slopes)


def _wedges(jacobians: Block) -> Block:
    """Return vectors whose length is the ratio of sizes, and whose direction is the side seen."""
    dim, dimensions = jacobians.shape[2:]
    if dimensions == 1:
        return np.asarray(jacobians[..., 0])
    if dimensions == dim:
        return np.asarray(np.linalg.det(jacobians)[..., None])
    return np.cross(jacobians[..., 0], jacobians[..., 1])


def cell_error(cells: Block, coordinates: Block) -> InputError | None:
    """Return an error that names the first cell that cannot be used.  (Not collective.)"""
    return _shape_error(cells, coordinates) or _extent_error(cells, coordinates)


def _shape_error(cells: Block, coordinates: Block) -> InputError | None:
    if cells.ndim != 2 or cells.dtype.kind not in "iu":
        return InputError(
            f"cells must be the node numbers of every cell, integers (m, nodes), got dtype "
            f"{cells.dtype}, shape {cells.shape}; pass one row per cell"
        )
    usable = coordinates.ndim == 3 and coordinates.shape[:2] == cells.shape
    if not usable or coordinates.dtype.kind not in "fiu":
        return InputError(
            f"coordinates must be real numbers of shape {(*cells.shape, 'dim')}, those of every "
            f"cell's nodes, got dtype {coordinates.dtype}, shape {coordinates.shape}; pass "
            "points[cells]"
        )
    if coordinates.shape[1:] not in KINDS:
        known = ", ".join(f"{kind.name} {shape}" for shape, kind in KINDS.items())
        return InputError(
            f"cells must be of a known kind (nodes, dim), got {coordinates.shape[1:]}; known are "
            f"{known}; leave out nodes in the middle of edges"
        )
    bad = np.flatnonzero((cells < 0).any(axis=1))
    if bad.size:
        return InputError(
            f"node numbers must not be negative, got {cells[bad[0]]} in cell {bad[0]} and "
            f"{bad.size - 1} more such cells; constrained nodes have numbers here, too"
        )
    return None


def _extent_error(cells: Block, coordinates: Block) -> InputError | None:
    kind = KINDS[coordinates.shape[1], coordinates.shape[2]]
    for start in range(0, len(cells), BATCH):
        batch = coordinates[start : start + BATCH]
        bad = np.flatnonzero(~np.isfinite(batch).all(axis=(1, 2)))
        what = "finite coordinates"
        if bad.size == 0:
            bad, what = np.flatnonzero(_inside_out(kind, batch)), "an extent, the same side out"
        if bad.size:
            first = start + int(bad[0])
            return InputError(
                f"every {kind.name} must have {what}, got nodes {cells[first].tolist()} at "
                f"{coordinates[first].tolist()} in cell {first} of this rank and {bad.size - 1} "
                f"more like it; {ORDER}"
            )
    return None


def _inside_out(kind: CellKind, coordinates: Block) -> Block:
    """Return which cells have no extent, or other sides out at other places."""
    wedges = _wedges(_jacobians(kind.looked_at, coordinates))
    middle = wedges.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.einsum("epi,ei->ep", wedges, middle) / np.linalg.norm(middle, axis=1)[:, None]
    extents = np.linalg.norm(np.ptp(coordinates, axis=1), axis=1)
    # Neither side need be the upper one: mirrored cells have the same integrals.
    return ~(sizes.min(axis=1) > FLAT * extents ** kind.slopes.shape[2])

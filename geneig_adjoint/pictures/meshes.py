"""The mesh of a result: cells with corners, what is flat, triangles and edges to draw."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from geneig_adjoint._types import Block

# meshio's names of cells: (dimension, corners); nodes beyond the corners are not drawn.
CELLS = {
    "line": (1, 2),
    "triangle": (2, 3),
    "quad": (2, 4),
    "tetra": (3, 4),
    "hexahedron": (3, 8),
    "wedge": (3, 6),
    "pyramid": (3, 5),
}


@dataclass(frozen=True)
class Cells:
    """Cells of one kind: their corners, and the number of the first in fields by cell."""

    kind: str
    corners: Block
    first: int

    @property
    def dimension(self) -> int:
        """1: lines, 2: faces, 3: bodies."""
        return CELLS[self.kind][0]


@dataclass(frozen=True)
class Shape:
    """A mesh with the modes of a result.

    Attributes
    ----------
    points : ndarray
        (n_points, 3).
    cells : tuple of Cells
        Those of the highest dimension; boundaries are left out.
    cell_count : int
        Cells in the file, which fields by cell count.
    modes : dict
        Number of the pair -> (n_points, components), or (cell_count, components), real or
        complex.
    modes_by_cell : bool
        Whether modes have numbers of cells.
    run : str
        The run that has written it; empty where the file does not say.

    """

    points: Block
    cells: tuple[Cells, ...]
    cell_count: int
    modes: dict[int, Block] = field(default_factory=dict)
    run: str = ""
    modes_by_cell: bool = False

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """Axes along which the mesh extends."""
        used = self.points[np.unique(np.concatenate([c.corners.ravel() for c in self.cells]))]
        extents = np.ptp(used, axis=0)
        return tuple(int(i) for i in np.flatnonzero(extents > 1e-9 * max(extents.max(), 1e-300)))

    @property
    def dimension(self) -> int:
        """Of its cells."""
        return self.cells[0].dimension

    @property
    def kind(self) -> str:
        """Name the way to draw it: "line", "frame" (lines in a plane), "plane" or "solid"."""
        if len(self.axes) <= 1:
            return "line"
        if len(self.axes) == 3 or self.dimension == 3:
            return "solid"
        return "frame" if self.dimension == 1 else "plane"

    @property
    def flat(self) -> Block:
        """Points in the plane (n_points, 2)."""
        return self.points[:, list(self.axes[:2])]

    @property
    def size(self) -> float:
        """Largest extent."""
        return float(np.ptp(self.points, axis=0).max())

    @property
    def aspect(self) -> float:
        """Height over width in the plane."""
        width, height = np.ptp(self.flat, axis=0)
        return float(height / width)

    @cached_property
    def triangles(self) -> Block:
        """Triangles of flat cells (m, 3); a quadrilateral makes two."""
        parts = [
            cells.corners[:, [0, i, i + 1]]
            for cells in self.cells
            for i in range(1, cells.corners.shape[1] - 1)
        ]
        return np.concatenate(parts)

    @cached_property
    def edges(self) -> Block:
        """Edges of flat cells and lines (m, 2), each once, and how many cells share each."""
        sides = []
        for cells in self.cells:
            count = cells.corners.shape[1]
            last = count if count > 2 else 1
            sides += [cells.corners[:, [i, (i + 1) % count]] for i in range(last)]
        found, shared = np.unique(
            np.sort(np.concatenate(sides), axis=1), axis=0, return_counts=True
        )
        return np.column_stack([found, shared])

    @property
    def centres(self) -> Block:
        """Means of the corners of the cells that are drawn (m, 3)."""
        return np.concatenate([self.points[cells.corners].mean(axis=1) for cells in self.cells])

    def drawn(self, values: Block) -> Block:
        """Return those rows of a field by cell whose cells are drawn (m, ...)."""
        kept = [np.arange(len(cells.corners)) + cells.first for cells in self.cells]
        return np.asarray(values[np.concatenate(kept)])

    @property
    def outline(self) -> list[Block]:
        """Lines of points along the edges of one cell only: drawn edge by edge they look dashed."""
        return chained(self.edges[self.edges[:, 2] == 1, :2])


def chained(edges: Block) -> list[Block]:
    """Return edges (m, 2) end to end, as few lines of point numbers."""
    beside: dict[int, list[tuple[int, int]]] = {}
    for number, (first, last) in enumerate(edges.tolist()):
        beside.setdefault(first, []).append((number, last))
        beside.setdefault(last, []).append((number, first))
    # Lines that are open have to begin at an end.
    ends = [point for point, edge in beside.items() if len(edge) % 2]
    used: set[int] = set()
    lines = []
    for start in [*ends, *beside]:
        line = [start]
        while free := [step for step in beside[line[-1]] if step[0] not in used]:
            used.add(free[0][0])
            line.append(free[0][1])
        if len(line) > 1:
            lines.append(np.array(line))
    return lines


def read_shape(path: Path) -> tuple[Shape | None, str]:
    """Return the mesh of a VTU file, and a note where there is none to draw."""
    try:
        import meshio
    except ImportError:
        return None, f"{path.name} needs meshio, not installed: pip install 'geneig-adjoint[mesh]'"
    nothing = f"{path.name} has no lines, faces or bodies to draw"
    with path.open("rb") as stream:
        if b'NumberOfCells="0"' in stream.read(1000):  # meshio cannot read it then
            return None, nothing
    try:
        mesh = meshio.read(path)
    except SystemExit as error:  # meshio's way to refuse a file
        raise ValueError("not a file that meshio reads") from error
    cells, first = [], 0
    for block in mesh.cells:
        kind = re.sub(r"\d+$", "", block.type)
        if kind in CELLS:
            cells.append(Cells(kind, np.asarray(block.data)[:, : CELLS[kind][1]], first))
        first += len(block.data)
    if not cells:
        return None, nothing
    dimension = max(part.dimension for part in cells)
    points = np.zeros((len(mesh.points), 3))
    points[:, : mesh.points.shape[1]] = mesh.points
    kept = tuple(part for part in cells if part.dimension == dimension)
    run = "".join(f"{int(number):016x}" for number in np.ravel(mesh.field_data.get("run", [])))
    at_points = _modes(mesh.point_data)
    in_cells = _modes({name: np.concatenate(parts) for name, parts in mesh.cell_data.items()})
    by_cell = bool(in_cells) and not at_points
    return Shape(points, kept, first, at_points or in_cells, run, by_cell), ""


def _modes(fields: dict[str, Block]) -> dict[int, Block]:
    found: dict[int, Block] = {}
    for name, values in fields.items():
        match = re.fullmatch(r"mode_(\d+)(_re|_im)?", name)
        if match is None:
            continue
        columns = np.asarray(values, dtype=float).reshape(len(values), -1)
        number = int(match[1])
        part = 1j * columns if match[2] == "_im" else columns
        found[number] = found[number] + part if number in found else part
    return {number: found[number] for number in sorted(found)}

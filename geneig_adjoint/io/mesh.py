"""A mesh to show fields on, and where on it the unknowns live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError

CELL_TYPES = {
    "vertex": (1, 1),
    "line": (3, 2),
    "triangle": (5, 3),
    "quad": (9, 4),
    "tetra": (10, 4),
    "hexahedron": (12, 8),
    "wedge": (13, 6),
    "pyramid": (14, 5),
    "line3": (21, 3),
    "triangle6": (22, 6),
    "quad8": (23, 8),
    "tetra10": (24, 10),
    "hexahedron20": (25, 20),
    "wedge15": (26, 15),
    "pyramid13": (27, 13),
    "quad9": (28, 9),
    "hexahedron27": (29, 27),
    "quad6": (30, 6),
    "wedge12": (31, 12),
    "wedge18": (32, 18),
    "hexahedron24": (33, 24),
    "triangle7": (34, 7),
}
"""meshio's name of a cell type -> VTK's number, points of a cell."""


@dataclass(frozen=True)
class Mesh:
    """Points and cells, and which dofs belong to which of them; only rank 0 needs one.

    Unknowns live at points (``dofs``) or in cells (``cell_dofs``: finite volumes), and modes are
    shown there.

    Parameters
    ----------
    points
        Coordinates (n_points, 3).
    cells
        (meshio cell type, point numbers (n_cells, points per cell)), in the order of
        per-cell parameters.
    dofs
        Global row of every component of every point (n_points, d), -1: constrained;
        d = 0 if unknowns do not belong to points.
    cell_dofs
        Global row of every unknown of every cell (n_cells, d), cells in their order, -1: a cell
        without it; None if unknowns do not belong to cells.

    """

    points: Block
    cells: Sequence[tuple[str, Block]]
    dofs: Block
    cell_dofs: Block | None = None

    @property
    def shows_modes(self) -> bool:
        """Whether the mesh knows where unknowns live."""
        return self.cell_dofs is not None or self.dofs.shape[1] > 0

    @property
    def cell_count(self) -> int:
        """Number of cells of all types."""
        return sum(len(numbers) for _, numbers in self.cells)

    def error(self, n: int) -> InputError | None:
        """Return what is wrong with the mesh of a model with n rows.  (Not collective.)"""
        count = len(self.points)
        if np.shape(self.points) != (count, 3) or np.shape(self.dofs)[:-1] != (count,):
            return InputError(
                f"a mesh must have points (n_points, 3) and dofs (n_points, d), got "
                f"{np.shape(self.points)} and {np.shape(self.dofs)}; give one row per point"
            )
        wrong = self._cell_dofs_error()
        if wrong is not None:
            return wrong
        for kind, cells in self.cells:
            known = CELL_TYPES.get(kind)
            if known is None or np.shape(cells)[1:] != known[1:]:
                return InputError(
                    f"cells of a mesh must have a type of {', '.join(CELL_TYPES)} and its number "
                    f"of points, got {kind!r} of shape {np.shape(cells)}; use meshio's names"
                )
        if not np.isfinite(self.points).all():
            bad = int(np.argmin(np.isfinite(self.points).all(axis=1)))
            return InputError(
                f"the points of a mesh must be finite, got {self.points[bad]} at point {bad}; "
                "correct it"
            )
        numbers = [("dofs", self.dofs, -1, n), *((kind, c, 0, count) for kind, c in self.cells)]
        numbers += [] if self.cell_dofs is None else [("cell_dofs", self.cell_dofs, -1, n)]
        for what, array, low, limit in numbers:
            if np.size(array) and not low <= np.min(array) <= np.max(array) < limit:
                return InputError(
                    f"the {what} of a mesh must lie in {low} ... {limit - 1}, got "
                    f"{np.min(array)} ... {np.max(array)}; count from 0"
                )
        return None

    def _cell_dofs_error(self) -> InputError | None:
        if self.cell_dofs is None:
            return None
        shape = np.shape(self.cell_dofs)
        if len(shape) != 2 or shape[0] != self.cell_count or not shape[1]:
            return InputError(
                f"cell_dofs of a mesh must have shape ({self.cell_count}, d), one row per cell, "
                f"got {shape}; leave them out if unknowns do not belong to cells"
            )
        if np.shape(self.dofs)[1]:
            return InputError(
                "a mesh must have its unknowns at points or in cells, got dofs and cell_dofs; "
                "leave one out (dofs of shape (n_points, 0)), the other is drawn"
            )
        return None

    def cell_field(self, vector: Block) -> Block:
        """Return a global vector (n,) as (n_cells, d), zero where a cell has no such unknown."""
        assert self.cell_dofs is not None
        return np.asarray(np.append(vector, 0.0)[self.cell_dofs])

    def point_field(self, vector: Block) -> Block:
        """Return a global vector (n,) as (n_points, d), zero at constrained dofs."""
        extended = np.append(vector, 0.0)
        return np.asarray(extended[self.dofs])

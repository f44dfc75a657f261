"""A mesh to show fields on, and VTU files for ParaView."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError, MissingPackageError
from geneig_adjoint.io.results import atomic_path


@dataclass(frozen=True)
class Mesh:
    """Points and cells, and which dof moves which point; the same on every rank.

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

    """

    points: Block
    cells: Sequence[tuple[str, Block]]
    dofs: Block

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
        numbers = [("dofs", self.dofs, -1, n), *((kind, c, 0, count) for kind, c in self.cells)]
        for what, array, low, limit in numbers:
            if np.size(array) and not low <= np.min(array) <= np.max(array) < limit:
                return InputError(
                    f"the {what} of a mesh must lie in {low} ... {limit - 1}, got "
                    f"{np.min(array)} ... {np.max(array)}; count from 0"
                )
        return None

    def point_field(self, vector: Block) -> Block:
        """Return a global vector (n,) as (n_points, d), zero at constrained dofs."""
        extended = np.append(vector, 0.0)
        return np.asarray(extended[self.dofs])


def write_vtu(
    path: Path,
    mesh: Mesh,
    *,
    point_data: Mapping[str, Block] | None = None,
    cell_data: Mapping[str, Block] | None = None,
) -> None:
    """Write fields as a VTU file that ParaView opens.

    Not collective: call it on one rank.

    Parameters
    ----------
    path
        File to write (atomically).
    mesh
        The mesh.
    point_data
        Name -> (n_points, ...); complex fields are split into ``_re`` and ``_im``.
    cell_data
        Name -> (n_cells,), in the order of the mesh's cells.

    Raises
    ------
    MissingPackageError
        When meshio is not installed.
    InputError
        When a cell field has the wrong length.

    """
    try:
        import meshio
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "writing VTU needs meshio, which is not installed; pip install 'geneig-adjoint[mesh]'",
            name="meshio",
        ) from error
    sections = np.cumsum([len(numbers) for _, numbers in mesh.cells])[:-1]
    cells: dict[str, Any] = {}
    for name, values in (cell_data or {}).items():
        if len(values) != mesh.cell_count:
            raise InputError(
                f"cell field {name!r} must have {mesh.cell_count} entries, got {len(values)}; "
                "give one value per cell"
            )
        cells[name] = np.split(np.asarray(values), sections)
    content = meshio.Mesh(
        mesh.points, list(mesh.cells), point_data=_split(point_data or {}), cell_data=cells
    )
    with atomic_path(path) as temporary:
        content.write(temporary, file_format="vtu")


def _split(fields: Mapping[str, Block]) -> dict[str, Block]:
    result: dict[str, Block] = {}
    for name, values in fields.items():
        if np.iscomplexobj(values):
            result[f"{name}_re"], result[f"{name}_im"] = values.real, values.imag
        else:
            result[name] = values
    return result

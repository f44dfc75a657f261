"""``python -m geneig_adjoint.pictures.renderer FOLDER``: render FOLDER/job.npz to images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint.io.mesh import CELL_TYPES
from geneig_adjoint.pictures.style import AMPLITUDE, MISSING, SIGNED

VIEW = (1.0, -1.35, 0.85)
WINDOW = (1000, 800)
FEW_CELLS = 6000


def main(folder: Path) -> int:
    """Render every scene of a job."""
    import pyvista as pv

    pv.vtk_verbosity("off")
    with np.load(folder / "job.npz") as job:
        names = sorted((n for n in job.files if n.startswith("cells_")), key=_place)
        cells = {CELL_TYPES[name.split("_")[2]][0]: job[name] for name in names}
        for number in range(int(job["count"])):
            moved = f"motion_{number}"
            points = job["points"] + (job[moved] if moved in job.files else 0.0)
            body = pv.UnstructuredGrid(cells, np.asarray(points, dtype=float))
            at_rest = None
            if moved in job.files:
                at_rest = pv.UnstructuredGrid(cells, np.asarray(job["points"], dtype=float))
            data = body.cell_data if job[f"by_cell_{number}"] else body.point_data
            field = job[f"field_{number}"]
            data["field"] = np.where(np.isfinite(field), field, np.nan)
            made = _scene(pv, (body, at_rest), job[f"limits_{number}"])
            made.screenshot(folder / f"{number}.png")
    return 0


def _place(name: str) -> int:
    return int(name.split("_")[1])


def _scene(pv: Any, bodies: tuple[Any, Any], limits: Any) -> Any:
    body, at_rest = bodies
    thin = body.n_cells and body.get_cell(0).dimension == 1
    surface = body if thin else body.extract_surface()
    plotter = pv.Plotter(off_screen=True, window_size=WINDOW)
    plotter.set_background("white")
    plotter.add_mesh(
        surface,
        scalars="field",
        clim=tuple(limits),
        cmap=SIGNED if limits[0] < 0 else AMPLITUDE,
        nan_color=MISSING,
        show_scalar_bar=False,
        show_edges=not thin and surface.n_cells <= FEW_CELLS,
        edge_color="#404040",
        line_width=5 if thin else 0.5,
        smooth_shading=False,
        ambient=0.5,
        diffuse=0.55,
        specular=0.0,
    )
    if at_rest is not None:
        edges = at_rest if thin else at_rest.extract_surface().extract_feature_edges(30)
        if edges.n_cells:
            plotter.add_mesh(edges, color="#9a9a9a", line_width=1.2, lighting=False)
    plotter.enable_anti_aliasing("ssaa")
    plotter.enable_parallel_projection()
    plotter.view_vector(VIEW, (0.0, 0.0, 1.0))
    return plotter


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Draw the sensitivity of the first frequency and three mode shapes.

    python plot.py OUTDIR [MESH]

Reads OUTDIR/result.h5 and the mesh, writes OUTDIR/sensitivity_f1.png and OUTDIR/modes.png.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from model import MESH, Floats, Integers, Part, load_part
from render import render

FRONT, BACK = (1.0, 0.75, 0.55), (-0.9, -0.85, 0.5)
LARGEST_MOTION = 0.014  # metres in the picture
# Faces of a tetrahedron, seen from outside, and the nodes between their corners 01, 12, 20.
CORNERS = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
MIDSIDES = np.array([[6, 5, 4], [4, 8, 7], [5, 9, 8], [7, 9, 6]])


def main(directory: Path, mesh: str) -> None:
    part = load_part(mesh)
    faces = boundary_faces(part.cells)
    with h5py.File(directory / "result.h5") as result:
        frequencies = np.sqrt(result["values"][:].real) / (2 * np.pi)
        modes = result["right"][:, :3].real
        gradient = result["gradients/f1/density"][:]
    figures = {
        "sensitivity_f1.png": draw_sensitivity(part, faces, gradient, frequencies[0]),
        "modes.png": draw_modes(part, faces, modes, frequencies),
    }
    for name, figure in figures.items():
        figure.savefig(directory / name, dpi=150)


def draw_sensitivity(part: Part, faces: Integers, gradient: Floats, frequency: float) -> Figure:
    """Draw the gradient per volume, which does not depend on the sizes of the elements."""
    field = smooth_density(part, gradient)
    low, high = np.percentile(field[np.unique(faces)], [0.1, 99.2])
    colours = ScalarMappable(TwoSlopeNorm(0.0, min(low, -1e-9), max(high, 1e-9)), "RdBu_r")
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, view in zip(axes, (FRONT, BACK), strict=True):
        show(axis, render(part.points, faces, field, colours=colours, view=view, size=900))
    bar = figure.colorbar(colours, ax=axes, shrink=0.8, extend="both", pad=0.01)
    bar.set_label("d f1 / d density per volume  (Hz per unit density, per cm³)")
    title = "Where material raises (red) or lowers (blue) the first frequency"
    figure.suptitle(f"{title}, f1 = {frequency:.1f} Hz", fontsize=14)
    return figure


def draw_modes(part: Part, faces: Integers, modes: Floats, frequencies: Floats) -> Figure:
    """Draw the first three modes, bent and coloured by the length of the displacement."""
    colours = ScalarMappable(Normalize(0, 1), "GnBu")
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots(1, 3)
    for number, axis in enumerate(axes):
        motion = np.where(part.dofs >= 0, modes[part.dofs, number], 0.0)
        length = np.linalg.norm(motion, axis=1)
        bent = part.points + LARGEST_MOTION * motion / length.max()
        field = length / length.max()
        show(axis, render(bent, faces, field, colours=colours, view=FRONT, size=600))
        axis.set_title(f"mode {number + 1}: {frequencies[number]:.1f} Hz", fontsize=14)
    bar = figure.colorbar(colours, ax=axes, shrink=0.8, pad=0.01)
    bar.set_label("displacement / largest displacement")
    return figure


def show(axis: Axes, picture: Floats) -> None:
    axis.imshow(picture, interpolation="lanczos")
    axis.axis("off")


def boundary_faces(cells: Integers) -> Integers:
    """Return the nodes (faces, 6) of the faces that belong to one cell only."""
    nodes = cells[:, np.hstack([CORNERS, MIDSIDES])].reshape(-1, 6)
    corners = np.sort(nodes[:, :3], axis=1)
    _, first, count = np.unique(corners, axis=0, return_index=True, return_counts=True)
    return nodes[first[count == 1]]


def smooth_density(part: Part, per_cell: Floats) -> Floats:
    """Return the gradient per cubic centimetre at the nodes, averaged over two rings of cells."""
    a, b, c, d = part.points[part.cells[:, :4]].swapaxes(0, 1)
    volumes = np.abs(np.einsum("ei,ei->e", np.cross(b - a, c - a), d - a)) / 6 * 1e6
    field = nodal_mean(part, per_cell / volumes, volumes)
    return nodal_mean(part, field[part.cells].mean(axis=1), volumes)


def nodal_mean(part: Part, per_cell: Floats, weights: Floats) -> Floats:
    nodes = part.cells.ravel()
    sums = [np.bincount(nodes, np.repeat(values, 10)) for values in (per_cell * weights, weights)]
    return sums[0] / sums[1]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(sys.argv[2:] or [MESH]))

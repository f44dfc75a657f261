"""Draw flux, adjoint flux and sensitivities of a run of this example, and print them by material.

    python plot.py out

A sensitivity is the change of k in pcm when a cross section grows by one percent, to first order:
1e5 * 0.01 * Sigma * dk/dSigma. One pcm is 1e-5 of k itself; divide by k^2 for reactivity.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
from matplotlib import colors
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from model import (
    ASSEMBLY_WIDTH,
    CORE,
    CORE_WIDTH,
    LITERATURE_K,
    MATERIALS,
    Geometry,
    cross_sections,
    geometry,
)

PCM_PER_PERCENT = 1e5 * 0.01
DARK = "#2b2b2b"
SMALLEST_WRITTEN = 0.005  # pcm


@dataclass(frozen=True)
class Result:
    """What a run left behind, put on the cells.

    Parameters
    ----------
    core
        The geometry of the run, found from the number of unknowns.
    k
        Multiplication factor.
    flux, adjoint
        Fast and thermal flux and their adjoints, shape (n_cells, 2); the largest entry of each
        array is 1.
    sensitivities
        Change of k in pcm per percent of every cross section, one entry per cell or material.

    """

    core: Geometry
    k: float
    flux: np.ndarray
    adjoint: np.ndarray
    sensitivities: Mapping[str, np.ndarray]


def read_result(directory: Path) -> Result:
    """Read ``result.json`` and ``result.h5`` of a run whose objective ``keff`` is k."""
    summary = json.loads((directory / "result.json").read_text())
    with h5py.File(directory / "result.h5") as file:
        flux, adjoint = (largest_is_one(file[side][:, 0]) for side in ("right", "left"))
        gradient = {name: values[:] for name, values in file["gradients/keff"].items()}
    core = geometry_of_cells(len(flux))
    by_cell = len(next(iter(gradient.values()))) == core.n_cells
    values = cross_sections(core, "cell" if by_cell else "material")
    sensitivities = {name: PCM_PER_PERCENT * values[name] * gradient[name] for name in values}
    return Result(core, summary["objectives"]["keff"], flux, adjoint, sensitivities)


def geometry_of_cells(n_cells: int) -> Geometry:
    """Geometry with this many cells."""
    coarse = geometry(0.5 * ASSEMBLY_WIDTH)
    return geometry(coarse.cell_size / round((n_cells / coarse.n_cells) ** 0.5))


def largest_is_one(vector: np.ndarray) -> np.ndarray:
    """Fast and thermal values of every cell, scaled; the fundamental mode has one sign."""
    groups = np.real(vector).reshape(-1, 2)
    return groups / groups.flat[np.argmax(abs(groups))]


def by_material(result: Result, name: str) -> np.ndarray:
    """Sensitivities to a cross section changed in all cells of a material."""
    ids = np.arange(len(MATERIALS))
    values = result.sensitivities[name]
    return np.bincount(
        result.core.material if len(values) == result.core.n_cells else ids, values, len(MATERIALS)
    )


def print_table(result: Result) -> None:
    """Print k and its sensitivities by material."""
    difference = 1e5 * (result.k - LITERATURE_K)
    print(f"k = {result.k:.6f} ({difference:+.1f} pcm from the literature's {LITERATURE_K})")
    print("change of k in pcm when a cross section grows by one percent:")
    print(f"{'':6}" + "".join(f"{name:>15}" for name in (*MATERIALS, "everywhere")))
    for name in result.sensitivities:
        row = by_material(result, name)
        print(f"{name:6}" + "".join(f"{value:15.3f}" for value in (*row, row.sum())))


def on_grid(core: Geometry, values: np.ndarray) -> np.ndarray:
    """Image of cell values; outside the core it is empty."""
    n_side = round(CORE_WIDTH / core.cell_size)
    image = np.full((n_side, n_side), np.nan)
    image[tuple(core.position.T)] = values
    return image


def assembly_edges() -> np.ndarray:
    """Lines between assemblies: the first one is half as wide."""
    return np.concatenate([[0.0], np.arange(0.5, len(CORE)) * ASSEMBLY_WIDTH])


def draw_outlines(axes: Axes, color: str) -> None:
    """Draw every assembly thinly and the edge of the fuel thickly."""
    edges, fuel = assembly_edges(), "123"
    rows = [row.ljust(len(CORE) + 1, ".") for row in (*CORE, "." * len(CORE))]
    for row, column in np.argwhere(np.array([list(line) for line in CORE]) != "."):
        x, y = edges[column : column + 2], edges[row : row + 2]
        axes.plot(x[[0, 1, 1, 0, 0]], y[[0, 0, 1, 1, 0]], color=color, linewidth=0.4, alpha=0.6)
        is_fuel = rows[row][column] in fuel
        if is_fuel and rows[row + 1][column] not in fuel:
            axes.plot(x, y[[1, 1]], color=color, linewidth=1.8)
        if is_fuel and rows[row][column + 1] not in fuel:
            axes.plot(x[[1, 1]], y, color=color, linewidth=1.8)


def draw_map(
    axes: Axes, core: Geometry, values: np.ndarray, *, title: str, outline: str, **style: object
) -> None:
    """Draw one map of cell values with its colour bar."""
    extent = (0, CORE_WIDTH, 0, CORE_WIDTH)
    image = axes.imshow(
        on_grid(core, values), origin="lower", extent=extent, interpolation="nearest", **style
    )
    draw_outlines(axes, outline)
    axes.set_title(title, fontsize=11, loc="left")
    ticks = range(0, 171, 40)
    axes.set(xlim=(-1, CORE_WIDTH + 1), ylim=(-1, CORE_WIDTH + 1), xticks=ticks, yticks=ticks)
    axes.spines[["top", "right"]].set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=8)


def mark_rods(axes: Axes) -> None:
    """Put a dot into every assembly with control rods."""
    edges = assembly_edges()
    middle = 0.5 * (edges[1:] + edges[:-1])
    row, column = np.argwhere(np.array([list(line) for line in CORE]) == "3").T
    axes.plot(
        middle[column],
        middle[row],
        "o",
        color="white",
        markersize=4,
        markeredgecolor=DARK,
        label="control rods",
    )


def write_sums(axes: Axes, core: Geometry, values: np.ndarray, dark_above: float) -> None:
    """Write each assembly's sum into its middle, white where |mean| is above ``dark_above``."""
    edges = assembly_edges()
    middle = 0.5 * (edges[1:] + edges[:-1])
    for row, column in np.argwhere(np.array([list(line) for line in CORE]) != "."):
        members = values[(core.assembly == (row, column)).all(axis=1)]
        total, is_dark = members.sum(), abs(members).mean() > dark_above
        if abs(total) >= SMALLEST_WRITTEN:
            text = f"{total:.1f}" if abs(total) >= 1.0 else f"{total:.2f}"
            place = {"ha": "center", "va": "center", "rotation": 90 if column == 0 else 0}
            axes.text(
                middle[column],
                middle[row],
                text,
                color="white" if is_dark else DARK,
                fontsize=7,
                **place,
            )


def draw_fluxes(axes: np.ndarray, result: Result) -> None:
    """Draw flux in the first row and adjoint flux in the second, fast left and thermal right."""
    rows = (("flux", result.flux, "inferno"), ("adjoint flux", result.adjoint, "viridis"))
    for row, (label, values, colormap) in zip(axes, rows, strict=True):
        for group, name in enumerate(("Fast", "Thermal")):
            style = {"cmap": colormap, "vmin": 0.0, "outline": "white"}
            draw_map(row[group], result.core, values[:, group], title=f"{name} {label}", **style)
            mark_rods(row[group])
    axes[0, 0].legend(loc="upper right", frameon=False)


def draw_cells(axes: np.ndarray, result: Result) -> None:
    """Draw what one percent more absorption, or fission, in one cell does to k, on one scale."""
    maps = {"Sa2": "thermal absorption Sa2", "nuSf2": "fission nuSf2"}
    limit = max(abs(result.sensitivities[name]).max() for name in maps)
    for panel, (name, what) in zip(axes, maps.items(), strict=True):
        title = f"Change of k in pcm, 1 % more {what}\nin a cell (colour), in an assembly (number)"
        style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "outline": DARK}
        draw_map(panel, result.core, result.sensitivities[name], title=title, **style)
        write_sums(panel, result.core, result.sensitivities[name], dark_above=0.6 * limit)


def draw_materials(axes: Axes, result: Result) -> None:
    """Draw the table of sensitivities by material, coloured on a logarithmic scale."""
    table = np.stack([by_material(result, name) for name in result.sensitivities])
    limit = abs(table).max()
    norm = colors.SymLogNorm(1.0, vmin=-limit, vmax=limit)
    axes.imshow(table, norm=norm, cmap="RdBu_r", aspect="auto")
    for row, column in np.ndindex(table.shape):
        color = "white" if abs(table[row, column]) > 0.04 * limit else DARK
        axes.text(column, row, f"{table[row, column]:.2f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(MATERIALS)), [name.replace(" ", "\n", 1) for name in MATERIALS])
    axes.set_yticks(range(len(table)), list(result.sensitivities))
    axes.tick_params(length=0)
    axes.set_title(
        "Change of k in pcm by 1 % more of\na cross section in all of a material",
        fontsize=11,
        loc="left",
    )


def draw(result: Result, path: Path) -> None:
    """Draw the figure and save it."""
    mpl.rcParams.update({"font.size": 9, "axes.linewidth": 0.6})
    figure, axes = plt.subplots(2, 3, figsize=(15.5, 9.4), layout="constrained")
    draw_fluxes(axes[:, :2], result)
    if len(result.sensitivities["Sa2"]) == result.core.n_cells:
        draw_cells(axes[:, 2], result)
    else:
        grid = axes[0, 2].get_gridspec()
        for panel in axes[:, 2]:
            panel.remove()
        draw_materials(figure.add_subplot(grid[:, 2]), result)
    for panel in axes[:, 0]:
        panel.set_ylabel("cm from the centre of the core")
    difference = 1e5 * (result.k - LITERATURE_K)
    figure.suptitle(
        f"IAEA 2D PWR benchmark, quarter core, cells of {result.core.cell_size:g} cm:   "
        f"k = {result.k:.5f}  ({difference:+.1f} pcm from literature)",
        fontsize=14,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Read a run's directory, print the table, draw the picture."""
    parser = argparse.ArgumentParser(
        description="Table and picture of a run of the reactor example."
    )
    parser.add_argument("directory", type=Path, help="output directory of the run")
    directory = parser.parse_args().directory
    result = read_result(directory)
    print_table(result)
    draw(result, directory / "iaea2d.png")
    print(f"picture: {directory / 'iaea2d.png'}")


if __name__ == "__main__":
    mpl.use("agg")
    main()

"""Fields on flat meshes, drawn into axes: contours, deformed shapes, coloured cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.pictures.meshes import Shape
from geneig_adjoint.pictures.style import (
    AMPLITUDE,
    COLOURS,
    GREY,
    SIGNED,
    mark_missing,
    signed_colours,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_CELLS = 1500
"""Up to here the edges of cells are drawn."""
MOTION = 0.12
"""Largest displacement in a picture, in extents of the mesh."""
LEVELS = 20
CLIPPED = 99.0
"""Per cent of the entries that keep their colour where a few others are far larger."""


def curves(axes: Axes, shape: Shape, mode: Block) -> None:
    """Draw a mode on a line: one curve per component, real part solid, modulus dashed."""
    points = shape.centres if shape.modes_by_cell else shape.points
    where = points[:, shape.axes[0]] if shape.axes else np.arange(len(points))
    if shape.modes_by_cell:
        mode, used = shape.drawn(mode), np.arange(len(points))
    else:
        used = np.unique(np.concatenate([cells.corners.ravel() for cells in shape.cells]))
    order = used[np.argsort(where[used], kind="stable")]
    lines(axes, where[order], mode[order], label="xyz"[shape.axes[0]] if shape.axes else "point")


def lines(axes: Axes, where: Block, mode: Block, *, label: str) -> None:
    """Draw components over a coordinate, scaled to a largest modulus of 1."""
    scaled = mode / max(float(np.abs(mode).max(initial=0.0)), 1e-300)
    marker = "." if len(where) <= 40 else ""
    several = scaled.shape[1] > 1
    for number, part in enumerate(scaled.T):
        colour = COLOURS[number % len(COLOURS)]
        name = f"component {number}" if several else "real part"
        axes.plot(where, part.real, marker=marker, color=colour, linewidth=1.4, label=name)
        if np.iscomplexobj(part):
            axes.plot(where, np.abs(part), "--", color=colour, linewidth=1.0, label="modulus")
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=0)
    axes.set_ylim(-1.1, 1.1)
    axes.set_xlabel(label)
    if several or np.iscomplexobj(mode):
        axes.legend(fontsize=7, loc="best")


def contours(axes: Axes, shape: Shape, values: Block) -> None:
    """Draw a scalar field as filled contours, scaled to a largest modulus of 1."""
    scaled = values / max(float(np.abs(values).max(initial=0.0)), 1e-300)
    signed = has_both_signs(scaled)
    field = scaled if signed else np.abs(scaled)
    x, y = shape.flat.T
    levels = np.linspace(-1.0 if signed else 0.0, 1.0, LEVELS + 1)
    colours = SIGNED if signed else AMPLITUDE
    filled = axes.tricontourf(x, y, shape.triangles, field, levels=levels, cmap=colours)
    filled.set_rasterized(True)
    axes.tricontour(
        x, y, shape.triangles, field, levels=levels[1:-1:2], colors="black", linewidths=0.25,
        linestyles="solid", alpha=0.5,
    )  # fmt: skip
    _outline(axes, shape)
    _colour_bar(axes, filled, ticks=[-1, 0, 1] if signed else [0, 0.5, 1])
    finish(axes)


def has_both_signs(scaled: Block) -> bool:
    """Whether a field with a largest modulus of 1 has both signs, beyond a little noise."""
    return bool(scaled.min(initial=0.0) < -0.02 and scaled.max(initial=0.0) > 0.02)


def deformed(axes: Axes, shape: Shape, mode: Block) -> None:
    """Draw the deformed mesh, coloured by the amplitude; the mesh at rest in grey.

    ``mode``: (n_points, 2), the components in the plane of the mesh.
    """
    from matplotlib.collections import LineCollection

    length = np.linalg.norm(mode, axis=1)
    largest = max(float(length.max(initial=0.0)), 1e-300)
    moved = shape.flat + MOTION * shape.size / largest * mode.real
    edges = shape.edges
    if shape.kind == "frame":
        _rest(axes, shape.flat, list(edges[:, :2]))
        ends = moved[edges[:, :2]]
        amplitude = length[edges[:, :2]].mean(axis=1) / largest
        drawn = LineCollection(list(ends), cmap=AMPLITUDE, linewidth=2.2, capstyle="round")
        drawn.set_array(amplitude)
        drawn.set_clim(0, 1)
        axes.add_collection(drawn)
    else:
        _rest(axes, shape.flat, shape.outline)
        drawn = axes.tripcolor(
            *moved.T, shape.triangles, length / largest, shading="gouraud", cmap=AMPLITUDE,
            vmin=0, vmax=1, rasterized=True,
        )  # fmt: skip
        many = shape.cell_count > FEW_CELLS
        own = shape.outline if many else list(edges[:, :2])
        lines = [moved[line] for line in own]
        axes.add_collection(LineCollection(lines, colors="black", linewidths=0.35))
    axes.autoscale_view()
    _colour_bar(axes, drawn, ticks=[0, 0.5, 1])
    finish(axes)


def coloured_cells(axes: Axes, shape: Shape, values: Block) -> None:
    """Draw one number per cell, with colours centred at zero."""
    limit, clipped = colour_limit(values)
    drawn = _cells(axes, shape, finite(values), (-limit, limit), signed_colours())
    _colour_bar(axes, drawn, extend="both" if clipped else "neither")
    finish(axes)
    mark_missing(axes, values)


def cells_of_a_mode(axes: Axes, shape: Shape, values: Block) -> None:
    """Draw one number per cell of a mode, scaled already: sizes where there is but one sign."""
    limits = mode_limits(values)
    colours = SIGNED if limits[0] < 0 else AMPLITUDE
    drawn = _cells(axes, shape, shown_part(values), limits, colours)
    _colour_bar(axes, drawn)
    finish(axes)


def mode_limits(values: Block) -> tuple[float, float]:
    """Return the ends of the colours of a component of a mode."""
    limit = float(np.abs(values).max(initial=0.0)) or 1.0
    return (-limit if has_both_signs(values / limit) else 0.0), limit


def shown_part(values: Block) -> Block:
    """Return a component of a mode, without its sign where that says nothing."""
    return values if mode_limits(values)[0] < 0 else np.abs(values)


def _cells(
    axes: Axes, shape: Shape, values: Block, limits: tuple[float, float], colours: Any
) -> Any:
    """Draw one number per cell; return what has the colours."""
    from matplotlib.collections import LineCollection, PolyCollection

    collections = []
    for cells in shape.cells:
        own = values[cells.first : cells.first + len(cells.corners)]
        outlines = shape.flat[cells.corners]
        if cells.dimension == 1:
            drawn = LineCollection(list(outlines), linewidth=3.5, cmap=colours, capstyle="round")
        else:
            drawn = PolyCollection(list(outlines), cmap=colours, linewidth=0.2, rasterized=True)
            drawn.set_edgecolor("face")
        drawn.set_array(own)
        drawn.set_clim(*limits)
        axes.add_collection(drawn)
        collections.append(drawn)
    axes.autoscale_view()
    if shape.dimension == 2:
        _outline(axes, shape)
    return collections[0]


def coloured_points(axes: Axes, shape: Shape, values: Block) -> None:
    """Draw one number per point, with colours centred at zero."""
    limit, clipped = colour_limit(values)
    drawn = axes.tripcolor(
        *shape.flat.T, shape.triangles, finite(values), shading="gouraud", cmap=signed_colours(),
        vmin=-limit, vmax=limit, rasterized=True,
    )  # fmt: skip
    _outline(axes, shape)
    _colour_bar(axes, drawn, extend="both" if clipped else "neither")
    finish(axes)
    mark_missing(axes, values)


def finite(values: Block) -> Block:
    """Return values with NaN in place of infinite ones, which have no colour either."""
    return np.where(np.isfinite(values), values, np.nan)


def colour_limit(values: Block) -> tuple[float, bool]:
    """Return where the colours end, and whether a few entries lie far beyond."""
    sizes = np.abs(values[np.isfinite(values)])
    largest = float(sizes.max(initial=0.0))
    if largest == 0:
        return 1.0, False
    typical = float(np.percentile(sizes, CLIPPED))
    return (typical, True) if 0 < 3 * typical < largest else (largest, False)


def finish(axes: Axes) -> None:
    """Show lengths in both directions alike, without numbers."""
    axes.set_aspect("equal")
    axes.set_axis_off()


def _outline(axes: Axes, shape: Shape) -> None:
    from matplotlib.collections import LineCollection

    paths = [shape.flat[line] for line in shape.outline]
    # Not cut in two where the mesh ends with the axes.
    lines = LineCollection(
        paths, colors="black", linewidths=0.6, capstyle="projecting", clip_on=False
    )
    axes.add_collection(lines)


def _rest(axes: Axes, points: Block, lines: list[Block]) -> None:
    from matplotlib.collections import LineCollection

    at_rest = [points[line] for line in lines]
    axes.add_collection(LineCollection(at_rest, colors="#b5b5b5", linewidths=0.7, zorder=0))


def _colour_bar(axes: Axes, drawn: object, **options: object) -> None:
    made = axes.get_figure()
    assert made is not None
    bar = made.colorbar(drawn, ax=axes, shrink=0.72, pad=0.02, aspect=22, **options)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.ax.yaxis.get_offset_text().set_fontsize(7)

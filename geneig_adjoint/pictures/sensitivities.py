"""Gradients: on the cells or points of the mesh, else as bars or curves over the entries."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.pictures import fields
from geneig_adjoint.pictures.folders import Folder
from geneig_adjoint.pictures.meshes import Shape
from geneig_adjoint.pictures.solids import Scene, image_aspect, rendered, shown
from geneig_adjoint.pictures.style import (
    GREY,
    MISSING,
    Panel,
    Picture,
    filled,
    mark_missing,
    page,
    paged,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_ENTRIES = 40
"""Up to here entries are bars."""
BARS = 0.55
"""Height over width that bars and curves need."""


def sensitivities(results: Folder) -> list[Picture]:
    """Draw every gradient, objective by objective, `PANELS` on a page."""
    shape = results.shape
    named = [
        {f"d {objective} / d {name}": part for name, part in gradient.items()}
        for objective, gradient in results.gradients.items()
    ]
    every = {title: part for entries in named for title, part in entries.items()}
    panels, aspect = _solid_panels(results, every)
    for title, part in every.items():
        if title not in panels:
            panels[title] = _panel(shape, title, part)
    if shape is not None and shape.kind in {"plane", "frame"}:
        aspect = _aspect(shape, list(every.values()))
    drawn = {title: panel for title, panel in panels.items() if panel is not None}
    groups = [[drawn[title] for title in entries if title in drawn] for entries in named]
    title = f"{results.title}: sensitivities"
    return paged("sensitivities", [page(panels, title, aspect=aspect) for panels in filled(groups)])


def _aspect(shape: Shape, entries: list[Block]) -> float | None:
    """Return height over width of panels on a flat mesh, None where nothing is drawn on it."""
    on_mesh = [_by_cell(shape, part) or _by_point(shape, part) for part in entries]
    if not any(on_mesh):
        return None
    return shape.aspect if all(on_mesh) else max(shape.aspect, BARS)


def _by_point(shape: Shape, entries: Block) -> bool:
    return shape.kind == "plane" and len(entries) == len(shape.points)


def _by_cell(shape: Shape | None, entries: Block) -> bool:
    return shape is not None and len(entries) == shape.cell_count > 1


def _panel(shape: Shape | None, title: str, entries: Block) -> Panel:
    if shape is not None and _by_cell(shape, entries):
        draw = _over_cells if shape.kind == "line" else fields.coloured_cells
        return Panel(title, partial(draw, shape=shape, values=entries))
    if shape is not None and _by_point(shape, entries):
        return Panel(title, partial(fields.coloured_points, shape=shape, values=entries))
    return Panel(title, partial(_over_entries, entries=entries))


def _solid_panels(
    results: Folder, entries: dict[str, Block]
) -> tuple[dict[str, Panel | None], float | None]:
    """Return the panels of fields on bodies, None for those that cannot be rendered; aspect."""
    shape = results.shape
    if shape is None or shape.kind != "solid":
        return {}, None
    scenes = {}
    for title, part in entries.items():
        if _by_cell(shape, part):
            limit, clipped = fields.colour_limit(part)
            scenes[title] = Scene(part, (-limit, limit), clipped=clipped, by_cell=True)
    images, note = rendered(shape, list(scenes.values()))
    if note:
        results.notes.append(f"no {', no '.join(scenes)}: {note}")
        return dict.fromkeys(scenes), None
    panels: dict[str, Panel | None] = {
        title: Panel(title, partial(shown, image=image, scene=scene))
        for (title, scene), image in zip(scenes.items(), images, strict=True)
    }
    return panels, image_aspect(images)


def _over_cells(axes: Axes, shape: Shape, values: Block) -> None:
    """Draw steps over the cells of a line."""
    where = shape.points[:, shape.axes[0]] if shape.axes else np.arange(len(shape.points))
    for cells in shape.cells:
        ends = np.sort(where[cells.corners], axis=1)
        own = values[cells.first : cells.first + len(ends)]
        axes.bar(
            ends[:, 0], _heights(own), width=ends[:, 1] - ends[:, 0], align="edge",
            color=_signs(own), edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        _mark(axes, ends.mean(axis=1), own)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("xyz"[shape.axes[0]] if shape.axes else "cell")
    mark_missing(axes, values)


def _over_entries(axes: Axes, entries: Block) -> None:
    """Draw entries over their number: bars of a few, a curve of many."""
    flat = np.ravel(entries)
    numbers = np.arange(flat.size)
    if flat.size <= FEW_ENTRIES:
        axes.bar(numbers, _heights(flat), color=_signs(flat), width=0.8)
        whole_numbers(axes.xaxis)
        axes.set_xlim(-0.8, max(flat.size - 0.2, 0.8))
    else:
        axes.plot(numbers, flat, linewidth=0.8, rasterized=flat.size > 10_000)
        axes.margins(x=0.01)
    _mark(axes, numbers, flat)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("entry")
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_fontsize(7)
    mark_missing(axes, entries)


def _heights(values: Block) -> Block:
    """Return the heights of bars: none where a value is not finite, which NumPy 2.4 warns of."""
    return np.where(np.isfinite(values), values, 0.0)


def _mark(axes: Axes, where: Block, values: Block) -> None:
    """Mark the places of entries that are not finite on the axis."""
    places = where[~np.isfinite(values)]
    if places.size:
        axes.plot(
            places, np.zeros(places.size), "s", color=MISSING, markeredgecolor="black",
            markeredgewidth=0.5, markersize=5, zorder=3,
        )  # fmt: skip


def _signs(values: Block) -> list[str]:
    """Return red for what raises and blue for what lowers, as in the fields."""
    return ["#b2182b" if value > 0 else "#2166ac" for value in values]

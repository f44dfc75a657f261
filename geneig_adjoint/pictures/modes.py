"""Modes on their mesh: curves, deformed shapes, contours; bodies as `solids` renders them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.pictures import fields
from geneig_adjoint.pictures.folders import Folder
from geneig_adjoint.pictures.meshes import Shape
from geneig_adjoint.pictures.solids import Scene, image_aspect, rendered, shown
from geneig_adjoint.pictures.style import Panel, Picture, filled, number, page, paged


@dataclass
class Drawing:
    """Panels of the modes: those of one mode stay together.

    Attributes
    ----------
    groups : list of list of Panel
        One or two per mode; of modes in cells one or two per unknown.
    aspect : float or None
        Height over width of what panels show.
    left_out : int
        Modes beyond the limit.

    """

    groups: list[list[Panel]] = field(default_factory=list)
    aspect: float | None = None
    left_out: int = 0

    def pages(self, title: str) -> list[Picture]:
        """Return the pictures; none without modes."""
        if not self.groups:
            return []
        together = len(self.groups[0])
        columns = next((count for count in (3, 2) if together % count == 0), None)
        made = [
            page(panels, f"{title}: modes", aspect=self.aspect, columns=columns)
            for panels in filled(self.groups)
        ]
        return paged("modes", made)


def modes(results: Folder, limit: int) -> list[Picture]:
    """Draw up to ``limit`` modes; what is left out goes to the notes."""
    shape = results.shape
    if shape is not None and shape.modes:
        drawing = _on_mesh(results, shape, dict(islice(shape.modes.items(), limit)))
        drawing.left_out = max(len(shape.modes) - limit, 0)
    else:
        drawing = _over_rows(results, limit)
    if drawing.left_out:
        results.notes.append(
            f"{drawing.left_out} modes more: --modes {limit + drawing.left_out} draws them"
        )
    return drawing.pages(results.title)


def _heading(results: Folder, pair: int) -> str:
    known = pair < len(results.values)
    return f"mode {pair},  λ = {number(results.values[pair])}" if known else f"mode {pair}"


def _over_rows(results: Folder, limit: int) -> Drawing:
    right = results.right
    if right is None:
        if results.rows:
            results.notes.append(
                f"no modes: without a mesh that has modes, {results.rows} rows say little"
            )
        return Drawing()
    results.notes.append("modes over the number of the row: no mesh that has modes")
    rows = np.arange(len(right))
    drawing = Drawing(left_out=max(right.shape[1] - limit, 0))
    for pair, column in enumerate(right.T[:limit]):
        mode = without_rounding(column[:, None])
        draw = partial(fields.lines, where=rows, mode=mode, label="row")
        drawing.groups.append([Panel(_heading(results, pair), draw)])
    return drawing


def without_rounding(mode: Block) -> Block:
    """Return a mode as real numbers where its imaginary part is rounding."""
    largest = np.abs(mode).max(initial=0.0)
    return mode.real if np.abs(mode.imag).max(initial=0.0) <= 1e-9 * largest else mode


def _on_mesh(results: Folder, shape: Shape, chosen: dict[int, Block]) -> Drawing:
    cleaned = {pair: without_rounding(mode) for pair, mode in chosen.items()}
    if shape.modes_by_cell and shape.kind != "line":
        return _in_cells(results, shape, cleaned)
    if shape.kind == "solid":
        return _solid(results, shape, cleaned)
    if shape.kind == "line":
        draws = [partial(fields.curves, shape=shape, mode=mode) for mode in cleaned.values()]
        headings = [_heading(results, pair) for pair in cleaned]
        return Drawing([[Panel(h, draw)] for h, draw in zip(headings, draws, strict=True)])
    # Two panels of every mode then, so that each has a row of its own.
    several = any(np.iscomplexobj(mode) for mode in cleaned.values())
    groups = [
        _flat(shape, mode, (_heading(results, pair), f"mode {pair}"), several=several)
        for pair, mode in cleaned.items()
    ]
    width, height = np.ptp(shape.flat, axis=0)
    moves = any(in_plane(shape, mode) is not None for mode in cleaned.values())
    room = 2 * fields.MOTION * shape.size if moves else 0.0
    return Drawing(groups, float((height + room) / (width + room / 3)))


def _in_cells(results: Folder, shape: Shape, chosen: dict[int, Block]) -> Drawing:
    """Return panels of modes with numbers in cells: one for each unknown of a cell, or two."""
    several = any(np.iscomplexobj(mode) for mode in chosen.values())
    named = [
        list(_components(_heading(results, pair), f"mode {pair}", mode, several=several))
        for pair, mode in chosen.items()
    ]
    if shape.kind != "solid":
        draw = fields.cells_of_a_mode
        panels = [
            [Panel(name, partial(draw, shape=shape, values=part)) for name, part in group]
            for group in named
        ]
        return Drawing(panels, shape.aspect)
    scenes = [
        Scene(fields.shown_part(part), fields.mode_limits(part), by_cell=True)
        for group in named
        for _, part in group
    ]
    images, note = rendered(shape, scenes)
    if note:
        results.notes.append(f"no modes: {note}")
        return Drawing()
    drawn = iter([partial(shown, image=i, scene=s) for i, s in zip(images, scenes, strict=True)])
    solid = [[Panel(name, next(drawn)) for name, _ in group] for group in named]
    return Drawing(solid, image_aspect(images))


def _components(
    heading: str, short: str, mode: Block, *, several: bool
) -> Iterator[tuple[str, Block]]:
    """Give the title and the numbers of each panel of a mode in cells; its largest one is 1."""
    scaled = mode / max(float(np.abs(mode).max(initial=0.0)), 1e-300)
    for unknown, part in enumerate(scaled.T):
        first = heading if unknown == 0 else short
        which = f", unknown {unknown}" if scaled.shape[1] > 1 else ""
        if several:
            yield f"{first}{which}: real part", part.real
            yield f"{short}{which}: modulus", np.abs(part)
        else:
            yield f"{first}{which}", part


def _flat(shape: Shape, mode: Block, names: tuple[str, str], *, several: bool) -> list[Panel]:
    """Return the panels of a mode in the plane: one, or two of scalar fields that are complex."""
    heading, short = names
    motion = in_plane(shape, mode)
    if motion is not None:
        return [Panel(heading, partial(fields.deformed, shape=shape, mode=motion))]
    values = scalar(mode)
    if shape.kind == "frame":
        across = np.column_stack([np.zeros(len(values)), values])
        return [Panel(heading, partial(fields.deformed, shape=shape, mode=across))]
    real, modulus = (
        partial(fields.contours, shape=shape, values=part) for part in (values.real, abs(values))
    )
    if not several:
        return [Panel(heading, real)]
    return [Panel(f"{heading}: real part", real), Panel(f"{short}: modulus", modulus)]


def in_plane(shape: Shape, mode: Block) -> Block | None:
    """Return the displacements in the plane of the mesh, None where there are none."""
    count = mode.shape[1]
    if count == 2:
        return mode
    if count != 3:
        return None
    motion = mode[:, list(shape.axes[:2])]
    return motion if np.abs(motion).max(initial=0.0) > 0 else None


def scalar(mode: Block) -> Block:
    """Return a mode as one number per point: its only component that moves, or its length."""
    used = np.flatnonzero(np.abs(mode).max(axis=0))
    return mode[:, used[0]] if used.size == 1 else np.linalg.norm(mode, axis=1)


def _solid(results: Folder, shape: Shape, chosen: dict[int, Block]) -> Drawing:
    scenes = [_scene(shape, mode) for mode in chosen.values()]
    images, note = rendered(shape, scenes)
    if note:
        results.notes.append(f"no modes: {note}")
        return Drawing()
    groups = [
        [Panel(_heading(results, pair), partial(shown, image=image, scene=scene))]
        for pair, image, scene in zip(chosen, images, scenes, strict=True)
    ]
    return Drawing(groups, image_aspect(images))


def _scene(shape: Shape, mode: Block) -> Scene:
    length = np.linalg.norm(mode, axis=1)
    largest = max(float(length.max(initial=0.0)), 1e-300)
    if mode.shape[1] == 3:
        motion = fields.MOTION * shape.size / largest * mode.real
        return Scene(length / largest, (0.0, 1.0), motion=motion)
    values = scalar(mode).real / largest
    signed = fields.has_both_signs(values)
    return Scene(values if signed else np.abs(values), (-1.0 if signed else 0.0, 1.0))

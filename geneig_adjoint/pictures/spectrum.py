"""The eigenvalues: on a line or in the plane, with clusters, conditions and residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.pictures.folders import Folder
from geneig_adjoint.pictures.style import (
    AMPLITUDE,
    COLOURS,
    GREY,
    Picture,
    figure,
    plain,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 24
"""Pairs that have their residuals written beside them, at most."""
HALO = 11.0
"""Points by which the shade of a cluster is wider than its markers."""
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1))
GAP = np.array([13.0, 11.0])
"""Points from a marker to its text, sideways and up."""
AXES = np.array([380.0, 330.0])
"""Width and height of the axes of a complex plane in points, roughly."""
CLOSE = 0.03
"""Of the extent of all pairs: what lies nearer has one label."""


def spectrum(results: Folder) -> list[Picture]:
    """Draw all eigenvalues; nothing without any."""
    from matplotlib.ticker import MaxNLocator

    values = results.values
    if not len(values):
        return []
    real = bool(np.all(values.imag == 0))
    made = figure(7.2, min(1.6 + 0.28 * len(values), 5.2) if real else 5.4)
    axes = made.subplots()
    axes.set_title(f"{plain(results.title)}: {len(values)} eigenvalues")
    places = np.column_stack([values.real, np.arange(len(values)) if real else values.imag])
    _clusters(axes, places, results)
    residuals = np.maximum(results.numbers("residuals"), 1e-17)
    digits = np.log10(residuals)
    sizes = marker_sizes(results.numbers("condition"))
    shown = axes.scatter(
        places[:, 0], places[:, 1], s=sizes, c=digits, cmap=AMPLITUDE,
        edgecolor="black", linewidth=0.5, zorder=3, plotnonfinite=True,
    )  # fmt: skip
    if np.isfinite(digits).any():
        low, high = np.floor(np.nanmin(digits)), np.ceil(np.nanmax(digits))
        shown.set_clim(low, max(high, low + 4))
        bar = made.colorbar(shown, ax=axes, pad=0.02, aspect=25)
        bar.set_label("$\\log_{10}$ residual")
        bar.locator = MaxNLocator(integer=True)
    _labels(axes, places, residuals, real=real)
    _legend(axes, results.numbers("condition"))
    axes.set_xlabel("eigenvalue" if real else "real part")
    axes.set_ylabel("pair" if real else "imaginary part")
    axes.margins(0.14 if real else 0.12, 0.1)
    axes.grid(visible=True, axis="both")
    if real:
        whole_numbers(axes.yaxis)
        axes.set_ylim(len(values) - 0.4, -0.6)
    else:
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=1) if _near_zero(values) else None
    return [Picture("spectrum", made)]


def _near_zero(values: Block) -> bool:
    """Whether the imaginary axis is so near that it belongs into the picture."""
    low, high = values.real.min(), values.real.max()
    return bool(low <= 0.3 * (high - low) and high >= -0.3 * (high - low))


def marker_sizes(condition: Block) -> Block:
    """Return areas that grow with the logarithm of the condition number."""
    known = np.where(np.isfinite(condition) & (condition >= 1), condition, 1.0)
    return np.minimum(36 * (1 + 1.5 * np.log10(known)), 600)


def _clusters(axes: Axes, places: Block, results: Folder) -> None:
    """Bind the members of each cluster together, with its name."""
    groups = [group for group in results.summary.get("clusters", []) if len(group) > 1]
    widths = np.sqrt(marker_sizes(results.numbers("condition"))) + HALO
    for number, group in enumerate(groups):
        colour = COLOURS[number % (len(COLOURS) - 1)]
        members = np.asarray(group, dtype=int)
        # A line of no length is not drawn: a disk then.
        single = len(together(places, members)) == 1
        at, width = places[members[:1] if single else members], float(widths[members].max())
        axes.plot(
            at[:, 0], at[:, 1], color=colour, linewidth=width, alpha=0.28,
            solid_capstyle="round", zorder=2, marker="o" if single else "", markersize=width,
            markeredgewidth=0,
        )  # fmt: skip
        name = f"cluster {', '.join(map(str, group))}"
        axes.fill_between([], [], color=colour, alpha=0.28, linewidth=0, label=name)


def _labels(axes: Axes, places: Block, residuals: Block, *, real: bool) -> None:
    if len(places) > LABELLED:
        return
    texts = ["" if np.isnan(residual) else f"{residual:.0e}" for residual in residuals]
    if not real:
        texts = [f"{number}:  {text}" for number, text in enumerate(texts)]
    groups = together(places, np.arange(len(places)))
    named = ["\n".join(texts[number] for number in members) for members in groups]
    at = places[[members[0] for members in groups]]
    for place, text, side in zip(at, named, sides(at, named, free=real), strict=True):
        axes.annotate(
            text, place, xytext=tuple(GAP * side), textcoords="offset points",
            ha=("right", "center", "left")[side[0] + 1], fontsize=7, color="#444444",
            va=("top", "center", "bottom")[side[1] + 1],
        )  # fmt: skip


def sides(places: Block, texts: list[str], *, free: bool = False) -> list[tuple[int, int]]:
    """Return on which side of each place its text stands: right if possible, (1, 0).

    Others are tried where it would lie upon a place or upon a text before. ``free``: it cannot.
    """
    if free:
        return [SIDES[0]] * len(texts)
    extent = 1.24 * np.maximum(np.ptp(places, axis=0), 1e-300)
    points = (places - places.min(axis=0)) / extent * AXES
    taken: list[Block] = []
    found = []
    for own, text in zip(points, texts, strict=True):
        lines = text.split("\n")
        half = np.array([1.75 * max(map(len, lines)), 4.0 * len(lines)])
        boxes = [own + side * (half + GAP) + np.outer([-1, 1], half) for side in SIDES]
        best = min(range(len(SIDES)), key=lambda i: (_overlaps(boxes[i], points, taken), i))
        taken.append(boxes[best])
        found.append(SIDES[best])
    return found


def _overlaps(box: Block, points: Block, taken: list[Block]) -> int:
    """Return how many markers, which count twice, and texts a box lies upon."""
    over = ((points > box[0] - 4) & (points < box[1] + 4)).all(axis=1).sum()
    return 2 * int(over) + sum(bool((box[0] < b[1]).all() and (b[0] < box[1]).all()) for b in taken)


def together(places: Block, members: Block) -> list[list[int]]:
    """Return groups of members that lie so near to each other that labels would overlap."""
    nearby = CLOSE * np.maximum(np.ptp(places, axis=0), 1e-300)
    groups: list[list[int]] = []
    for number in members[np.lexsort(places[members].T)]:
        near = (np.abs(places[number] - places[group[0]]) <= nearby for group in groups)
        found = next((g for g, both in zip(groups, near, strict=False) if both.all()), None)
        if found is None:
            groups.append([int(number)])
        else:
            found.append(int(number))
    return [sorted(group) for group in groups]


def _legend(axes: Axes, condition: Block) -> None:
    """Explain the marker sizes where they differ, and the clusters."""
    known = condition[np.isfinite(condition)]
    if known.size and known.max() > 1.5 * known.min():
        for level in sorted({float(f"{c:.1e}") for c in (known.min(), known.max())}):
            axes.scatter(
                [], [], s=float(marker_sizes(np.array([level]))[0]), color="white",
                edgecolor="black", linewidth=0.7, label=f"condition {level:.2g}",
            )  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    if labels and len(labels) <= 12:
        made = axes.get_figure()
        assert made is not None
        made.legend(
            handles, labels, loc="outside lower left", ncols=4, fontsize=7.5, labelspacing=1.0
        )

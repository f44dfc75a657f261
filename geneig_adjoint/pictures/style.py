"""How pictures look: sizes, colours, grids of panels; and how they reach the disk."""

from __future__ import annotations

import importlib
import math
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geneig_adjoint.errors import MissingPackageError
from geneig_adjoint.io.results import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PANELS = 9
"""Panels on one page, at most."""
DPI = 160
PANEL_SIZE = (3.5, 2.9)
"""Width and height of a panel in inches; one that stands alone is larger."""
ALONE = 1.6
TITLE = 40
"""Letters of a line of a panel's title."""

# Okabe and Ito's colours, which people who do not see all colours can tell apart too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
SIGNED, AMPLITUDE = "RdBu_r", "viridis"
"""Colour maps: of fields with a sign, centred at zero, and of sizes."""
MISSING = "#F0E442"
"""Colour of entries that are not finite: in none of the colour maps of fields with a sign."""

RC = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": None,  # set where matplotlib is there
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-3, 5),
    "axes.formatter.use_mathtext": True,
}


def require_matplotlib() -> Any:
    """Return matplotlib.

    Raises
    ------
    MissingPackageError
        When it is not installed.

    """
    try:
        return _matplotlib()
    except ImportError as error:
        raise MissingPackageError(
            f"pictures need matplotlib, got: {error}; pip install 'geneig-adjoint[plot]'",
            name="matplotlib",
        ) from error


def _matplotlib() -> Any:
    """Return matplotlib, whatever window MPLBACKEND asks for: nothing is shown.

    That of a notebook, which its terminals have too, is an error where the notebook's packages
    are not, and matplotlib cannot be imported a second time.
    """
    wanted = os.environ.get("MPLBACKEND")
    if wanted is None or "matplotlib" in sys.modules:
        return importlib.import_module("matplotlib")
    os.environ["MPLBACKEND"] = "agg"
    try:
        return importlib.import_module("matplotlib")
    finally:
        os.environ["MPLBACKEND"] = wanted


def look() -> dict[str, Any]:
    """Return matplotlib's settings for all pictures."""
    from cycler import cycler

    return {**RC, "axes.prop_cycle": cycler(color=COLOURS)}


@dataclass(frozen=True)
class Panel:
    """One part of a page: a title, and what draws it into axes."""

    title: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Picture:
    """A figure and the name of its file, without suffix."""

    name: str
    figure: Figure


def figure(width: float, height: float, title: str = "") -> Figure:
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    made.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    if title:
        made.suptitle(plain(title), fontsize=11)
    return made


def columns_for(count: int) -> int:
    """Return in how many columns panels stand."""
    return count if count < 4 else 2 if count == 4 else 3


def page(
    panels: Sequence[Panel], title: str, *, aspect: float | None = None, columns: int | None = None
) -> Figure:
    """Return a figure with panels side by side.

    Parameters
    ----------
    panels
        At most `PANELS`.
    title
        Above all of them.
    aspect
        Height over width of what they show; None: as `PANEL_SIZE`.
    columns
        None: up to three.

    """
    columns = columns or columns_for(len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = PANEL_SIZE
    if aspect is not None:
        # Beside the colour bar, and below the title.
        height = min(max(0.8 * width * aspect, 0.7), 2 * width) + 0.35
    factor = ALONE if len(panels) == 1 else 1.0
    made = figure(width * factor * columns, height * factor * rows + 0.4, title)
    cells = list(made.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(cells, panels, strict=False):
        axes.set_title(plain(textwrap.fill(panel.title, int(TITLE * factor))))
        panel.draw(axes)
    for axes in cells[len(panels) :]:
        axes.set_visible(False)
    return made


def filled(groups: Sequence[Sequence[Panel]]) -> list[list[Panel]]:
    """Return pages of at most `PANELS`; a group is cut only where it does not fit on one."""
    pages: list[list[Panel]] = []
    for group in groups:
        if pages and len(pages[-1]) + len(group) <= PANELS:
            pages[-1].extend(group)
        else:
            pages += [list(group[i : i + PANELS]) for i in range(0, len(group), PANELS)]
    return pages


def paged(name: str, pages: Sequence[Figure]) -> list[Picture]:
    """Name figures: one alone has the name, several are numbered from 1."""
    if len(pages) == 1:
        return [Picture(name, pages[0])]
    return [Picture(f"{name}_{number}", made) for number, made in enumerate(pages, start=1)]


def save(picture: Picture, folder: Path, kind: str) -> Path:
    """Write a picture, whole or not at all, and return its path."""
    path = folder / f"{picture.name}.{kind}"
    with atomic_path(path) as temporary:
        picture.figure.savefig(temporary, dpi=DPI)
    return path


def mark_missing(axes: Axes, values: Any) -> None:
    """Say in the title of axes how many of some values are not finite, and their colour."""
    import numpy as np

    count = int(np.count_nonzero(~np.isfinite(values)))
    if count:
        text = f"yellow: NaN or Inf, {count:,} of {np.size(values):,}"
        axes.set_title(f"{axes.get_title()}\n{text}")


def signed_colours() -> Any:
    """Return the colour map of fields with a sign, with a colour for what is not finite."""
    import matplotlib as mpl

    return mpl.colormaps[SIGNED].with_extremes(bad=MISSING)


def whole_numbers(axis: Axis) -> None:
    """Have ticks at whole numbers only, even if there is but one of them in sight."""
    axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def plain(text: str) -> str:
    """Return a name of the user's such that no part of it is a formula to matplotlib."""
    return text.replace("$", r"\$")


def number(value: complex) -> str:
    """Return an eigenvalue in a few digits; its imaginary part only where there is one."""
    value = complex(value)
    if value.imag == 0:
        return f"{value.real:.5g}"
    return f"{value.real:.4g} {'+' if value.imag > 0 else '-'} {abs(value.imag):.4g}i"

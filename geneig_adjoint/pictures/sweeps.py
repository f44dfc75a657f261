"""Folder of a sweep: every objective against every entry that was varied."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.pictures.folders import Folder
from geneig_adjoint.pictures.style import COLOURS, PANELS, Panel, Picture, page, paged, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BESIDE = {"sample", "folder", "status", "exit_code", "reason", "seconds"}
"""Columns that say how a sample went, not what was varied."""
DECADES = 30.0
"""Largest over smallest value from which on an axis is logarithmic."""
FEW, EVEN = 10, 4.0
"""Values that are looked at one by one; ratio of the quartiles (3 of even points from 0 on)."""
CROWD = 300
"""Points from which on they are drawn smaller."""
OBJECTIVE, COMPUTED = "objective.", ("objective.", "value.", "norm.")
"""What columns of numbers that were computed begin with."""


def sweeps(results: Folder) -> list[Picture]:
    """Draw the table of a sweep: a row of panels per objective, a column per varied entry."""
    columns = _columns(results.table)
    entries = [name for name in columns if name not in BESIDE and not name.startswith(COMPUTED)]
    varied = [name for name in entries if len(np.unique(_known(columns[name]))) > 1]
    found = [name for name in columns if name.startswith(OBJECTIVE)]
    if not results.table:
        return []
    if not varied or not found:
        results.notes.append(
            "no sweep: its table must have columns of numbers that were varied and of objectives, "
            f"objective.<name>; it has {', '.join(columns) or 'none'}"
        )
        return []
    failed = int(sum(np.isnan(columns[found[0]])))
    if failed:
        name = found[0].removeprefix(OBJECTIVE)
        results.notes.append(f"{failed} of {len(results.table)} samples have no {name}")
    alone = len(varied) == 1  # a line through samples says that nothing else was varied
    panels = [
        Panel(
            name.removeprefix(OBJECTIVE),
            partial(_samples, entry=(entry, columns[entry]), values=columns[name], line=alone),
        )
        for name in found
        for entry in varied
    ]
    title = f"{results.title}: {len(results.table)} samples"
    pages = [page(panels[i : i + PANELS], title) for i in range(0, len(panels), PANELS)]
    return paged("sweep", pages)


def _columns(table: list[dict[str, str]]) -> dict[str, Block]:
    """Return the columns that hold numbers; nan where there is none."""
    names = [name for name in (table[0] if table else {}) if name]
    columns = {name: np.array([_number(row.get(name)) for row in table]) for name in names}
    return {name: column for name, column in columns.items() if np.isfinite(column).any()}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _known(column: Block) -> Block:
    return column[np.isfinite(column)]


def spans_decades(where: Block) -> bool:
    """Tell whether an entry was varied over powers of ten."""
    known = np.unique(_known(where))
    if known[0] <= 0 or known[-1] < DECADES * known[0]:
        return False
    # Many even points between 0 and 1 come near to 0, too: most of them decide.
    low, high = np.quantile(known, [0.25, 0.75])
    return bool(len(known) < FEW or high > EVEN * low)


def _samples(axes: Axes, entry: tuple[str, Block], values: Block, *, line: bool) -> None:
    name, where = entry
    order = np.argsort(where, kind="stable")
    axes.plot(
        where[order], values[order], linestyle="-" if line else "none", marker="o",
        markersize=max(1.2, 4 * min(1.0, (CROWD / len(where)) ** 0.5)),
        color=COLOURS[0], linewidth=1.0, alpha=1.0 if line else 0.75,
        markeredgewidth=0,
    )  # fmt: skip
    lost = np.isnan(values) & np.isfinite(where)
    if lost.any():
        axes.plot(
            where[lost], np.full(lost.sum(), 0.02), "x", color=COLOURS[1], markersize=5,
            transform=axes.get_xaxis_transform(), label="failed", clip_on=False,
        )  # fmt: skip
        axes.legend(fontsize=7)
    axes.set_xlabel(plain(name))
    if spans_decades(where):
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=4)
    axes.grid(visible=True)

"""The history of an optimisation: objective and violation over the iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.pictures.folders import Folder
from geneig_adjoint.pictures.style import COLOURS, GREY, Picture, figure, plain, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def searches(results: Folder) -> list[Picture]:
    """Draw the objective over the iterations and, where there is any, the violation."""
    history = results.history
    if not history:
        return []
    where = _column(history, "iteration")
    violation = _column(history, "violation")
    constrained = bool(np.any(violation > 0))
    made = figure(7.2, 5.0 if constrained else 3.4)
    ratios = [2, 1] if constrained else [1]
    rows = made.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    rows[0].set_title(f"{plain(results.title)}: {len(history)} iterations")
    _objective(rows[0], where, history)
    if constrained:
        shown = np.where(violation > 0, violation, np.nan)
        size = 6 if _marker(where) else 2.5  # single violations have no line
        rows[1].semilogy(where, shown, ".-", markersize=size, color=COLOURS[1], linewidth=1.2)
        rows[1].set_ylabel("violation")
        rows[1].grid(visible=True)
    rows[-1].set_xlabel("iteration")
    whole_numbers(rows[-1].xaxis)
    return [Picture("optimization", made)]


def _objective(axes: Axes, where: Block, history: list[dict[str, Any]]) -> None:
    values = _column(history, "objective")
    axes.plot(where, values, marker=_marker(where), color=GREY, linewidth=1.0, label="tried")
    best = np.array([bool(row.get("best")) for row in history])
    if best.any():
        axes.plot(
            where[best], values[best], drawstyle="steps-post", marker=_marker(where),
            color=COLOURS[0], linewidth=1.6, label="best so far",
        )  # fmt: skip
        axes.legend(fontsize=8)
    axes.set_ylabel(plain(_name(history)))
    axes.grid(visible=True)


def _name(history: list[dict[str, Any]]) -> str:
    """Return the name of the objective that is searched for, where the history tells."""
    candidates = [set(row.get("objectives") or {}) for row in history]
    alike = set.intersection(*candidates)
    for row in history:
        alike &= {key for key in alike if row["objectives"][key] == row.get("objective")}
    return min(alike) if len(alike) == 1 else "objective"


def _marker(where: Block) -> str:
    return "." if len(where) <= 60 else ""


def _column(history: list[dict[str, Any]], name: str) -> Block:
    """Return one number per iteration, nan where there is none."""
    found = [row.get(name) for row in history]
    return np.array([np.nan if value is None else float(value) for value in found])

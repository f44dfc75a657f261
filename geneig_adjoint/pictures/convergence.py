"""A run over time: its steps, its progress, what happened; from events.jsonl or the timings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geneig_adjoint.pictures.folders import Folder
from geneig_adjoint.pictures.style import COLOURS, GREY, Picture, figure, plain, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SKIPPED = {"time", "seconds", "event", "step", "wanted", "columns", "total"}
WHOLE = "run"
"""Name of the step that all others are in."""
CURVES = 4
"""Numbers of a run that are drawn over time, at most."""
NUMBERED = re.compile(r"(.+) \d+")
MANY = 8
"""Numbered steps, such as iterations, of which more than this share a row."""
GROWING = {"converged", "restarts", "solved", "iterations", "elements"}
"""Numbers of progress that only grow, until another solve or contraction begins."""
MARKS = {"checkpoint": ("v", COLOURS[2]), "note": ("o", COLOURS[4]), "stop": ("X", COLOURS[1])}


Step = tuple[str, float, float, bool]
"""Name, begin, end, and whether it was finished."""


Point = tuple[float, float]
"""Seconds and value."""


@dataclass
class Timeline:
    """What happened when, in seconds since the start.

    Attributes
    ----------
    steps : list of (name, begin, end, finished)
        In order.
    marks : list of (event, seconds)
        Checkpoints, notes, stops.
    curves : dict
        "step: number" -> list of (seconds, value).

    """

    steps: list[Step] = field(default_factory=list)
    marks: list[tuple[str, float]] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)


def convergence(results: Folder) -> list[Picture]:
    """Draw steps as bars over time, and the numbers of their progress that are told repeatedly."""
    line = timeline(results.events) if results.events else _of_timings(results.summary)
    rows_of_steps = rows_of(line.steps)
    shared = {step[0] for _, steps in rows_of_steps if len(steps) > 1 for step in steps}
    known = {
        name: points
        for name, points in line.curves.items()
        if any(len(part) > 1 for part in parts_of(name, points))
        and name.rpartition(": ")[0] not in shared
    }
    if not line.steps and not known:
        return []
    curves = dict(list(known.items())[:CURVES])
    if len(known) > CURVES:
        results.notes.append(f"only {CURVES} of {len(known)} kinds of progress are drawn")
    count = len(rows_of_steps) + len({event for event, _ in line.marks})
    heights = [0.7 + 0.27 * max(count, 1), *[1.5] * len(curves)]
    made = figure(7.2, sum(heights) + 0.6)
    rows = made.subplots(
        1 + len(curves), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    rows[0].set_title(f"{plain(results.title)}: the run over time", loc="left")
    _bars(rows[0], rows_of_steps, line.marks)
    for axes, (name, points) in zip(rows[1:], curves.items(), strict=True):
        _curve(axes, name, points)
    rows[-1].set_xlabel("seconds since the start")
    return [Picture("convergence", made)]


def timeline(events: list[dict[str, Any]]) -> Timeline:
    """Return what a list of events says; lines of kinds nobody knows are left out.

    A run that was resumed has begun several times: its parts follow each other.
    """
    line = Timeline()
    begun: dict[str, float] = {}
    last = start = 0.0
    for entry in events:
        seconds, step, kind = entry.get("seconds"), str(entry.get("step", "")), entry.get("event")
        if not isinstance(seconds, int | float):
            continue
        if (kind, step) == ("begin", WHOLE):
            line.steps += _unfinished(begun, last)
            start = last
        now = start + float(seconds)
        last = max(last, now)
        if kind == "begin":
            begun[step] = now
        elif kind == "end" and step in begun:
            line.steps.append((step, begun.pop(step), now, True))
        elif kind in MARKS:
            line.marks.append((str(kind), now))
        elif kind == "progress":
            _progress(line, step, now, entry)
    line.steps += _unfinished(begun, last)
    line.steps = sorted((s for s in line.steps if s[0] != WHOLE), key=lambda step: step[1])
    return line


def rows_of(steps: list[Step]) -> list[tuple[str, list[Step]]]:
    """Return the steps of each row and its name: a step has its own, but for many numbered ones."""
    alike: dict[str, list[Step]] = {}
    for step in steps:
        alike.setdefault(_stem(step[0]), []).append(step)
    rows = []
    for step in steps:
        others = alike[_stem(step[0])]
        if len(others) <= MANY or _stem(step[0]) == step[0]:
            rows.append((step[0], [step]))
        elif others[0] is step:
            rows.append((f"{step[0]} ... {others[-1][0].rpartition(' ')[2]}", others))
    return rows


def _stem(name: str) -> str:
    found = NUMBERED.fullmatch(name)
    return found[1] if found else name


def _unfinished(begun: dict[str, float], end: float) -> list[Step]:
    found = [(step, begin, end, False) for step, begin in begun.items()]
    begun.clear()
    return found


def _progress(line: Timeline, step: str, now: float, entry: dict[str, Any]) -> None:
    for name, value in entry.items():
        if name not in SKIPPED and type(value) in {int, float}:
            line.curves.setdefault(f"{step}: {name}", []).append((now, float(value)))


def _of_timings(summary: dict[str, Any]) -> Timeline:
    """Return the steps of a run without events, one after the other."""
    line, end = Timeline(), 0.0
    for name, seconds in (summary.get("timings") or {}).items():
        line.steps.append((name, end, end + float(seconds), True))
        end += float(seconds)
    return line


def _bars(axes: Axes, rows: list[tuple[str, list[Step]]], marks: list[tuple[str, float]]) -> None:
    longest = max((step[2] for _, steps in rows for step in steps), default=1.0)
    beyond = False
    for number, (_, steps) in enumerate(rows):
        for _, begin, end, finished in steps:
            axes.barh(
                number, max(end - begin, 1e-3 * longest), left=begin, height=0.62,
                color=COLOURS[0] if finished else "white", edgecolor=COLOURS[0],
                hatch="" if finished else "////", linewidth=0.8,
            )  # fmt: skip
        begin, end = steps[0][1], steps[-1][2]
        right = begin > 0.5 * longest
        beyond = beyond or (not right and end > 0.8 * longest)
        axes.annotate(
            _words(steps), (begin if right else end, number), xytext=(-4 if right else 4, 0),
            textcoords="offset points", ha="right" if right else "left", va="center", fontsize=7.5,
        )  # fmt: skip
    kinds = [kind for kind in MARKS if any(event == kind for event, _ in marks)]
    for number, kind in enumerate(kinds, start=len(rows)):
        times = [seconds for event, seconds in marks if event == kind]
        marker, colour = MARKS[kind]
        axes.plot(times, [number] * len(times), marker, color=colour, markersize=5)
    names = [plain(name) for name, _ in rows] + kinds
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.set_xlim(0, (1.3 if beyond else 1.05) * longest)


def _words(steps: list[Step]) -> str:
    """Return how long the steps of a row took: the middle one of many."""
    seconds = sorted(end - begin for _, begin, end, _ in steps)
    text = _duration(seconds[len(seconds) // 2]) + (" each" if len(steps) > 1 else "")
    return text + ("" if steps[-1][3] else ", not finished")


def _duration(seconds: float) -> str:
    return "< 1 ms" if seconds < 1e-3 else f"{seconds:.3g} s"


def parts_of(name: str, points: list[Point]) -> list[list[Point]]:
    """Return the parts of a curve: what only grows begins anew where it falls."""
    parts: list[list[Point]] = []
    for point in points:
        grows = name.rpartition(": ")[2] in GROWING
        if not parts or (grows and point[1] < parts[-1][-1][1]):
            parts.append([])
        parts[-1].append(point)
    return parts


def _curve(axes: Axes, name: str, points: list[Point]) -> None:
    parts = parts_of(name, points)
    values = [value for _, value in points]
    # Residuals fall over many powers of ten, counts grow.
    positive = min(values) > 0 and max(values) > 1e3 * min(values)
    if positive:
        axes.set_yscale("log")
    counts = all(value == int(value) for value in values)
    style = "steps-post" if counts and not positive else "default"
    for part in parts:
        axes.plot(
            *zip(*part, strict=True), drawstyle=style, marker="." if len(points) <= 60 else "",
            color=COLOURS[1],
        )  # fmt: skip
    if counts and not positive:
        whole_numbers(axes.yaxis)
    step, _, what = map(plain, name.rpartition(": "))
    axes.set_ylabel(what, fontsize=8)
    axes.set_title(step, fontsize=8, loc="left", color=GREY)
    axes.grid(visible=True)

"""A run over time: its steps, its progress, what happened; from events.jsonl or the timings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geneig_adjoint.pictures.folders import Folder
from geneig_adjoint.pictures.style import COLOURS, GREY, Picture, figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SKIPPED = {"time", "seconds", "event", "step", "wanted", "columns", "total"}
WHOLE = "run"
"""Name of the step that all others are in."""
CURVES = 4
"""Numbers of a run that are drawn over time, at most."""
MARKS = {"checkpoint": ("v", COLOURS[2]), "note": ("o", COLOURS[4]), "stop": ("X", COLOURS[1])}


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

    steps: list[tuple[str, float, float, bool]] = field(default_factory=list)
    marks: list[tuple[str, float]] = field(default_factory=list)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def convergence(results: Folder) -> list[Picture]:
    """Draw steps as bars over time, and the numbers of their progress that are told repeatedly."""
    line = timeline(results.events) if results.events else _of_timings(results.summary)
    known = {name: points for name, points in line.curves.items() if len(points) > 1}
    if not line.steps and not known:
        return []
    curves = dict(list(known.items())[:CURVES])
    if len(known) > CURVES:
        results.notes.append(f"only {CURVES} of {len(known)} kinds of progress are drawn")
    heights = [0.7 + 0.27 * max(len(line.steps), 1), *[1.5] * len(curves)]
    made = figure(7.2, sum(heights) + 0.6)
    rows = made.subplots(
        1 + len(curves), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    rows[0].set_title(f"{plain(results.title)}: the run over time", loc="left")
    _bars(rows[0], line)
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


def _unfinished(begun: dict[str, float], end: float) -> list[tuple[str, float, float, bool]]:
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


def _bars(axes: Axes, line: Timeline) -> None:
    longest = max((end for _, _, end, _ in line.steps), default=1.0)
    for number, (_, begin, end, finished) in enumerate(line.steps):
        axes.barh(
            number, max(end - begin, 1e-3 * longest), left=begin, height=0.62,
            color=COLOURS[0] if finished else "white", edgecolor=COLOURS[0],
            hatch="" if finished else "////", linewidth=0.8,
        )  # fmt: skip
        text = _duration(end - begin) + ("" if finished else ", not finished")
        right = begin > 0.5 * longest
        axes.annotate(
            text, (begin if right else end, number), xytext=(-4 if right else 4, 0),
            textcoords="offset points", ha="right" if right else "left", va="center", fontsize=7.5,
        )  # fmt: skip
    for kind, (marker, colour) in MARKS.items():
        times = [seconds for event, seconds in line.marks if event == kind]
        if times:
            axes.plot(times, [-0.75] * len(times), marker, color=colour, label=kind, markersize=5)
    if line.marks:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 0.98), fontsize=7.5, ncols=3, borderaxespad=0.0
        )
    axes.set_yticks(range(len(line.steps)), [plain(name) for name, *_ in line.steps])
    axes.set_ylim(len(line.steps) - 0.4, -1.1 if line.marks else -0.6)
    axes.grid(visible=True, axis="x")
    beyond = any(begin <= 0.5 * longest and end > 0.8 * longest for _, begin, end, _ in line.steps)
    axes.set_xlim(0, (1.3 if beyond else 1.05) * longest)


def _duration(seconds: float) -> str:
    return "< 1 ms" if seconds < 1e-3 else f"{seconds:.3g} s"


def _curve(axes: Axes, name: str, points: list[tuple[float, float]]) -> None:
    times, values = zip(*points, strict=True)
    # Residuals fall over many powers of ten, counts grow.
    positive = min(values) > 0 and max(values) > 1e3 * min(values)
    if positive:
        axes.set_yscale("log")
    counts = all(value == int(value) for value in values)
    style = "steps-post" if counts and not positive else "default"
    axes.plot(
        times, values, drawstyle=style, marker="." if len(times) <= 60 else "", color=COLOURS[1]
    )
    if counts and not positive:
        axes.yaxis.get_major_locator().set_params(integer=True)
    step, _, what = map(plain, name.rpartition(": "))
    axes.set_ylabel(what, fontsize=8)
    axes.set_title(step, fontsize=8, loc="left", color=GREY)
    axes.grid(visible=True)

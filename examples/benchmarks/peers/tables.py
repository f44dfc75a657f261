"""Markdown tables of what was measured."""

import math
import statistics
from collections import Counter

from peers.measuring import PEERS

GOALS = {"eigenvalue": "Gradient of an eigenvalue", "vectors": "Gradient of all vectors"}
NOTHING = "-"
WRONG = 1e-6
LARGER = ("80k", "300k", "28k", "100k", "200k")


def whole(report, goal, kind="wall"):
    """Return the seconds of a whole gradient: factor, eigensolve, adjoint, contraction."""
    return report[kind]["eigensolve"] + report[kind][goal]


def median(cases, number):
    """Return the median of a number over the reports that have it, or None."""
    values = [number(case) for case in cases if "failed" not in case]
    return statistics.median(values) if values else None


def columns(store):
    """Return (problem, size) of everything measured, in the order of `sizes.SIZES`."""
    from peers.sizes import SIZES

    seen = {tuple(key.split("/")[:2]) for key in store.content["cases"]}
    return [(name, size) for name, sizes in SIZES.items() for size in sizes if (name, size) in seen]


def markdown(title, head, rows):
    """Return a Markdown table under a line of text."""
    lines = [f"{title}\n", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _table(store, title, cell):
    """Return a table with a row per peer and a column per problem."""
    places = columns(store)
    rows = []
    for name, peer in PEERS.items():
        cells = [_cell(store.cases(*place, name), cell) for place in places]
        if set(cells) != {NOTHING}:
            rows.append([peer.title, *cells])
    return markdown(title, ["", *(f"{name} {size}" for name, size in places)], rows)


def _cell(cases, number):
    if not cases:
        return NOTHING
    done = [case for case in cases if "failed" not in case]
    if not done:
        return "failed" if cases[0]["failed"].startswith("failed") else cases[0]["failed"]
    return number(done)


def seconds(value):
    """Return seconds in three digits at most."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _time_cell(goal):
    def cell(cases):
        wall, cpu = (median(cases, lambda c, k=kind: whole(c, goal, k)) for kind in ("wall", "cpu"))
        return f"{seconds(wall)} ({seconds(cpu)})"

    return cell


def _error_cell(cases):
    worst = [max(case["error"][goal] for case in cases if "error" in case) for goal in GOALS]
    return " / ".join(error_text(error) for error in worst)


def error_text(error):
    """Return an error as a power of ten; below 1e-12 references differ themselves."""
    return f"{error:.0e}" if math.isfinite(error) and error > 1e-12 else "<1e-12"


def _ratio_cell(store):
    """Return a cell: how many times the CPU time of ours on one rank."""
    own = {
        place: median(store.cases(*place, "ours-1"), lambda c: whole(c, "vectors", "cpu"))
        for place in columns(store)
    }

    def table():
        rows = []
        for name, peer in PEERS.items():
            cells = []
            for place, base in own.items():
                cases = store.cases(*place, name)
                other = median(cases, lambda c: whole(c, "vectors", "cpu"))
                if other is not None and base is not None:
                    cells.append(f"{other / base:.2f}")
                else:
                    cells.append(_cell(cases, lambda _: NOTHING))
            if set(cells) != {NOTHING}:
                rows.append([peer.title, *cells])
        head = ["", *(f"{name} {size}" for name, size in own)]
        return markdown("CPU time of all vectors' gradient, that of ours being 1", head, rows)

    return table()


def phases(store):
    """Return where the time of ours goes."""
    rows = []
    for place in columns(store):
        for name in ("ours-1", "ours-2"):
            cases = [case for case in store.cases(*place, name) if "failed" not in case]
            if cases:
                parts = ("matrices", "eigensolve", "eigenvalue", "vectors")
                walls = [median(cases, lambda c, part=part: c["wall"][part]) for part in parts]
                rows.append([" ".join(place), PEERS[name].title, *map(seconds, walls)])
    head = ["", "", "assembly", "factor, eigensolve", "eigenvalue's gradient", "vectors' gradient"]
    return markdown("Where the time of ours goes, wall seconds", head, rows)


def failures(store):
    """Return what went wrong in words."""
    found = {
        f"- {key}: {case['failed']}"
        for key, case in store.content["cases"].items()
        if case.get("failed", "").startswith("failed")
    }
    return "\n".join(sorted(found))


def references(store):
    """Return how far central differences are from the reference gradients."""
    rows = [
        [key.replace("/", " "), *(f"{report[f'check {goal}']:.0e}" for goal in GOALS)]
        for key, report in store.content["references"].items()
        if "check vectors" in report
    ]
    title = "Relative difference of the reference and a central difference along one direction"
    return markdown(title, ["", "eigenvalue", "vectors"], rows)


def description(store):
    """Return one line about the machine and the days."""
    machine = store.content["machine"]
    days = sorted({case["when"][:10] for case in store.content["cases"].values()})
    dates = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "never"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory']} GB, "
        f"{machine['system']}; measured {dates}, {_repeats(store)}.\n"
    )


def _repeats(store):
    """Return how many runs of a case there are."""
    done = Counter(
        key.rpartition("/")[0]
        for key, case in store.content["cases"].items()
        if "failed" not in case
    )
    least, most = min(done.values(), default=0), max(done.values(), default=0)
    if most <= 1:
        return "one run of each case" if most else "nothing"
    return f"medians of {least} to {most} runs" if least < most else f"medians of {most} runs"


def versions(store):
    """Return what was measured, by peer, with versions."""
    found = {}
    for key, case in sorted(store.content["cases"].items()):
        for name, version in case.get("versions", {}).items():
            found.setdefault(PEERS[key.split("/")[2]].title, {}).setdefault(name, set()).add(
                version
            )
    lines = [
        f"- {title}: " + ", ".join(f"{name} {' and '.join(sorted(v))}" for name, v in parts.items())
        for title, parts in found.items()
    ]
    return "\n".join(["Versions:\n", *lines, ""]) if lines else ""


def faster(store):
    """Return in words who needs less CPU time than this package on one rank, and where."""
    lines = []
    for place in columns(store):
        own = median(store.cases(*place, "ours-1"), lambda c: whole(c, "vectors", "cpu"))
        others = {
            peer.title: median(store.cases(*place, name), lambda c: whole(c, "vectors", "cpu"))
            for name, peer in PEERS.items()
            if not peer.ours
        }
        parts = [
            f"{title} ({other / own:.2f})"
            for title, other in others.items()
            if own is not None and other is not None and other < own
        ]
        if parts:
            lines.append(f"- {' '.join(place)}: {', '.join(parts)}")
    head = (
        "Who needs less CPU time than ours for the gradient of all vectors (that of ours being 1)"
    )
    return "\n".join([f"{head}:\n", *(lines or ["- nobody"]), ""])


def wrong(store):
    """Return in words whose gradients are wrong, and where."""
    found = {}
    for key, case in sorted(store.content["cases"].items()):
        worst = max(case.get("error", {"": 0.0}).values())
        if not worst <= WRONG:
            found.setdefault(key.rpartition("/")[0], []).append(worst)
    lines = []
    for key, errors in found.items():
        problem, size, name = key.split("/")
        sizes = " to ".join(dict.fromkeys(f"{error:.0e}" for error in (min(errors), max(errors))))
        lines.append(f"- {problem} {size}: {PEERS[name].title}, by {sizes}")
    head = f"Whose gradients differ from the reference by more than {WRONG:.0e}"
    return "\n".join([f"{head}:\n", *(lines or ["- nobody's"]), ""])


def summary(store):
    """Return a short table for the README: whole gradients of all vectors at the larger sizes."""
    chosen = [place for place in columns(store) if place[1] in LARGER]
    rows = [
        [peer.title, *(_cell(store.cases(*place, name), _time_cell("vectors")) for place in chosen)]
        for name, peer in PEERS.items()
        if not name.endswith("unchecked")
    ]
    title = "Whole gradients of an objective of all vectors, wall seconds (CPU seconds)"
    return markdown(title, ["", *(f"{name} {size}" for name, size in chosen)], rows)


def everything(store):
    """Return all tables."""
    parts = [description(store)]
    parts += [
        _table(store, f"{title}: wall seconds (CPU seconds)", _time_cell(goal))
        for goal, title in GOALS.items()
    ]
    parts.append(_ratio_cell(store))
    title = "Peak memory above that of the imports, GB"
    parts.append(_table(store, title, lambda c: f"{median(c, lambda r: r['memory']) / 1e9:.2f}"))
    title = "Relative error of the gradient: eigenvalue / all vectors"
    parts += [_table(store, title, _error_cell), wrong(store), faster(store), phases(store)]
    parts += [references(store), versions(store), failures(store)]
    return "\n".join(part for part in parts if part)


def marks(name="benchmark tables"):
    """Return the comments around what is written into a page."""
    return [f"<!-- {word}: {name} -->" for word in ("begin", "end")]


def replace_between(path, text, name="benchmark tables"):
    """Put text between the two marks of a page."""
    page = path.read_text()
    begin, end = marks(name)
    start, end = page.index(begin) + len(begin), page.index(end)
    path.write_text(f"{page[:start]}\n\n{text.strip()}\n\n{page[end:]}")

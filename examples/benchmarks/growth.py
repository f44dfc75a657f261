"""How time and memory grow: with dofs, pairs, parameters and ranks.

    bash -c '. docker/env.sh real; python examples/benchmarks/growth.py'

Each point is a process of its own, 2D elasticity, the gradient of all vectors. Kept in growth.json
beside the results of run.py and not measured again unless --fresh; prints Markdown tables and
draws growth.png. Some 6 minutes.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator
from peers import environments
from peers.measuring import Peer, run_worker, say
from peers.sizes import make
from peers.tables import markdown, replace_between, seconds

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "examples" / "docs" / "benchmarks.md"
SIZES = ("5k", "20k", "80k", "300k")
COUNTS = (2, 4, 8, 16, 32)
PARAMETERS = (10, 100, 1_000, 9_984, 99_840)
AT = "20k"
COLOURS = {"eigensolve": "#08519c", "eigenvalue": "#006d2c", "vectors": "#e6550d"}
LABELS = {
    "eigensolve": "factor, eigensolve",
    "eigenvalue": "eigenvalue's gradient",
    "vectors": "vectors' gradient",
}
PARTS = tuple(COLOURS)


def points(sizes=None, *, quick=False):
    """Return the points of every curve by its title: (value, ranks, arguments)."""
    sizes = sizes or SIZES[: 2 if quick else None]
    kept = slice(None, 2 if quick else None)
    at = SIZES[0] if quick else AT
    by_size = [(make("elasticity2d", size).n, ranks, [size]) for ranks in (1, 2) for size in sizes]
    by_count = [(count, 1, [at, "--count", str(count)]) for count in COUNTS[kept]]
    by_parameters = [(m, 1, [at, "--parameters", str(m)]) for m in PARAMETERS[kept]]
    return {"dofs": by_size, "pairs": by_count, "parameters": by_parameters}


def measured(kept, ranks, words, timeout):
    """Return the report of one point, from what was kept if it is there."""
    key = " ".join([str(ranks), *words])
    if key not in kept:
        peer = Peer("ours", "ours-unchecked", ranks=ranks)
        kept[key], _ = run_worker(peer, sys.executable, ["elasticity2d", *words], timeout=timeout)
        say(f"{key}: {kept[key].get('failed') or kept[key]['wall']}")
    return kept[key]


def table(title, curve):
    """Return a Markdown table of one curve."""
    rows = []
    for value, ranks, report in curve:
        if "failed" in report:
            rows.append([f"{value:,}", str(ranks), report["failed"], *["-"] * len(PARTS)])
        else:
            times = [
                f"{seconds(report['wall'][part])} ({seconds(report['cpu'][part])})"
                for part in PARTS
            ]
            rows.append([f"{value:,}", str(ranks), *times, f"{report['memory'] / 1e9:.2f}"])
    head = [title, "ranks", *LABELS.values()]
    return markdown(f"Growth with {title}: wall seconds (CPU seconds)", [*head, "GB"], rows)


def short(value):
    """Return a number as a label of an axis."""
    return f"{value / 1000:.0f}k" if value >= 1000 else str(value)


def draw(curves, path):
    """Draw two panels for every curve: time above, memory below, each with one scale for all."""
    ratios = {"height_ratios": [2, 1]}
    figure, axes = plt.subplots(
        2, len(curves), figsize=(11, 6), sharex="col", sharey="row", layout="constrained",
        gridspec_kw=ratios,
    )  # fmt: skip
    for (above, below), (title, curve) in zip(axes.T, curves.items(), strict=True):
        for ranks, style in ((1, "-o"), (2, "--s")):
            done = [(v, r) for v, other, r in curve if other == ranks and "failed" not in r]
            values = [value for value, _ in done]
            for part, colour in COLOURS.items():
                times = [report["wall"][part] for _, report in done]
                label = LABELS[part] if ranks == 1 else None
                above.plot(values, times, style, color=colour, markersize=4, label=label)
            memory = [report["memory"] / 1e9 for _, report in done]
            below.plot(values, memory, style, color="#555555", markersize=4)
        above.set_title(f"growth with {title}" + " (dashed: 2 ranks)" * (title == "dofs"))
        ticks = sorted({value for value, _, _ in curve})
        below.set_xscale("log")
        below.set_xticks(ticks, [short(value) for value in ticks])
        below.set_xticks([], minor=True)
        below.set_xlabel(title)
    for row, unit in zip(axes, ("wall seconds", "peak memory, GB"), strict=True):
        row[0].set_yscale("log")
        row[0].yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=20))
        row[0].yaxis.set_major_formatter("{x:g}")
        row[0].yaxis.set_minor_locator(NullLocator())
        row[0].set_ylabel(unit)
        for axis in row:
            axis.grid(alpha=0.4)
    axes[0, 0].legend(fontsize="small")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    """Measure what is missing, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, few points: 1 minute; kept beside others"
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="of the curve over dofs")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for a point, 120")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "examples" / "out" / "benchmarks", help="folder"
    )
    parser.add_argument(
        "--update-docs", action="store_true", help="tables and picture of the documentation, too"
    )
    chosen = parser.parse_args()
    problem = environments.own_error()
    if problem is not None:
        sys.exit(problem)
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "growth.json"
    kept = json.loads(path.read_text()) if path.exists() and not chosen.fresh else {}
    curves = {}
    for title, wanted in points(chosen.sizes, quick=chosen.quick).items():
        curves[title] = []
        for value, ranks, words in wanted:
            report = measured(kept, ranks, words, chosen.timeout)
            path.write_text(json.dumps(kept, indent=1))
            curves[title].append((value, ranks, report))
    text = "\n".join(table(title, curve) for title, curve in curves.items())
    say(f"\n{text}")
    draw(curves, chosen.out / "growth.png")
    if chosen.update_docs:
        replace_between(PAGE, text, "growth tables")
        draw(curves, PAGE.parent / "growth.png")


if __name__ == "__main__":
    main()

"""Compare this package with its peers: time, memory and error of whole gradients.

    bash examples/benchmarks/run.sh [--quick] [--only ours-1 eigd-cholmod] [--fresh] ...

Each case is one gradient in a process of its own, in the peer's own environment, with one thread;
peers take turns, forwards and backwards. What was measured is kept in results.json and not
measured again, by whatever version it was made, unless --fresh. Prints Markdown tables, writes
them and PNG plots beside the JSON.
"""

import argparse
import math
import signal
import sys
import time
from pathlib import Path

from peers import environments
from peers.measuring import PEERS, Store, say
from peers.sizes import SIZES

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "examples" / "docs" / "benchmarks.md"
STANDARD = {
    "elasticity2d": ("20k", "80k", "300k"),
    "elasticity3d": ("28k", "100k"),
    "diffusion": ("20k", "100k", "200k"),
    "membrane": ("20k",),
}
QUICK = {
    "elasticity2d": ("20k", "80k"),
    "elasticity3d": ("8k",),
    "diffusion": ("20k",),
    "membrane": ("20k",),
}


def arguments(words=None):
    """Return what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, some 5 minutes")
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=SIZES,
        default=list(SIZES),
        metavar="PROBLEM",
        help=", ".join(SIZES),
    )
    parser.add_argument("--sizes", nargs="+", help="instead of the standard ones, such as 20k")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PEERS,
        default=list(PEERS),
        metavar="PEER",
        help=", ".join(PEERS),
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of a case, 3")
    parser.add_argument(
        "--enough", type=float, default=20.0, help="no repeats after so many seconds of a case, 20"
    )
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for a case, 120")
    parser.add_argument(
        "--fresh", nargs="*", choices=[*PEERS, "reference"], metavar="PEER",
        help="forget what was measured, of these peers or of all",
    )  # fmt: skip
    parser.add_argument(
        "--environments",
        type=Path,
        default=environments.default_folder(),
        help="where the peers' environments are made",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "examples" / "out" / "benchmarks",
        help="where results.json and the tables go",
    )
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no case after so many seconds"
    )
    parser.add_argument("--tables", action="store_true", help="print what there is")
    parser.add_argument(
        "--update-docs", action="store_true", help="tables and pictures of the documentation, too"
    )
    return parser.parse_args(words)


def places(chosen):
    """Return the problems and sizes asked for."""
    standard = QUICK if chosen.quick else STANDARD
    return [
        (problem, size)
        for problem in chosen.problems
        for size in (chosen.sizes or standard[problem])
        if size in SIZES[problem]
    ]


def measure(store, chosen, problem, size):
    """Measure what is missing of one problem: rounds of all peers, in alternating order."""
    for repeat in range(chosen.repeats):
        names = [name for name in chosen.only if PEERS[name].can(problem)]
        for name in names if repeat % 2 == 0 else reversed(names):
            key = f"{problem}/{size}/{name}/{repeat}"
            done = store.cases(problem, size, name)
            failed = any("failed" in case for case in done)
            spent = sum(sum(case.get("wall", {}).values()) for case in done)
            late = time.perf_counter() > chosen.seconds
            if not (late or failed or key in store.content["cases"] or spent >= chosen.enough):
                store.measure(key, chosen.timeout, chosen.environments)


def main():
    """Measure, print, write."""
    chosen = arguments()
    problem = environments.own_error()
    if problem is not None:
        sys.exit(problem)
    from peers import plots, tables

    chosen.seconds += time.perf_counter()
    # The process that measures is a session of its own: it is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    store = Store(chosen.out)
    if chosen.fresh is not None:
        store.forget(chosen.fresh or PEERS)
    if not chosen.tables:
        for problem, size in places(chosen):
            measure(store, chosen, problem, size)
    text = tables.everything(store)
    say(f"\n{text}")
    (store.folder / "tables.md").write_text(text)
    pictures = plots.draw(store, store.folder)
    if chosen.update_docs:
        tables.replace_between(PAGE, text)
        tables.replace_between(README, tables.summary(store))
        pictures += plots.draw(store, PAGE.parent)
    say("\n".join(["", f"{store.path}", *map(str, pictures)]))


if __name__ == "__main__":
    main()

"""One measured gradient in a process of its own: python -m peers.worker --help.

Computes a tiny problem first, so that imports and start-up of libraries are not measured.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import resource

import numpy as np

from peers.meter import Meter, forget_peak
from peers.sizes import make

PEERS = {
    "ours": ("peers.ours", {}),
    "ours-unchecked": ("peers.ours", {"count_check": "off"}),
    "reference": ("peers.reference", {}),
    "eigd": ("peers.eigd_user", {}),
    "eigd-cholmod": ("peers.eigd_user", {"cholmod": True}),
    "pymoto": ("peers.pymoto_user", {}),
    "pymoto-pardiso": ("peers.pymoto_user", {}),
    "scipy": ("peers.scipy_user", {}),
}


def measured(peer, problem, **changes):
    """Return gradients and the meter's report of one peer, or None where ranks are silent."""
    name, options = PEERS[peer]
    module = importlib.import_module(name)
    warm_up = make(problem[0], "tiny")
    module.gradients(warm_up, module.prepare(warm_up), Meter(), **options)
    del warm_up
    meter = Meter()
    chosen = make(*problem, **changes)
    with meter.phase("matrices"):
        prepared = module.prepare(chosen)
    forget_peak()
    found = module.gradients(chosen, prepared, meter, **options)
    report = meter.report()
    report["n"], report["parameters"] = chosen.n, sum(map(len, chosen.p.values()))
    report["versions"] = versions(module)
    finish = getattr(module, "over_ranks", lambda report: report)
    return found, finish(report)


def versions(module):
    """Return the versions of what a peer is made of, by name: of what is installed of it."""
    found = dict(getattr(module, "LIBRARIES", {}))
    for name in getattr(module, "PACKAGES", ()):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main():
    """Write <out>.npz with the gradients and <out>.json with the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("problem")
    parser.add_argument("size")
    parser.add_argument("out", help="path without ending")
    parser.add_argument("--count", type=int, help="another number of modes")
    parser.add_argument("--parameters", type=int, help="another number of parameters")
    parser.add_argument("--memory", type=int, help="most bytes of address space")
    chosen = parser.parse_args()
    if chosen.memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (chosen.memory, chosen.memory))
    changes = {"count": chosen.count, "parameters": chosen.parameters}
    found, report = measured(chosen.peer, (chosen.problem, chosen.size), **changes)
    if report is not None:
        arrays = {f"{goal} {name}": a for goal, g in found.items() for name, a in g.items()}
        np.savez(f"{chosen.out}.npz", **arrays)
        with open(f"{chosen.out}.json", "w", encoding="utf-8") as file:
            json.dump(report, file)


if __name__ == "__main__":
    main()

"""Pictures of what was measured."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from peers.measuring import PEERS
from peers.tables import columns, median, whole

COLOURS = dict(zip(PEERS, ["#08519c", "#3182bd", "#006d2c", "#31a354", "#fdae6b", "#e6550d",
                           "#bcbddc", "#756bb1", "#636363"], strict=True))  # fmt: skip
DOTS_PER_INCH = 80


def draw(store, folder):
    """Write the pictures of time and memory; return their paths."""
    goals = {
        "benchmark_time.png": (
            "wall seconds, gradient of all vectors",
            lambda c: whole(c, "vectors"),
        ),
        "benchmark_memory.png": ("peak memory, GB", lambda c: c["memory"] / 1e9),
    }
    paths = []
    for name, (label, number) in goals.items():
        paths.append(folder / name)
        _bars(store, label, number, paths[-1])
    return paths


def _bars(store, label, number, path):
    """Draw groups of bars, one group for each problem, one bar for each peer."""
    places = columns(store)
    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    width = 0.85 / len(PEERS)
    for i, (name, peer) in enumerate(PEERS.items()):
        heights = [median(store.cases(*place, name), number) for place in places]
        found = [(place, height) for place, height in enumerate(heights) if height is not None]
        axes.bar(
            [place + (i - len(PEERS) / 2 + 0.5) * width for place, _ in found],
            [height for _, height in found],
            width,
            label=peer.title,
            color=COLOURS[name],
        )
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.set_xticks(range(len(places)), [f"{name}\n{size}" for name, size in places])
    axes.grid(axis="y", alpha=0.4)
    axes.set_axisbelow(True)
    figure.legend(fontsize="small", ncols=5, loc="outside upper center")
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)

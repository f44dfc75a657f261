"""Draw the plate a search has found, its lowest mode and the history of the search.

python plot.py out
"""

import argparse
import json
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from model import HEIGHT, LENGTH, build, densities
from mpi4py import MPI


def read(directory):
    """Return design variables, history and the lowest frequency of a search."""
    with h5py.File(directory / "design.h5") as file:
        variables = file["parameters/density"][:]
    lines = (directory / "history.jsonl").read_text().splitlines()
    with h5py.File(directory / "result.h5") as file:
        mode, value = np.real(file["right"][:, 0]), np.real(file["values"][0])
        point = file["parameters/point_mass"][:]
    return variables, point, [json.loads(line) for line in lines], mode, np.sqrt(value) / 2 / np.pi


def draw(directory, options):
    """Draw the picture and return its path."""
    variables, point, history, mode, frequency = read(directory)
    model, _, mesh = build(MPI.COMM_SELF, options)
    density = densities(model, {"density": variables, "point_mass": point})[-1]["density"]
    cells = mesh.cells[0][1]
    motion = mesh.point_field(mode)[:, :2]
    motion *= 0.12 * HEIGHT / np.abs(motion).max()
    figure, axes = plt.subplots(
        3, 1, figsize=(7.5, 8.6), layout="constrained", height_ratios=(4, 4, 3)
    )
    for ax, points, title in [
        (
            axes[0],
            mesh.points[:, :2],
            f"density, black 1, lowest frequency {frequency:.1f} Hz",
        ),
        (axes[1], mesh.points[:, :2] + motion, "its lowest mode, enlarged"),
    ]:
        fill = PolyCollection(points[cells], array=density, cmap="gray_r", edgecolor="face", lw=0.3)
        fill.set_clim(0, 1)
        ax.add_collection(fill)
        ax.plot(
            *points[np.argmin(np.abs(mesh.points - [LENGTH, HEIGHT / 2, 0]).sum(axis=1))],
            "o",
            color="C3",
            ms=9,
            label="point mass",
        )
        ax.axvline(0.0, color="C0", lw=4, label="clamped")
        ax.set(
            xlim=(-0.05, 1.05 * LENGTH), ylim=(-0.15, HEIGHT + 0.15), aspect="equal", title=title
        )
        ax.set(xlabel="x, m", ylabel="y, m")
    axes[0].legend(loc="upper right", fontsize=8)
    steps = [row["iteration"] for row in history]
    axes[2].plot(
        steps,
        [row["objective"] for row in history],
        color="C0",
        label="smooth minimum of the frequencies",
    )
    axes[2].set(xlabel="iteration (one eigensolve each)", ylabel="Hz", title="search")
    axes[2].set_ylim(bottom=0)
    axes[2].legend(loc="lower right", frameon=False)
    path = directory / "plate.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    model.close()
    return path


def main():
    parser = argparse.ArgumentParser(description="Picture of the plate a search has found.")
    parser.add_argument("directory", type=Path, help="output directory of the search")
    parser.add_argument("--rows", type=int, default=16, help="elements over the height")
    chosen = parser.parse_args()
    print(f"picture: {draw(chosen.directory, {'rows': chosen.rows})}")


if __name__ == "__main__":
    mpl.use("agg")
    main()

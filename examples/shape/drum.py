"""The drum of the lowest tone: move all nodes of a membrane until its shape is the best one.

python drum.py, or mpirun -n 2 python drum.py; then drum.png shows what happened.

A membrane is fixed at its boundary; lam is its lowest eigenvalue.  lam times the area does not
depend on the size of the drum.  Of all drums the round one has the smallest: pi j^2 with
j = 2.404826 the first zero of the Bessel function J_0 (conjectured by Rayleigh, proved by Faber
1923 and Krahn 1925).  Here the radii in 48 directions are the design variables, the
coordinates of all nodes follow them, and the derivative goes the same way back.
"""

import argparse
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.sparse
from mpi4py import MPI

import geneig_adjoint as ga

DIRECTIONS, RINGS = 48, 12
BESSEL = 2.404825557695773


# -- one triangle, in NumPy: corners (batch, 3, 2), counterclockwise, in any unit --


def edges_and_area(coordinates):
    edges = np.roll(coordinates, -2, axis=1) - np.roll(coordinates, -1, axis=1)
    (ax, ay), (bx, by) = edges[:, 0].T, edges[:, 1].T
    return edges, ((ax * by - ay * bx) / 2)[:, None, None]


def stiffness(coordinates):
    """Return the integrals of grad N_i . grad N_j, (batch, 3, 3)."""
    edges, area = edges_and_area(coordinates)
    return edges @ edges.transpose(0, 2, 1) / (4 * area)


def mass(coordinates):
    """Return the integrals of N_i N_j, (batch, 3, 3)."""
    return edges_and_area(coordinates)[1] / 12 * (1 + np.eye(3))


# -- the mesh: a node in the middle, RINGS nodes on every ray --


def rays():
    """Return the nodes (ring, direction) of every triangle, (m, 3), and W.

    Node 0 is the middle, node 1 + DIRECTIONS (k - 1) + j the k-th one of ray j, at k / RINGS of the
    ray's length: coordinates are W @ radii.
    """
    j = np.arange(DIRECTIONS)
    number = 1 + DIRECTIONS * np.arange(RINGS)[:, None] + np.append(j, 0)
    inner = np.stack([np.zeros(DIRECTIONS, dtype=int), number[0, :-1], number[0, 1:]], axis=1)
    a, b = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
    c, d = number[1:, :-1].ravel(), number[1:, 1:].ravel()
    cells = np.concatenate([inner, np.stack([a, c, d], axis=1), np.stack([a, d, b], axis=1)])
    share = np.repeat(np.arange(1, RINGS + 1) / RINGS, DIRECTIONS)
    angle = 2 * np.pi * np.tile(j, RINGS) / DIRECTIONS
    values = share[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rows = 2 + np.arange(values.size)
    columns = np.repeat(np.tile(j, RINGS), 2)
    shape = (rows.size + 2, DIRECTIONS)
    return cells, scipy.sparse.csr_matrix((values.ravel(), (rows, columns)), shape=shape)


def drum(cells, comm):
    """Return the model of the membrane; nodes of the last ring are fixed."""
    mine = np.array_split(cells, comm.size)[comm.rank]
    free = 1 + DIRECTIONS * (RINGS - 1)
    dofs = np.where(mine < free, mine, -1)
    ids = {"coordinates": ga.coordinate_ids(mine, 2)}
    return ga.ElementModel(
        free,
        [
            ga.ElementBlock("A", dofs, ga.NumpyKernel(stiffness), ids),
            ga.ElementBlock("B", dofs, ga.NumpyKernel(mass), ids),
        ],
        comm=comm,
    )


# -- area of the drum, a polygon --

TURN = np.sin(2 * np.pi / DIRECTIONS) / 2


def area(radii):
    """Return the area and its derivatives."""
    nexts, lasts = np.roll(radii, -1), np.roll(radii, 1)
    return TURN * radii @ nexts, TURN * (nexts + lasts)


def optimised(f, start):
    """Return radii and lam times area at every evaluation."""
    history = []

    def objective(radii):
        lam, gradient = f.flat(radii)
        size, growth = area(radii)
        history.append((radii.copy(), lam * size))
        return lam * size, gradient * size + lam * growth

    scipy.optimize.minimize(
        objective,
        start,
        jac=True,
        bounds=[(0.3, 2.0)] * DIRECTIONS,
        method="L-BFGS-B",
        options={"ftol": 1e-9},
    )
    return history


def looked_at(model, radii):
    """Return the lowest mode and what lowers lam times area, at the nodes and per radius."""
    p = {"radii": radii}
    with model.assemble(p) as pencil, ga.solve_eigenproblem(pencil, 2, target=0.0) as pairs:
        lam = pairs.values[0].real
        slopes = ga.gradient(model, p, pairs, ga.objectives.Eigenvalue(0))["radii"]
        u = np.concatenate(model.comm.allgather(pairs.right[:, 0].real))
    size, growth = area(radii)
    return np.append(np.abs(u), np.zeros(DIRECTIONS)), -(slopes * size + lam * growth)


def draw_drum(axis, points, cells, u):
    axis.tripcolor(*points.T, cells, u, shading="gouraud", cmap="viridis")
    axis.plot(*closed(points).T, color="#2b2b2b", linewidth=1.2)
    axis.set(aspect="equal", xlim=(-1.6, 1.9), ylim=(-1.7, 1.7))
    axis.spines[["top", "right"]].set_visible(False)


def closed(points):
    edge = points[-DIRECTIONS:]
    return np.vstack([edge, edge[:1]])


def draw(path, cells, drums, values):
    """Draw the first and the last drum, what moves the first one, and the way between them."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.size": 10, "axes.linewidth": 0.6})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14.5, 4.7), layout="constrained")
    (points, u, pull), (last, last_u, _) = drums
    draw_drum(left, points, cells, u)
    edge = points[-DIRECTIONS:]
    rays_out = edge / np.linalg.norm(edge, axis=1)[:, None]
    arrows = 0.4 * rays_out * (pull / np.abs(pull).max())[:, None]
    style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.005}
    left.quiver(*edge.T, *arrows.T, color="#c0392b", **style)
    left.set_title(f"Start: {values[0]:.3f} (arrows: what lowers it)", loc="left", fontsize=11)
    draw_drum(middle, last, cells, last_u)
    middle.plot(*closed(points).T, "--", color="#2b2b2b", linewidth=0.8)
    middle.set_title(f"Best: {min(values):.3f} (dashed: start)", loc="left", fontsize=11)
    right.plot(np.minimum.accumulate(values), "o-", color="#2b2b2b", markersize=3)
    limit = np.pi * BESSEL**2
    right.axhline(limit, color="#c0392b", linewidth=1)
    right.text(len(values) - 1, limit - 0.15, f"$\\pi j^2$ = {limit:.3f}", va="top", ha="right")
    right.set_ylim(bottom=limit - 1)
    right.set_title("Eigenvalue times area", loc="left", fontsize=11)
    right.set_xlabel("evaluations")
    right.set_ylabel("best so far")
    left.set_ylabel("colour: lowest mode; lengths without unit", fontsize=9)
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(picture):
    """Find the best drum, print and draw it; return radii and value of every evaluation."""
    comm = MPI.COMM_WORLD
    cells, W = rays()
    model = ga.Composed(drum(cells, comm), [ga.LinearMap("radii", W, output="coordinates")])
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    start = 1 + 0.35 * np.cos(3 * angle) + 0.1 * np.sin(2 * angle)
    lowest = ga.objectives.Eigenvalue(0)
    # The lowest value is meant, whatever its mode looks like after a large step.
    with ga.value_and_gradient(model, lowest, count=2, target=0.0, track=False) as f:
        f.pack({"radii": start})
        history = optimised(f, start)
    values = [value for _, value in history]
    best = history[int(np.argmin(values))][0]
    drums = [((W @ radii).reshape(-1, 2), *looked_at(model, radii)) for radii in (start, best)]
    if comm.rank == 0:
        print(f"eigenvalue x area: {values[0]:.4f} at first, {min(values):.4f} at last")
        print(f"pi j^2 = {np.pi * BESSEL**2:.4f}; radii {best.min():.4f} to {best.max():.4f}")
        if picture is not None:
            draw(picture, cells, drums, values)
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, nargs="?", default=Path("drum.png"))
    with ga.abort_on_failure():
        main(parser.parse_args().picture)

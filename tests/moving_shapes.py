"""Beams and membranes whose nodal coordinates are parameters."""

import numpy as np
import scipy.sparse
from builders import shares

import geneig_adjoint as ga

# -- Euler-Bernoulli beams: coordinates (nodes, 1), dofs deflection and slope --

EI, RHO_A = 5.0, 2.0  # bending stiffness, mass per length
# beta L of a cantilever: roots of cos x cosh x = -1 (R. D. Blevins, Formulas for Natural Frequency
# and Mode Shape, 1979, table 8-1; S. S. Rao, Mechanical Vibrations, 5th ed., sec. 8.5).
BETA_L = np.array([1.87510407, 4.69409113, 7.85475744])
BENDING = np.array([[12, 6, -12, 6], [6, 4, -6, 2], [-12, -6, 12, -6], [6, 2, -6, 4]])
INERTIA = np.array(
    [[156, 22, 54, -13], [22, 4, 13, -3], [54, 13, 156, -22], [-13, -3, -22, 4]]
) / 420  # fmt: skip


def units(length):
    """Return the factors of deflections and slopes, (batch, 4, 4)."""
    each = np.stack([np.ones_like(length), length] * 2, axis=-1)
    return each[..., :, None] * each[..., None, :]


def beam_stiffness(coordinates):
    length = coordinates[:, 1, 0] - coordinates[:, 0, 0]
    return (EI / length**3)[:, None, None] * BENDING * units(length)


def beam_mass(coordinates):
    length = coordinates[:, 1, 0] - coordinates[:, 0, 0]
    return (RHO_A * length)[:, None, None] * INERTIA * units(length)


def cantilever(comm, count):
    """Return a model of count elements; its parameter "coordinates" has count + 1 entries."""
    (cells,) = (np.column_stack([own, own + 1]) for own in [shares(count, comm, seed=4)])
    dofs = np.stack([2 * cells - 2, 2 * cells - 1], axis=2).reshape(-1, 4)
    dofs = np.maximum(dofs, -1)  # node 0 is clamped
    ids = {"coordinates": ga.coordinate_ids(cells, 1)}
    return ga.ElementModel(
        2 * count,
        [
            ga.ElementBlock("A", dofs, ga.NumpyKernel(beam_stiffness), ids),
            ga.ElementBlock("B", dofs, ga.NumpyKernel(beam_mass), ids),
        ],
        comm=comm,
    )


def stretched(name, reference):
    """Return the map of a length, or radius, to coordinates: a multiple of reference ones."""
    column = scipy.sparse.csr_matrix(np.ravel(reference)[:, None])
    return ga.LinearMap(name, column, output="coordinates")


# -- membranes of linear triangles: coordinates (nodes, 2), dofs deflection --


def triangle(xp, c):
    """Return the products of edges (..., 3, 3) and twice the area, without abs."""
    edges = xp.stack([c[..., 2, :] - c[..., 1, :], c[..., 0, :] - c[..., 2, :],
                      c[..., 1, :] - c[..., 0, :]], axis=-2)  # fmt: skip
    (ax, ay), (bx, by) = (xp.moveaxis(edges[..., i, :], -1, 0) for i in (0, 1))
    return edges @ xp.swapaxes(edges, -1, -2), (ax * by - ay * bx)[..., None, None]


def numpy_stiffness(coordinates):
    products, double = triangle(np, coordinates)
    return products / (2 * double)


def numpy_mass(coordinates):
    return triangle(np, coordinates)[1] / 24 * (1 + np.eye(3))


KERNELS = (ga.NumpyKernel(numpy_stiffness), ga.NumpyKernel(numpy_mass))


def disk(rings):
    """Return (points, cells) of the unit disk, with the symmetry of a hexagon.

    Ring k holds 6 k nodes; the last 6 * rings nodes are those of the boundary.
    """
    points, starts = [[0.0, 0.0]], [0]
    for k in range(1, rings + 1):
        starts.append(len(points))
        angles = 2 * np.pi * np.arange(6 * k) / (6 * k)
        points += (k / rings * np.column_stack([np.cos(angles), np.sin(angles)])).tolist()
    cells = []
    for k in range(1, rings + 1):
        for sector in range(6):
            outer = [starts[k] + (sector * k + j) % (6 * k) for j in range(k + 1)]
            inner = [starts[k - 1] + (sector * (k - 1) + j) % max(6 * (k - 1), 1) for j in range(k)]
            cells += [[outer[j], outer[j + 1], inner[j]] for j in range(k)]
            cells += [[inner[j], outer[j + 1], inner[j + 1]] for j in range(k - 1)]
    return np.array(points), np.array(cells)


def membrane(comm, cells, free, kernels=KERNELS):
    """Return a model of a membrane fixed but for its first ``free`` nodes; elements anywhere."""
    own = cells[shares(len(cells), comm, seed=5)]
    dofs, ids = np.where(own < free, own, -1), {"coordinates": ga.coordinate_ids(own, 2)}
    stiffness, mass = kernels
    blocks = [
        ga.ElementBlock("A", dofs, stiffness, ids),
        ga.ElementBlock("B", dofs, mass, ids),
    ]
    return ga.ElementModel(free, blocks, comm=comm)


def disk_membrane(comm, rings, kernels=KERNELS):
    """Return (model, points) of the unit disk fixed at its boundary."""
    points, cells = disk(rings)
    return membrane(comm, cells, len(points) - 6 * rings, kernels), points


class MeanOf:
    """The mean of some eigenvalues, for members of one cluster."""

    def __init__(self, members):
        self.members = list(members)

    def __call__(self, pairs):
        bar = np.zeros(len(pairs.values))
        bar[self.members] = 1.0 / len(self.members)
        return float(pairs.values.real @ bar), ga.EigenCotangent(values=bar)

    def tangent(self, pairs, tangent):
        return ga.EigenCotangent()

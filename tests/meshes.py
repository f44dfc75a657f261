"""Small meshes of every kind of cell, and dense matrices of their integrals by other formulas."""

import itertools

import numpy as np
import scipy.linalg


def lines(x):
    """Return (points, cells) of a line through the given coordinates."""
    nodes = np.arange(len(x))
    return np.asarray(x, dtype=float)[:, None], np.column_stack([nodes[:-1], nodes[1:]])


def boxes(*axes):
    """Return (points, cells) of a grid of quadrilaterals or hexahedra."""
    sizes = [len(axis) for axis in axes]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    number = np.arange(len(points)).reshape(sizes)
    around = [(0, 0), (1, 0), (1, 1), (0, 1)]
    corners = {2: around, 3: [(*c, side) for side in (0, 1) for c in around]}[len(axes)]
    cells = [
        number[tuple(slice(o, o + n - 1) for o, n in zip(c, sizes, strict=True))] for c in corners
    ]
    return points, np.stack(cells, axis=-1).reshape(-1, len(corners))


def simplices(*axes):
    """Return (points, cells) of a grid of triangles or tetrahedra; half of them are mirrored."""
    sizes = [len(axis) for axis in axes]
    points, _ = boxes(*axes)
    number = np.arange(len(points)).reshape(sizes)
    cells = []
    for order in itertools.permutations(range(len(axes))):
        steps = np.zeros((len(axes) + 1, len(axes)), dtype=int)
        for i, axis in enumerate(order):
            steps[i + 1] = steps[i]
            steps[i + 1, axis] += 1
        parts = [
            number[tuple(slice(o, o + n - 1) for o, n in zip(c, sizes, strict=True))].ravel()
            for c in steps
        ]
        cells.append(np.stack(parts, axis=-1))
    return points, np.concatenate(cells)


def bent(points, amount=0.05):
    """Return points of the unit square or cube, moved inside of it but for its boundary."""
    bubble = np.prod(np.sin(np.pi * points), axis=1)
    return points + amount * bubble[:, None] * np.arange(1, points.shape[1] + 1)


def line_matrices(x):
    """Return (K, M, T) of a line, T (nodes, cells): textbook formulas, cell by cell."""
    n, h = len(x), np.diff(x)
    K, M, T = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n - 1))
    for e, length in enumerate(h):
        part = np.s_[e : e + 2]
        K[part, part] += np.array([[1, -1], [-1, 1]]) / length
        M[part, part] += np.array([[2, 1], [1, 2]]) * length / 6
        T[part, e] = length / 2
    return K, M, T


def box_matrices(*axes):
    """Return (K, M, T) of a grid: products of those of lines."""
    parts = [line_matrices(axis) for axis in axes]

    def product(chosen):
        found = np.ones((1, 1))
        for matrix in chosen:
            found = np.kron(found, matrix)
        return found

    bends = [
        product([K if i == axis else M for i, (K, M, _) in enumerate(parts)])
        for axis in range(len(axes))
    ]
    return sum(bends), product([M for _, M, _ in parts]), product([T for _, _, T in parts])


def simplex_matrices(points, cells):
    """Return (K, M, T) of triangles or tetrahedra: barycentric formulas, cell by cell."""
    n, dim = points.shape
    K, M, T = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, len(cells)))
    for e, nodes in enumerate(cells):
        affine = np.column_stack([np.ones(dim + 1), points[nodes]])
        size = abs(np.linalg.det(affine)) / np.prod(np.arange(1, dim + 1))
        slopes = np.linalg.inv(affine)[1:]
        place = np.ix_(nodes, nodes)
        K[place] += size * slopes.T @ slopes
        M[place] += size * (1 + np.eye(dim + 1)) / ((dim + 1) * (dim + 2))
        T[nodes, e] = size / (dim + 1)
    return K, M, T


def filter_matrix(matrices, radius):
    """Return the matrix of a Helmholtz filter: D^-1 T^T (r^2 K + M)^-1 T."""
    K, M, T = matrices
    means = T / T.sum(axis=0)
    return means.T @ scipy.linalg.solve(radius**2 / 12 * K + M, T, assume_a="pos")


X, Y, Z = np.array([0.0, 0.1, 0.3, 0.35, 0.7, 1.0]), np.array([0.0, 0.4, 1.0]), np.array([0, 0.5])
RADIUS = 0.6


def filtered_meshes():
    """Return name -> (points, cells, dense matrix of the filter), cells of unequal sizes."""
    tilt = np.array([[1.0, 0.2], [0.3, 1.1], [0.5, -0.4]])
    flat, triangles = simplices(X, Y)
    surface = np.linalg.qr(tilt)[0]
    space, solids = simplices(X, Y, Z)
    line, edges = lines(X)
    return {
        "line": (line, edges, filter_matrix(line_matrices(X), RADIUS)),
        "curve": (line * [[0.6, 0.8]], edges, filter_matrix(line_matrices(X), RADIUS)),
        "quadrilaterals": (*boxes(X, Y), filter_matrix(box_matrices(X, Y), RADIUS)),
        "hexahedra": (*boxes(X, Y, Z), filter_matrix(box_matrices(X, Y, Z), RADIUS)),
        "triangles": (
            flat @ tilt[:2],
            triangles,
            filter_matrix(simplex_matrices(flat @ tilt[:2], triangles), RADIUS),
        ),
        "surface": (
            flat @ surface.T,
            triangles,
            filter_matrix(simplex_matrices(flat, triangles), RADIUS),
        ),
        "tetrahedra": (space, solids, filter_matrix(simplex_matrices(space, solids), RADIUS)),
    }


FILTERED = [
    "line", "curve", "quadrilaterals", "hexahedra", "triangles", "surface", "tetrahedra"
]  # fmt: skip

"""The problems of the comparison, defined once with NumPy only: every environment can import it.

    A(p) = sum_e law(p_e) K_e,    B(p) likewise,    A x = lam B x

as a list of terms: an element matrix, the dofs of every element, the law of one parameter per
element. Objectives come as the derivatives of a number with respect to eigenvalues and vectors.
"""

from dataclasses import dataclass

import numpy as np

POISSON = 0.3
CORNERS = {
    2: np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]),
    3: np.array([[x, y, z] for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]),
}


@dataclass(frozen=True, eq=False)
class Term:
    """Element matrices factor(p_i) K0, with factor(v) = floor + v^exponent.

    ``dofs`` (m, k) holds -1 where a dof is constrained; ``ids`` is the place i of every
    element's value in its parameter, None: the element's number.
    """

    side: str
    parameter: str
    K0: np.ndarray
    dofs: np.ndarray
    exponent: float = 1.0
    floor: float = 0.0
    ids: np.ndarray | None = None

    @property
    def places(self):
        """The place of every element's value in its parameter."""
        return np.arange(len(self.dofs)) if self.ids is None else self.ids

    def factor(self, p):
        """Return what scales the element matrices."""
        return self.floor + p[self.parameter][self.places] ** self.exponent

    def slope(self, p):
        """Return the derivative of `factor`."""
        return self.exponent * p[self.parameter][self.places] ** (self.exponent - 1.0)


@dataclass(frozen=True, eq=False)
class Problem:
    """A pencil with its parameters and two objectives: an eigenvalue, and all of some vectors.

    Attributes
    ----------
    name, size : str
    n : int
    terms : list of Term
    p : dict
        One array of a value per element for every parameter.
    count : int
        Lowest eigenvalues wanted, those nearest to 0.
    layer : int
        Dofs on a cut across the grid between two numbers of x.
    symmetric : bool
    vector_objective : WeightedSquares or Ratio
    eigenvalue : EigenvalueSum

    """

    name: str
    size: str
    n: int
    terms: list
    p: dict
    count: int
    layer: int
    symmetric: bool
    vector_objective: object
    eigenvalue: object

    def contract(self, lefts, right):
        """Return sum_j l_j^T dA r_j + k_j^T dB r_j for every parameter, in the structure of p.

        What a user of eigd or SciPy writes: one product with K0 per term and vector.

        Parameters
        ----------
        lefts
            Blocks (n, k) by side: {"A": l, "B": k}; a side may be missing.
        right
            Block (n, k).

        """
        total = {name: np.zeros(len(values)) for name, values in self.p.items()}
        padded = {side: np.pad(left, ((0, 1), (0, 0))) for side, left in lefts.items()}
        right = np.pad(right, ((0, 1), (0, 0)))
        for term in [term for term in self.terms if term.side in lefts]:
            sums = np.zeros(len(term.dofs))
            for left, other in zip(padded[term.side].T, right.T, strict=True):
                sums += np.einsum("ej,ej->e", left[term.dofs] @ term.K0, other[term.dofs])
            moves = sums * term.slope(self.p)
            size = len(total[term.parameter])
            total[term.parameter] += np.bincount(term.places, weights=moves, minlength=size)
        return total


@dataclass(frozen=True, eq=False)
class EigenvalueSum:
    """The sum of some eigenvalues: one simple value, or all of a multiple one."""

    pairs: tuple

    def weights(self, count):
        """Return dg/dlam_j."""
        result = np.zeros(count)
        result[list(self.pairs)] = 1.0
        return result


@dataclass(frozen=True, eq=False)
class WeightedSquares:
    """g = sum_j w_j x_j^T D x_j with a diagonal D, for vectors with x^T B x = 1."""

    diagonal: np.ndarray
    weights: np.ndarray

    def __call__(self, vectors, rows=slice(None), total=lambda sums: sums):
        """Return g and dg/dX, from some rows of X and the sum over all owners of rows."""
        weighed = self.diagonal[rows, None] * vectors
        sums = np.einsum("ij,ij->j", vectors.conj(), weighed).real
        return float(self.weights @ total(sums)), 2.0 * self.weights * weighed


@dataclass(frozen=True, eq=False)
class Ratio:
    """g = c^T x_0 / d^T x_0, which does not depend on the length of x."""

    above: np.ndarray
    below: np.ndarray

    def __call__(self, vectors, rows=slice(None), total=lambda sums: sums):
        """Return g and dg/dX, from some rows of X and the sum over all owners of rows."""
        c, d = self.above[rows], self.below[rows]
        x = vectors[:, 0].real
        top, bottom = total(np.array([c @ x, d @ x]))
        slope = np.zeros(vectors.shape)
        slope[:, 0] = (c - d * (top / bottom)) / bottom
        return float(top / bottom), slope


def _gauss(dimension):
    points = np.stack(np.meshgrid(*[[-(3**-0.5), 3**-0.5]] * dimension), axis=-1)
    return points.reshape(-1, dimension)


def _shape(corners, point):
    """Return the shape functions of a unit cube or square at a point, and their gradients."""
    factors = (1 + corners * point) / 2
    slopes = np.empty(corners.shape)
    for i in range(corners.shape[1]):
        others = np.delete(factors, i, axis=1)
        slopes[:, i] = corners[:, i] * others.prod(axis=1)
    return factors.prod(axis=1), slopes


def scalar_matrices(dimension):
    """Return stiffness and mass of a scalar field on a unit square or cube."""
    corners = CORNERS[dimension]
    stiffness, mass = np.zeros((2, len(corners), len(corners)))
    for point in _gauss(dimension):
        shape, slopes = _shape(corners, point)
        stiffness += slopes @ slopes.T / 2**dimension
        mass += np.outer(shape, shape) / 2**dimension
    return stiffness, mass


def _elastic(dimension):
    if dimension == 2:  # plane stress
        elastic = np.array([[1, POISSON, 0], [POISSON, 1, 0], [0, 0, (1 - POISSON) / 2]])
        return elastic / (1 - POISSON**2)
    lame, shear = POISSON / ((1 + POISSON) * (1 - 2 * POISSON)), 1 / (2 * (1 + POISSON))
    elastic = np.diag([2 * shear] * 3 + [shear] * 3)
    elastic[:3, :3] += lame
    return elastic


def _strain(slopes):
    corners, dimension = slopes.shape
    shears = [(i, j) for i in range(dimension) for j in range(i + 1, dimension)]
    strain = np.zeros((dimension + len(shears), corners, dimension))
    for i in range(dimension):
        strain[i, :, i] = slopes[:, i]
    for row, (i, j) in enumerate(shears, start=dimension):
        strain[row, :, i], strain[row, :, j] = slopes[:, j], slopes[:, i]
    return strain.reshape(len(strain), corners * dimension)


def elastic_matrices(dimension):
    """Return stiffness and mass of an elastic unit square or cube (E = rho = 1)."""
    corners, elastic = CORNERS[dimension], _elastic(dimension)
    size = len(corners) * dimension
    stiffness = np.zeros((size, size))
    for point in _gauss(dimension):
        strain = _strain(_shape(corners, point)[1])
        stiffness += strain.T @ elastic @ strain / 2**dimension
    return stiffness, np.kron(scalar_matrices(dimension)[1], np.eye(dimension))


def grid_nodes(shape):
    """Return the nodes of every element of a grid; x is numbered slowest."""
    dimension = len(shape)
    cells = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    steps = (CORNERS[dimension] + 1) // 2
    places = cells.reshape(-1, 1, dimension) + steps
    return np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), np.add(shape, 1))


def _with_components(nodes, components):
    return (nodes[..., None] * components + np.arange(components)).reshape(len(nodes), -1)


def elasticity(name, size, shape):
    """Return a SIMP cantilever clamped at x = 0: (1e-6 + rho^3) K0, rho M0, 8 modes."""
    dimension = len(shape)
    stiffness, mass = elastic_matrices(dimension)
    layer = dimension * int(np.prod(np.add(shape[1:], 1)))
    dofs = np.maximum(_with_components(grid_nodes(shape), dimension) - layer, -1)
    n, m = layer * shape[0], int(np.prod(shape))
    cell = np.indices(shape).reshape(dimension, -1)
    waves = [np.sin(0.5 + 7.0 * c * (1.0 + 0.3 * i) / shape[0]) for i, c in enumerate(cell)]
    density = 0.6 + 0.3 * np.prod(waves, axis=0)
    assert m == density.size
    # The motion of the last quarter, where the beam is free; its edge is sharp on purpose.
    place = np.arange(n) / n
    diagonal = np.where(place > 0.75, 1.0 + np.sin(40.0 * place), 0.0)
    return Problem(
        name,
        size,
        n,
        [
            Term("A", "density", stiffness, dofs, exponent=3.0, floor=1e-6),
            Term("B", "density", mass, dofs),
        ],
        {"density": density},
        count=8,
        layer=layer,
        symmetric=True,
        vector_objective=WeightedSquares(diagonal, 1.0 + 0.25 * np.arange(8)),
        eigenvalue=EigenvalueSum((0,)),
    )


def _interior(shape, nodes):
    """Return the nodes numbered without those on the boundary, which are -1; count and places."""
    places = np.indices(np.add(shape, 1)).reshape(len(shape), -1)
    inside = np.all((places > 0) & (places < np.array(shape)[:, None]), axis=0)
    numbers = np.where(inside, np.cumsum(inside) - 1, -1)
    return numbers[nodes], int(inside.sum()), places[:, inside]


def membrane(size, cells):
    """Return a square membrane, fixed all around: values 2, 5, 5, 8, 10, 10, 13, 13 times c.

    One density per element, at which stiffness and mass are equal everywhere: the pairs are
    repeated exactly. The objectives are sums over the whole pair (1, 2), (2, 1), so that their
    derivatives exist.
    """
    stiffness, mass = scalar_matrices(2)
    dofs, n, places = _interior((cells, cells), grid_nodes((cells, cells)))
    x, y = places / cells
    weights = np.zeros(8)
    weights[1:3] = 1.0
    return Problem(
        "membrane",
        size,
        n,
        [
            Term("A", "density", stiffness * cells**2, dofs, exponent=3.0, floor=1e-6),
            Term("B", "density", mass, dofs),
        ],
        {"density": np.full(cells**2, 0.7)},
        count=8,
        layer=cells - 1,
        symmetric=True,
        vector_objective=WeightedSquares(1.0 + x + 2.0 * y**2 * x, weights),
        eigenvalue=EigenvalueSum((1, 2)),
    )


# 1/cm and cm: outer fuel, inner fuel, reflector.
MATERIALS = {
    "D1": (1.5, 1.4, 2.0),
    "D2": (0.4, 0.4, 0.3),
    "absorption1": (0.010, 0.011, 0.001),
    "absorption2": (0.080, 0.085, 0.010),
    "scattering": (0.02, 0.02, 0.04),
    "fission2": (0.135, 0.128, 0.0),
}
WIDTH = 170.0


def _kinds(cells):
    """Return the material of every cell: squares of 20 cm of two fuels in 20 cm of reflector."""
    square = (np.arange(cells) + 0.5) * WIDTH / cells // 20
    board = (square[:, None] + 2 * square[None, :]) % 3 > 0
    inside = (square > 0) & (square < 7)
    return np.where(inside[:, None] & inside[None, :], board, 2).astype(int).ravel()


def diffusion(size, cells):
    """Return two-group neutron diffusion, bilinear elements, no flux on the boundary.

        -D1 lap phi1 + (absorption1 + scattering) phi1       = lam fission2 phi2
        -D2 lap phi2 + absorption2 phi2 - scattering phi1    = 0,       lam = 1 / k

    Nonsymmetric, B of half rank; six parameters in every cell; the fundamental mode. The second
    objective is the part of the thermal flux that is in the centre.
    """
    stiffness, mass = scalar_matrices(2)
    mass = mass * (WIDTH / cells) ** 2
    nodes, half, places = _interior((cells, cells), grid_nodes((cells, cells)))
    fast, thermal = np.where(nodes < 0, -1, 2 * nodes), np.where(nodes < 0, -1, 2 * nodes + 1)
    both = np.hstack([fast, thermal])
    zero = np.zeros_like(mass)
    kinds = _kinds(cells)
    terms = [
        Term("A", "D1", stiffness, fast),
        Term("A", "D2", stiffness, thermal),
        Term("A", "absorption1", mass, fast),
        Term("A", "absorption2", mass, thermal),
        Term("A", "scattering", np.block([[mass, zero], [-mass, zero]]), both),
        Term("B", "fission2", np.block([[zero, mass], [zero, zero]]), both),
    ]
    centre = np.abs(places / cells - 0.45).max(axis=0) < 0.15
    above, below = np.zeros((2, 2 * half))
    above[1::2], below[1::2] = centre, 1.0
    return Problem(
        "diffusion",
        size,
        2 * half,
        terms,
        {name: np.array(values)[kinds] for name, values in MATERIALS.items()},
        count=1,
        layer=2 * (cells - 1),
        symmetric=False,
        vector_objective=Ratio(above, below),
        eigenvalue=EigenvalueSum((0,)),
    )

"""Free spring lattices in 2D and 3D: exact rigid-body modes, a stiffness per spring."""

from itertools import combinations, product

import numpy as np
import scipy.linalg
from pencils import petsc_matrix

import geneig_adjoint as ga

SIZES = {2: (4, 3), 3: (3, 3, 2)}
ZEROS = {2: 3, 3: 6}


class Lattice:
    """Nodes near a grid without symmetry, springs between neighbours, unequal masses."""

    def __init__(self, dimension: int, scale: float) -> None:
        rng = np.random.default_rng(3)
        grid = np.array(list(product(*(range(size) for size in SIZES[dimension]))), dtype=float)
        self.positions = grid + 0.08 * rng.standard_normal(grid.shape)
        springs = [
            (i, j)
            for i, j in combinations(range(len(grid)), 2)
            if np.abs(grid[i] - grid[j]).max() <= 1
        ]
        self.scale, self.p = scale, {"stiffness": rng.uniform(0.7, 1.3, len(springs))}
        self.units = [scale * self._spring(i, j) for i, j in springs]
        self.M = np.diag(np.repeat(rng.uniform(0.8, 1.2, len(grid)), dimension))

    def _spring(self, i, j):
        along = self.positions[j] - self.positions[i]
        row = np.zeros(self.positions.shape)
        row[i], row[j] = -along, along
        return np.outer(row, row) / (along @ along)

    @property
    def K(self):  # noqa: N802  (K is the matrix)
        return sum(k * unit for k, unit in zip(self.p["stiffness"], self.units, strict=True))

    def model(self, comm, mats):
        """Return the model; the matrices are added to a list the caller destroys."""
        made = [petsc_matrix(comm, M) for M in (0 * self.K, self.M, *self.units)]
        mats.extend(made)
        return ga.MatrixModel(made[0], made[1], {"stiffness": [(unit, None) for unit in made[2:]]})

    def exact(self):
        return scipy.linalg.eigh(self.K, self.M)

    def exact_gradient(self, j):
        x = self.exact()[1][:, j]
        return np.array([x @ unit @ x for unit in self.units])

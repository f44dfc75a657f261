"""A solid bracket: element matrices of its vibration, and the motion of its tip.

Stiffness A = sum (floor + rho_e^3) K_e and mass B = sum rho_e M_e, one density rho_e per
tetrahedron; eigenvalues are (2 pi f)^2.  The mesh is read with meshio, the element
matrices come from scikit-fem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import meshio
import numpy as np
import skfem
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

import geneig_adjoint as ga

if TYPE_CHECKING:
    from mpi4py import MPI

HERE = Path(__file__).parent
MESH = "bracket.msh"

YOUNG, POISSON, MASS_DENSITY = 70e9, 0.33, 2700.0  # aluminium: Pa, -, kg / m^3
LAME = YOUNG * POISSON / ((1 + POISSON) * (1 - 2 * POISSON))
SHEAR = YOUNG / (2 * (1 + POISSON))

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The mesh and its numbering; ``dofs`` is -1 where the part is clamped."""

    points: Floats  # (points, 3), metres
    cells: Integers  # (cells, 10), meshio's order
    dofs: Integers  # (points, 3)
    tip: Integers  # points on the inside of the bearing ring

    @property
    def n(self) -> int:
        return int(self.dofs.max()) + 1

    @property
    def cell_dofs(self) -> Integers:
        """Return (cells, 30) dof numbers: x, y, z of the first node, then the next node."""
        return self.dofs[self.cells].reshape(len(self.cells), -1)

    @property
    def centres(self) -> Floats:
        return self.points[self.cells[:, :4]].mean(axis=1)


def build(
    comm: MPI.Comm, options: Mapping[str, Any]
) -> tuple[ga.ElementModel, dict[str, Floats], ga.io.Mesh]:
    """Return the model, the densities and the mesh for pictures.

    Collective.

    Parameters
    ----------
    options
        ``mesh``: file, relative to this folder.  ``density``: the same value everywhere.
        ``pattern``: true lets the density vary smoothly between 0.6 and 1 times that.

    """
    part = load_part(options.get("mesh", MESH))
    own = own_cells(part, comm)
    stiffness, mass = element_matrices(part.points, part.cells[own])
    dofs, law = part.cell_dofs[own], ga.PowerLaw(3.0, floor=1e-6)
    blocks = [
        ga.ElementBlock("A", dofs, ga.ScaledKernel(stiffness, law), {"density": own}),
        ga.ElementBlock("B", dofs, ga.ScaledKernel(mass), {"density": own}),
    ]
    model = ga.ElementModel(n=part.n, blocks=blocks, comm=comm)
    model.part = part  # the objectives need to know where the tip is
    mesh = ga.io.Mesh(part.points, [("tetra10", part.cells)], part.dofs)
    return model, {"density": densities(part, options)}, mesh


def densities(part: Part, options: Mapping[str, Any]) -> Floats:
    """Return one density per cell."""
    waves = np.cos(part.centres @ np.array([40.0, 70.0, 30.0]))
    pattern = 0.8 + 0.2 * waves if options.get("pattern", False) else np.ones(len(part.cells))
    return float(options.get("density", 1.0)) * pattern


@cache
def load_part(name: str) -> Part:
    """Read a Gmsh file; every rank reads it and numbers the dofs alike."""
    mesh = meshio.read(HERE / name)
    cells = mesh.cells_dict["tetra10"].astype(np.int64)
    clamped, tip = face_nodes(mesh, "clamped"), face_nodes(mesh, "tip")
    return Part(mesh.points, cells, number_dofs(cells, len(mesh.points), clamped), tip)


def face_nodes(mesh: meshio.Mesh, group: str) -> Integers:
    """Return the nodes of one physical group of faces."""
    tags = mesh.cell_data_dict["gmsh:physical"]["triangle6"]
    return np.unique(mesh.cells_dict["triangle6"][tags == mesh.field_data[group][0]])


def number_dofs(cells: Integers, n_points: int, clamped: Integers) -> Integers:
    """Give numbers to the free dofs such that any range of rows is a slice of the part."""
    rows, ones = np.repeat(np.arange(len(cells)), 10), np.ones(cells.size)
    incidence = csr_array((ones, (rows, cells.ravel())), shape=(len(cells), n_points))
    order = reverse_cuthill_mckee((incidence.T @ incidence).tocsr(), symmetric_mode=True)
    free = order[~np.isin(order, clamped)]
    dofs = np.full((n_points, 3), -1, dtype=np.int64)
    dofs[free] = np.arange(3 * len(free)).reshape(-1, 3)
    return dofs


def own_cells(part: Part, comm: MPI.Comm) -> Integers:
    """Return this rank's cells: equal shares in the order of the rows."""
    order = np.argsort(part.cell_dofs.max(axis=1), kind="stable")
    return np.sort(np.array_split(order, comm.size)[comm.rank])


def element_matrices(points: Floats, cells: Integers) -> tuple[Floats, Floats]:
    """Return stiffness and mass (cells, 30, 30) of solid aluminium, dofs as in ``Part.cell_dofs``.

    Quadratic tetrahedra with curved sides.  Arrays are (cells, fields, quadrature points), and
    with G[ia, jb] = integral of d_a v_i d_b v_j the stiffness is
    lame G[ia, jb] + shear G[ib, ja] + shear (a == b) sum_c G[ic, jc].
    """
    basis = skfem.Basis(skfem.MeshTet2(points.T, cells.T), skfem.ElementTetP2(), intorder=5)
    fields = [parts[0] for parts in basis.basis]
    shapes = np.stack([np.broadcast_to(field, basis.dx.shape) for field in fields], axis=1)
    slopes = np.concatenate([field.grad for field in fields]).swapaxes(0, 1)
    products = integrals(slopes, basis.dx).reshape(-1, 10, 3, 10, 3)
    laplacian = with_identity(np.einsum("eicjc->eij", products))
    stiffness = LAME * products + SHEAR * (products.swapaxes(2, 4) + laplacian)
    mass = with_identity(MASS_DENSITY * integrals(shapes, basis.dx))
    return stiffness.reshape(-1, 30, 30), mass.reshape(-1, 30, 30)


def integrals(fields: Floats, dx: Floats) -> Floats:
    """Return the integrals of all products of two fields."""
    return (fields * dx[:, None, :]) @ fields.swapaxes(1, 2)


def with_identity(scalar: Floats) -> Floats:
    """Turn (cells, i, j) into (cells, i, a, j, b), zero unless a == b."""
    return np.einsum("eij,ab->eiajb", scalar, np.eye(3))


def tip_motion(model: ga.ElementModel, pair: int = 0) -> Callable[..., Any]:
    """Return the objective "mean squared displacement of the bearing ring" of one mode, 1 / kg.

    The mode has unit modal mass, so the number is one over the mass that a force on the
    ring feels in this mode.
    """
    weight = np.zeros(model.n)
    weight[model.part.dofs[model.part.tip]] = 1 / len(model.part.tip)
    return ga.objectives.QuadraticForm(weight[slice(*model.rows)], pairs=(pair,))

"""A cantilever plate whose material is placed so that its lowest frequency is high.

Plane stress on a grid of square elements, clamped on the left edge, with a heavy point in the
middle of the right one. One design variable per element; it is averaged over its neighbours
(filter) and pushed towards 0 and 1 (projection) before it becomes a density. Stiffness is
floor + rho^3, mass floor + rho.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import geneig_adjoint as ga

if TYPE_CHECKING:
    from mpi4py import MPI

YOUNG, POISSON, MASS_DENSITY, THICKNESS = 210e9, 0.3, 7800.0, 0.01  # steel: Pa, -, kg / m^3, m
LENGTH, HEIGHT = 3.0, 1.0  # m
POINT_MASS = 100.0  # kg, beside 234 kg of the solid plate
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])


def build(comm: MPI.Comm, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any], ga.io.Mesh]:
    """Return the model, the design at the start and the mesh for pictures.

    Collective.

    Parameters
    ----------
    options
        ``rows``: elements over the height; ``radius`` of the filter in elements; ``beta``:
        sharpness of the projection; ``start``: the variable everywhere.

    """
    rows = int(options.get("rows", 16))
    cells, dofs, points = grid(rows)
    own = np.array_split(np.arange(len(cells)), comm.size)[comm.rank]
    stiffness, mass = element_matrices(HEIGHT / rows)
    element_dofs = dofs[cells].reshape(len(cells), -1)
    ids = {"density": own}
    blocks = [
        ga.ElementBlock(
            "A", element_dofs[own], ga.ScaledKernel(stiffness, ga.PowerLaw(3.0, 1e-4)), ids
        ),
        ga.ElementBlock("B", element_dofs[own], ga.ScaledKernel(mass, ga.PowerLaw(1.0, 1e-4)), ids),
        point_mass(dofs, points, comm),
    ]
    inner = ga.ElementModel(n=int(dofs.max()) + 1, blocks=blocks, comm=comm)
    centers = points[cells].mean(axis=1)[:, :2]
    maps = [
        ga.DensityFilter("density", centers, float(options.get("radius", 1.5)) * HEIGHT / rows),
        ga.Projection("density", beta=float(options.get("beta", 4.0))),
    ]
    model = ga.Composed(inner, maps)
    model.physical = maps  # the volume is that of the densities, not of the variables
    start = np.full(len(cells), float(options.get("start", 0.5)))
    p = {"density": start, "point_mass": np.array([POINT_MASS])}
    return model, p, ga.io.Mesh(points, [("quad", cells)], dofs)


def grid(rows: int) -> tuple[Any, Any, Any]:
    """Return corners of the elements, dofs (x, y) of the points, -1 where clamped, and points."""
    columns = round(rows * LENGTH / HEIGHT)
    i, j = (part.ravel() for part in np.meshgrid(np.arange(columns), np.arange(rows)))
    corner = (i[:, None] + CORNERS[:, 0]) * (rows + 1) + j[:, None] + CORNERS[:, 1]
    x, y = np.divmod(np.arange((columns + 1) * (rows + 1)), rows + 1)
    points = np.column_stack([x, y, np.zeros_like(x)]) * (HEIGHT / rows)
    dofs = np.full((len(points), 2), -1)
    free = x > 0
    dofs[free] = np.arange(2 * free.sum()).reshape(-1, 2)
    return corner, dofs, points


def element_matrices(h: float) -> tuple[Any, Any]:
    """Return stiffness and mass (8, 8) of a bilinear square of side h in plane stress."""
    law = (
        YOUNG
        / (1 - POISSON**2)
        * np.array([[1, POISSON, 0], [POISSON, 1, 0], [0, 0, (1 - POISSON) / 2]])
    )
    stiffness, mass = np.zeros((8, 8)), np.zeros((8, 8))
    ends = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
    for x in ends:
        for y in ends:
            fx, fy = np.where(CORNERS == 1, [x, y], [1 - x, 1 - y]).T
            gx, gy = np.where(CORNERS == 1, 1, -1).T / h * np.array([fy, fx])
            strain = np.zeros((3, 8))
            strain[0, ::2], strain[1, 1::2] = gx, gy
            strain[2, ::2], strain[2, 1::2] = gy, gx
            stiffness += THICKNESS * h * h / 4 * strain.T @ law @ strain
            mass += (
                MASS_DENSITY
                * THICKNESS
                * h
                * h
                / 4
                * np.kron(np.outer(fx * fy, fx * fy), np.eye(2))
            )
    return stiffness, mass


def point_mass(dofs: Any, points: Any, comm: MPI.Comm) -> ga.ElementBlock:
    """Return the heavy point, an element of its own on rank 0; its mass is a parameter, too."""
    tip = np.argmin(np.abs(points - [LENGTH, HEIGHT / 2, 0]).sum(axis=1))
    own = np.arange(1 if comm.rank == 0 else 0)
    corners = np.broadcast_to(dofs[tip], (own.size, 2))
    return ga.ElementBlock("B", corners, ga.ScaledKernel(np.eye(2)), {"point_mass": own})


def densities(model: Any, p: Mapping[str, Any]) -> list[Any]:
    """Return p and what each map makes of it; the densities come last."""
    points = [p]
    for one in model.physical:
        points.append(one(points[-1]))
    return points


def volume(model: Any) -> Callable[..., Any]:
    """Return the objective "part of the plate that is filled"; it depends on p alone."""

    def objective(pairs: ga.Eigenpairs, p: Mapping[str, Any]) -> tuple[float, ga.EigenCotangent]:
        points = densities(model, p)
        density = points[-1]["density"]
        slope: Any = {"density": np.full(density.size, 1 / density.size), "point_mass": np.zeros(1)}
        for one, point in zip(reversed(model.physical), reversed(points[:-1]), strict=True):
            slope = one.vjp(point, slope)
        return float(density.mean()), ga.EigenCotangent(parameters=slope)

    return objective

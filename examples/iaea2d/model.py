"""Two-group diffusion on the IAEA two-dimensional PWR benchmark, by cell-centred finite volumes.

The equations, for the fast flux phi1 and the thermal flux phi2 in every cell of volume V, are

    leakage(D1) phi1 + (Sa1 + S12 + D1 Bz2) V phi1             = (1/k) nuSf2 V phi2
    leakage(D2) phi2 + (Sa2 + D2 Bz2)       V phi2 - S12 V phi1 = 0

or A phi = lam F phi with lam = 1/k. A is not symmetric and half the rows of F are zero.

References
----------
.. [1] Argonne Code Center, "Benchmark Problem Book", ANL-7416, Supplement 2, problem 11-A2, 1977.

"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import geneig_adjoint as ga

# One letter per assembly of the quarter core, whose centre is at the first letter of the first
# row; first row and first column are half assemblies, cut by the two symmetry lines.
CORE = (
    "322232214",
    "222222214",
    "222222114",
    "222222144",
    "32223114.",
    "22221144.",
    "2211144..",
    "111444...",
    "4444.....",
)
MATERIALS = ("outer fuel", "inner fuel", "fuel with rod", "reflector")

# Diffusion coefficients in cm, cross sections in 1/cm, one entry per material.
CROSS_SECTIONS = {
    "D1": (1.5, 1.5, 1.5, 2.0),
    "D2": (0.4, 0.4, 0.4, 0.3),
    "Sa1": (0.010, 0.010, 0.010, 0.0),
    "Sa2": (0.080, 0.085, 0.130, 0.010),
    "S12": (0.02, 0.02, 0.02, 0.04),
    "nuSf2": (0.135, 0.135, 0.135, 0.0),
}
ASSEMBLY_WIDTH = 20.0  # cm
CORE_WIDTH = 170.0  # cm, from the centre to the outside of the reflector
AXIAL_BUCKLING = 0.8e-4  # 1/cm2
VACUUM = 0.4692  # outgoing current divided by the flux at the surface
LITERATURE_K = 1.029585


@dataclass(frozen=True, eq=False)
class Geometry:
    """The cells of the quarter core, row by row, and the faces between them.

    Parameters
    ----------
    cell_size
        Width of the square cells in cm.
    position
        Row and column of every cell on the fine grid, shape (n_cells, 2).
    assembly
        Row and column of the assembly every cell lies in, shape (n_cells, 2).
    material
        Index of every cell's material in ``MATERIALS``.
    interior
        The two cells of every inner face, shape (n_faces, 2).
    boundary
        The cell of every face to the vacuum, shape (n_faces, 1); a cell at a corner is there twice.

    """

    cell_size: float
    position: np.ndarray
    assembly: np.ndarray
    material: np.ndarray
    interior: np.ndarray
    boundary: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of cells; the model has two unknowns per cell."""
        return len(self.material)

    def parameter_ids(self, n_parameters: int) -> np.ndarray:
        """Entry of a parameter that every cell uses, for parameters by material or by cell."""
        return self.material if n_parameters == len(MATERIALS) else np.arange(self.n_cells)

    def mean_thermal_flux(self, assembly: tuple[int, int]) -> np.ndarray:
        """Weights w over all unknowns for which w @ phi is an assembly's mean thermal flux."""
        cells = np.flatnonzero((self.assembly == np.asarray(assembly)).all(axis=1))
        if not cells.size:
            raise ga.InputError(
                f"assembly must be a row and column inside the core, got {assembly}; "
                "count both from 0"
            )
        weights = np.zeros(2 * self.n_cells)
        weights[2 * cells + 1] = 1.0 / len(cells)
        return weights


@functools.cache
def geometry(cell_size: float) -> Geometry:
    """Cut the quarter core into square cells.

    Not collective.

    Parameters
    ----------
    cell_size
        Width of a cell in cm; 10 must be a whole multiple of it.

    Raises
    ------
    InputError
        When the cells do not fit into the half assemblies.

    """
    per_half = round(0.5 * ASSEMBLY_WIDTH / cell_size) if cell_size > 0 else 0
    if per_half < 1 or not math.isclose(per_half * cell_size, 0.5 * ASSEMBLY_WIDTH):
        raise ga.InputError(f"cell_size must divide 10 cm, got {cell_size}; use 5, 2.5 or 1.25")
    n_side = round(CORE_WIDTH / ASSEMBLY_WIDTH * 2) * per_half
    assembly_of_line = (np.arange(n_side) + per_half) // (2 * per_half)
    letters = np.array([list(row) for row in CORE])[np.ix_(assembly_of_line, assembly_of_line)]
    inside = letters != "."
    position = np.argwhere(inside)
    interior, boundary = faces(inside)
    arrays = (
        position,
        assembly_of_line[position],
        letters[inside].astype(int) - 1,
        interior,
        boundary,
    )
    for array in arrays:
        array.setflags(write=False)
    return Geometry(cell_size, *arrays)


def faces(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbouring cells, and the cell of every face to the vacuum.

    The rows get shorter outwards, so vacuum lies only behind the last cell of a row or a column;
    in front of the first one is a mirror, and no current crosses it.
    """
    number = np.full(np.add(inside.shape, 1), -1)
    number[:-1, :-1][inside] = np.arange(np.count_nonzero(inside))
    cell = number[:-1, :-1]
    pairs = np.concatenate(
        [np.stack([cell, after], axis=-1)[inside] for after in (number[:-1, 1:], number[1:, :-1])]
    )
    has_neighbour = pairs[:, 1] >= 0
    return pairs[has_neighbour], pairs[~has_neighbour, :1]


def face_leakage(diffusion: np.ndarray) -> np.ndarray:
    """Couple two cells by the harmonic mean of their D; in squares, width / distance is 1."""
    first, second = diffusion.T
    coupling = 2.0 * first * second / (first + second)
    return coupling[:, None, None] * np.array([[1.0, -1.0], [-1.0, 1.0]])


def vacuum_leakage(diffusion: np.ndarray, cell_size: float) -> np.ndarray:
    """Half a cell of material in series with the vacuum: D (phi - phi_s) / (h/2) = 0.4692 phi_s."""
    half_cell = 2.0 * diffusion / cell_size
    return (cell_size * half_cell * VACUUM / (half_cell + VACUUM))[:, :, None]


def cell_losses(
    *,
    D1: np.ndarray,
    D2: np.ndarray,
    Sa1: np.ndarray,
    Sa2: np.ndarray,
    S12: np.ndarray,
    volume: float,
) -> np.ndarray:
    """Absorption, scattering from fast to thermal, and leakage along the core's axis."""
    matrix = np.zeros((len(D1), 2, 2), dtype=np.result_type(D1, D2, Sa1, Sa2, S12))
    matrix[:, 0, 0] = Sa1 + S12 + D1 * AXIAL_BUCKLING
    matrix[:, 1, 0] = -S12
    matrix[:, 1, 1] = Sa2 + D2 * AXIAL_BUCKLING
    return volume * matrix


def cell_fission(*, nuSf2: np.ndarray, volume: float) -> np.ndarray:
    """Fast neutrons made by the thermal flux."""
    matrix = np.zeros((len(nuSf2), 2, 2), dtype=nuSf2.dtype)
    matrix[:, 0, 1] = nuSf2
    return volume * matrix


def kernel_of(function: Callable[[np.ndarray], np.ndarray], name: str) -> "ga.NumpyKernel":
    """Kernel of a function of one parameter, whatever that parameter is called."""
    return ga.NumpyKernel(lambda **values: function(values[name]))


def element_blocks(
    core: Geometry, ids: np.ndarray, rank: int, size: int
) -> "list[ga.ElementBlock]":
    """Give one rank's share of the faces and cells, contiguous pieces of equal length.

    Not collective.

    Parameters
    ----------
    core
        The cells and faces.
    ids
        Entry of every parameter that a cell uses.
    rank, size
        Which piece of how many.

    """

    def share(items: np.ndarray) -> np.ndarray:
        return np.array_split(items, size)[rank]

    escape = functools.partial(vacuum_leakage, cell_size=core.cell_size)
    leakages = ((face_leakage, share(core.interior)), (escape, share(core.boundary)))
    cells = share(np.arange(core.n_cells))
    blocks = [
        ga.ElementBlock(
            "A", 2 * beside + group, kernel_of(leakage, name), parameters={name: ids[beside]}
        )
        for group, name in enumerate(("D1", "D2"))
        for leakage, beside in leakages
    ]
    unknowns = 2 * cells[:, None] + np.arange(2)
    losses = ga.NumpyKernel(functools.partial(cell_losses, volume=core.cell_size**2))
    fission = ga.NumpyKernel(functools.partial(cell_fission, volume=core.cell_size**2))
    loss_ids = dict.fromkeys(("D1", "D2", "Sa1", "Sa2", "S12"), ids[cells])
    blocks.append(ga.ElementBlock("A", unknowns, losses, parameters=loss_ids))
    blocks.append(ga.ElementBlock("B", unknowns, fission, parameters={"nuSf2": ids[cells]}))
    return blocks


def cross_sections(core: Geometry, parameters: str) -> dict[str, np.ndarray]:
    """Return the benchmark's values, one entry per material or per cell."""
    by_material = {name: np.array(values) for name, values in CROSS_SECTIONS.items()}
    if parameters == "material":
        return by_material
    if parameters == "cell":
        return {name: values[core.material] for name, values in by_material.items()}
    raise ga.InputError(
        f"parameters must be 'cell' or 'material', got {parameters!r}; correct [model.options]"
    )


def mesh_of(core: Geometry) -> "ga.io.Mesh":
    """Squares to draw on. The unknowns, two fluxes, belong to cells; the points carry none."""
    corners = core.position[:, None, :] + np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    lines, quads = np.unique(corners.reshape(-1, 2), axis=0, return_inverse=True)
    points = np.zeros((len(lines), 3))
    points[:, :2] = core.cell_size * lines[:, ::-1]
    return ga.io.Mesh(
        points,
        [("quad", quads.reshape(-1, 4))],
        dofs=np.zeros((len(points), 0), dtype=int),
        cell_dofs=np.arange(2 * core.n_cells).reshape(-1, 2),
    )


def build(
    comm: Any, options: Mapping[str, Any]
) -> "tuple[ga.ElementModel, dict[str, np.ndarray], ga.io.Mesh]":
    """Give the core as a model, its cross sections and a mesh.

    Collective.

    Parameters
    ----------
    comm
        MPI communicator over which cells and faces are spread.
    options
        ``cell_size`` in cm (2.5 when missing) and ``parameters``, "cell" (when missing)
        or "material".

    Raises
    ------
    InputError
        When an option is unknown or has a value that does not fit.

    """
    unknown = sorted(set(options) - {"cell_size", "parameters"})
    if unknown:
        raise ga.InputError(
            f"model options must be cell_size and parameters, got {unknown}; "
            "correct [model.options]"
        )
    core = geometry(float(options.get("cell_size", 2.5)))
    p = cross_sections(core, options.get("parameters", "cell"))
    ids = core.parameter_ids(len(p["nuSf2"]))
    model = ga.ElementModel(
        n=2 * core.n_cells, blocks=element_blocks(core, ids, comm.rank, comm.size), comm=comm
    )
    return model, p, mesh_of(core)


def geometry_of(model: "ga.ElementModel") -> Geometry:
    """Return the geometry a model was built on, found from its number of unknowns."""
    coarse = geometry(0.5 * ASSEMBLY_WIDTH)
    per_half = round(math.sqrt(model.n / (2 * coarse.n_cells)))
    return geometry(coarse.cell_size / per_half)


def flux_ratio(
    model: "ga.ElementModel",
    *,
    numerator: tuple[int, int],
    denominator: tuple[int, int],
    pair: int = 0,
) -> "Callable[[ga.Eigenpairs], tuple[float, ga.EigenCotangent]]":
    r"""Mean thermal flux of one assembly divided by that of another.

    Not collective; the objective it returns is.

    .. math:: g = \frac{a^T \phi}{b^T \phi}, \qquad \bar\phi = \frac{a - g b}{b^T \phi}

    The length of the flux cancels, so the normalisation does not matter.

    Parameters
    ----------
    model
        A model from ``build``.
    numerator, denominator
        Row and column of the two assemblies, counted from 0 at the core's centre.
    pair
        Number of the eigenpair.

    """
    core = geometry_of(model)
    weights = np.stack([core.mean_thermal_flux(numerator), core.mean_thermal_flux(denominator)])

    def objective(pairs: "ga.Eigenpairs") -> "tuple[float, ga.EigenCotangent]":
        own_weights = weights[:, slice(*pairs.rows)]
        above, below = pairs.comm.allreduce(own_weights @ pairs.right[:, pair].real)
        ratio = float(above / below)
        phi_bar = np.zeros_like(pairs.right)
        phi_bar[:, pair] = (own_weights[0] - ratio * own_weights[1]) / below
        return ratio, ga.EigenCotangent(right=phi_bar)

    return objective


def fission_source_norm(
    model: "ga.ElementModel", *, pair: int = 0
) -> "Callable[[ga.Eigenpairs, Mapping[str, np.ndarray]], tuple[float, ga.EigenCotangent]]":
    r"""Norm of the fission source that a flux of norm 1 makes, in 1/cm.

    Not collective; the objective it returns is.

    .. math:: g = \|S \phi\|_2, \qquad \bar\phi = S^2 \phi / g, \qquad
              \partial g / \partial S_c = S_c \phi_{2,c}^2 / g, \qquad S = \nu\Sigma_{f2}

    It changes with the length of phi, so solve with ``normalization = "2"``. It also depends on the
    cross sections themselves, not only through the flux: the cotangent's ``parameters`` say how.

    Parameters
    ----------
    model
        A model from ``build``.
    pair
        Number of the eigenpair.

    """
    core = geometry_of(model)

    def objective(
        pairs: "ga.Eigenpairs", p: Mapping[str, np.ndarray]
    ) -> "tuple[float, ga.EigenCotangent]":
        unknowns = np.arange(*pairs.rows)
        thermal = unknowns % 2 == 1
        flux = pairs.right[thermal, pair].real
        ids = core.parameter_ids(len(p["nuSf2"]))[unknowns[thermal] // 2]
        production = p["nuSf2"][ids]
        norm = math.sqrt(pairs.comm.allreduce(float(np.sum((production * flux) ** 2))))
        phi_bar = np.zeros_like(pairs.right)
        phi_bar[thermal, pair] = production**2 * flux / norm
        own_explicit = np.bincount(ids, production * flux**2 / norm, minlength=len(p["nuSf2"]))
        explicit = {"nuSf2": pairs.comm.allreduce(own_explicit)}
        return norm, ga.EigenCotangent(right=phi_bar, parameters=explicit)

    return objective

"""The IAEA 2D benchmark by SciPy alone: what the reactor example must reproduce.

Only the numbering of the cells and the benchmark's data come from ``examples/iaea2d/model.py``.
Matrices, eigenvalues and derivatives are made here in another way (currents through resistances in
series, cell by cell; fourth-order differences of the whole chain), so that this is a reference.
"""

import importlib.util
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

EXAMPLE = Path(__file__).parents[1] / "examples" / "iaea2d" / "model.py"
PCM = 1e-5
Entries = dict[tuple[int, int], float]

pytestmark = pytest.mark.any_scalars  # PETSc takes no part

QUANTITIES = ("keff", "flux_ratio", "fission_source_norm")
K_OF_CELL_SIZE = {5.0: 1.02924032, 2.5: 1.02943449, 1.25: 1.02954438}
# With cells of 5 cm: k, mean thermal flux of assembly (5, 5) over that of (2, 2), and the norm of
# the fission source (1/cm) of a flux of norm 1.
QUANTITIES_5CM = (1.0292403222, 0.32938652959, 0.03069854887)
# With cells of 5 cm: change of a quantity in 1e-5 (pcm for k) per percent of a cross section of a
# whole material, that is 1000 * Sigma * dg/dSigma; materials in the order of MODEL.MATERIALS.
SENSITIVITIES_5CM = {
    "keff": {
        "D1": (-7.8010165, -8.516589, -1.1755892, -3.8621716),
        "D2": (0.5939637, -1.231735, -0.51226256, 0.8367622),
        "Sa1": (-37.880418, -285.96633, -9.8701485, 0.0),
        "Sa2": (-126.50654, -876.01486, -23.107978, -3.2935097),
        "S12": (46.564952, 307.32829, 1.7054421, -0.48891031),
        "nuSf2": (128.53184, 879.26271, 21.445772, 0.0),
    },
    "flux_ratio": {
        "D1": (-150.0494, 209.67876, 18.552152, -179.93168),
        "D2": (55.220005, 22.365285, -1.7938288, 52.047244),
        "Sa1": (-1405.7481, 1618.4716, -55.060151, 0.0),
        "Sa2": (-5051.6462, 5251.4374, -131.07814, -196.39189),
        "S12": (1969.5753, -2037.5132, 10.872418, 2.5408722),
        "nuSf2": (4852.3489, -4972.5986, 120.24976, 0.0),
    },
    "fission_source_norm": {
        "D1": (-0.23360576, -0.023915825, -0.017679645, -0.1232612),
        "D2": (0.069411605, -0.039890494, -0.018669906, 0.12969358),
        "Sa1": (-0.57085972, 0.52174777, 0.14848366, 0.0),
        "Sa2": (-5.7384034, -23.001252, -0.16588132, 0.11288365),
        "S12": (4.4011117, 24.114053, 0.44908071, -0.018003013),
        "nuSf2": (6.1347871, 24.436216, 0.12754562, 0.0),
    },
}


def load_example() -> ModuleType:
    """Import the example's model.py, which is not part of a package."""
    spec = importlib.util.spec_from_file_location("iaea2d_model", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MODEL = load_example()


def values_of_cells(core, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Spread values by material over the cells; values by cell stay as they are."""
    return {name: np.asarray(v)[core.parameter_ids(len(v))] for name, v in values.items()}


def reference_pencil(
    cell_size: float, values: Mapping[str, np.ndarray]
) -> tuple[sp.csc_matrix, sp.csc_matrix]:
    """A and F in the example's numbering (2 cell + group), from values by material or by cell."""
    core = MODEL.geometry(cell_size)
    sigma = {name: v.tolist() for name, v in values_of_cells(core, values).items()}
    cell_at = {tuple(position): cell for cell, position in enumerate(core.position.tolist())}
    volume = cell_size**2
    removal = ([sum(pair) for pair in zip(sigma["Sa1"], sigma["S12"], strict=True)], sigma["Sa2"])
    resistances = [[0.5 * cell_size / D for D in sigma[name]] for name in ("D1", "D2")]
    losses: Entries = defaultdict(float)
    fission: Entries = {}
    for (row, column), cell in cell_at.items():
        losses[2 * cell + 1, 2 * cell] = -sigma["S12"][cell] * volume
        fission[2 * cell, 2 * cell + 1] = sigma["nuSf2"][cell] * volume
        neighbours = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        for group, diffusion in enumerate((sigma["D1"], sigma["D2"])):
            dof, resistance = 2 * cell + group, resistances[group]
            losses[dof, dof] += volume * (removal[group][cell] + 0.8e-4 * diffusion[cell])
            for place in neighbours:
                if min(place) < 0:
                    continue
                other = cell_at.get(place)
                beyond = 1.0 / 0.4692 if other is None else resistance[other]
                current = cell_size / (resistance[cell] + beyond)
                losses[dof, dof] += current
                if other is not None:
                    losses[dof, 2 * other + group] -= current
    return matrix(losses, 2 * core.n_cells), matrix(fission, 2 * core.n_cells)


def matrix(entries: Entries, n: int) -> sp.csc_matrix:
    places = np.array(list(entries)).T
    return sp.csc_matrix((list(entries.values()), places), shape=(n, n))


def fundamental_mode(
    cell_size: float, values: Mapping[str, np.ndarray]
) -> tuple[float, np.ndarray]:
    """k and its flux, of norm 1 and positive."""
    losses, fission = reference_pencil(cell_size, values)
    factor = spla.splu(losses)
    next_generation = spla.LinearOperator(
        losses.shape, matvec=lambda phi: factor.solve(fission @ phi), dtype=float
    )
    k, phi = spla.eigs(next_generation, k=1, which="LM", v0=np.ones(losses.shape[0]), tol=1e-14)
    phi = phi[:, 0] / phi[np.argmax(abs(phi[:, 0])), 0]
    return float(k[0].real), phi.real / np.linalg.norm(phi)


def derivative(function: Callable[[float], np.ndarray], step: float) -> np.ndarray:
    """Central difference of fourth order at 0."""
    near, far = function(step) - function(-step), function(2 * step) - function(-2 * step)
    return (8.0 * near - far) / (12.0 * step)


def quantities(cell_size: float, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """k, flux ratio of two assemblies and norm of the fission source, as in ``QUANTITIES``."""
    core = MODEL.geometry(cell_size)
    k, phi = fundamental_mode(cell_size, values)
    thermal = phi[1::2]
    outer, inner = (
        thermal[(core.assembly == place).all(axis=1)].mean() for place in ((5, 5), (2, 2))
    )
    source = values_of_cells(core, values)["nuSf2"] * thermal
    return np.array([k, outer / inner, np.linalg.norm(source)])


def scaled(name: str, material: int, factor: float) -> dict[str, np.ndarray]:
    """Benchmark values by material with one of them multiplied by a factor."""
    values = {key: np.array(v) for key, v in MODEL.CROSS_SECTIONS.items()}
    values[name][material] *= factor
    return values


def sensitivities(name: str, material: int, cell_size: float) -> np.ndarray:
    """Change of ``quantities`` in 1e-5 per percent of one cross section of one material."""
    slope = derivative(lambda t: quantities(cell_size, scaled(name, material, 1.0 + t)), step=1e-3)
    return 0.01 * slope / PCM


@pytest.mark.parametrize(("cell_size", "expected"), K_OF_CELL_SIZE.items())
def test_k_has_the_known_value_on_every_mesh(cell_size: float, expected: float) -> None:
    assert fundamental_mode(cell_size, MODEL.CROSS_SECTIONS)[0] == pytest.approx(expected, abs=1e-8)


def test_finest_k_is_within_5_pcm_of_the_literature() -> None:
    assert abs(K_OF_CELL_SIZE[1.25] - MODEL.LITERATURE_K) < 5 * PCM


def test_quantities_have_the_known_values() -> None:
    assert quantities(5.0, MODEL.CROSS_SECTIONS) == pytest.approx(QUANTITIES_5CM, rel=1e-9)


# The differences carry a few 1e-8 of truncation, and the eigensolver's 1e-14 divided by the step.
@pytest.mark.parametrize("name", MODEL.CROSS_SECTIONS)
@pytest.mark.parametrize("material", range(len(MODEL.MATERIALS)), ids=MODEL.MATERIALS)
def test_differences_give_the_known_sensitivities(name: str, material: int) -> None:
    expected = [SENSITIVITIES_5CM[quantity][name][material] for quantity in QUANTITIES]
    np.testing.assert_allclose(sensitivities(name, material, 5.0), expected, rtol=5e-7, atol=3e-7)


def test_k_is_proportional_to_the_fission_cross_section() -> None:
    assert sum(SENSITIVITIES_5CM["keff"]["nuSf2"]) == pytest.approx(
        0.01 * QUANTITIES_5CM[0] / PCM, rel=1e-7
    )


def test_matrices_by_cell_and_by_material_are_the_same() -> None:
    core = MODEL.geometry(5.0)
    by_material = reference_pencil(5.0, MODEL.CROSS_SECTIONS)
    by_cell = reference_pencil(5.0, values_of_cells(core, MODEL.CROSS_SECTIONS))
    assert [abs(a - b).max() for a, b in zip(by_material, by_cell, strict=True)] == [0.0, 0.0]


def test_core_is_its_own_mirror_image() -> None:
    rows = [row.ljust(9, ".") for row in MODEL.CORE]
    assert rows == ["".join(column) for column in zip(*rows, strict=True)]


def test_cells_have_the_area_of_the_core() -> None:
    widths = np.array([10.0] + [20.0] * 8)
    inside = np.array([[letter != "." for letter in row] for row in MODEL.CORE])
    assert MODEL.geometry(2.5).n_cells * 2.5**2 == widths @ inside @ widths


@pytest.mark.parametrize("cell_size", [0.0, -5.0, 4.0, 20.0, 3.0])
def test_cells_that_do_not_fit_are_refused(cell_size: float) -> None:
    with pytest.raises(ValueError, match="cell_size must divide 10 cm"):
        MODEL.geometry(cell_size)


def test_an_assembly_outside_the_core_is_refused() -> None:
    with pytest.raises(ValueError, match="row and column inside the core"):
        MODEL.geometry(5.0).mean_thermal_flux((8, 8))


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="'cell' or 'material'"):
        MODEL.cross_sections(MODEL.geometry(5.0), "assembly")


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="cell_size and parameters"):
        MODEL.build(None, {"cellsize": 5.0})

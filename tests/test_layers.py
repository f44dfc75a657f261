"""Modules import only from lower layers: the order in which the package can be read."""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_scalars

PACKAGE = Path(__file__).parents[1] / "geneig_adjoint"
ROOT = "geneig_adjoint"
README = PACKAGE.parent / "README.md"

# Lowest first: groups are the rows of the README's table, each a list of layers.  io, adapters,
# machine, pictures, study and commands are packages: one layer each, free inside.
GROUPS = [
    [{"digests", "endings", "errors", "_types", "_version", "observers"}],
    [
        {"builds", "heap", "launches", "user_options"},
        {"_petsc", "collective", "csr_matrices", "exchange", "reductions"},
        {"assembly", "block_solves", "factoring", "ghosts", "tall_blocks"},
        {"factor_copies", "one_rank_factor"},
    ],
    [{"differentiation", "energies"}, {"directions", "laws"}],
    [{"structure_kinds"}, {"structures"}, {"entrance", "parameters"}],
    [
        {
            "kept_factors",
            "near_null_space",
            "pencil_checks",
            "preconditioners",
            "symmetry",
            "views",
        },
        {"pencil"},
    ],
    [
        {"compiled_routines", "jax_support", "kernels"},
        {"compiled_kernels", "differenced_kernels", "jax_kernels"},
        {"element_blocks", "enzyme_kernels", "kernel_checks"},
        {"column_derivatives", "contraction", "element_matrices", "element_signs"},
    ],
    [{"matrix_sources"}, {"models"}, {"assembled", "elements", "operators"}],
    [
        {"cells", "maps", "shapes", "sparse_rows"},
        {"cell_matrices", "composed", "filters", "jax_plans"},
        {"helmholtz", "jax_maps"},
    ],
    [{"state_solver"}, {"state_calls", "state_problems"}, {"base_states"}, {"state_checks"}],
    [
        {"indices", "matching"},
        {"eigenpairs"},
        {"constraints", "eigenspaces", "mixing", "normalization", "wanted", "weights"},
        {"moving_rows"},
    ],
    [
        {"entrywise", "inner_solver", "sparse_lu"},
        {"block_triangular", "factorization"},
        {"divided_factors"},
        {"conditioning"},
        {"clusters"},
    ],
    [
        {"companion", "quadratic_parts"},
        {"quadratic_pairs"},
        {"quadratic_pencil"},
        {"quadratic"},
        {"quadratic_models"},
    ],
    [{"damped", "nonnormal", "spectral"}, {"evaluation", "objectives"}],
    [
        {"adjoint_settings", "bordered_matrix", "invariant_subspace"},
        {"bordered_solver", "krylov_space"},
        {"started_spaces"},
        {"block_krylov", "bordered"},
        {"deflated_cg", "exceptional_points", "near_factors"},
        {"pair_systems"},
    ],
    [
        {"cholesky"},
        {"completeness", "eps_setup", "equilibration", "preconditioned_pairs", "right_pairs"},
        {"definiteness", "extraction", "factor_estimate", "rows_beside", "simple_pairs"},
        {"eigensolver", "left_vectors"},
        {"improved_pairs", "refactored"},
        {"finished_pairs"},
        {"solve"},
        {"quadratic_solve"},
    ],
    [
        {"cluster_safety", "cotangent_tangents", "error_estimate", "gauge"},
        {"adjoint"},
        {"gradient_steps", "tangents"},
        {"sensitivity"},
        {"hessian", "repeated"},
    ],
    [{"tracking"}, {"chain"}],
    [{"gradient_reports", "noise"}, {"verification"}, {"operator_checks"}],
    [
        {"adapters", "exit_codes", "io", "machine"},
        {"pictures"},
        {"study"},
        {"commands"},
        {"__init__", "cli"},
        {"__main__"},
    ],
]
LAYERS = [layer for group in GROUPS for layer in group]
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def unit(module: str) -> str:
    """Name the entry of LAYERS a dotted module belongs to: geneig_adjoint.io.vtu -> io."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def package_of(path: str) -> list[str]:
    return [ROOT, *Path(path).parts[:-1]]


def imported_modules(path: str, source: str) -> set[str]:
    """Return the units of this package that a module imports, anywhere in its text."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package_of(path)[: -node.level + 1 or None] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            # `from package import module` and `from package import name` look the same.
            names += [
                f"{module}.{alias.name}" if is_module(module, alias.name) else module
                for alias in node.names
            ]
    return {unit(name) for name in names if name.split(".")[0] == ROOT}


def is_module(package: str, name: str) -> bool:
    folder = PACKAGE.parent.joinpath(*package.split("."))
    return (folder / f"{name}.py").exists() or (folder / name).is_dir() or name in LEVEL


def violations(path: str, source: str) -> list[str]:
    own = unit(f"{ROOT}.{path.removesuffix('.py').replace('/', '.')}")
    if own not in LEVEL:
        return [f"{path} is in no layer; give it a place in LAYERS and in the README's table"]
    targets = imported_modules(path, source) - ({own} if "/" in path else set())
    unknown = [
        f"{path} imports {target}, which is in no layer" for target in targets - LEVEL.keys()
    ]
    upward = [
        f"{path} (layer {LEVEL[own]}) must not import {target} (layer {LEVEL[target]})"
        for target in targets & LEVEL.keys()
        if LEVEL[target] >= LEVEL[own]
    ]
    return sorted(unknown + upward)


@pytest.mark.parametrize("path", MODULES)
def test_module_imports_only_from_lower_layers(path):
    found = violations(path, (PACKAGE / path).read_text())
    assert not found, "\n".join(found)


def test_every_module_has_one_place():
    placed = [module for layer in LAYERS for module in layer]
    found = {unit(f"{ROOT}.{path.removesuffix('.py').replace('/', '.')}") for path in MODULES}
    assert sorted(placed) == sorted(found)


def test_table_of_the_readme_has_these_groups():
    """Rows are groups; within a row no module stands before one that it may import."""
    text = README.read_text()
    chapter = text[text.index("## Architecture") : text.index("## Development")]
    rows = [
        re.findall(r"`(\w+)`", row.split("|")[2]) for row in chapter.splitlines() if "| `" in row
    ]
    assert [set(row) for row in rows] == [set().union(*group) for group in GROUPS]
    for row in rows:
        levels = [LEVEL[module] for module in row]
        assert levels == sorted(levels)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("adjoint.py", "import geneig_adjoint.sensitivity"),
        ("adjoint.py", "from geneig_adjoint.tracking import track"),
        ("adjoint.py", "from geneig_adjoint import study"),
        ("adjoint.py", "from geneig_adjoint import gradient"),
        ("adjoint.py", "import geneig_adjoint as ga"),
        ("adjoint.py", "from . import verification"),
        ("adjoint.py", "from .sensitivity import gradient"),
        ("adjoint.py", "if TYPE_CHECKING:\n    from geneig_adjoint.cli import main"),
        ("adjoint.py", "def f():\n    from geneig_adjoint.io import vtu"),
        ("adjoint.py", "from geneig_adjoint.adjoint import itself"),
        ("io/vtu.py", "from geneig_adjoint.adapters import dolfinx"),
        ("io/vtu.py", "from ..study import run"),
        ("io/vtu.py", "from .. import gradient"),
        ("unheard_of.py", ""),
        ("adjoint.py", "from geneig_adjoint.unheard_of import x"),
    ],
)
def test_forbidden_import_is_found(path, source):
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("adjoint.py", "import numpy\nfrom geneig_adjoint.errors import InputError"),
        ("adjoint.py", "from geneig_adjoint import bordered"),
        ("adjoint.py", "from . import _petsc"),
        ("io/vtu.py", "from .results import write\nfrom geneig_adjoint.io import matrices"),
        ("io/vtu.py", "from . import matrices\nfrom ..sensitivity import gradient"),
        ("study/__init__.py", "from .run import run\nfrom ..io import vtu"),
        ("cli.py", "from geneig_adjoint.study import run"),
    ],
)
def test_permitted_import_is_accepted(path, source):
    assert violations(path, source) == []

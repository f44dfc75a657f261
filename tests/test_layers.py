"""Modules import only from lower layers: the order in which the package can be read."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "geneig_adjoint"
ROOT = "geneig_adjoint"

# Lowest first.  io, adapters and study are packages: one layer each, free inside.
LAYERS = [
    {"errors", "_types", "_version"},
    {"collective", "_petsc", "exchange", "structure_kinds"},
    {"symmetry", "differentiation", "views", "preconditioners", "pencil_checks"},
    {"directions", "structures", "jax_support"},
    {"entrance", "compiled_routines"},
    {
        "pencil",
        "parameters",
        "kernels",
        "jax_kernels",
        "ghosts",
        "assembly",
        "indices",
        "companion",
    },
    {"cells", "shapes"},
    {"differenced_kernels", "compiled_kernels"},
    {
        "element_blocks",
        "enzyme_kernels",
        "kernel_checks",
        "sparse_rows",
        "cell_matrices",
        "matrix_sources",
        "inner_solver",
    },
    {"elements", "models", "maps", "eigenpairs", "constraints", "quadratic_parts"},
    {"operators", "state_solver"},
    {"composed", "filters", "helmholtz", "assembled", "jax_plans"},
    {"jax_maps", "state_calls", "state_problems"},
    {"base_states"},
    {"state_checks"},
    {
        "normalization",
        "factorization",
        "bordered_matrix",
        "wanted",
        "weights",
        "eigenspaces",
        "moving_rows",
    },
    {"conditioning", "mixing"},
    {"clusters", "quadratic_pairs"},
    {"adjoint_settings", "quadratic_pencil"},
    {"equilibration", "bordered_solver", "completeness", "quadratic"},
    {"invariant_subspace", "spectral", "nonnormal", "damped", "quadratic_models"},
    {"rows_beside"},
    {"right_pairs", "definiteness", "eps_setup"},
    {
        "gauge",
        "objectives",
        "evaluation",
        "eigensolver",
        "bordered",
        "block_krylov",
        "error_estimate",
        "noise",
    },
    {"left_vectors", "cluster_safety", "cotangent_tangents"},
    {"finished_pairs"},
    {"solve", "adjoint", "tracking"},
    {"tangents", "quadratic_solve"},
    {"sensitivity"},
    {"hessian", "repeated"},
    {"chain"},
    {"verification"},
    {"operator_checks"},
    {"io", "adapters"},
    {"study"},
    {"cli", "__init__"},
]
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

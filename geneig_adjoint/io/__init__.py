"""Files: matrices, element tables, results, meshes with fields.

Names are lazy: what only reads results works without PETSc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geneig_adjoint.io.elements import read_elements, write_elements
    from geneig_adjoint.io.matrices import read_matrix
    from geneig_adjoint.io.mesh import Mesh, write_vtu
    from geneig_adjoint.io.results import atomic_path, gathered, write_json

_MODULE_OF = {
    "Mesh": "mesh",
    "atomic_path": "results",
    "gathered": "results",
    "read_elements": "elements",
    "read_matrix": "matrices",
    "write_elements": "elements",
    "write_json": "results",
    "write_vtu": "mesh",
}

__all__ = [
    "Mesh",
    "atomic_path",
    "gathered",
    "read_elements",
    "read_matrix",
    "write_elements",
    "write_json",
    "write_vtu",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)

"""Files: matrices, element tables, results, meshes with fields."""

from __future__ import annotations

from geneig_adjoint.io.elements import read_elements, write_elements
from geneig_adjoint.io.matrices import read_matrix
from geneig_adjoint.io.mesh import Mesh, write_vtu
from geneig_adjoint.io.results import atomic_path, gathered, write_json

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

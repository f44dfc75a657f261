"""Files: matrices, element tables, results, meshes with fields."""

from __future__ import annotations

from geneig_adjoint.io.arrays import read_vector
from geneig_adjoint.io.element_checks import TableReport, check_elements
from geneig_adjoint.io.elements import read_elements, write_elements
from geneig_adjoint.io.hdf5_writer import (
    checked_dataset,
    write_attributes,
    write_mesh,
    written_hdf5,
)
from geneig_adjoint.io.matrices import read_matrix
from geneig_adjoint.io.mesh import Mesh
from geneig_adjoint.io.read_results import Results, read_results
from geneig_adjoint.io.results import atomic_path, gathered, write_json
from geneig_adjoint.io.vtu import VtuFile, write_vtu

__all__ = [
    "Mesh",
    "Results",
    "TableReport",
    "VtuFile",
    "atomic_path",
    "check_elements",
    "checked_dataset",
    "gathered",
    "read_elements",
    "read_matrix",
    "read_results",
    "read_vector",
    "write_attributes",
    "write_elements",
    "write_json",
    "write_mesh",
    "write_vtu",
    "written_hdf5",
]

"""Files: matrices, element tables, results, meshes with fields.

Names are lazy: what only reads results works without PETSc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from geneig_adjoint.io.results import atomic_path, gathered, write_json
    from geneig_adjoint.io.vtu import VtuFile, write_vtu
    from geneig_adjoint.io.written_results import Results, read_results

_MODULE_OF = {
    "Mesh": "mesh",
    "Results": "written_results",
    "TableReport": "element_checks",
    "VtuFile": "vtu",
    "atomic_path": "results",
    "check_elements": "element_checks",
    "checked_dataset": "hdf5_writer",
    "gathered": "results",
    "read_elements": "elements",
    "read_matrix": "matrices",
    "read_results": "written_results",
    "read_vector": "arrays",
    "write_attributes": "hdf5_writer",
    "write_elements": "elements",
    "write_json": "results",
    "write_mesh": "hdf5_writer",
    "write_vtu": "vtu",
    "written_hdf5": "hdf5_writer",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)

"""Element tables: one HDF5 file that any finite element code can write.

Layout, version 1::

    /                    attributes: format = "geneig_adjoint elements", version = 1, n
    /blocks/0, 1, ...    attributes: matrix = "A" or "B"; law = "linear" or "power" (with
                         exponent and floor: floor + rho^exponent); parameter = its name
        dofs             (n_elements, nd) integers, global rows from 0, -1: constrained
        matrices         (nd, nd) shared by all elements, or (n_elements, nd, nd)
        ids              (n_elements,) integers: the element's entry in the parameter
    /parameters/<name>   (m,) values at which the study starts
    /mesh                optional: points (n_points, 3), dofs (n_points, d),
                         cells/0, 1, ... (attribute type: meshio's name)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.element_blocks import ElementBlock
from geneig_adjoint.elements import ElementModel
from geneig_adjoint.errors import InputError
from geneig_adjoint.io.mesh import Mesh
from geneig_adjoint.io.results import atomic_path
from geneig_adjoint.kernels import ScaledKernel
from geneig_adjoint.laws import Law, Linear, PowerLaw

if TYPE_CHECKING:
    from mpi4py import MPI

FORMAT = "geneig_adjoint elements"
VERSION = 1


def write_elements(
    path: str | Path,
    n: int,
    blocks: Sequence[ElementBlock],
    p: dict[str, Block],
    *,
    mesh: Mesh | None = None,
) -> None:
    """Write an element table.

    Not collective: call it on one rank, with all elements.

    Parameters
    ----------
    path
        File to write (atomically).
    n
        Number of free dofs.
    blocks
        Blocks with a `ScaledKernel` of law `Linear` or `PowerLaw`.
    p
        Values of the parameters.
    mesh
        For pictures.

    Raises
    ------
    InputError
        For kernels or laws a table cannot hold.

    """
    with atomic_path(Path(path)) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "n": n})
        for index, block in enumerate(blocks):
            _write_block(file.create_group(f"blocks/{index}"), index, block)
        for name, values in p.items():
            file[f"parameters/{name}"] = np.asarray(values, dtype=float)
        if mesh is not None:
            group = file.create_group("mesh")
            group["points"], group["dofs"] = mesh.points, mesh.dofs
            for index, (kind, numbers) in enumerate(mesh.cells):
                group[f"cells/{index}"] = numbers
                group[f"cells/{index}"].attrs["type"] = kind


def _write_block(group: Any, index: int, block: ElementBlock) -> None:
    kernel = block.kernel
    law = kernel.law if isinstance(kernel, ScaledKernel) else None
    if not isinstance(kernel, ScaledKernel) or not isinstance(law, Linear | PowerLaw):
        raise InputError(
            f"block {index} must have a ScaledKernel with a Linear or PowerLaw, got "
            f"{type(kernel).__name__} ({law!r}); other kernels need a Python model"
        )
    if len(block.parameters) != 1:
        raise InputError(
            f"block {index} must have one parameter, got {sorted(block.parameters)}; "
            "name the one that scales its matrices"
        )
    name, ids = next(iter(block.parameters.items()))
    group.attrs.update({"matrix": block.matrix, "parameter": name})
    if isinstance(law, PowerLaw):
        group.attrs.update({"law": "power", "exponent": law.p, "floor": law.floor})
    else:
        group.attrs["law"] = "linear"
    group["dofs"], group["ids"], group["matrices"] = block.dofs, np.asarray(ids), kernel.base


def read_elements(
    path: str | Path, comm: MPI.Comm
) -> tuple[ElementModel, dict[str, Block], Mesh | None]:
    """Return model, parameters and mesh of an element table.

    Collective. Every rank reads its share of the elements only.

    Raises
    ------
    InputError
        Files that are missing, not an element table, or of inconsistent shapes.

    """
    error: Exception | None = None
    content: tuple[int, list[ElementBlock], dict[str, Block], Mesh | None] | None = None
    try:
        with h5py.File(path, "r") as file:
            content = _content(file, comm)
    except InputError as caught:
        error = caught
    except (OSError, LookupError, ValueError, TypeError, AttributeError) as caught:
        error = InputError(
            f"{path} must be an element table, got {type(caught).__name__}: {caught}; write it "
            "with geneig_adjoint.io.write_elements"
        )
    raise_together(comm, error)
    assert content is not None
    n, blocks, p, mesh = content
    return ElementModel(n, blocks, comm=comm), p, mesh


def _content(
    file: Any, comm: MPI.Comm
) -> tuple[int, list[ElementBlock], dict[str, Block], Mesh | None]:
    if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
        raise InputError(
            f"{file.filename} must have format {FORMAT!r} version {VERSION}, got "
            f"{file.attrs.get('format')!r} version {file.attrs.get('version')}; write it with "
            "geneig_adjoint.io.write_elements"
        )
    blocks = [_read_block(file["blocks"][key], comm) for key in sorted(file["blocks"], key=int)]
    p = {name: values[()] for name, values in file["parameters"].items()}
    for name, values in p.items():
        if np.ndim(values) != 1:
            raise InputError(
                f"/parameters/{name} must be a 1-D array, got shape {np.shape(values)}; write the "
                "table again"
            )
    mesh = None
    if "mesh" in file:
        group = file["mesh"]
        cells = [
            (str(group["cells"][key].attrs["type"]), group["cells"][key][()])
            for key in sorted(group["cells"], key=int)
        ]
        mesh = Mesh(group["points"][()], cells, group["dofs"][()])
    return int(file.attrs["n"]), blocks, p, mesh


def _read_block(group: Any, comm: MPI.Comm) -> ElementBlock:
    count = group["dofs"].shape[0]
    first, last = (count * (comm.rank + i) // comm.size for i in (0, 1))
    matrices = group["matrices"]
    shared = matrices.ndim == 2
    if (not shared and matrices.shape[0] != count) or group["ids"].shape != (count,):
        raise InputError(
            f"{group.name} must have {count} elements in every dataset, got matrices "
            f"{matrices.shape} and ids {group['ids'].shape}; write the table again"
        )
    base = matrices[()] if shared else matrices[first:last]
    return ElementBlock(
        str(group.attrs["matrix"]),
        group["dofs"][first:last],
        ScaledKernel(base, _law(group)),
        {str(group.attrs["parameter"]): group["ids"][first:last]},
    )


def _law(group: Any) -> Law:
    law = group.attrs["law"]
    if law == "linear":
        return Linear()
    if law == "power":
        return PowerLaw(float(group.attrs["exponent"]), float(group.attrs["floor"]))
    raise InputError(f'{group.name} must have law "linear" or "power", got {law!r}; correct it')

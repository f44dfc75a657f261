"""Element tables: one HDF5 file that any finite element code can write.

The layout stands at the top of `table_layout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from petsc4py import PETSc

from geneig_adjoint._types import Block
from geneig_adjoint.assembly import equal_layout
from geneig_adjoint.builds import index_error
from geneig_adjoint.collective import guard
from geneig_adjoint.element_blocks import ElementBlock
from geneig_adjoint.elements import ElementModel
from geneig_adjoint.errors import InputError
from geneig_adjoint.io.element_checks import check_elements
from geneig_adjoint.io.hdf5_writer import (
    checked_dataset,
    write_attributes,
    write_mesh,
    written_hdf5,
)
from geneig_adjoint.io.mesh import Mesh
from geneig_adjoint.io.results import atomic_path
from geneig_adjoint.io.table_layout import (
    FORMAT,
    VERSION,
    Table,
    TableBlock,
    opened_table,
    table_of,
)
from geneig_adjoint.io.table_pieces import (
    check_readable,
    read_matrices,
    read_mesh_of,
    read_parameter,
    read_places,
    read_shared_matrix,
)
from geneig_adjoint.kernels import ScaledKernel
from geneig_adjoint.laws import Linear, PowerLaw
from geneig_adjoint.parameters import Gradient
from geneig_adjoint.reductions import allreduce_same

if TYPE_CHECKING:
    from mpi4py import MPI

PIECE = 1_000_000
"""Matrix entries that a rank reads and sends at once: 8 MB."""
DISTRIBUTED_FROM = 1_000_000
"""Entries of a parameter above which ``distributed=None`` makes PETSc vectors."""
BINS = 10_000
"""Intervals of dofs at whose ends elements are shared out among the ranks."""


def write_elements(
    path: str | Path,
    n: int,
    blocks: Sequence[ElementBlock],
    p: dict[str, Block],
    *,
    mesh: Mesh | None = None,
) -> None:
    """Write an element table, with checksums, and check it.

    Not collective: call it on one rank, with all elements. Needs HDF5 1.10 to be read.

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
        For kernels or laws a table cannot hold, and for what `check_elements` refuses.

    """
    with atomic_path(Path(path)) as temporary:
        with written_hdf5(temporary) as file:
            write_attributes(file, format=FORMAT, version=VERSION, n=n)
            for index, block in enumerate(blocks):
                _write_block(file.create_group(f"blocks/{index}"), index, block)
            for name, values in p.items():
                group = file.require_group("parameters")
                checked_dataset(group, name, np.asarray(values, dtype=float))
            if mesh is not None:
                write_mesh(file, mesh)
        check_elements(temporary)


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
    write_attributes(group, matrix=block.matrix, parameter=name)
    if isinstance(law, PowerLaw):
        write_attributes(group, law="power", exponent=law.p, floor=law.floor)
    else:
        write_attributes(group, law="linear")
    parts = {"dofs": block.dofs, "ids": np.asarray(ids), "matrices": kernel.base}
    for part, values in parts.items():
        checked_dataset(group, part, values)


def read_elements(
    path: str | Path, comm: MPI.Comm, *, distributed: bool | None = False
) -> tuple[ElementModel, Gradient, Mesh | None]:
    """Return model, parameters and mesh of an element table.

    Collective. Every rank reads and checks its share, and passes each element on to the rank
    that owns the rows around it: no rank holds the whole model.

    Parameters
    ----------
    path
        The file; every rank must see it.
    comm
        Ranks of the model.
    distributed
        Parameters as PETSc.Vec, which belong to the caller, in place of arrays of which
        every rank has a copy; None: if one has more than `DISTRIBUTED_FROM` entries.

    Returns
    -------
    model : ElementModel
    p : dict
    mesh : Mesh or None
        On rank 0; None on the others.

    Raises
    ------
    InputError
        As in `check_elements`, whose notes are not looked for.

    """
    mesh = None
    with guard(comm):
        if comm.rank == 0:
            check_readable(path)
    with ExitStack() as opened:
        with guard(comm):
            file = opened.enter_context(opened_table(path))
            table = table_of(file)
            unfit = index_error(table.n, "rows")
            if unfit is not None:
                raise unfit
            if comm.rank == 0:
                mesh = read_mesh_of(file, table)
        blocks = [_read_block(file[block.name], block, table, comm) for block in table.blocks]
        if distributed is None:
            distributed = max(table.sizes.values()) > DISTRIBUTED_FROM
        read = _share if distributed else _replicated
        values = {
            name: read(file["parameters"][name], name, size, comm)
            for name, size in sorted(table.sizes.items())
        }
    p: Gradient = dict(values)
    if distributed:  # all have been read: no vector is left over by an error
        p = {name: _vector(values[name], table.sizes[name], comm) for name in values}
    return ElementModel(table.n, blocks, comm=comm), p, mesh


def _read_block(group: Any, block: TableBlock, table: Table, comm: MPI.Comm) -> ElementBlock:
    """Return the elements of a block around this rank's rows.  (Collective.)"""
    first, last = (block.count * (comm.rank + i) // comm.size for i in (0, 1))
    with guard(comm):
        dofs, ids = read_places(group, block, table, slice(first, last))
        shared = read_shared_matrix(group, block) if block.shared else np.zeros((0, 0))
    owners = _owners(dofs, table.n, comm)
    count = sum(comm.alltoall(np.bincount(owners, minlength=comm.size).tolist()))
    kind = _kept_kind(group["matrices"].dtype)
    found = (
        np.empty((count, block.nd), dtype=np.int64),
        np.empty(count, dtype=np.int64),
        np.empty((0 if block.shared else count, block.nd, block.nd), dtype=kind),
    )
    step, filled = max(1, PIECE // max(block.nd**2, 1)), 0
    for start in range(0, -(-block.count // comm.size), step):
        rows = slice(start, min(start + step, last - first))
        matrices = found[2][:0]
        with guard(comm):
            if not block.shared:
                here = slice(first + rows.start, first + rows.stop)
                matrices = read_matrices(group, block, here)
        filled = _exchange(comm, owners[rows], (dofs[rows], ids[rows], matrices), found, filled)
    base = shared if block.shared else found[2]
    kernel = ScaledKernel(base.astype(kind, copy=False), block.law)
    return ElementBlock(block.matrix, found[0], kernel, {block.parameter: found[1]})


def _kept_kind(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that matrices have in memory: float or complex, short ones as they are."""
    if stored.name in {"float32", "complex64"}:
        return np.dtype(stored.newbyteorder("="))
    return np.dtype(complex if stored.kind == "c" else float)


def _owners(dofs: Block, n: int, comm: MPI.Comm) -> Block:
    """Return a rank for each element, such that all have as many and rising dofs.  (Collective.)

    The owners of rows have rising dofs, too: most rows of an element are then its rank's own.
    """
    free = dofs >= 0
    middle = (dofs * free).sum(axis=1) / np.maximum(free.sum(axis=1), 1)
    bins = (middle * (BINS / n)).astype(np.int64)
    sizes = allreduce_same(comm, np.bincount(bins, minlength=BINS))
    before = np.cumsum(sizes) - (sizes + 1) // 2
    ranks = before * comm.size // max(int(sizes.sum()), 1)
    return np.asarray(np.clip(ranks, 0, comm.size - 1)[bins])


def _exchange(
    comm: MPI.Comm,
    owners: Block,
    parts: tuple[Block, ...],
    found: tuple[Block, ...],
    filled: int,
) -> int:
    """Send elements to their ranks, put what arrives into ``found``; return how much is there."""
    outgoing = [[part[owners == r] for part in parts if len(part)] for r in range(comm.size)]
    for incoming in comm.alltoall(outgoing):
        count = len(incoming[0]) if incoming else 0
        for target, part in zip(found, incoming, strict=False):
            target[filled : filled + count] = part
        filled += count
    return filled


def _replicated(dataset: Any, name: str, size: int, comm: MPI.Comm) -> Block:
    values = np.zeros(size)
    with guard(comm):
        if comm.rank == 0:
            values[:] = read_parameter(dataset, name, slice(0, size))
    comm.Bcast(values, root=0)
    return values


def _share(dataset: Any, name: str, size: int, comm: MPI.Comm) -> Block:
    local = equal_layout(comm, size)[0]
    first = int(np.sum(comm.allgather(local)[: comm.rank], dtype=np.int64))
    with guard(comm):
        return read_parameter(dataset, name, slice(first, first + local))


def _vector(values: Block, size: int, comm: MPI.Comm) -> PETSc.Vec:
    vec = PETSc.Vec().createMPI((len(values), size), comm=comm)
    vec.array[:] = values
    return vec

"""What an element table looks like, and what can be wrong with one.

Layout, version 1::

    /                    attributes: format = "geneig_adjoint elements", version = 1, n
    /blocks/0, 1, ...    attributes: matrix = "A" or "B"; law = "linear" or "power" (with
                         exponent and floor: floor + rho^exponent); parameter = its name
        dofs             (n_elements, nd) integers, global rows from 0, -1: constrained
        matrices         (nd, nd) shared by all elements, or (n_elements, nd, nd); real or
                         complex, of any symmetry
        ids              (n_elements,) integers: the element's entry in the parameter
    /parameters/<name>   (m,) values at which the study starts
    /mesh                optional: points (n_points, 3), dofs (n_points, d),
                         cells/0, 1, ... (attribute type: meshio's name); cell_dofs
                         (n_cells, d) where unknowns belong to cells
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint.errors import InputError
from geneig_adjoint.io.mesh import Mesh
from geneig_adjoint.io.own_hdf5 import h5py
from geneig_adjoint.laws import Law, Linear, PowerLaw

FORMAT = "geneig_adjoint elements"
VERSION = 1
ROOT_ATTRIBUTES = {"format", "version", "n"}
LAW_ATTRIBUTES: dict[str, set[str]] = {"linear": set(), "power": {"exponent", "floor"}}
BLOCK_ATTRIBUTES = {"matrix", "law", "parameter"}
NOT_THERE = {errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
LOCKED = {errno.EAGAIN, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
DENSEST = 1032
"""Compressed data are at most so many times smaller than their values, as in deflate."""


@dataclass(frozen=True)
class TableBlock:
    """One block of a table: its place in the file, sizes, and how its matrices are scaled."""

    name: str
    matrix: str
    parameter: str
    law: Law
    count: int
    nd: int
    shared: bool
    is_complex: bool


@dataclass(frozen=True)
class Table:
    """A table without its data."""

    n: int
    blocks: tuple[TableBlock, ...]
    sizes: dict[str, int]
    has_mesh: bool


@contextmanager
def opened_table(path: str | Path) -> Iterator[Any]:
    """Open a table; what HDF5 cannot read is an InputError.  (Not collective.)"""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError as error:
        error.args = (f"{path}: {error}",)
        raise
    except Exception as caught:  # a damaged file fails in any way
        raise _unreadable(path, caught) from caught


def _unreadable(path: str | Path, caught: Exception) -> InputError:
    """Describe what HDF5 met, whose own texts are long."""
    text, number = " ".join(str(caught).split()), getattr(caught, "errno", None)
    remedy = "write it with geneig_adjoint.io.write_elements"
    if number in NOT_THERE:
        text, remedy = os.strerror(number), "check name and rights"
    elif number in LOCKED:
        remedy = (
            "wait until nobody writes it; where the file system has no locks, "
            "export HDF5_USE_FILE_LOCKING=FALSE"
        )
    elif "filter returned failure" in text or "checksum" in text:
        remedy = "its checksums do not fit: it was damaged after it was written, copy it again"
    return InputError(
        f"{path} must be an element table, got {type(caught).__name__}: {text}; {remedy}"
    )


def table_of(file: Any) -> Table:
    """Return what is in an open table; no data are read, all shapes and kinds are checked.

    Not collective.

    Raises
    ------
    InputError
        With the place inside the file.

    """
    _check_version(file)
    n = _whole_number(file, "n")
    if n < 1:
        raise InputError(f"/ must have n >= 1 free dofs, got {n}; write the table again")
    _check_names("attribute of /", file.attrs, ROOT_ATTRIBUTES)
    _check_names("entry of /", file, {"blocks", "parameters", "mesh"})
    sizes = {
        name: _dataset(group, name, "fiu", 1).shape[0]
        for group in [_group(file, "parameters")]
        for name in group
    }
    groups = _group(file, "blocks")
    odd = [name for name in groups if not name.isdecimal()]
    if odd or not len(groups):
        raise InputError(
            f"/blocks must hold blocks named 0, 1, ..., got {odd[0] if odd else 'none'!r}; "
            "write the table again"
        )
    blocks = tuple(_block(groups[name], sizes) for name in sorted(groups, key=int))
    if all(block.matrix != "A" for block in blocks):
        raise InputError('/blocks must fill A, got none with matrix = "A"; add its elements')
    if not any(block.count for block in blocks if block.matrix == "A"):
        raise InputError('the blocks with matrix = "A" must have elements, got none; add them')
    unused = sorted(set(sizes) - {block.parameter for block in blocks})
    if unused:
        raise InputError(
            f"/parameters must hold what blocks name, got {unused[0]!r} that none does; leave it "
            "out, or correct the attribute parameter of its block"
        )
    return Table(n, blocks, sizes, "mesh" in file)


def _check_version(file: Any) -> None:
    kind, version = text_attribute(file, "format"), _whole_number(file, "version")
    if (kind, version) != (FORMAT, VERSION):
        remedy = "write it with geneig_adjoint.io.write_elements"
        if kind == FORMAT:
            remedy = "update geneig_adjoint, or write the table in this version"
        raise InputError(
            f"the table must have format {FORMAT!r} version {VERSION}, got {kind!r} version "
            f"{version}; {remedy}"
        )


def _block(group: Any, sizes: dict[str, int]) -> TableBlock:
    matrix, parameter, law = (text_attribute(group, key) for key in ("matrix", "parameter", "law"))
    if matrix not in {"A", "B"}:
        raise InputError(f'{group.name}: matrix must be "A" or "B", got {matrix!r}; correct it')
    if parameter not in sizes:
        raise InputError(
            f"{group.name} must name one of /parameters ({', '.join(sorted(sizes)) or 'none'}), "
            f"got {parameter!r}; write its values there"
        )
    if law not in LAW_ATTRIBUTES:
        raise InputError(f'{group.name} must have law "linear" or "power", got {law!r}; correct it')
    _check_names(f"attribute of {group.name}", group.attrs, BLOCK_ATTRIBUTES | LAW_ATTRIBUTES[law])
    _check_names(f"entry of {group.name}", group, {"dofs", "matrices", "ids"})
    dofs, ids = _dataset(group, "dofs", "iu", 2), _dataset(group, "ids", "iu", 1)
    matrices = _dataset(group, "matrices", "fiuc", 2, 3)
    count, nd = dofs.shape
    if matrices.shape not in {(nd, nd), (count, nd, nd)} or ids.shape != (count,):
        raise InputError(
            f"{group.name} must have {count} elements in every dataset, matrices of {nd} x {nd} "
            f"as dofs has columns, got matrices {matrices.shape} and ids {ids.shape}; write the "
            "table again"
        )
    is_complex = matrices.dtype.kind == "c"
    if is_complex:
        _check_scalars(group.name)
    shared = matrices.ndim == 2
    return TableBlock(
        group.name, matrix, parameter, _law(group, law), count, nd, shared, is_complex
    )


def _check_scalars(name: str) -> None:
    from geneig_adjoint import _petsc  # results and real tables are read without PETSc, too

    if _petsc.REAL_SCALARS:
        raise _petsc.real_scalar_error(f"the matrices of {name}")


def _law(group: Any, law: str) -> Law:
    if law == "linear":
        return Linear()
    return PowerLaw(_number(group, "exponent"), _number(group, "floor"))


def _check_names(what: str, found: Collection[str], known: Collection[str]) -> None:
    for name in found:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {sorted(known)}"
            raise InputError(f"{what} must be a known name, got {name!r}; {hint}")


def _group(parent: Any, name: str) -> Any:
    found = parent.get(name)
    if not isinstance(found, h5py.Group):
        raise InputError(
            f"{parent.name} must have a group {name!r}, got {type(found).__name__}; write it"
        )
    return found


def _dataset(group: Any, name: str, kinds: str, *dimensions: int) -> Any:
    """Return a dataset of the right kind and dimensions, which the file can hold."""
    found, where = group.get(name), f"{group.name}/{name}"
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{where} must be a dataset, got {type(found).__name__}; write it")
    if found.dtype.kind not in kinds or found.ndim not in dimensions:
        what = {"iu": "whole numbers", "fiu": "real numbers", "fiuc": "numbers"}[kinds]
        raise InputError(
            f"{where} must be an array of {what} with {' or '.join(map(str, dimensions))} "
            f"dimensions, got {found.dtype} of shape {found.shape}; write the table again"
        )
    stored = found.id.get_storage_size()
    if found.size and found.external is None and found.nbytes > DENSEST * stored:
        raise InputError(
            f"{where} must be written, got {stored} bytes for shape {found.shape}; the file is "
            "damaged or unfinished"
        )
    return found


def _attribute(place: Any, name: str) -> Any:
    """Return an attribute, also of writers that make one-entry arrays of all of them."""
    if name not in place.attrs:
        raise InputError(f"{place.name} must have an attribute {name!r}, got none; write it")
    found = place.attrs[name]
    return found.reshape(-1)[0] if isinstance(found, np.ndarray) and found.size == 1 else found


def text_attribute(place: Any, name: str) -> str:
    """Return an attribute, of fixed or any length, as a text.  (Not collective.)"""
    found = _attribute(place, name)
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


def _whole_number(place: Any, name: str) -> int:
    found = _attribute(place, name)
    if not isinstance(found, int | np.integer):
        raise InputError(f"{place.name} must have a whole number {name!r}, got {found!r}; write it")
    return int(found)


def _number(place: Any, name: str) -> float:
    found = _attribute(place, name)
    if not isinstance(found, int | float | np.integer | np.floating) or not np.isfinite(found):
        raise InputError(f"{place.name} must have a number {name!r}, got {found!r}; correct it")
    return float(found)


def read_mesh(file: Any) -> Mesh | None:
    """Return the mesh of an open table or result, None without one.  (Not collective.)

    Raises
    ------
    InputError
        When something is missing or of another kind.

    """
    if "mesh" not in file:
        return None
    group = _group(file, "mesh")
    parts = _group(group, "cells")
    odd = [name for name in parts if not name.isdecimal()]
    if odd:
        raise InputError(f"{parts.name} must hold cells named 0, 1, ..., got {odd[0]!r}; rename it")
    cells = [
        (text_attribute(found, "type"), found[()])
        for found in (_dataset(parts, name, "iu", 2) for name in sorted(parts, key=int))
    ]
    by_cell = _dataset(group, "cell_dofs", "iu", 2)[()] if "cell_dofs" in group else None
    points, dofs = (_dataset(group, *kind, 2)[()] for kind in (("points", "fiu"), ("dofs", "iu")))
    return Mesh(points, cells, dofs, by_cell)

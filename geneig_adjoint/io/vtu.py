"""VTU files, which ParaView, VTK and meshio read: written field by field, one in memory."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError
from geneig_adjoint.io.mesh import CELL_TYPES, Mesh
from geneig_adjoint.io.results import atomic_path

PIECE = 3_000_000
"""Bytes encoded at once; a multiple of 3, so that the parts of base64 fit together."""
TYPES: dict[str, tuple[str, Any]] = {
    "f": ("Float64", np.float64),
    "i": ("Int64", np.int64),
    "u": ("UInt64", np.uint64),
}
OCTETS = ("UInt8", np.uint8)
"""What VTK wants the types of cells to be."""
WEDGE = [0, 2, 1, 3, 5, 4]
"""VTK turns linear wedges the other way round than meshio and most codes."""


class VtuFile:
    """A VTU file that is being written; fields of points come before those of cells.

    Not collective: for one rank. A field whose name is taken gets underscores behind it.

    Parameters
    ----------
    path
        File to write, not atomically.
    mesh
        Without errors.
    run
        Name of the run it belongs to, a hexadecimal number; written as field data "run".

    """

    def __init__(self, path: Path, mesh: Mesh, *, run: str | None = None) -> None:
        self._mesh, self._run = mesh, run
        self._section = ""
        self._named: set[tuple[str, str]] = set()
        # Without a buffer: what cannot be written must not be tried again by the destructor.
        self._stream = path.open("wb", buffering=0)
        try:
            self._begin()
        except BaseException:
            self._stream.close()
            raise

    def _begin(self) -> None:
        mesh, order = self._mesh, "LittleEndian" if sys.byteorder == "little" else "BigEndian"
        self._say('<?xml version="1.0"?>')
        self._say(
            '<VTKFile type="UnstructuredGrid" version="1.0" header_type="UInt64" '
            f'byte_order="{order}"><UnstructuredGrid>'
        )
        if self._run is not None:  # a number: not all readers know texts
            self._enter("FieldData")
            self._array("run", np.array([int(self._run, 16)], dtype=np.uint64))
            self._enter("")
        self._say(f'<Piece NumberOfPoints="{len(mesh.points)}" NumberOfCells="{mesh.cell_count}">')
        self._enter("Points")
        self._array("Points", np.asarray(mesh.points, dtype=float))
        self._enter("Cells")
        self._write_cells()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, _: object, __: object) -> None:
        try:
            if kind is None:
                self._enter("")
                self._say("</Piece></UnstructuredGrid></VTKFile>")
        finally:
            self._stream.close()

    def point_field(self, name: str, values: Block) -> None:
        """Write a field (n_points, ...); complex ones as ``_re`` and ``_im``."""
        self._field("PointData", name, values, len(self._mesh.points))

    def cell_field(self, name: str, values: Block) -> None:
        """Write a field (n_cells, ...), in the order of the mesh's cells.

        Raises
        ------
        InputError
            When it has another length, or no components.

        """
        self._field("CellData", name, values, self._mesh.cell_count)

    def _field(self, section: str, name: str, values: Block, count: int) -> None:
        if len(values) != count:
            what = section.removesuffix("Data").lower()
            raise InputError(
                f"{what} field {name!r} must have {count} entries, got {len(values)}; "
                f"give one value per {what}"
            )
        if np.size(values) == 0 and count:
            raise InputError(
                f"field {name!r} must have numbers, got shape {np.shape(values)}; leave it out"
            )
        self._enter(section)
        if np.iscomplexobj(values):
            self._array(f"{name}_re", values.real)
            self._array(f"{name}_im", values.imag)
        else:
            self._array(name, values)

    def _enter(self, section: str) -> None:
        if section != self._section:
            self._say(f"</{self._section}>" if self._section else "")
            self._say(f"<{section}>" if section else "")
            self._section = section

    def _write_cells(self) -> None:
        widths, kinds, points = [], [], []
        for kind, numbers in self._mesh.cells:
            number, width = CELL_TYPES[kind]
            ordered = numbers[:, WEDGE] if kind == "wedge" else numbers
            points.append(np.asarray(ordered, dtype=np.int64).ravel())
            widths.append(np.full(len(numbers), width))
            kinds.append(np.full(len(numbers), number, dtype=np.uint8))
        nothing = np.zeros(0, dtype=np.int64)
        self._array("connectivity", np.concatenate([nothing, *points]))
        self._array("offsets", np.cumsum(np.concatenate([nothing, *widths])))
        self._array("types", np.concatenate([nothing.astype(np.uint8), *kinds]))

    def _array(self, name: str, values: Block) -> None:
        from xml.sax.saxutils import quoteattr  # here: it brings much of the network with it

        values = np.asarray(values)
        kind, dtype = TYPES[values.dtype.kind if values.dtype.kind in "iu" else "f"]
        if values.dtype == np.uint8:
            kind, dtype = OCTETS
        components = "" if values.ndim == 1 else f' NumberOfComponents="{values[:1].size}"'
        if values.ndim > 1 and len(values) == 0:
            components = f' NumberOfComponents="{int(np.prod(values.shape[1:]))}"'
        if self._section == "FieldData":  # nothing else says how many there are
            components = f' NumberOfTuples="{len(values)}"'
        shown = "".join(letter if letter.isprintable() else "_" for letter in name)
        while (self._section, shown) in self._named:  # readers would show one of the two
            shown += "_"
        self._named.add((self._section, shown))
        self._say(f'<DataArray type="{kind}" Name={quoteattr(shown)}{components} format="binary">')
        data = np.ascontiguousarray(values, dtype=dtype).reshape(-1).view(np.uint8)
        head = np.array([data.size], dtype=np.uint64).view(np.uint8)
        first = PIECE - head.size
        self._put(base64.b64encode(np.concatenate([head, data[:first]]).tobytes()))
        for start in range(first, data.size, PIECE):
            self._put(base64.b64encode(data[start : start + PIECE].tobytes()))
        self._say("\n</DataArray>")

    def _say(self, text: str) -> None:
        self._put(text.encode() + b"\n")

    def _put(self, content: bytes) -> None:
        part = memoryview(content)
        while part:
            part = part[self._stream.write(part) :]


def write_vtu(
    path: str | Path,
    mesh: Mesh,
    *,
    point_data: Mapping[str, Any] | None = None,
    cell_data: Mapping[str, Any] | None = None,
) -> None:
    """Write fields as a VTU file that ParaView opens.

    Not collective: call it on one rank.

    Parameters
    ----------
    path
        File to write (atomically).
    mesh
        The mesh.
    point_data
        Name -> (n_points, ...); complex fields are split into ``_re`` and ``_im``.
    cell_data
        Name -> (n_cells, ...), in the order of the mesh's cells.

    Raises
    ------
    InputError
        When a field has the wrong length or no components, or the mesh an error.

    """
    error = mesh.error(int(np.max(mesh.dofs, initial=-1)) + 1)
    if error is not None:
        raise error
    with atomic_path(Path(path)) as temporary, VtuFile(temporary, mesh) as file:
        for name, values in (point_data or {}).items():
            file.point_field(name, np.asarray(values))
        for name, values in (cell_data or {}).items():
            file.cell_field(name, np.asarray(values))

"""`check_elements`: is an element table right, and what is odd about it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.errors import InputError
from geneig_adjoint.io import table_pieces
from geneig_adjoint.io.table_layout import Table, TableBlock, opened_table, table_of

PIECE = 4_000_000
"""Matrix entries looked at once: 32 MB."""
SYMMETRIC = 1e-12


@dataclass(frozen=True)
class TableReport:
    """What `check_elements` found in a table without errors; prints as a text.

    Attributes
    ----------
    n : int
        Free dofs.
    blocks : tuple of TableBlock
        Name, matrix, parameter, law and sizes of each.
    sizes : dict
        Parameter -> entries.
    notes : tuple of str
        What is allowed and may still be a mistake.

    """

    n: int
    blocks: tuple[TableBlock, ...]
    sizes: dict[str, int]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.n} free dofs"]
        for block in self.blocks:
            kind = "complex" if block.is_complex else "real"
            lines.append(
                f"{block.name}: {block.count} elements of {block.nd} dofs in {block.matrix}, "
                f"{'one ' if block.shared else ''}{kind}, {block.law} of {block.parameter!r}"
            )
        lines += [f"parameter {name!r}: {size} entries" for name, size in self.sizes.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


class _Oddities:
    """Counts of what is allowed and may be a mistake, with the first place of each."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, what: str, where: str, first: int, marks: Block) -> None:
        count = int(np.count_nonzero(marks))
        if count:
            before, place = self.found.get((what, where), (0, first + int(np.argmax(marks))))
            self.found[what, where] = (before + count, place)

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"{count} {what} of {where}, the first is {place}"
            for (what, where), (count, place) in self.found.items()
        )


def check_elements(path: str | Path) -> TableReport:
    """Check a whole element table.

    Not collective: call it on one rank. Some megabytes are in memory at a time.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    TableReport
        Sizes, and notes on what is allowed but often a mistake: dofs that only A or only B
        has, a dof twice in an element, matrices that are not Hermitian, entries of
        parameters without an element.

    Raises
    ------
    InputError
        At the first thing that is wrong, with block, number of the element and value:
        dofs or ids out of range, NaN or Inf, shapes and kinds, unknown laws, attributes and
        versions, dofs of no element, data whose checksum is wrong.

    """
    table_pieces.check_readable(path)
    with opened_table(path) as file:
        table, odd = table_of(file), _Oddities()
        for name in table.sizes:
            for rows in _pieces(table.sizes[name], PIECE):
                table_pieces.read_parameter(file["parameters"][name], name, rows)
        touched = {matrix: np.zeros(table.n, dtype=bool) for matrix in "AB"}
        used = {name: np.zeros(size, dtype=bool) for name, size in table.sizes.items()}
        for block in table.blocks:
            for dofs, ids in _checked_pieces(file[block.name], block, table, odd):
                touched[block.matrix][dofs[dofs >= 0]] = True
                used[block.parameter][ids] = True
        has_b = any(block.matrix == "B" for block in table.blocks)
        _look_at_orphans(touched, used, odd, has_b=has_b)
        table_pieces.read_mesh_of(file, table)
    return TableReport(table.n, table.blocks, table.sizes, odd.notes())


def _pieces(size: int, step: int) -> Iterator[slice]:
    for first in range(0, size, step):
        yield slice(first, min(first + step, size))


def _checked_pieces(
    group: Any, block: TableBlock, table: Table, odd: _Oddities
) -> Iterator[tuple[Block, Block]]:
    if block.shared:
        _look_at_symmetry(block, 0, table_pieces.read_shared_matrix(group, block)[None], odd)
    for rows in _pieces(block.count, max(1, PIECE // max(block.nd**2, 1))):
        dofs, ids = table_pieces.read_places(group, block, table, rows)
        if not block.shared:
            _look_at_symmetry(
                block, rows.start, table_pieces.read_matrices(group, block, rows), odd
            )
        ordered = np.sort(dofs, axis=1)
        twice = ((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] >= 0)).any(axis=1)
        odd.add("elements with a dof twice", block.name, rows.start, twice)
        yield dofs, ids


def _look_at_symmetry(block: TableBlock, first: int, matrices: Block, odd: _Oddities) -> None:
    defect = np.abs(matrices - matrices.conj().transpose(0, 2, 1)).max(axis=(1, 2), initial=0.0)
    size = np.abs(matrices).max(axis=(1, 2), initial=0.0)
    odd.add("matrices that are not Hermitian", block.name, first, defect > SYMMETRIC * size)


def _look_at_orphans(
    touched: dict[str, Block], used: dict[str, Block], odd: _Oddities, *, has_b: bool
) -> None:
    alone = ~(touched["A"] | touched["B"])
    if alone.any():
        raise InputError(
            f"every dof must belong to an element, got dof {int(np.argmax(alone))} and "
            f"{int(np.count_nonzero(alone)) - 1} more that no element touches; renumber the free "
            "dofs without gaps"
        )
    odd.add("dofs without an element", "A", 0, ~touched["A"])
    if has_b:
        odd.add("dofs without an element", "B", 0, ~touched["B"])
    for name, marks in used.items():
        odd.add("entries without an element", f"parameter {name!r}", 0, ~marks)

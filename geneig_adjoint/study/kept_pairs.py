"""Eigenpairs in a checkpoint: written, and made again on any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from geneig_adjoint._types import Block
from geneig_adjoint.conditioning import backward_errors
from geneig_adjoint.eigenpairs import Completeness, Eigenpairs, SolveInfo, linear_pairs
from geneig_adjoint.errors import InputError
from geneig_adjoint.normalization import Normalization
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.quadratic_pairs import QuadraticPairs
from geneig_adjoint.quadratic_pencil import QuadraticPencil
from geneig_adjoint.study.checkpoint_file import CheckpointReader, CheckpointWriter, read_rows
from geneig_adjoint.study.identity import joined, parts_of
from geneig_adjoint.study.results import Pairs

ARRAYS = ("values", "residuals", "condition", "errors", "gaps")
NONSYMMETRIC = ("turns", "rounding", "offsets")
"""Arrays that only pairs of nonsymmetric pencils have."""
WORSE, ROUNDING = 100.0, 1e-12
"""How much larger residuals may be on another number of ranks, and what is rounding anyway."""


def write_block(writer: CheckpointWriter, name: str, pencil: Pencil, block: Block) -> None:
    """Write a row block in the numbering of the problem.  (Collective.)"""
    rows = pencil.view.rows(pencil)
    for i, part in enumerate(parts_of(pencil, block)):
        writer.rows(f"{name}/{i}", rows, part)


def read_block(reader: CheckpointReader | None, name: str, pencil: Pencil) -> Block:
    """Return the rows of this rank of a block that `write_block` wrote.  (Collective.)"""
    rows = pencil.view.rows(pencil)
    count = len(parts_of(pencil, np.zeros((pencil.n_local, 0))))
    parts = (read_rows(pencil.comm, reader, f"{name}/{i}", rows) for i in range(count))
    return joined(tuple(parts))


def write_pairs(writer: CheckpointWriter, shown: Pairs) -> None:
    """Write all that makes pairs again, without their factor.  (Collective.)"""
    pairs: Eigenpairs = linear_pairs(shown)
    pencil, norm = pairs.pencil, pairs.normalization
    for name in ARRAYS:
        writer.array(f"pairs/{name}", getattr(pairs, name))
    for name in NONSYMMETRIC:
        if getattr(pairs, name) is not None:
            writer.array(f"pairs/{name}", getattr(pairs, name))
    if pairs.info.left_residuals is not None:
        writer.array("pairs/left_residuals", pairs.info.left_residuals)
    if pairs.phase_rows is not None:
        writer.array("pairs/phase_rows", _in_problem(pencil, pairs.phase_rows))
    write_block(writer, "pairs/right", pencil, pairs.right)
    if pairs.left is not None:
        write_block(writer, "pairs/left", pencil, pairs.left)
    if norm.functional is not None:
        write_block(writer, "pairs/functional", pencil, np.reshape(norm.functional, (-1, 1)))
    sigma = None if pairs.info.sigma is None else complex(pairs.info.sigma)
    info = {key: value for key, value in asdict(pairs.info).items() if key != "left_residuals"}
    content = {
        "clusters": pairs.clusters,
        "normalization": [norm.kind, norm.label],
        "info": {**info, "sigma": None if sigma is None else [sigma.real, sigma.imag]},
    }
    writer.json("pairs/content", content)


def read_pairs(reader: CheckpointReader | None, pencil: Pencil) -> Pairs:
    """Return the pairs of a checkpoint, without a factor, as objectives see them.

    Collective.

    Raises
    ------
    InputError
        Pairs that are none of this pencil.

    """
    small, names = pencil.comm.bcast(None if reader is None else _small(reader), root=0)
    content = small["content"]
    kind, label = content["normalization"]
    functional = None
    if "functional" in names:
        functional = read_block(reader, "pairs/functional", pencil)[:, 0]
    rows = small.get("phase_rows")
    pairs = Eigenpairs(
        pencil=pencil,
        **{name: small[name] for name in ARRAYS},
        **{name: small.get(name) for name in NONSYMMETRIC},
        right=read_block(reader, "pairs/right", pencil),
        left=read_block(reader, "pairs/left", pencil) if "left" in names else None,
        clusters=tuple(tuple(members) for members in content["clusters"]),
        normalization=Normalization(kind, functional, label),
        phase_rows=None if rows is None else _in_pencil(pencil, rows),
        info=_info(content["info"], small.get("left_residuals")),
        version=pencil.version,
    )
    _check(pairs)
    shown: Pairs = pencil.view.pairs(pairs)
    if isinstance(shown, QuadraticPairs):
        shown.measure()
    return shown


def _small(reader: CheckpointReader) -> tuple[dict[str, Any], list[str]]:
    names = reader.names("pairs")
    arrays = [
        name for name in (*ARRAYS, *NONSYMMETRIC, "left_residuals", "phase_rows") if name in names
    ]
    found = {name: reader.array(f"pairs/{name}") for name in arrays}
    return {**found, "content": reader.json("pairs/content")}, names


def _info(content: Mapping[str, Any], left_residuals: Block | None) -> SolveInfo:
    complete = dict(content["completeness"])
    window = complete["window"]
    sigma = content["sigma"]
    return SolveInfo(
        **{
            **content,
            "sigma": None if sigma is None else complex(*sigma),
            "notes": tuple(content["notes"]),
            "constrained": tuple(content["constrained"]),
            "left_residuals": left_residuals,
            "completeness": Completeness(
                **{**complete, "window": None if window is None else tuple(window)}
            ),
        }
    )


def _in_problem(pencil: Pencil, rows: Block) -> Block:
    """Return the rows of a pencil as the problem numbers them.  (Not collective.)"""
    return pencil.layout.single(rows) if isinstance(pencil, QuadraticPencil) else rows


def _in_pencil(pencil: Pencil, rows: Block) -> Block:
    """Return rows of the problem as its pencil numbers them.  (Not collective.)"""
    return pencil.layout.doubled(rows, 0) if isinstance(pencil, QuadraticPencil) else rows


def _check(pairs: Eigenpairs) -> None:
    """Raise unless the pairs fulfil the equations of their pencil as they once did.

    Collective. A checkpoint of other matrices must never pass for one of these.
    """
    pencil = pairs.pencil
    sides = [("right", pairs.right, pairs.residuals)]
    if pairs.left is not None and pairs.info.left_residuals is not None:
        sides.append(("left", pairs.left, pairs.info.left_residuals))
    for side, block, known in sides:
        found = backward_errors(pencil, pairs.values, block, left=side == "left")
        limit = np.maximum(WORSE * known, ROUNDING)
        bad = np.flatnonzero(~(found <= limit))
        if bad.size:
            j = int(bad[0])
            raise InputError(
                f"the {side} vectors of the checkpoint must be those of these matrices, got a "
                f"residual of {found[j]:.1e} for pair {j} ({known[j]:.1e} when it was written); "
                "remove checkpoint.h5 from the output folder to start over"
            )


def with_notes(shown: Pairs, *notes: str) -> Pairs:
    """Return pairs with more notes.  (Not collective.)"""
    pairs: Eigenpairs = linear_pairs(shown)
    info = replace(pairs.info, notes=(*pairs.info.notes, *notes))
    return again(shown, replace(pairs, info=info))


def again(shown: Pairs, pairs: Eigenpairs) -> Pairs:
    """Return changed pairs of a pencil as objectives see them, without measuring them again."""
    if not isinstance(shown, QuadraticPairs):
        return pairs
    found = QuadraticPairs(pairs)
    if "residuals" in shown.__dict__:
        found.__dict__["residuals"] = shown.residuals
    return found

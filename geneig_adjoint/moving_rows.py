"""Rows that look constrained and are not: they depend on the parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.constraints import diagonals, rows_alone, rows_of_pairs
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.parameters import Gradient, Parameters
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.reductions import allreduce_same
from geneig_adjoint.structures import carried

STEP = 1e-3
"""Relative change of every parameter: any visible change of a row will do."""
CHANGE = 1e-10
"""Relative change of a diagonal entry that is more than rounding."""


def with_moving_rows(
    model: Any, p: Parameters, pairs: Eigenpairs, columns: Iterable[int]
) -> Eigenpairs:
    """Return the pairs, of which those are modes whose rows depend on the parameters.

    Collective. The values of constrained rows are made up, so that no parameter moves them.
    Where pairs in ``info.constrained`` are to be differentiated, the model is assembled twice
    (here and beside p), and those that move a row whose entries differ are no longer named.
    What ``contract`` says about these rows proves nothing: since modes vanish there, many codes
    leave the derivatives of the unconstrained matrices in them.

    Parameters
    ----------
    model
        Anything with ``assemble``.
    p
        Parameters at which ``pairs`` were solved. Not changed.
    pairs
        Eigenpairs of ``model.assemble(p)``.
    columns
        Indices of the pairs that will be differentiated, the same on every rank.

    """
    suspects = list(pairs.info.constrained)
    if not set(suspects) & set(columns):
        return pairs
    rows = rows_of_pairs(pairs.pencil, pairs.values[suspects], pairs.right[:, suspects])
    moving = _moving(model, p, pairs.pencil)
    counts = [float(np.count_nonzero(moving[mine])) for mine in rows]
    moved = allreduce_same(pairs.comm, np.array(counts)) > 0
    kept = tuple(j for j, mode in zip(suspects, moved, strict=True) if not mode)
    return replace(pairs, info=replace(pairs.info, constrained=kept))


def _moving(model: Any, p: Parameters, pencil: Pencil) -> Block:
    """Return which of this rank's rows are the model's here, and others beside p.  (Collective.)

    A row that the model does not have as it is in the pencil was put there by somebody else.
    """
    beside = _beside(p)
    try:
        with model.assemble(p) as here:
            described = _equal_rows(pencil, here)
        with model.assemble(beside) as there:
            changed = ~_equal_rows(pencil, there)
    finally:
        params.release(beside)
    return np.asarray(described & changed)


def _equal_rows(pencil: Pencil, other: Pencil) -> Block:
    """Return which rows stand alone in another pencil with the diagonals of this one."""
    result = rows_alone(other)
    for mine, theirs in zip(diagonals(pencil), diagonals(other), strict=True):
        result = result & (np.abs(theirs - mine) <= CHANGE * np.abs(mine))
    return np.asarray(result)


def _beside(p: Parameters) -> Gradient:
    """Return parameters nearby: smaller by different parts, and positive where they are zero.

    Collective for PETSc.Vec. Bounds of parameters are seldom between an entry and zero.
    """
    result: Gradient = {}
    for seed, (name, value) in enumerate(p.items()):
        distributed = params.is_distributed(value)
        entries = params.local_values(value).astype(float)
        first = value.getOwnershipRange()[0] if distributed else 0
        noise = _petsc.deterministic_block((first, first + len(entries)), 1, seed=seed)[:, 0]
        step = STEP * (1 + noise / 2)  # noise in [-1, 1]
        entries = np.where(entries == 0, step, entries * (1 - step))
        if distributed:
            result[name] = value.duplicate()
            result[name].array[:] = entries
        else:
            result[name] = entries
    point: Gradient = carried(p, result, point=True)
    return point

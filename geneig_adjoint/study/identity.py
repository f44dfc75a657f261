"""What tells whether a checkpoint belongs to a run: probes of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import raise_together
from geneig_adjoint.companion import halves
from geneig_adjoint.pencil import Pencil
from geneig_adjoint.quadratic_pencil import QuadraticPencil
from geneig_adjoint.reductions import allreduce_same, column_norms, inner
from geneig_adjoint.study.build import Problem

PROBES = 3
SAME = 1e-10
"""Probes that differ by less, relatively, differ by rounding: sums in another order."""


def parts_of(pencil: Pencil, block: Block) -> tuple[Block, ...]:
    """Return the rows of a block as the problem numbers them: one part, or two halves.

    Not collective. The companion pencil of a quadratic problem has both halves of a rank's
    rows together, so that its own numbering depends on the number of ranks.
    """
    return halves(block) if isinstance(pencil, QuadraticPencil) else (block,)


def joined(parts: tuple[Block, ...]) -> Block:
    """Return the block that has these parts, Fortran order.  (Not collective.)"""
    return np.asfortranarray(np.vstack(parts))


def probes(problem: Problem, pencil: Pencil) -> dict[str, list[float]]:
    """Return numbers that change with the matrices, the parameters and their numbering.

    Collective. Products with pseudo-random vectors that depend on global numbers only: the
    same on any number of ranks up to rounding, unless a model numbers by ranks. Of A and B,
    of p, and of the derivatives (one contraction).
    """
    rows = pencil.view.rows(pencil)
    width = len(parts_of(pencil, np.zeros((pencil.n_local, 0))))
    left, right = (
        joined(tuple(_petsc.deterministic_block(rows, PROBES, seed + i) for i in range(width)))
        for seed in (31, 41)
    )
    found = {
        name: _relative(pencil, left, multiply(right))
        for name, multiply in (("A", pencil.multiply_a), ("B", pencil.multiply_b))
    }
    slopes = problem.model.contract(problem.p, left[:, :1], left[:, 1:2], right[:, :1])
    raise_together(pencil.comm, params.structure_error("contract", problem.p, slopes))
    for name in problem.p:
        found[f"p {name}"] = _seen(pencil, problem.p[name])
        found[f"d {name}"] = _seen(pencil, slopes[name])
    params.release(slopes)
    return found


def _relative(pencil: Pencil, left: Block, product: Block) -> list[float]:
    sizes = column_norms(pencil.comm, left) * column_norms(pencil.comm, product)
    dots = np.diag(inner(pencil.comm, left, product)) / np.maximum(sizes, TINY)
    return [*dots.real.tolist(), *dots.imag.tolist(), *_logarithms(sizes)]


def _seen(pencil: Pencil, value: Any) -> list[float]:
    """Return what is seen of all entries of one parameter, or of a gradient."""
    entries = np.asarray(params.local_values(value), dtype=float)
    spread = params.is_distributed(value)
    rows = value.getOwnershipRange() if spread else (0, len(entries))
    weights = _petsc.deterministic_block((int(rows[0]), int(rows[1])), 1, 51)[:, 0]
    sums = np.array([entries @ weights, entries @ entries, weights @ weights])
    if spread:
        sums = allreduce_same(pencil.comm, sums)
    size = np.sqrt(sums[1] * sums[2])
    return [float(sums[0] / max(size, TINY)), *_logarithms(np.array([size]))]


def _logarithms(sizes: Block) -> list[float]:
    return [float(value) for value in np.log(np.maximum(sizes, TINY))]


def same_probes(one: Mapping[str, list[float]], other: Mapping[str, list[float]]) -> bool:
    """Tell whether two sets of probes differ by rounding at most.  (Not collective.)"""
    return one.keys() == other.keys() and all(
        len(one[name]) == len(other[name])
        and np.allclose(one[name], other[name], rtol=SAME, atol=SAME)
        for name in one
    )

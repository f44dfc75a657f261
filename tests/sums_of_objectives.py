"""Weighted sums of the objectives of a chain: one derivative that contains all of theirs.

A derivative is linear in the objective.  Each weight is at least 1 / the size of the derivative of
its objective, so that an error of the sum below a limit is one of every objective below that limit
relative to its size; errors with random weights do not cancel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import geneig_adjoint as ga
from geneig_adjoint.evaluation import evaluate


def added(parts: Sequence[tuple[float, Any]]) -> Any:
    present = [weight * np.asarray(part) for weight, part in parts if part is not None]
    return sum(present) if present else None


def combined(terms: Sequence[tuple[float, ga.EigenCotangent]]) -> ga.EigenCotangent:
    names = {name for _, item in terms for name in item.parameters or {}}
    explicit = {
        name: added([(weight, (item.parameters or {}).get(name)) for weight, item in terms])
        for name in sorted(names)
    }
    with_matrices = [(weight, item.matrices) for weight, item in terms if item.matrices]
    blocks = [(weight * a, weight * b, right) for weight, (a, b, right) in with_matrices]
    return ga.EigenCotangent(
        values=added([(weight, item.values) for weight, item in terms]),
        right=added([(weight, item.right) for weight, item in terms]),
        left=added([(weight, item.left) for weight, item in terms]),
        parameters=explicit or None,
        matrices=tuple(map(np.hstack, zip(*blocks, strict=True))) if blocks else None,
    )


class Sum:
    """A sum of objectives without tangents of their own."""

    def __init__(self, weighted: Sequence[tuple[float, Any]]) -> None:
        self.weighted = weighted

    def __call__(self, pairs, p):
        found = [(weight, *evaluate(item, pairs, p)) for weight, item in self.weighted]
        total = sum(weight * value for weight, value, _ in found)
        return total, combined([(weight, cotangent) for weight, _, cotangent in found])


class MovingSum(Sum):
    """A sum of objectives that know the tangents of their cotangents."""

    def tangent(self, pairs, tangent):
        return combined([(weight, item.tangent(pairs, tangent)) for weight, item in self.weighted])


def kind_of(objective: Any, cotangent: ga.EigenCotangent) -> tuple[bool, bool]:
    """Return what a second derivative tells apart: an own tangent, and whether it has vectors."""
    vectors = (cotangent.right, cotangent.left, cotangent.matrices)
    return hasattr(objective, "tangent"), any(part is not None for part in vectors)


class Sums(NamedTuple):
    """One objective for each kind, and the weights of those of the chain in it: a row each."""

    objectives: list[Sum]
    weights: np.ndarray


def sums_of(chain: Any, sizes: np.ndarray) -> Sums:
    """Return the sums of a chain, for derivatives of these sizes."""
    weights = np.random.default_rng(8).uniform(1.0, 2.0, len(chain.objectives)) / sizes
    kinds: dict[tuple[bool, ...], list[int]] = {}
    parts = zip(chain.objectives, chain.cotangents(), strict=True)
    for i, (objective, cotangent) in enumerate(parts):
        kinds.setdefault(kind_of(objective, cotangent), []).append(i)
    rows = np.zeros((len(kinds), len(weights)))
    made = []
    for row, (kind, indices) in zip(rows, kinds.items(), strict=True):
        row[indices] = weights[indices]
        weighted = [(float(weights[i]), chain.objectives[i]) for i in indices]
        made.append((MovingSum if kind[0] else Sum)(weighted))
    return Sums(made, rows)

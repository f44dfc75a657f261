"""Where a wrong derivative is: the worst element of a kernel, the worst entry of a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import Block
from geneig_adjoint.element_blocks import ElementIds
from geneig_adjoint.elements import ElementModel
from geneig_adjoint.errors import GeneigError
from geneig_adjoint.kernel_checks import KernelReport, check_kernels
from geneig_adjoint.reductions import allreduce_same
from geneig_adjoint.verification import random_direction

if TYPE_CHECKING:
    from mpi4py import MPI

STEP = 2e-3
"""Of fourth-order differences of the matrices, relative to the entries of the parameter."""
RTOL = 1e-7
"""Deviation of products with the matrices, relative to their parts, that counts as agreement."""
COLUMNS = 2
WEIGHTS = {1: 8.0, -1: -8.0, 2: -1.0, -2: 1.0}
"""Of the values at so many steps, by 12 steps."""
NOISE = 1e-11
"""Rounding of differences of the products, which are of size 1."""
FEW = 16
"""Entries that are looked at one by one."""


def located(model: Any, p: params.Parameters, names: list[str], comm: MPI.Comm) -> list[str]:
    """Return, for each parameter, a sentence that says where its derivative is wrong.

    Collective. Solves no eigenproblem: compares the model's ``contract`` with differences of
    its matrices, and halves the entries that move until the worst is found.
    """
    found = []
    for name in names:
        try:
            found += _worst_elements(model, p, name, comm)
            found.append(_worst_entry(model, p, name))
        except GeneigError as error:
            found.append(f"{name!r}: could not be looked at entry by entry: {error}")
    return found


def _worst_elements(model: Any, p: params.Parameters, name: str, comm: MPI.Comm) -> list[str]:
    """Return what `check_kernels` says about the blocks that this parameter moves."""
    if not isinstance(model, ElementModel):
        return []
    found = []
    for number, block in enumerate(model.blocks):
        if name not in block.parameters:
            continue
        values = {
            key: ElementIds(np.asarray(ids)).gather(p[key])
            for key, ids in sorted(block.parameters.items())
        }
        report = _report(block.kernel, values)
        everywhere = comm.allgather((comm.rank, *_worst(report, name, block)))
        rank, error, text = max(everywhere, key=lambda entry: entry[1])
        if error > 0:
            found.append(f"{name!r}: block {number} ({block.matrix}), rank {rank}, {text}")
    return found


def _report(kernel: Any, values: dict[str, Block]) -> KernelReport | str | None:
    if not all(len(part) for part in values.values()):
        return None  # a rank without elements of this kind
    try:
        return check_kernels(kernel, None, values)
    except Exception as error:  # of the user's kernel, away from p
        return f"cannot be differenced: {type(error).__name__}: {error}"


def _worst(report: KernelReport | str | None, name: str, block: Any) -> tuple[float, str]:
    """Return the error of the worst element in a parameter, and what to say about it."""
    if report is None:
        return 0.0, ""
    if isinstance(report, str):
        return 1e-300, report
    mine = [one for one in report.failures if f" in {name}[" in one.quantity]
    if not mine:
        return 0.0, ""
    one = max(mine, key=lambda one: np.nan_to_num(one.relative_error, nan=np.inf))
    ids = np.ravel(np.asarray(block.parameters[name])[one.element])
    return float(np.nan_to_num(one.relative_error, nan=np.inf)), (
        f"element {one.element} ({name}{list(map(int, ids))}): {one.quantity} is {one.first:.6g}, "
        f"{one.second:.6g} by differences of its matrices"
    )


def _worst_entry(model: Any, p: params.Parameters, name: str) -> str:
    """Return where ``contract`` differs from differences of the matrices."""
    with _Products(model, p, name) as products:
        whole = products.deviation(0, products.size)
        if whole.small:
            return (
                f"{name!r}: contract agrees with differences of the matrices to "
                f"{whole.relative:.0e}: look at what the objective says about the pairs and about "
                f"{name!r} itself"
            )
        first, last, left = 0, products.size, whole.error
        while last - first > FEW:
            middle = (first + last) // 2
            lower = products.deviation(first, middle).error
            # What is wrong adds up: the other half has the rest.
            if abs(lower) >= abs(left - lower):
                last, left = middle, lower
            else:
                first, left = middle, left - lower
        entries = {i: products.deviation(i, i + 1) for i in range(first, last)}
        worst = max(entries, key=lambda i: abs(entries[i].error))
        one = entries[worst]
    return (
        f"{name!r}: contract differs from differences of the matrices at entry {worst} of "
        f"{products.size}: {one.derivative:.6g} against {one.difference:.6g} in products with "
        "random vectors"
    )


@dataclass(frozen=True)
class _Deviation:
    """A derivative of products with the matrices, from contract and from differences."""

    derivative: float
    difference: float
    size: float

    @property
    def error(self) -> float:
        return self.derivative - self.difference

    @property
    def relative(self) -> float:
        return max(abs(self.error) - NOISE, 0.0) / self.size if self.size > 0 else 0.0

    @property
    def small(self) -> bool:
        return self.relative <= RTOL


class _Products:
    """Re sum_j l_j^H A(p) r_j / a + l_j^H B(p) r_j / b for random vectors, of size 1 each.

    Collective: all methods.
    """

    def __init__(self, model: Any, p: params.Parameters, name: str) -> None:
        self._model, self._p, self._name = model, p, name
        self.size = params.length(p[name]) or 0
        with model.assemble(p) as pencil:
            self._comm = pencil.comm
            self._left, self._right = (_vectors(pencil.rows, seed) for seed in (11, 12))
            images = (pencil.multiply_a(self._right), pencil.multiply_b(self._right))
            sums = [np.sum(np.abs(part) ** 2) for part in (self._left, *images)]
            left, *sizes = np.sqrt(allreduce_same(self._comm, np.array(sums)))
            self._scales = [1 / (left * size) if size > 0 else 0.0 for size in sizes]
        sides = (self._left * scale for scale in self._scales)
        self._gradient = model.contract(p, *sides, self._right)
        self._direction = random_direction(p, seed=5)

    def __enter__(self) -> _Products:
        return self

    def __exit__(self, *_: object) -> None:
        params.release(self._direction)
        params.release(self._gradient)

    def deviation(self, first: int, last: int) -> _Deviation:
        """Compare the derivatives along some entries of the random direction."""
        along = self._part(first, last)
        try:
            values = {i: self._value(i * STEP, along) for i in WEIGHTS}
            difference = sum(weight * values[i] for i, weight in WEIGHTS.items()) / (12 * STEP)
            derivative = params.dot(self._gradient, along)
            parts = 1e-3 * params.absolute_dot(self._gradient, along)
        finally:
            params.release(along)
        size = max(abs(derivative), abs(difference), parts)
        return _Deviation(derivative, difference, size)

    def _part(self, first: int, last: int) -> params.Gradient:
        along = params.zeros_like(self._p)
        value, source = along[self._name], self._direction[self._name]
        if params.is_distributed(value):
            begin, end = value.getOwnershipRange()
            low, high = (min(max(i, begin), end) - begin for i in (first, last))
            value.array[low:high] = source.array_r[low:high]
        else:
            value[first:last] = np.asarray(source)[first:last]
        return along

    def _value(self, step: float, along: params.Gradient) -> float:
        moved = params.moved(self._p, step, along)
        try:
            with self._model.assemble(moved) as pencil:
                images = (pencil.multiply_a(self._right), pencil.multiply_b(self._right))
                local = sum(
                    scale * np.vdot(self._left, image).real
                    for scale, image in zip(self._scales, images, strict=True)
                )
        finally:
            params.release(moved)
        return float(allreduce_same(self._comm, np.array([local]))[0])


def _vectors(rows: tuple[int, int], seed: int) -> Block:
    block = _petsc.deterministic_block(rows, COLUMNS, seed=seed)
    if _petsc.REAL_SCALARS:
        return block
    return np.asarray(block + 1j * _petsc.deterministic_block(rows, COLUMNS, seed=seed + 100))

"""`check_operator`: whether the functions a model is made of belong to one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from petsc4py import PETSc

from geneig_adjoint import _petsc
from geneig_adjoint import parameters as params
from geneig_adjoint._types import TINY, Block
from geneig_adjoint.differentiation import EIGHTH
from geneig_adjoint.models import Model, checked_tangent, has_hermitian_tangent
from geneig_adjoint.parameters import Gradient, Parameters
from geneig_adjoint.reductions import column_norms, inner
from geneig_adjoint.verification import random_direction

STEP = 1e-2
"""Of the differences, relative to each entry of a parameter."""

Products: TypeAlias = dict[str, Block]


@dataclass(frozen=True)
class OperatorCheck:
    """One identity.

    Attributes
    ----------
    name : str
        What was compared with what.
    error : float
        Relative; nan where something was not a number.
    parameter : str
        Where it fails: name and entry that contributes much to the error; else empty.

    """

    name: str
    error: float
    parameter: str = ""


@dataclass(frozen=True)
class OperatorReport:
    """What `check_operator` found; prints as a table.

    Attributes
    ----------
    checks : tuple of OperatorCheck
    rtol : float
        The bound.

    """

    checks: tuple[OperatorCheck, ...]
    rtol: float

    @property
    def failures(self) -> tuple[OperatorCheck, ...]:
        """The identities that do not hold to ``rtol``."""
        return tuple(check for check in self.checks if not check.error <= self.rtol)

    @property
    def worst(self) -> OperatorCheck:
        """The check with the largest error; one that is not a number counts as largest."""
        return max(self.checks, key=lambda check: np.nan_to_num(check.error, nan=np.inf))

    @property
    def passed(self) -> bool:
        """Whether every identity holds to ``rtol``."""
        return not self.failures

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks) + 2
        lines = [f"{'identity':<{width}}rel. error  where"]
        lines += [
            f"{check.name:<{width}}{check.error:<11.1e} {check.parameter}".rstrip()
            for check in self.checks
        ]
        verdict = "passed" if self.passed else f"FAILED, worst: {self.worst.name}"
        return "\n".join([*lines, f"verdict: {verdict} (bound {self.rtol:.0e})"])


def check_operator(
    model: Model, p: Parameters, *, rtol: float = 1e-8, seed: int = 0
) -> OperatorReport:
    """Compare products, their derivatives and contractions of a model with one another.

    Collective. No eigenproblem is solved. For an `OperatorModel`, whose functions are all
    yours; any other model can be checked, too. Compared on random vectors: linearity of A and
    B; products with A^H, B^H; and for every parameter ``vjp`` and ``jvp`` (also
    ``jvp_hermitian``) with differences of eighth order of the products, and ``vjp_tangent``
    with those of ``vjp``, where the model has them.

    Parameters
    ----------
    model
        The model.
    p
        Where to check. Not changed; entries move by 4 per cent (by 0.04 where they are 0).
    rtol
        Largest relative error.
    seed
        Of vectors and directions.

    Returns
    -------
    OperatorReport
        ``report.passed``; a table when printed, which names an entry of the parameter where a
        derivative is wrong.

    Raises
    ------
    InputError
        As ``model.assemble`` does: for an `OperatorModel` also when a product with A^H does not
        belong to that with A.

    """
    checker = _Checker(model, p, seed)
    checks = checker.linear()
    for name in p:
        checks += checker.derivatives(name, rtol)
    params.release(checker.direction)
    return OperatorReport(tuple(checks), rtol)


class _Checker:
    """Vectors, a direction, and the model at points along it.  (Collective.)"""

    def __init__(self, model: Model, p: Parameters, seed: int) -> None:
        self.model, self.p = model, p
        self.direction = random_direction(p, seed)
        with model.assemble(p) as pencil:
            self.comm, self.rows = pencil.comm, pencil.rows
        self.vectors = [self._vectors(seed + k) for k in range(4)]

    def _vectors(self, seed: int) -> Block:
        block = _petsc.deterministic_block(self.rows, 2, seed=40 + 2 * seed)
        if not _petsc.REAL_SCALARS:
            block = block + 1j * _petsc.deterministic_block(self.rows, 2, seed=41 + 2 * seed)
        return block

    def linear(self) -> list[OperatorCheck]:
        """Return the checks of linearity and of the products with Hermitian transposes."""
        u, v = self.vectors[:2]
        found = []
        with self.model.assemble(self.p) as pencil:
            operators = {"A": pencil.multiply_a, "B": pencil.multiply_b}
            for name in ("A", "B") if pencil.B is not None else ("A",):
                multiply = operators[name]
                parts = 2.0 * multiply(u), -3.0 * multiply(v)
                whole = multiply(2.0 * u - 3.0 * v)
                error = self._distance(whole, parts[0] + parts[1], parts)
                found.append(OperatorCheck(f"{name} is linear", error))
                left = inner(self.comm, multiply(u, hermitian=True), v)
                right = inner(self.comm, u, parts[1]) / -3.0
                size = column_norms(self.comm, u).max() * column_norms(self.comm, parts[1]).max()
                error = float(np.abs(left - right).max() / max(float(size) / 3.0, TINY))
                found.append(OperatorCheck(f"{name}^H belongs to {name}", error))
        return found

    def derivatives(self, name: str, rtol: float) -> list[OperatorCheck]:
        """Return the checks of everything that differentiates in one parameter."""
        along = _only(self.direction, name)
        right = self.vectors[2]
        reference = self._differences(lambda at: self._products(at, right), along)
        found = [self._contraction(name, along, reference, rtol)]
        if getattr(self.model, "has_tangent", hasattr(self.model, "tangent")):
            found.append(self._tangent(name, along, reference, rtol, hermitian=False))
            if has_hermitian_tangent(self.model):
                turned = self._differences(
                    lambda at: self._products(at, right, hermitian=True), along
                )
                found.append(self._tangent(name, along, turned, rtol, hermitian=True))
        if getattr(self.model, "_vjp_tangent", None) is not None:
            found.append(self._second(name, along))
        params.release(along)
        return found

    def _contraction(
        self, name: str, along: Gradient, products: Block, rtol: float
    ) -> OperatorCheck:
        """Compare the vjp with differences; look for the entry by halving its direction."""
        left_a, left_b, right = self.vectors[:3]
        left = np.hstack([left_a, left_b])
        gradient: Gradient = dict(self.model.contract(self.p, left_a, left_b, right))

        def defect(direction: Gradient, known: Block | None = None) -> tuple[float, float]:
            if known is None:
                known = self._differences(lambda at: self._products(at, right), direction)
            # Re sum_j left_j^H (dA or dB) right_j
            terms = self.comm.allreduce(float(np.vdot(left, known).real))
            sizes = column_norms(self.comm, left) * column_norms(self.comm, known)
            return params.dot(gradient, direction) - terms, float(sizes.sum())

        off, size = defect(along, products)
        error = abs(off) / max(size, abs(params.dot(gradient, along)), TINY)
        where = ""
        if not error <= rtol:
            where = self._entry(name, along, lambda part: abs(defect(part)[0]))
        params.release(gradient)
        return OperatorCheck(f"vjp in {name}: differences of products", error, where)

    def _tangent(
        self, name: str, along: Gradient, products: Block, rtol: float, *, hermitian: bool
    ) -> OperatorCheck:
        right = self.vectors[2]

        def jvp(direction: Gradient) -> Block:
            point = (self.p, direction)
            pair = checked_tangent(self.comm, self.model, point, right, hermitian=hermitian)
            return np.hstack(pair)

        def defect(direction: Gradient) -> float:
            known = self._differences(
                lambda at: self._products(at, right, hermitian=hermitian), direction
            )
            return float(np.linalg.norm(column_norms(self.comm, jvp(direction) - known)))

        found = jvp(along)
        error = self._distance(found, products, (found, products))
        where = "" if error <= rtol else self._entry(name, along, defect)
        kind = "jvp_hermitian" if hermitian else "jvp"
        return OperatorCheck(f"{kind} in {name}: differences of products", error, where)

    def _second(self, name: str, along: Gradient) -> OperatorCheck:
        model: Any = self.model
        vectors = self.vectors[:3]
        found = model.contract_tangent(self.p, along, *vectors)

        def flat(gradient: Parameters) -> Block:
            parts = [params.local_values(gradient[key]) for key in sorted(gradient)]
            return np.concatenate([np.ravel(part) for part in parts])[:, None]

        def at(point: Gradient) -> Block:
            gradient = model.contract(point, *vectors)
            values = flat(gradient)
            params.release(gradient)
            return values

        known = self._differences(at, along)
        base = model.contract(self.p, *vectors)
        # An affine model has second derivatives 0: the size is that of first ones, too.
        error = self._distance(flat(found), known, (flat(found), known, flat(base)))
        for gradient in (found, base):
            params.release(gradient)
        return OperatorCheck(f"vjp_tangent in {name}: differences of vjp", error)

    def _products(self, p: Gradient, block: Block, *, hermitian: bool = False) -> Block:
        """Return [A @ block, B @ block] at p; B = I gives a constant."""
        with self.model.assemble(p) as pencil:
            parts = (pencil.multiply_a, pencil.multiply_b)
            return np.hstack([multiply(block, hermitian=hermitian) for multiply in parts])

    def _differences(self, at: Callable[[Gradient], Block], direction: Gradient) -> Block:
        total: Any = 0.0
        for k, weight in EIGHTH.items():
            for sign in (1, -1):
                point = params.moved(self.p, sign * k * STEP, direction)
                total = total + sign * weight / STEP * at(point)
                params.release(point)
        return np.asarray(total)

    def _distance(self, found: Block, expected: Block, scales: tuple[Block, ...]) -> float:
        size = max(np.linalg.norm(column_norms(self.comm, part)) for part in scales)
        off = float(np.linalg.norm(column_norms(self.comm, found - expected)))
        return off / max(float(size), TINY)

    def _entry(self, name: str, along: Gradient, defect: Callable[[Gradient], float]) -> str:
        """Return the name of an entry that is wrong, by halving the range of the direction."""
        first, last = 0, params.length(self.p[name]) or 0
        while last - first > 1:
            middle = (first + last) // 2
            sizes = []
            for part in ((first, middle), (middle, last)):
                direction = _only(along, name, part)
                sizes.append(defect(direction))
                params.release(direction)
            upper = np.nan_to_num(sizes[1], nan=np.inf) > np.nan_to_num(sizes[0], nan=np.inf)
            first, last = (middle, last) if upper else (first, middle)
        return f"{name}[{first}]"


def _only(direction: Gradient, name: str, part: tuple[int, int] | None = None) -> Gradient:
    """Return the part of a direction in some entries of one parameter.  (Collective.)"""
    result = params.zeros_like(direction)
    values, target = direction[name], result[name]
    offset = 0
    if isinstance(values, PETSc.Vec):
        offset, values, target = values.getOwnershipRange()[0], values.array_r, target.array
    first, last = (0, offset + len(values)) if part is None else part
    chosen = slice(max(first - offset, 0), max(last - offset, 0))
    target[chosen] = values[chosen]
    return result

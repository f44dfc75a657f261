"""`QuadraticPairs`: what users see of the pairs of a quadratic problem, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import (
    CollectiveContext,
    allreduce_same,
    column_norms,
    inner,
    raise_together,
)
from geneig_adjoint.companion import LOWER, UPPER, Layout, halves, place_of_left
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent, SolveInfo
from geneig_adjoint.errors import InputError
from geneig_adjoint.normalization import Normalization
from geneig_adjoint.views import PlainView

if TYPE_CHECKING:
    from mpi4py import MPI


MEASURES = ("residuals", "condition")
"""What is evaluated when it is asked for, from the matrices."""


class QuadraticView(PlainView):
    """Pairs of the quadratic problem in those of its pencil.

    Parameters
    ----------
    layout
        Rows of the quadratic problem; its x are the upper halves of X.
    form
        Which half of Y is y.

    """

    def __init__(self, layout: Layout, form: str) -> None:
        self._layout = layout
        self._form = form

    def measured(self, block: Block) -> Block:
        """Return vectors of which only x is left: it has the length and the phase."""
        result = block.copy(order="F")
        halves(result)[LOWER][...] = 0.0
        return result

    def scale(self, requested: Any) -> Any:
        """Return the normalization of X that x is to have; x^H x = 1 by default.

        Raises
        ------
        InputError
            A normalization that a quadratic problem does not have, on every rank.

        """
        if requested is None:
            return "2"
        if requested == "B" or (requested == "bilinear" and self._form != "symmetric"):
            raise InputError(
                'the normalization of a quadratic problem must be "2", ("component", k), '
                '("linear", c) or, with form="symmetric", "bilinear" (x^T (2 lam M + C) x = 1), '
                f'got {requested!r} with form="{self._form}"; None is "2"'
            )
        if isinstance(requested, tuple) and len(requested) == 2:
            return self._functional(*requested)
        return requested

    def _functional(self, name: Any, argument: Any) -> Any:
        layout = self._layout
        if name == "component" and isinstance(argument, int | np.integer):
            if not 0 <= argument < layout.n:
                raise InputError(
                    f"the component must be a row in 0 ... {layout.n - 1}, got {argument!r}; give "
                    "a global row number of the quadratic problem"
                )
            # Written as a vector, to carry the number as the user knows it.
            local = np.zeros(2 * layout.n_local)
            local[: layout.n_local] = np.arange(*layout.rows) == argument
            return Normalization("linear", local, f"component {argument}")
        if name == "linear":
            c = np.asarray(argument)
            wrong = None
            if c.shape != (layout.n_local,):
                wrong = InputError(
                    f"the vector of a linear normalization must hold this rank's {layout.n_local} "
                    f"rows, got shape {c.shape}; cut it to pairs.rows"
                )
            raise_together(layout.comm, wrong)
            return ("linear", np.concatenate([c, np.zeros_like(c)]))
        return (name, argument)

    def pairs(self, pairs: Eigenpairs) -> QuadraticPairs:
        """Return the pairs of the quadratic problem.  (Not collective.)"""
        return QuadraticPairs(pairs)

    def tangent(self, tangent: EigenTangent) -> EigenTangent:
        """Return the tangents of x and y."""
        left = None if tangent.left is None else self.left(tangent.left)
        return replace(tangent, right=np.asfortranarray(halves(tangent.right)[UPPER]), left=left)

    def left(self, block: Block) -> Block:
        """Return the y of left vectors of the pencil, (n_local, k)."""
        return np.asfortranarray(halves(block)[place_of_left(self._form)])

    def cotangent(self, cotangent: EigenCotangent) -> EigenCotangent:
        """Return cotangents of X and Y, zero where these hold what follows from x and y.

        Raises
        ------
        InputError
            On every rank, for parts that name A, B or the span of vectors.

        """
        for name in ("matrices", "span"):
            if getattr(cotangent, name) is not None:
                raise InputError(
                    f"a cotangent of a quadratic problem must not have {name}=, which is about A "
                    "and B; give values=, right=, left= and parameters="
                )
        return replace(
            cotangent,
            right=_in_half(cotangent.right, UPPER),
            left=_in_half(cotangent.left, place_of_left(self._form)),
        )


def _in_half(block: Block | None, half: int) -> Block | None:
    if block is None:
        return None
    block = np.asarray(block)
    result = np.zeros((2 * len(block), block.shape[1]), dtype=block.dtype, order="F")
    halves(result)[half][...] = block
    return result


@dataclass(frozen=True, eq=False)
class QuadraticPairs(CollectiveContext):
    """Eigenvalues with right and left vectors of ``(lam^2 M + lam C + K) x = 0``.

    Made by `solve_quadratic`, and what objectives get. Whatever takes `Eigenpairs` takes them.
    A context manager: `close` frees the factor.

    Attributes
    ----------
    linear : Eigenpairs
        The pairs of the pencil: X = [x; lam x / g].
    right, left : ndarray
        x and y, this rank's rows (n_local, k); ``y^H (2 lam M + C) x = 1``. ``left`` is None
        when not asked for.

    """

    linear: Eigenpairs

    @property
    def pencil(self) -> Any:
        """`QuadraticPencil`, of twice the size."""
        return self.linear.pencil

    @property
    def comm(self) -> MPI.Comm:
        """Communicator of the pencil."""
        return self.linear.comm

    @property
    def rows(self) -> tuple[int, int]:
        """First row of x on this rank and one past its last."""
        rows: tuple[int, int] = self.pencil.layout.rows
        return rows

    @property
    def count(self) -> int:
        """Number of pairs k."""
        return self.linear.count

    @property
    def values(self) -> Block:
        """Eigenvalues (k,), complex, the same on all ranks."""
        return self.linear.values

    @cached_property
    def right(self) -> Block:
        """Rows of x that this rank owns, (n_local, k), Fortran order."""
        return np.asfortranarray(halves(self.linear.right)[UPPER])

    @cached_property
    def left(self) -> Block | None:
        """Rows of y that this rank owns, (n_local, k), Fortran order."""
        left = self.linear.left
        return None if left is None else np.asfortranarray(self.pencil.view.left(left))

    @cached_property
    def residuals(self) -> Block:
        """Backward errors ||Q(lam) x|| / ((||K|| + |lam| ||C|| + |lam|^2 ||M||) ||x||), (k,).

        Collective when first asked for. (F. Tisseur, Linear Algebra Appl. 309, 2000.)
        """
        self.linear.check_current()
        pencil, lam, x = self.pencil, self.values, self.right
        X = np.asfortranarray(np.vstack([x, x * (lam / pencil.scaling.g)]))
        rest: Block = pencil.multiply_a(X) - lam * pencil.multiply_b(X)
        k, c, m = pencil.sizes
        scale = (k + np.abs(lam) * c + np.abs(lam) ** 2 * m) * column_norms(self.comm, x)
        row = halves(rest)[place_of_left(pencil.form)]
        return np.asarray(column_norms(self.comm, row) / np.maximum(scale, TINY))

    @cached_property
    def condition(self) -> Block:
        """||x|| (2 |lam| ||M^H y|| + ||C^H y||) / |y^H (2 lam M + C) x|, (k,).

        Collective when first asked for. Near 1 at best, infinite for a defective eigenvalue;
        nan without left vectors.
        """
        self.linear.check_current()
        if self.linear.left is None:
            return np.full(self.count, np.nan)
        upper, lower = halves(self.pencil.multiply_b(self.linear.left, hermitian=True))
        M_y = lower / self.pencil.scaling.g
        C_y = upper - self.values.conj() * M_y
        dots = np.einsum("ij,ij->j", (C_y + 2 * self.values.conj() * M_y).conj(), self.right)
        slopes = np.abs(allreduce_same(self.comm, dots))
        sizes = [column_norms(self.comm, block) for block in (M_y, C_y, self.right)]
        terms = (2 * np.abs(self.values) * sizes[0] + sizes[1]) * sizes[2]
        return np.asarray(terms / np.maximum(slopes, TINY))

    @property
    def errors(self) -> Block:
        """Estimated absolute errors of the eigenvalues, (k,)."""
        return self.linear.errors

    @property
    def gaps(self) -> Block:
        """Distance of each eigenvalue to the nearest other one that converged, (k,)."""
        return self.linear.gaps

    @property
    def clusters(self) -> tuple[tuple[int, ...], ...]:
        """Pairs grouped by the eigenvalues that cannot be told apart."""
        return self.linear.clusters

    @property
    def normalization(self) -> Normalization:
        """Scale of x; derivatives match it."""
        scale: Normalization = self.linear.normalization
        return scale

    @property
    def phase_rows(self) -> Block | None:
        """Global row of each x that is real and positive; None where another thing fixes it."""
        rows = self.linear.phase_rows
        return None if rows is None else np.asarray(self.pencil.layout.single(rows))

    @property
    def info(self) -> SolveInfo:
        """How the solve went."""
        return self.linear.info

    def inner(self, u: Block, v: Block) -> Block:
        """Return u^H v of two row blocks, the same on every rank.  (Collective.)"""
        return inner(self.comm, u, v)

    def check_current(self) -> None:
        """Raise unless the pencil still holds the matrices of these pairs.  (Not collective.)"""
        self.linear.check_current()

    def reordered(self, order: Sequence[int]) -> QuadraticPairs:
        """Return the same pairs in another order; see `Eigenpairs.reordered`."""
        found = QuadraticPairs(self.linear.reordered(order))
        for name in MEASURES:
            if name in self.__dict__:
                found.__dict__[name] = self.__dict__[name][list(order)]
        return found

    def measure(self) -> None:
        """Evaluate ``residuals`` and ``condition`` while the pencil is open.  (Collective.)"""
        for name in MEASURES:
            getattr(self, name)

    def close(self) -> None:
        """Free the factor.  (Collective.)"""
        self.linear.close()

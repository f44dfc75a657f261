"""`QuadraticPairs`: what users see of the pairs of a quadratic problem, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from geneig_adjoint._types import EPS, TINY, Block
from geneig_adjoint.collective import CollectiveContext
from geneig_adjoint.companion import LOWER, UPPER, Layout, halves, place_of_left
from geneig_adjoint.conditioning import ILL_CONDITION
from geneig_adjoint.eigenpairs import EigenCotangent, Eigenpairs, EigenTangent, SolveInfo
from geneig_adjoint.errors import InputError
from geneig_adjoint.normalization import Normalization, own_rows
from geneig_adjoint.reductions import column_norms, inner
from geneig_adjoint.views import PlainView

if TYPE_CHECKING:
    from mpi4py import MPI


ROUNDED = 1e-7
"""Size of a value, relative to g, below which rounding of K moves it by more than 1 per cent."""


class QuadraticView(PlainView):
    """Pairs of the quadratic problem in those of its pencil.

    Parameters
    ----------
    layout
        Rows of the quadratic problem; its x are the upper halves of X.
    form
        Which half of Y is y.
    pencil
        The pencil itself, whose matrices may be refilled.

    """

    def __init__(self, layout: Layout, form: str, pencil: Any) -> None:
        self._layout = layout
        self._form = form
        self._pencil = pencil

    def rows(self, pencil: Any) -> tuple[int, int]:
        """Return the first row of this rank's part of x and one past its last."""
        del pencil
        return self._layout.rows

    def measured(self, block: Block) -> Block:
        """Return vectors of which only x is left: it has the length and the phase."""
        result = block.copy(order="F")
        halves(result)[LOWER][...] = 0.0
        return result

    def measures(self, found: Any, left: Block, plain: tuple[Block, Block]) -> tuple[Block, Block]:
        """Return conditions and errors of eigenvalues in which both halves count alike.

        Collective. Of low modes of a stiff problem lam x / g is small beside x; errors of it,
        relative to x, would be a danger that is none. With lam x in its place the condition is

            ||[x; x]|| ||[lam^* M^H y + C^H y; lam^* M^H y]|| / |y^H (2 lam M + C) x|.

        Values near 0 that rounding of K would move visibly keep what the pencil says of them.
        """
        pencil, lam, X, comm = self._pencil, found.values, found.right, self._layout.comm
        g = pencil.scaling.g
        BX = pencil.multiply_b(X)
        upper, lower = halves(pencil.multiply_b(left, hermitian=True))
        sizes = [column_norms(comm, part) for part in (upper, lower, halves(X)[UPPER])]
        slopes = np.maximum(np.abs(np.diag(inner(comm, left, BX))), TINY)
        slope_sides = np.hypot(sizes[0], np.abs(lam) / g * sizes[1])
        condition = np.sqrt(2.0) * sizes[2] * slope_sides / slopes
        errors = plain[1]
        if found.distances is not None and found.sigma is not None:
            defect: Block = pencil.multiply_a(X) - lam * BX
            moved = found.transformation.solve(defect, purpose="the error estimate")
            parts = [column_norms(comm, half) for half in halves(moved)]
            through = (sizes[0] * parts[0] + sizes[1] * parts[1]) / slopes
            # One residual may be small by luck, where the factor's own rounding moved the value.
            through = np.fmax(through * np.abs(lam - found.sigma), self._rounded(found, left))
            smaller = np.minimum(errors, through)
            errors = np.where(condition > ILL_CONDITION, errors, smaller)
        seen = np.abs(lam) > ROUNDED * g
        return np.where(seen, condition, plain[0]), np.where(seen, errors, plain[1])

    def _rounded(self, found: Any, left: Block) -> Block:
        """Return how far values move as a rule when the diagonals of K, C and M are rounded, (k,).

        Collective. Roundings do not know of each other, so that their squares add up.
        """
        powers = np.abs(found.values) ** np.arange(3)[:, None]
        entries = self._pencil.diagonals.T @ powers
        return EPS * column_norms(
            self._layout.comm, entries * self.left(left) * halves(found.right)[UPPER]
        )

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
            c = own_rows(layout.comm, layout.n_local, argument)
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

    @property
    def condition(self) -> Block:
        """||[x; x]|| ||[lam^* M^H y + C^H y; lam^* M^H y]|| / |y^H (2 lam M + C) x|, (k,).

        Near 1 at best, infinite for a defective eigenvalue; nan without left vectors. Values that
        are 0 to working accuracy have that of the pencil, which tells free rigid motions without
        damping (0 twice, defective).
        """
        return self.linear.condition

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
        if "residuals" in self.__dict__:
            found.__dict__["residuals"] = self.residuals[list(order)]
        return found

    def measure(self) -> None:
        """Evaluate ``residuals`` while the pencil is open.  (Collective.)"""
        _ = self.residuals

    def close(self) -> None:
        """Free the factor.  (Collective.)"""
        self.linear.close()

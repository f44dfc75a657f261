r"""Systems of all eigenpairs together, by blocked solves with the eigensolver's factor.

Every system is (I - s_j S) w = K^-1 f with one S for all eigenvalues (`krylov_space`). With
w = b + s_j u, b = K^-1 f, the rest solves (I - s_j S) u = S b: its right-hand side lies in
the range of S, also where B is singular. u is the vector of the space with the smallest
residual in the space's inner product; the directions still in the residuals of columns that
have not converged are what the next blocked solve is made of. Known eigenvectors, and
the eigensolver's whole basis where it is at hand, are part of the space from the start
(deflation), after M. Parks et al., SIAM J. Sci. Comput. 28(5), 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.linalg

from geneig_adjoint._types import TINY, Block
from geneig_adjoint.collective import from_root
from geneig_adjoint.eigenpairs import Eigenpairs
from geneig_adjoint.krylov_space import KrylovSpace, padded
from geneig_adjoint.normalization import column_dots
from geneig_adjoint.observers import report
from geneig_adjoint.reductions import column_norms, largest_over_ranks
from geneig_adjoint.started_spaces import begun, held
from geneig_adjoint.tall_blocks import add_product, product, sums

STEPS = 60
"""Blocked solves for one right-hand side at most."""
STALLED = 4
"""Steps without progress after which columns are left to other strategies."""
CORRECTIONS = 3
MARGIN = 0.1
"""The projected problem is solved to this part of the tolerance: it does not know all errors."""
KEPT = 160
"""Vectors of a space that is kept for later systems of the same pairs, at most."""
LARGEST_GROWTH = 1e5
"""Solutions larger than this, relative to those with the factor, hint at a multiple value."""


@dataclass(frozen=True, eq=False)
class System:
    """Right-hand sides of the bordered system of a pair; see `BorderedSystem.solve`.

    Attributes
    ----------
    pair : int
    members : tuple of int
        The pairs in the border.
    rhs : ndarray
        Upper parts (n_local, k).
    rho : ndarray
        Lower parts (g, k).

    """

    pair: int
    members: tuple[int, ...]
    rhs: Block
    rho: Block


@dataclass(frozen=True, eq=False)
class Solution:
    """Upper and lower parts as `BorderedSystem.solve` returns them, and how good they are.

    ``accuracy`` estimates the relative error; infinite where the columns did not converge.
    """

    v: Block
    nu: Block
    accuracy: float


@dataclass(eq=False)
class _Work:
    """Columns that are being solved, with what is known about them.

    Residuals are ``remaining`` + K ``rest``; w = 0 at first.
    """

    systems: list[System]
    rhs: Block
    w: Block
    remaining: Block
    rest: Block
    lengths: Block
    limits: Block
    foreseen: Block
    along: Block
    errors: Block

    @classmethod
    def of(cls, systems: list[System], rhs: Block, dtype: np.dtype[Any]) -> _Work:
        """Return columns of which nothing is known."""
        zero, none = np.zeros(rhs.shape, dtype=dtype, order="F"), np.zeros(rhs.shape[1])
        return cls(systems, rhs, zero, rhs, zero, none, none, none, np.zeros((0, len(none))), none)

    def taken(self, which: Block) -> _Work:
        """Return some of the columns."""
        blocks = (getattr(self, item.name) for item in fields(self)[1:])
        chosen = (np.asfortranarray(block[..., which]) for block in blocks)
        return _Work([self.systems[i] for i in which], *chosen)


class BlockKrylov:
    """The bordered systems of all pairs in one direction.  (Collective.)

    Parameters
    ----------
    pairs
        With a factor of A - sigma B and with left vectors, or of a Hermitian pencil.
    hermitian
        The transposed (adjoint) systems.
    rtol
        Bound on the estimated relative errors.

    """

    def __init__(self, pairs: Eigenpairs, *, hermitian: bool, rtol: float) -> None:
        self._pairs, self._hermitian, self._rtol = pairs, hermitian, rtol
        pencil = pairs.pencil
        shifts = pairs.values - complex(pairs.factor.sigma)
        self._shifts = shifts.conj() if hermitian else shifts
        B_right = pencil.multiply_b(pairs.right)
        left = _left(pairs, B_right)
        # Null vectors of A - lam B and of its transpose, as this direction sees them.
        self._null, self._dual = (left, pairs.right) if hermitian else (pairs.right, left)
        # Border: column beside the matrix, row below it.
        self._column, self._row = (pairs.right, B_right) if hermitian else (B_right, pairs.right)
        self._upper, self._lower = sums(
            pairs.comm, (self._dual, self._column), (self._row, self._null)
        )
        self.space, self._places, self._sizes = self._continued() or self._begun()

    def _continued(self) -> tuple[KrylovSpace, Block, Block] | None:
        """Return the space that earlier solves with the factor have left, if it serves these.

        Collective. With the coordinates and lengths of null vectors, which it must hold.
        """
        space: KrylovSpace | None = self._pairs.factor.spaces.get(self._key)
        if space is None or space.size > KEPT:
            return None
        return held(space, self._null)

    def _begun(self) -> tuple[KrylovSpace, Block, Block]:
        """Return a space of eigenvectors, and of all the eigensolver has left.  (Collective.)"""
        factor = self._pairs.factor
        # One space serves both directions of Hermitian pencils.
        hermitian = self._hermitian and not self._pairs.pencil.definite
        found = begun(factor, self._null, 1.0 / self._shifts, hermitian=hermitian)
        for key in [key for key in factor.spaces if key[:2] != self._key[:2]]:
            del factor.spaces[key]  # of other matrices, or of another shift
        factor.spaces[self._key] = found[0]
        return found

    @property
    def _key(self) -> tuple[Any, ...]:
        """What a space belongs to: matrices, shift, direction, inner product."""
        pencil = self._pairs.pencil
        direction = self._hermitian and not pencil.definite
        return pencil.version, self._pairs.factor.sigma, direction, pencil.B_positive

    def release(self) -> None:
        """Free the space unless it is small enough to be continued later.  (Not collective.)"""
        if self.space.size > KEPT:
            self._pairs.factor.spaces.pop(self._key, None)

    def solve(self, systems: Sequence[System]) -> list[Solution]:
        """Solve together; what does not converge is marked by infinite accuracy.

        Collective.
        """
        owner = np.repeat(np.arange(len(systems)), [item.rhs.shape[1] for item in systems])
        columns = [systems[i] for i in owner]
        rhs, nu = self._project(columns, np.hstack([item.rhs for item in systems]))
        with np.errstate(all="ignore"):  # what is singular fails the checks
            try:
                w, errors = self._solved(rhs, columns)
            except np.linalg.LinAlgError:  # from numbers that are the same on all ranks
                w, errors = np.zeros_like(rhs), np.full(rhs.shape[1], np.inf)
                self.space, self._places, self._sizes = self._begun()
        errors = np.where(errors <= self._rtol, errors, np.inf)
        v = self._bordered(systems, w)
        found = []
        for i, system in enumerate(systems):
            own = np.flatnonzero(owner == i)
            below = nu[np.ix_(np.array(system.members), own)]
            found.append(Solution(v[:, own], below, errors[own].max()))
        return found

    def _project(self, columns: Sequence[System], block: Block) -> tuple[Block, Block]:
        """Return what the border leaves of right-hand sides, and its lower unknowns, (k, c).

        Collective. Every column has its system, and unknowns for the members of that.
        """
        along = sums(self._pairs.comm, (self._dual, block))[0]
        nu = _each_border(columns, self._upper, along)
        kind = np.result_type(block, nu, self._column)
        return add_product(np.array(block, dtype=kind, order="F"), self._column, nu, -1.0), nu

    def _bordered(self, systems: Sequence[System], w: Block) -> Block:
        """Return solutions with the lower rows fulfilled.  (Collective.)"""
        along = sums(self._pairs.comm, (self._row, w))[0]
        kind = np.result_type(along, *(system.rho for system in systems))
        missing, columns = -along.astype(kind), list[System]()
        for system in systems:
            own = np.arange(len(columns), len(columns) + system.rhs.shape[1])
            missing[np.ix_(np.array(system.members), own)] += system.rho
            columns += [system] * len(own)
        return add_product(w, self._null, _each_border(columns, self._lower, missing))

    def _solved(self, rhs: Block, systems: Sequence[System]) -> tuple[Block, Block]:
        """Return solutions and their estimated relative errors, column by column.

        Collective. Right-hand sides are solved for at the size 1: squares of tiny ones vanish.
        """
        w = np.zeros(rhs.shape, dtype=np.result_type(rhs, self._null), order="F")
        largest = np.nan_to_num(np.abs(rhs).max(axis=0, initial=0.0), nan=np.inf, posinf=np.inf)
        scales = largest_over_ranks(self._pairs.comm, largest)
        errors = np.where(scales == 0, 0.0, np.inf)
        (open_,) = np.nonzero(np.isfinite(scales) & (scales > 0))
        right = np.asfortranarray(rhs[:, open_] / scales[open_])
        work = _Work.of([systems[i] for i in open_], right, w.dtype)
        for attempt in range(CORRECTIONS):
            if not open_.size:
                break
            self._improve(work, first=attempt == 0)
            w[:, open_], errors[open_] = work.w * scales[open_], work.errors
            again = np.flatnonzero(work.errors > self._rtol)
            open_, work = open_[again], work.taken(again)
        return w, errors

    def _improve(self, work: _Work, *, first: bool) -> None:
        """Improve solutions until the space holds them, and estimate their errors.

        Collective. Later attempts begin with what the space does not know.
        """
        space = self.space
        b = space.solve(work.remaining) + work.rest
        coordinates, sizes = space.measured(b)
        if first:
            work.limits = LARGEST_GROWTH * sizes
        elif np.all(sizes <= self._rtol * work.lengths):
            work.w, work.errors = work.w + b, sizes / work.lengths
            return
        self._expand(work, b, coordinates)
        self._judge(work)
        if space.weighted and np.any(work.errors > self._rtol):
            self._refine(work)
            self._judge(work)
        work.errors = np.where(work.lengths > work.limits, np.inf, work.errors)

    def _judge(self, work: _Work) -> None:
        """Find what is left of residuals without K rest, and estimate errors of solutions.

        Collective. The projected problem does not foresee what is left: rounding, and errors
        of known eigenvectors. What K^-1 makes of it is known along the known part of the
        space where S is self-adjoint, (S W E)^H left, and along eigenvectors else. Across
        them it is estimated by the norm of S: rounding has few parts along what neither
        eigenvectors nor the space hold, as few as it has along the space.
        """
        pencil, comm, hermitian = self._pairs.pencil, self._pairs.comm, self._hermitian
        values = _real_where_real(self._at(self._pairs.values, work.systems), work.w)
        B_w = pencil.multiply_b(work.w, hermitian=hermitian)
        left = work.rhs - pencil.multiply_a(work.w + work.rest, hermitian=hermitian)
        left += B_w * (values.conj() if hermitian else values)
        sigma = _real_where_real(np.array([complex(self._pairs.factor.sigma)]), left)
        if sigma.any():
            B_rest = pencil.multiply_b(work.rest, hermitian=hermitian)
            left += B_rest * (sigma.conj() if hermitian else sigma)
        left, _ = self._project(work.systems, left)
        sizes, plain = column_norms(comm, left), np.maximum(column_norms(comm, work.w), TINY)
        lengths, factor = plain, 1.0 / np.abs(self._shifts).max()
        if self.space.weighted:
            lengths = np.maximum(self.space.weighed_lengths(work.w, B_w), TINY)
            work.along = self.space.factors_of(left)
            along = np.linalg.norm(work.along, axis=0)
            if self.space.reach:
                factor = self.space.reach + factor * np.sqrt(self.space.size / pencil.n)
        else:
            parts = sums(comm, (self._dual, left))[0] / self._shifts[:, None]
            along = np.linalg.norm(self._sizes[:, None] * parts, axis=0)
        across = sizes * factor * plain / lengths
        work.remaining, work.lengths = left, lengths
        work.errors = (work.foreseen + along + across) / lengths

    def _refine(self, work: _Work) -> None:
        """Take what is left along the known part of the space into the solutions.

        Collective. Costs no solve.
        """
        space = self.space
        shifts = _real_where_real(self._at(self._shifts, work.systems), work.along)
        u, rho = self._projected(space.known @ work.along, shifts, work.systems)
        work.w = add_product(work.w, space.basis, space.known @ u)
        work.rest = add_product(work.rest, space.basis, rho)
        work.foreseen = work.foreseen + space.growth(shifts) * np.linalg.norm(rho, axis=0)

    def _expand(self, work: _Work, b: Block, coordinates: Block) -> None:
        """Add solutions for K w = b by the space, grown until it holds them.

        Collective. ``rest`` is then s W rho, with rho the residuals' coordinates.
        """
        space, systems = self.space, work.systems
        shifts = _real_where_real(self._at(self._shifts, systems), b)
        right = self._joined(space.image(self._halves(b), self._halves(coordinates)), b)
        history: list[Block] = []
        while True:
            right = padded(right, space.size)
            u, rho = self._projected(right, shifts, systems)
            if not work.lengths.any():  # needed to a digit only, which is right from here on
                found = add_product(b.copy(order="F"), space.basis, shifts * (space.known @ u))
                work.lengths = np.maximum(space.lengths(found), TINY)
            growth = space.growth(shifts)
            errors = growth * np.abs(shifts) * np.linalg.norm(rho, axis=0) / work.lengths
            history.append(errors)
            stalled = len(history) > STALLED and errors > 0.5 * history[-1 - STALLED]
            (open_,) = np.nonzero((errors > MARGIN * self._rtol) & ~np.asarray(stalled))
            done = len(systems) - open_.size
            report("adjoint", solved=done, columns=len(systems), iterations=len(history))
            if len(history) == STEPS or not open_.size:
                break
            weights = np.abs(shifts[open_]) / work.lengths[open_]
            if not space.expand(self._halves(rho[:, open_] * weights)):
                break
        work.foreseen = errors * work.lengths
        work.rest = product(space.basis, shifts * rho)
        work.w = work.w + add_product(b, space.basis, shifts * (space.known @ u))

    def _at(self, values: Block, systems: Sequence[System]) -> Block:
        return np.asarray(values[[system.pair for system in systems]])

    def _projected(
        self, right: Block, shifts: Block, systems: Sequence[System]
    ) -> tuple[Block, Block]:
        """Return the best u for (I - s_j S) W E u_j = W right_j, and the residuals.

        Collective. Null vectors are left out. Small and dense: solved once.
        """
        space, comm = self.space, self._pairs.comm
        if not all(np.isfinite(block).all() for block in (right, space.known, space.images)):
            raise np.linalg.LinAlgError  # on all ranks, before one of them goes on alone
        found: Any = None
        if comm.rank == 0:
            places = space.known.conj().T @ padded(self._places, space.size)
            rho = np.array(right, dtype=np.result_type(right, shifts, places))
            u = np.zeros((len(places), right.shape[1]), dtype=rho.dtype)
            for system in dict.fromkeys(systems):
                columns = [i for i, item in enumerate(systems) if item is system]
                members = list(system.members)
                free = np.linalg.qr(places[:, members], mode="complete")[0][:, len(members) :]
                matrix = (space.known - shifts[columns[0]] * space.images) @ free
                y = scipy.linalg.lstsq(matrix, right[:, columns], lapack_driver="gelsy")[0]
                u[:, columns] = free @ y
                rho[:, columns] = right[:, columns] - matrix @ y
            found = (u, rho)
        u, rho = from_root(comm, found)
        return u, rho

    def _halves(self, block: Block) -> Block:
        """Return a complex block as two real ones where the space is real."""
        if np.iscomplexobj(block) and not np.iscomplexobj(self.space.basis):
            return np.hstack([block.real, block.imag])
        return block

    def _joined(self, coordinates: Block, like: Block) -> Block:
        if np.iscomplexobj(like) and not np.iscomplexobj(self.space.basis):
            re, im = np.hsplit(coordinates, 2)
            return np.asarray(re + 1j * im)
        return coordinates


def _real_where_real(values: Block, block: Block) -> Block:
    """Return real values for a real block: those of Hermitian pencils are real."""
    return values if np.iscomplexobj(block) else values.real


def _left(pairs: Eigenpairs, B_right: Block) -> Block:
    """Return left vectors with y^H B x = 1; those of Hermitian pencils follow from the right."""
    if pairs.left is not None:
        return pairs.left
    return np.asarray(pairs.right / column_dots(pairs.comm, pairs.right, B_right).real)


def _each_border(columns: Sequence[System], matrix: Block, right: Block) -> Block:
    """Return unknowns (k, c) of the small systems that the members of every column make."""
    found = np.zeros(right.shape, dtype=np.result_type(matrix, right))
    for i, system in enumerate(columns):
        members = np.array(system.members)
        small = matrix[members[:, None], members]
        found[members, i] = np.linalg.solve(small, right[members, i])
    return found
